//! One coordinator a cluster: a second one is refused, a lost one is rebuilt, the old one is fenced out.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, Server, coordinator_args, kv, text, wait_for};

/// Waits until these nodes have been told of something, in the words of the coordinator's log.
fn told(cluster: &Cluster, ids: &[&str], what: &str) {
    for id in ids {
        let mut node = Caller::to(cluster.addr_of(id));
        wait_for(&format!("{id} knows {what}"), || {
            let obeys = node.call("cluster", json!([]));
            obeys["map"]["lines"].as_str().is_some_and(|lines| lines.contains(what)).then_some(())
        });
    }
}

/// This coordinator says that it is not the one any more, and does nothing.
fn is_deposed(coordinator: &mut Caller) {
    wait_for("it says that it was replaced", || {
        let events = coordinator.call("events", json!({"after": 0}));
        let mut events = events["events"].as_array().expect("events").iter();
        events
            .any(|event| {
                let text = event["text"].as_str().expect("text");
                text.starts_with("this coordinator was replaced: n")
            })
            .then_some(())
    });
    for (method, params) in [
        ("put", json!(["k0", "late"])),
        ("get", json!(["k0"])),
        ("del", json!(["k1"])),
        ("setreplica", json!([1])),
        ("rebalance", json!({})),
        ("keyspace", json!({"name": "clicks", "change": {"drop": true}})),
    ] {
        let error = coordinator.error(method, params);
        assert_eq!(error["data"]["name"], "STALE_EPOCH", "{method}: {error}");
        let message = error["message"].as_str().expect("text");
        assert!(message.contains("obeys another one since epoch"), "{method}: {message}");
        assert!(message.ends_with("nothing was applied"), "{method}: {message}");
        assert!(error["data"]["hint"].as_str().expect("a hint").contains("--recover"), "{error}");
    }
    for looking in ["show", "stats", "info"] {
        coordinator.call(looking, json!([]));
    }
}

fn version(answer: &Value) -> (u32, u32) {
    let (epoch, counter) =
        answer["version"].as_str().expect("a version").split_once('.').expect("two numbers");
    (epoch.parse().expect("a number"), counter.parse().expect("a number"))
}

#[test]
fn a_node_of_another_cluster_cannot_be_added() {
    let cluster = Cluster::of(2, 1);
    cluster.fill(20);
    let other = Server::coordinator(&cluster.data("other"));
    let mut other = Caller::to(&other.addr);
    let n1 = json!({"id": "n1", "addr": cluster.addr_of("n1")});
    let error = other.error("addnode", n1);
    assert_eq!(error["data"]["name"], "NODE_EXISTS", "{error}");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("obeys another coordinator; nothing was changed"), "{message}");
    assert!(error["data"]["hint"].as_str().expect("a hint").contains("--recover"), "{error}");
    assert_eq!(other.call("show", json!([]))["nodes"], json!([]));
    cluster.readable(20);
}

#[test]
fn a_lost_coordinator_is_rebuilt_from_one_node_that_names_the_others() {
    let mut cluster = Cluster::of(3, 2);
    let mut caller = cluster.caller();
    let clicks = json!({"name": "clicks", "change": {"create": true, "n": 3, "policy": "lww"}});
    caller.call("keyspace", clicks);
    cluster.fill(200);
    caller.call("put", json!(["c", "1", {"keyspace": "clicks"}]));
    let before = version(&caller.call("put", json!(["last", "1"])));
    told(&cluster, &["n1", "n2", "n3"], "KEYSPACE clicks");
    let show = caller.call("show", json!([]));
    cluster.take_coordinator().kill();
    std::fs::remove_dir_all(cluster.data("c")).expect("it is lost");

    let mut caller = cluster.recover("c2", "n2", &[]);
    let after = caller.call("show", json!([]));
    assert!(after["epoch"].as_u64() > show["epoch"].as_u64(), "{after}");
    assert_eq!((&after["replication"], &after["pending"]), (&json!(2), &json!(false)), "{after}");
    assert_eq!(after["nodes"].as_array().map(Vec::len), Some(3), "{after}");
    cluster.readable(200);
    let clicks = json!(["c", {"keyspace": "clicks"}]);
    assert_eq!(caller.call("get", clicks.clone())["value"], "1");
    // What is written now is newer than all before, by its number and by the clock.
    caller.call("put", json!(["c", "2", {"keyspace": "clicks"}]));
    assert_eq!(caller.call("get", clicks)["value"], "2");
    let numbered = version(&caller.call("put", json!(["last", "2"])));
    assert!(numbered > before, "{numbered:?} after {before:?}");
    assert_eq!(caller.call("get", json!(["last"]))["value"], "2");
    // It is a coordinator as any other: it starts again on its own log.
    cluster.take_coordinator().kill();
    let restarted = Server::coordinator(&cluster.data("c2"));
    let mut caller = Caller::to(&restarted.addr);
    assert!(version(&caller.call("put", json!(["last", "3"]))) > numbered);
}

#[test]
fn the_old_coordinator_is_fenced_out_when_it_goes_on() {
    let mut cluster = Cluster::quick(3, 3);
    cluster.caller().call("keyspace", json!({"name": "clicks", "change": {"create": true}}));
    cluster.fill(20);
    told(&cluster, &["n1", "n2", "n3"], "KEYSPACE clicks");
    let old = cluster.take_coordinator();
    old.pause();
    let mut caller = cluster.recover("c2", "n1", &[]);
    caller.call("put", json!(["k0", "new"]));
    old.resume();
    let mut late = Caller::to(&old.addr);
    // Before it has heard of it, the nodes refuse it.
    let first = late.ask("put", &json!(["k0", "late"]));
    assert!(first["error"].is_object(), "{first}");
    is_deposed(&mut late);
    old.kill();
    // On its old directory it finds out before it serves.
    let again = Server::coordinator(&cluster.data("c"));
    let mut late = Caller::to(&again.addr);
    assert_eq!(late.error("put", json!(["k0", "late"]))["data"]["name"], "STALE_EPOCH");
    is_deposed(&mut late);
    assert_eq!(caller.call("get", json!(["k0"]))["value"], "new");
    assert_eq!(caller.call("get", json!(["k1"]))["value"], "v1");
}

/// The coordinator's directory is put back as it was before its last start, or before a change of the ring: it would
/// give numbers twice, and ask the wrong nodes.
#[test]
fn a_directory_from_a_backup_is_noticed() {
    for change in [false, true] {
        let mut cluster = Cluster::quick(3, 2);
        cluster.fill(20);
        let log = cluster.data("c").join("coordinator.log");
        let backup = std::fs::read(&log).expect("a log");
        let mut caller = match change {
            true => cluster.caller(),
            false => cluster.restart_coordinator(),
        };
        if change {
            caller.call("setreplica", json!([3]));
            caller.rebalance();
            told(&cluster, &["n1", "n2", "n3"], "REPLICAS 3");
        }
        caller.call("put", json!(["k0", "new"]));
        cluster.take_coordinator().kill();
        std::fs::write(&log, backup).expect("put back");
        let old = Server::coordinator(&cluster.data("c"));
        let mut late = Caller::to(&old.addr);
        for (method, params) in [("put", json!(["k0", "late"])), ("get", json!(["k0"]))] {
            let error = late.error(method, params);
            assert_eq!(error["data"]["name"], "STALE_EPOCH", "{method}: {error}");
            let message = error["message"].as_str().expect("text");
            assert!(message.contains("put back from a backup; nothing was applied"), "{message}");
        }
        old.kill();
        let mut caller = cluster.recover("c2", "n1", &[]);
        assert_eq!(caller.call("get", json!(["k0"]))["value"], "new");
        assert_eq!(caller.call("show", json!([]))["replication"], if change { 3 } else { 2 });
    }
}

/// Refused with exit code 1, `error: …` and a hint; and nothing is written.
fn refused(cluster: &Cluster, data: &str, more: &[&str], message: &str) {
    let data = cluster.data(data);
    let before = std::fs::read(data.join("coordinator.log")).ok();
    let output = kv(&[&coordinator_args(&data)[..], &["--recover"], more].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let error = said.lines().find(|line| line.starts_with("error: ")).expect("an error");
    assert!(error.contains(message), "{said}");
    assert!(said.lines().last().expect("a hint").starts_with("  "), "{said}");
    assert_eq!(std::fs::read(data.join("coordinator.log")).ok(), before);
}

#[test]
fn a_recovery_says_what_it_misses_and_writes_nothing() {
    let mut cluster = Cluster::quick(3, 2);
    cluster.fill(50);
    told(&cluster, &["n1", "n2", "n3"], "REPLICAS 2");
    let n1 = cluster.addr_of("n1").to_owned();
    refused(&cluster, "c", &["--node", &n1], "coordinator.log is there already");
    cluster.take_coordinator().kill();
    cluster.kill("n3");
    refused(&cluster, "c2", &["--node", &n1], "n3 at");
    cluster.kill("n2");
    refused(&cluster, "c2", &["--node", &n1, "--force"], "only 1 of 3 members");
    refused(&cluster, "c2", &["--node", "127.0.0.1:1"], "none of the nodes");
    cluster.start("n2");
    let mut caller = cluster.recover("c2", "n1", &["--force"]);
    cluster.readable(50);
    caller.call("put", json!(["k0", "v0"]));
    cluster.start("n3");
    caller.wait_until("n3", "health", json!("UP"));
    cluster.readable(50);
    let usage = kv(&["coordinator", "--recover", "--data", text(&cluster.data("c3"))]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_node_that_was_away_is_told_what_has_changed() {
    let mut cluster = Cluster::quick(3, 2);
    cluster.kill("n3");
    cluster.caller().wait_until("n3", "health", json!("DOWN"));
    cluster.caller().call("keyspace", json!({"name": "clicks", "change": {"create": true}}));
    told(&cluster, &["n1", "n2"], "KEYSPACE clicks");
    cluster.start("n3");
    told(&cluster, &["n3"], "KEYSPACE clicks");
}

/// What was added and is taken back before anything was copied is free for another cluster.
#[test]
fn a_node_that_is_not_wanted_after_all_obeys_nobody() {
    let mut cluster = Cluster::of(2, 1);
    cluster.fill(20);
    let (id, addr) = cluster.spare();
    let add = json!({"id": id, "addr": addr});
    let mut caller = cluster.caller();
    caller.call("addnode", add.clone());
    told(&cluster, &[&id], "ADD n3");
    caller.call("removenode", json!({"id": id}));
    let mut node = Caller::to(&addr);
    wait_for("it is let go", || {
        node.call("cluster", json!([]))["coordinator"].is_null().then_some(())
    });
    let other = Server::coordinator(&cluster.data("other"));
    Caller::to(&other.addr).call("addnode", add);
    cluster.readable(20);
    caller.call("put", json!(["k0", "v0"]));
}
