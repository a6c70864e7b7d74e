//! A client that goes straight to the nodes, and what befalls them and the ring meanwhile: it keeps what the
//! coordinator keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use ringkv_client::{Client, ErrorName, Failure, KeyspaceName};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

#[allow(dead_code, reason = "it has a main of its own")]
#[path = "../../../client/examples/hello.rs"]
mod example;

#[test]
fn the_example_works() {
    let cluster = Cluster::of(3, 3);
    let addr = cluster.addr().to_owned();
    let work = example::hello(&addr);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work).unwrap();
    let stats = cluster.caller().call("stats", json!([]));
    assert_eq!((&stats["keys"], &stats["puts"]), (&json!(10_000), &json!(10_001)), "{stats}");
}

/// Runs on one thread, as most of those who use it.
fn with_client<T>(addr: &str, work: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::connect(addr).await.expect("the coordinator is there");
        work(client).await
    })
}

fn value_of(caller: &mut Caller, key: &str, keyspace: &str) -> Value {
    caller.call("get", json!([key, {"keyspace": keyspace}]))["value"].clone()
}

#[test]
fn it_says_what_the_coordinator_says() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    for (name, change) in [
        ("two", json!({"create": true, "n": 3, "r": 2, "w": 2})),
        ("late", json!({"create": true, "n": 2, "r": 2, "w": 2, "policy": "lww"})),
        ("brief", json!({"create": true, "n": 3, "r": 3, "w": 3, "ttl_ms": 3_600_000})),
    ] {
        caller.call("keyspace", json!({"name": name, "change": change}));
    }
    with_client(cluster.addr(), async |client| {
        for name in ["default", "two", "late", "brief"] {
            let client = client.keyspace(name.parse().expect("a name"));
            for key in ["apple", "öl", "", "a \"quoted\" key"] {
                assert_eq!(client.get(key).await.unwrap(), None, "{name} {key}");
                let written = client.put(key, "red").await.unwrap();
                let there = caller.call("get", json!([key, {"keyspace": name}]));
                assert_eq!(
                    (&there["value"], &there["version"]),
                    (&json!("red"), &json!(written.version))
                );
                assert_eq!(there["expires"].is_null(), name != "brief", "{there}");
                let again = caller.call("put", json!([key, "green", {"keyspace": name}]));
                let entry = client.get(key).await.unwrap().unwrap();
                assert_eq!(entry.value.as_bytes(), b"green", "{name} {key}");
                assert_eq!(json!(entry.version), again["version"]);
                assert!(client.del(key).await.unwrap().existed);
                assert_eq!(value_of(&mut caller, key, name), Value::Null);
            }
        }
        let nowhere = client.keyspace("nowhere".parse::<KeyspaceName>().expect("a name"));
        let failure = nowhere.put("a", "1").await.unwrap_err();
        assert_eq!(failure.name, ErrorName::BadArgument, "{failure}");
        let long = client.put("k".repeat(2000), "1").await.unwrap_err();
        assert_eq!(long.name, ErrorName::TooLarge, "{long}");
    });
}

#[test]
fn who_watches_hears_of_it_and_counts_are_right() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    let from = caller.call("changes", json!({}))["position"].clone();
    with_client(cluster.addr(), async |client| {
        let keys: Vec<String> = (0..700).map(|n| format!("key {n}")).collect();
        let written = join_all(keys.iter().map(|key| client.put(key.as_str(), "v"))).await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        client.del("key 0").await.unwrap();
        let read = join_all(keys[1..].iter().map(|key| client.get(key.as_str()))).await;
        assert!(read.iter().all(|found| matches!(found, Ok(Some(_)))), "{read:?}");
        client.flush().await;
    });
    let (mut seen, mut after) = (Vec::new(), from);
    while seen.len() < 701 {
        let page = caller.call("changes", json!({"after": after}));
        let changes = page["changes"].as_array().expect("a list");
        assert!(!changes.is_empty(), "after {} of them", seen.len());
        seen.extend(changes.iter().map(|change| change["key"].to_string()));
        after = page["position"].clone();
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 700);
    let stats = caller.call("stats", json!([]));
    assert_eq!((&stats["puts"], &stats["dels"]), (&json!(700), &json!(1)), "{stats}");
    // It carried out none of them itself.
    assert_eq!((&stats["gets"], &stats["lag_max_us"]), (&json!(0), &Value::Null), "{stats}");
}

#[test]
fn a_node_that_is_away_gets_what_it_missed() {
    let mut cluster = Cluster::quick(3, 3);
    let mut caller = cluster.caller();
    caller.call("keyspace", json!({"change": {"r": 2, "w": 2}}));
    cluster.fill(50);
    let addr = cluster.addr().to_owned();
    with_client(&addr, async |client| {
        client.put("key 0", "0").await.unwrap();
        cluster.kill("n2");
        // Before it is known to be DOWN, and after.
        for round in 0..100 {
            let key = format!("key {round}");
            client.put(key.as_str(), "1").await.unwrap();
            assert_eq!(client.get(key.as_str()).await.unwrap().unwrap().value.as_bytes(), b"1");
        }
        caller.wait_until("n2", "health", json!("DOWN"));
        for round in 0..100 {
            client.put(format!("key {round}"), "2").await.unwrap();
        }
    });
    cluster.start("n2");
    wait_for("all that n2 missed is there", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 0 && cluster.copies_at(&["n2"]) == 150).then_some(())
    });
    cluster.alike(&["n1", "n2", "n3"]);
}

#[test]
fn a_number_that_was_never_given_is_topped() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    caller.call("keyspace", json!({"change": {"r": 2, "w": 2}}));
    with_client(cluster.addr(), async |client| {
        let first = client.put("apple", "red").await.unwrap().version;
        let mut n1 = Caller::to(cluster.addr_of("n1"));
        n1.call("put", json!(["apple", "blue", format!("{}.999", first.epoch)]));
        let written = client.put("apple", "green").await.unwrap();
        assert!(written.version.counter > 999, "{}", written.version);
        assert_eq!(client.get("apple").await.unwrap().unwrap().value.as_bytes(), b"green");
    });
}

#[test]
fn a_replica_that_differs_is_repaired() {
    let cluster = Cluster::of(2, 2);
    let mut caller = cluster.caller();
    caller.call("keyspace", json!({"change": {"r": 2, "w": 2}}));
    with_client(cluster.addr(), async |client| {
        let written = client.put("apple", "red").await.unwrap();
        let mut n1 = Caller::to(cluster.addr_of("n1"));
        let dropped = json!([[{"key": "apple", "version": written.version}]]);
        assert_eq!(n1.call("drop", dropped)["changed"], 1);
        assert_eq!(client.get("apple").await.unwrap().unwrap().value.as_bytes(), b"red");
        // On another thread, so that the client goes on meanwhile.
        let repaired = move || {
            wait_for("the replica is repaired", || {
                (n1.call("get", json!(["apple"]))["value"] == "red").then_some(())
            });
        };
        tokio::task::spawn_blocking(repaired).await.unwrap();
    });
}

/// What a client has had acknowledged, key by key, while something happens.
fn acknowledged_while(cluster: &Cluster, something: impl FnOnce() + Send) -> Vec<(String, String)> {
    let over = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            with_client(cluster.addr(), async |client| {
                let mut last = Vec::new();
                let caller = async |nth: usize| {
                    let mut kept: Option<(String, String)> = None;
                    let mut round = 0;
                    while !over.load(Ordering::Relaxed) {
                        let (key, value) = (format!("key {nth}"), round.to_string());
                        match client.put(key.as_str(), value.as_str()).await {
                            Ok(_) => kept = Some((key.clone(), value)),
                            Err(failure) => told_honestly(&failure),
                        }
                        if let (Some((_, least)), Ok(found)) = (&kept, client.get(key).await) {
                            let found = found.expect("it was put").value.to_string();
                            let (found, least) = (number(&found), number(least));
                            assert!(found >= least, "key {nth}: {found} after {least}");
                        }
                        round += 1;
                    }
                    kept
                };
                last.extend(join_all((0..40).map(caller)).await.into_iter().flatten());
                client.flush().await;
                last
            })
        });
        something();
        over.store(true, Ordering::Relaxed);
        writing.join().expect("no assertion failed")
    })
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn told_honestly(failure: &Failure) {
    let known = [
        ErrorName::Unreachable,
        ErrorName::OutcomeUnknown,
        ErrorName::NotApplied,
        ErrorName::NotEnoughReplicas,
        ErrorName::StaleEpoch,
    ];
    assert!(known.contains(&failure.name), "{failure}");
}

fn all_are_there(cluster: &Cluster, acknowledged: &[(String, String)]) {
    let mut caller = cluster.caller();
    assert_eq!(acknowledged.len(), 40);
    for (key, least) in acknowledged {
        let found = value_of(&mut caller, key, "default");
        let found = found.as_str().unwrap_or_else(|| panic!("{key} is lost"));
        assert!(number(found) >= number(least), "{key}: {found}, and {least} was acknowledged");
    }
}

#[test]
fn it_follows_the_ring() {
    let mut cluster = Cluster::of(2, 2);
    let spares = [cluster.spare(), cluster.spare()];
    let mut caller = cluster.caller();
    // Enough that keys which are alike are moved many at a time.
    cluster.fill(3000);
    let acknowledged = acknowledged_while(&cluster, || {
        for (id, addr) in &spares {
            caller.call("addnode", json!({"id": id, "addr": addr}));
            caller.rebalance();
        }
        caller.call("removenode", json!({"id": "n1"}));
        caller.rebalance();
    });
    all_are_there(&cluster, &acknowledged);
    let stats = caller.call("stats", json!([]));
    assert_eq!((&stats["keys"], &stats["copies"]), (&json!(3040), &json!(6080)), "{stats}");
    cluster.readable(3000);
}

#[test]
fn it_goes_on_when_the_coordinator_has_started_anew() {
    let mut cluster = Cluster::of(3, 3);
    cluster.caller().call("keyspace", json!({"change": {"r": 2, "w": 2}}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(Client::connect(cluster.addr())).unwrap();
    let first = runtime.block_on(client.put("apple", "green")).unwrap().version;
    let mut caller = cluster.restart_coordinator();
    let second = wait_for("a write under the new coordinator", || {
        runtime.block_on(client.put("apple", "blue")).ok()
    });
    assert!(second.version.epoch > first.epoch, "{first} {}", second.version);
    assert_eq!(value_of(&mut caller, "apple", "default"), "blue");
}
