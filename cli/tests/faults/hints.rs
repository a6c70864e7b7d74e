//! A node that was away gets what it has missed, by hints or, when these were too many, by comparison.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

/// Down through 1,000 writes and 200 deletes, killed without a goodbye; back, it has all of them.
#[test]
fn a_node_that_was_killed_gets_all_it_missed() {
    let mut cluster = Cluster::quick(3, 3);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    cluster.fill(200);
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    let puts: Vec<Value> = (200..1200).map(|i| json!([format!("k{i}"), format!("v{i}")])).collect();
    caller.calls("put", &puts);
    let dels: Vec<Value> = (0..200).map(|i| json!([format!("k{i}")])).collect();
    caller.calls("del", &dels);
    let hints = wait_for("the notes are told", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 1200).then_some(stats)
    });
    assert_eq!((&hints["handed_over"], &hints["up"]), (&json!(0), &json!(2)), "{hints}");
    cluster.start("n2");
    wait_for("the hints drain", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 0 && stats["handed_over"] == 1200).then_some(())
    });
    let dump = cluster.alike(&["n1", "n2", "n3"]);
    assert_eq!(dump.iter().filter(|record| record["deleted"] == true).count(), 200);
    assert_eq!(dump.len(), 1200);
    cluster.told("n2 is back: 1,200 hints handed over in ");
}

/// Hints survive the keeper and the coordinator: both are killed while the target is away.
#[test]
fn hints_survive_who_keeps_them() {
    let mut cluster = Cluster::quick(3, 3);
    cluster.kill("n3");
    cluster.caller().wait_until("n3", "health", json!("DOWN"));
    cluster.fill(20);
    cluster.kill("n1");
    cluster.start("n1");
    let mut caller = cluster.restart_coordinator();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    wait_for("n3 is known to be away", || {
        let show = caller.call("show", json!([]));
        (show["nodes"][2]["health"] == "DOWN").then_some(())
    });
    cluster.start("n3");
    wait_for("the hints drain", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 0 && stats["handed_over"] == 20).then_some(())
    });
    assert_eq!(cluster.alike(&["n1", "n2", "n3"]).len(), 20);
    let why = caller.call("why", json!(["k0"]));
    let replicas = why["replicas"].as_array().unwrap();
    let n3 = replicas.iter().find(|replica| replica["node"] == "n3").unwrap();
    let handed_over = "1.1 put, handed over as a hint, before this coordinator started";
    assert_eq!(n3["lines"], json!([handed_over]), "{why}");
}

/// A stand-in hands over what it took for another, and keeps nothing.
#[test]
fn a_stand_in_keeps_nothing() {
    let mut cluster = Cluster::quick(4, 2);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    cluster.kill("n4");
    caller.wait_until("n4", "health", json!("DOWN"));
    let puts: Vec<Value> = (0..200)
        .map(|i| json!([format!("k{i}"), format!("v{i}"), {"sloppy": true, "w": 2}]))
        .collect();
    caller.calls("put", &puts);
    let owed = wait_for("stand-ins have notes", || {
        let hints = caller.call("stats", json!([]))["hints"].as_u64().unwrap();
        (hints > 0).then_some(hints)
    });
    assert_eq!(cluster.copies_at(&["n1", "n2", "n3"]), 400);
    cluster.start("n4");
    wait_for("they are handed over and dropped", || {
        let stats = caller.call("stats", json!([]));
        let moved = cluster.copies_at(&["n4"]) as u64 == owed;
        (stats["hints"] == 0 && moved && stats["copies"] == 400).then_some(())
    });
    cluster.readable(200);
    let check = caller.call("check", json!({}));
    assert_eq!(check["different"], 0, "{check}");
}

/// Too many are thrown away, and said to be; a comparison finds what they were of, and then the node owes
/// nothing more.
#[test]
fn what_overflowed_is_found_by_comparison() {
    let mut cluster = Cluster::quick(2, 2);
    let mut caller = cluster.caller();
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    let mut n1 = Caller::to(cluster.addr_of("n1"));
    for batch in 0..11 {
        let keys: Vec<Value> =
            (0..10_000).map(|i| json!({"key": format!("none {batch} {i}")})).collect();
        n1.call("owe", json!(["n2", keys]));
    }
    cluster.fill(50);
    cluster.told("hints for n2 overflowed at n1: anti-entropy finds the rest");
    assert_eq!(caller.call("stats", json!([]))["hints_lost"], json!(["n2"]));
    cluster.start("n2");
    wait_for("nothing is owed any more", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 0 && stats["hints_lost"].is_null()).then_some(())
    });
    assert_eq!(cluster.alike(&["n1", "n2"]).len(), 50);
    cluster.told("anti-entropy mended 50 keys (n2 lacked 50)");
}

/// Whoever is taken off the ring is owed nothing any more.
#[test]
fn nothing_is_owed_to_who_is_gone() {
    let mut cluster = Cluster::quick(3, 3);
    cluster.kill("n3");
    let mut caller = cluster.caller();
    caller.wait_until("n3", "health", json!("DOWN"));
    cluster.fill(20);
    assert!(Caller::to(cluster.addr_of("n1")).call("size", json!([]))["debts"].is_array());
    caller.call("removenode", json!({"id": "n3", "force": true}));
    caller.rebalance();
    for id in ["n1", "n2"] {
        let mut node = Caller::to(cluster.addr_of(id));
        wait_for("the notes are struck off", || {
            node.call("size", json!([]))["debts"].is_null().then_some(())
        });
    }
}
