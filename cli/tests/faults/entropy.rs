//! Replicas that differ are found, named and mended, whatever made them differ.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

/// Records of 100 keys vanish at one node, and one key is written at another, past the coordinator.
#[test]
fn damage_is_found_named_and_mended() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    cluster.fill(1000);
    let check = caller.call("check", json!({}));
    assert_eq!((&check["different"], &check["leaves"]), (&json!(0), &json!(65_536)), "{check}");
    let quiet = check["bytes"].as_u64().unwrap();
    let mut n2 = Caller::to(cluster.addr_of("n2"));
    let keys: Vec<Value> = (0..100).map(|i| json!(format!("k{i}"))).collect();
    let records = n2.call("fetch", json!([keys]))["records"].clone();
    let gone: Vec<Value> = records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| json!({"key": record["key"], "version": record["version"]}))
        .collect();
    assert_eq!(n2.call("drop", json!([gone]))["changed"], 100);
    let direct = Caller::to(cluster.addr_of("n3")).call("put", json!(["k500", "straight"]));
    let check = caller.call("check", json!({}));
    assert_eq!((&check["different"], &check["repaired"]), (&json!(101), &json!(0)), "{check}");
    let examples = check["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 100);
    let version = records[0]["version"].as_str().unwrap();
    let key = records[0]["key"].as_str().unwrap();
    let named = format!("{key}: n2 lacks {version}");
    let version = direct["version"].as_str().unwrap();
    let straight = format!("k500: n1 lacks {version}, n2 lacks {version}");
    let found = |line: &str| examples.iter().any(|example| *example == *line);
    assert!(found(&named) || found(&straight), "{check}");
    let mended = caller.call("check", json!({"repair": true}));
    assert_eq!((&mended["repaired"], &mended["failed"]), (&json!(102), &json!(0)), "{mended}");
    // What is moved is bounded by what differs, not by what is there.
    let moved = mended["bytes"].as_u64().unwrap();
    assert!(moved < quiet + 102 * 4 * 1000 + 101 * 3 * 256 * 19 * 2, "{mended}");
    cluster.alike(&["n1", "n2", "n3"]);
    let after = caller.call("check", json!({}));
    assert_eq!(
        (&after["different"], &after["bytes"]),
        (&json!(0), &json!(256 * 3 * 19)),
        "{after}"
    );
    let stats = caller.call("stats", json!([]));
    assert!(stats["unverified_ms"].is_u64() && stats["divergences"] == 202, "{stats}");
}

/// Without anybody asking: the rounds find it.
#[test]
fn rounds_mend_by_themselves() {
    let cluster = Cluster::of(3, 2);
    let mut caller = cluster.caller();
    cluster.fill(200);
    for id in ["n1", "n2", "n3"] {
        Caller::to(cluster.addr_of(id)).call("put", json!(["k7", format!("at {id}")]));
    }
    caller.call("config", json!({"name": "anti_entropy", "value": "1"}));
    wait_for("a round has verified all", || {
        let stats = caller.call("stats", json!([]));
        (stats["unverified_ms"].is_u64() && stats["copies"] == 400).then_some(())
    });
    // The one that was no owner has given its value to the owners.
    let got = caller.call("get", json!(["k7", {"r": 2}]));
    assert_eq!(got["siblings"].as_array().map(Vec::len), Some(3), "{got}");
    cluster.told("anti-entropy mended ");
}

/// Each side of a partition is written to while the other is away; afterwards both have all.
#[test]
fn both_sides_of_a_partition_are_kept() {
    let cluster = Cluster::quick(4, 4);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    let first: Vec<Value> = (0..100).map(|i| json!([format!("k{i}"), "before"])).collect();
    let seen: Vec<Value> =
        caller.calls("put", &first).iter().map(|put| put["version"].clone()).collect();
    for (side, away) in [("left", ["n3", "n4"]), ("right", ["n1", "n2"])] {
        away.iter().for_each(|id| cluster.node(id).pause());
        away.iter().for_each(|id| caller.wait_until(id, "health", json!("DOWN")));
        // Both sides have seen only what was there before.
        let writes: Vec<Value> = (0..100)
            .map(|i| {
                let context = format!("-,+{}", seen[i].as_str().unwrap());
                let context = context.trim_start_matches("-,").to_owned();
                json!([format!("k{i}"), format!("{side} {i}"), {"context": context, "w": 2}])
            })
            .collect();
        caller.calls("put", &writes);
        away.iter().for_each(|id| cluster.node(id).resume());
        away.iter().for_each(|id| caller.wait_until(id, "health", json!("UP")));
    }
    wait_for("the hints drain", || (caller.call("stats", json!([]))["hints"] == 0).then_some(()));
    let check = caller.call("check", json!({"repair": true}));
    assert_eq!(check["failed"], 0, "{check}");
    cluster.alike(&["n1", "n2", "n3", "n4"]);
    for i in 0..100 {
        let got = caller.call("get", json!([format!("k{i}")]));
        let values: Vec<&Value> =
            got["siblings"].as_array().unwrap().iter().map(|one| &one["value"]).collect();
        assert_eq!(values, [&json!(format!("left {i}")), &json!(format!("right {i}"))], "{got}");
    }
}
