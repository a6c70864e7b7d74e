//! Deletes stay deleted, and their tombstones go when they may.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

fn delete(caller: &mut Caller, keys: usize) {
    let dels: Vec<Value> = (0..keys).map(|i| json!([format!("k{i}")])).collect();
    caller.calls("del", &dels);
}

/// None is collected while a member is away; all are when it is back.
#[test]
fn all_are_collected_when_all_are_there() {
    let mut cluster = Cluster::quick(3, 3);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    cluster.fill(1010);
    delete(&mut caller, 1000);
    cluster.kill("n3");
    caller.wait_until("n3", "health", json!("DOWN"));
    let check = caller.call("check", json!({"repair": true}));
    assert_eq!((&check["collected"], &check["silent"]), (&json!(0), &json!(["n3"])), "{check}");
    let why = caller.call("why", json!(["k0"]));
    let blocked = why["blocked_by"].to_string();
    assert!(blocked.contains("n3 does not answer"), "{why}");
    cluster.start("n3");
    caller.wait_until("n3", "health", json!("UP"));
    let check = caller.call("check", json!({"repair": true}));
    assert_eq!(check["collected"], 1000, "{check}");
    let stats = caller.call("stats", json!([]));
    assert_eq!((&stats["tombstones"], &stats["copies"]), (&json!(0), &json!(30)), "{stats}");
    assert_eq!(stats["collected"], 3000, "{stats}");
    assert_eq!(cluster.alike(&["n1", "n2", "n3"]).len(), 10);
    let why = caller.call("why", json!(["k0"]));
    assert!(why["verdict"].as_str().unwrap().contains("tombstone") && why["blocked_by"].is_null());
    // What is written again is there, and what was written before the floor stays out.
    let put = caller.call("put", json!(["k0", "again"]));
    assert_eq!(put["replicas"].as_array().map(Vec::len), Some(3));
    let stale = json!([[{"key": "k1", "value": "old", "version": "1.2"}]]);
    let refused = Caller::to(cluster.addr_of("n1")).call("apply", stale);
    assert_eq!((&refused["changed"], &refused["deleted"]), (&json!(0), &json!(["k1"])));
    let got = caller.call("get", json!(["k0"]));
    assert_eq!(got["value"], "again");
}

/// Rounds collect by themselves.
#[test]
fn rounds_collect_by_themselves() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    cluster.fill(100);
    delete(&mut caller, 100);
    caller.call("config", json!({"name": "anti_entropy", "value": "1"}));
    wait_for("no tombstone is left", || {
        (caller.call("stats", json!([]))["tombstones"] == 0).then_some(())
    });
}

/// A node goes away, is taken off the ring; all is deleted and collected; it comes back with its old data, and
/// joins only without.
#[test]
fn who_was_away_through_all_of_it_brings_nothing_back() {
    let mut cluster = Cluster::quick(3, 3);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    cluster.fill(300);
    cluster.kill("n3");
    caller.wait_until("n3", "health", json!("DOWN"));
    caller.call("removenode", json!({"id": "n3", "force": true}));
    caller.rebalance();
    delete(&mut caller, 200);
    let check = caller.call("check", json!({"repair": true}));
    assert_eq!(check["collected"], 200, "{check}");
    cluster.start("n3");
    let add = json!({"id": "n3", "addr": cluster.addr_of("n3")});
    let error = caller.error("addnode", add.clone());
    assert_eq!(error["data"]["name"], "NOT_APPLIED", "{error}");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("has left this cluster and still holds 300 keys"), "{message}");
    assert!(error["data"]["hint"].as_str().expect("a hint").contains("empty --data"), "{error}");
    assert_eq!(caller.call("show", json!([]))["nodes"].as_array().map(Vec::len), Some(2));
    cluster.kill("n3");
    std::fs::remove_dir_all(cluster.data("n3")).expect("its directory");
    cluster.start("n3");
    caller.call("addnode", add);
    let gone = |caller: &mut Caller| {
        let asked: Vec<Value> = (0..200).map(|i| json!([format!("k{i}")])).collect();
        for (i, got) in caller.calls("get", &asked).iter().enumerate() {
            assert_eq!(got["status"], "not_found", "k{i}: {got}");
        }
    };
    gone(&mut caller);
    caller.rebalance();
    gone(&mut caller);
    let check = caller.call("check", json!({"repair": true}));
    assert_eq!((&check["different"], &check["failed"]), (&json!(0), &json!(0)), "{check}");
    assert_eq!(cluster.alike(&["n1", "n2", "n3"]).len(), 100);
    gone(&mut caller);
}

/// A copy that turns up at an owner, from a backup or a broken disk, is found and dropped.
#[test]
fn a_copy_that_turns_up_is_dropped() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    caller.call("put", json!(["apple", "123"]));
    let old =
        Caller::to(cluster.addr_of("n1")).call("fetch", json!([["apple"]]))["records"].clone();
    caller.call("del", json!(["apple"]));
    assert_eq!(caller.call("check", json!({"repair": true}))["collected"], 1);
    // The node has forgotten its floor with the key that it dropped.
    let mut n1 = Caller::to(cluster.addr_of("n1"));
    n1.call("put", json!(["apple", "x"]));
    let x = n1.call("fetch", json!([["apple"]]))["records"][0].clone();
    let of_coordinators = x["context"].as_str().unwrap().split(',').next().unwrap().to_owned();
    let context = format!("{of_coordinators},{}", x["version"].as_str().unwrap());
    let dropped = json!([[{"key": "apple", "version": x["version"], "context": context}]]);
    assert_eq!(n1.call("drop", dropped)["changed"], 1);
    assert_eq!(n1.call("apply", json!([old]))["changed"], 1);
    let check = caller.call("check", json!({"repair": true}));
    assert_eq!((&check["dropped"], &check["repaired"]), (&json!(1), &json!(0)), "{check}");
    assert!(cluster.alike(&["n1", "n2", "n3"]).is_empty());
}

/// Rounds compare and collect while all is written and deleted; what was acknowledged last is there, or gone.
#[test]
fn rounds_work_under_load() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "1"}));
    let mut last = vec![None; 300];
    let mut collected = 0;
    for pass in 0..1000 {
        let puts = (0..300).filter(|i| (i + pass) % 3 > 0);
        let puts: Vec<Value> = puts.map(|i| json!([format!("k{i}"), format!("v{pass}")])).collect();
        caller.calls("put", &puts);
        let dels = (0..300).filter(|i| (i + pass) % 3 == 0);
        let dels: Vec<Value> = dels.map(|i| json!([format!("k{i}")])).collect();
        caller.calls("del", &dels);
        for (i, last) in last.iter_mut().enumerate() {
            *last = ((i + pass) % 3 > 0).then(|| format!("v{pass}"));
        }
        collected = caller.call("stats", json!([]))["collected"].as_u64().unwrap();
        if collected > 100 {
            break;
        }
    }
    assert!(collected > 100, "{collected} collected");
    wait_for("all tombstones are collected", || {
        (caller.call("stats", json!([]))["tombstones"] == 0).then_some(())
    });
    let held = cluster.alike(&["n1", "n2", "n3"]);
    assert_eq!(held.len(), last.iter().flatten().count());
    for (i, expected) in last.iter().enumerate() {
        let got = caller.call("get", json!([format!("k{i}")]));
        assert_eq!(got["value"].as_str(), expected.as_deref(), "k{i}: {got}");
    }
    let check = caller.call("check", json!({}));
    assert_eq!(check["different"], 0, "{check}");
    let events = caller.call("events", json!({"after": 0}))["events"].to_string();
    assert!(!events.contains("mended"), "nothing was ever lacking: {events}");
}
