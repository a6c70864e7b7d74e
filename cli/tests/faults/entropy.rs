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
    // A number that the coordinator has never given, as a node of another cluster would bring.
    Caller::to(cluster.addr_of("n3")).call("put", json!(["k600", "foreign", "1.999999"]));
    let check = caller.call("check", json!({}));
    assert_eq!((&check["different"], &check["repaired"]), (&json!(102), &json!(0)), "{check}");
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
    assert_eq!((&mended["repaired"], &mended["failed"]), (&json!(104), &json!(0)), "{mended}");
    // What is moved is bounded by what differs, not by what is there.
    let moved = mended["bytes"].as_u64().unwrap();
    assert!(moved < quiet + 104 * 4 * 1000 + 102 * 3 * 256 * 19 * 5, "{mended}");
    cluster.alike(&["n1", "n2", "n3"]);
    let after = caller.call("check", json!({}));
    assert_eq!(
        (&after["different"], &after["bytes"]),
        (&json!(0), &json!(256 * 3 * 19)),
        "{after}"
    );
    let stats = caller.call("stats", json!([]));
    assert!(stats["unverified_ms"].is_u64() && stats["divergences"] == 204, "{stats}");
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

/// Another keyspace, with copies of its own: hints, comparison, mending and collection are of it alone.
#[test]
fn each_keyspace_is_compared_by_itself() {
    let mut cluster = Cluster::quick(3, 1);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    caller.call("keyspace", json!({"name": "users", "change": {"create": true, "n": 3}}));
    cluster.fill(30);
    let of_users = json!({"keyspace": "users"});
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    let puts: Vec<Value> =
        (0..30).map(|i| json!([format!("u{i}"), format!("v{i}"), of_users])).collect();
    caller.calls("put", &puts);
    caller.call("del", json!(["u0", of_users]));
    cluster.start("n2");
    wait_for("the hints drain", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 0 && stats["handed_over"] == 30).then_some(())
    });
    let mut n3 = Caller::to(cluster.addr_of("n3"));
    let held = n3.call("fetch", json!([["u5"], "users"]))["records"][0].clone();
    let gone = json!([[{"key": "u5", "version": held["version"]}], "users"]);
    assert_eq!(n3.call("drop", gone)["changed"], 1);
    assert_eq!(caller.call("check", json!({}))["different"], 0);
    let check = caller.call("check", json!({"repair": true, "keyspace": "users"}));
    let named = format!("u5: n3 lacks {}", held["version"].as_str().unwrap());
    assert_eq!(check["examples"], json!([named]), "{check}");
    assert_eq!((&check["repaired"], &check["collected"]), (&json!(1), &json!(1)), "{check}");
    let dump = |id: &str| {
        let page = json!({"keyspace": "users", "tombstones": true});
        Caller::to(cluster.addr_of(id)).call("dump", page)["items"].clone()
    };
    assert_eq!((dump("n1"), dump("n1").as_array().map(Vec::len)), (dump("n2"), Some(29)));
    assert_eq!(dump("n1"), dump("n3"));
}

/// A round moves no more than it may; the next ones go on where it stopped.
#[test]
fn a_round_keeps_to_its_budget() {
    let cluster = Cluster::of(2, 2);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    let value = "v".repeat(2000);
    let puts: Vec<Value> = (0..200).map(|i| json!([format!("k{i}"), value])).collect();
    caller.calls("put", &puts);
    let mut n2 = Caller::to(cluster.addr_of("n2"));
    let page = n2.call("dump", json!({"keys_only": true}));
    let gone: Vec<Value> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| json!({"key": record["key"], "version": record["version"]}))
        .collect();
    assert_eq!(n2.call("drop", json!([gone]))["changed"], 200);
    caller.call("config", json!({"name": "sync_budget", "value": "1024"}));
    caller.call("config", json!({"name": "anti_entropy", "value": "1"}));
    let some = wait_for("a round has mended some", || {
        let events = caller.call("events", json!({"after": 0}))["events"].clone();
        let texts = events.as_array().unwrap().iter().filter_map(|event| event["text"].as_str());
        let mended = texts.filter_map(|text| text.strip_prefix("anti-entropy mended "));
        mended.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).next()
    });
    assert!(some < 100, "{some} of 200 keys at once");
    wait_for("the others follow", || {
        let stats = caller.call("stats", json!([]));
        (stats["repairs"] == 200 && stats["unverified_ms"].is_u64()).then_some(())
    });
    cluster.alike(&["n1", "n2"]);
}

/// A key that no other replica can take any more holds up none of those that are copied with it.
#[test]
fn a_key_that_has_grown_too_large_stands_in_nobodys_way() {
    let cluster = Cluster::of(2, 2);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "anti_entropy", "value": "0"}));
    let part = |caller: &mut Caller, key: &str| {
        caller.call("where", json!({"key": key}))["hash"].as_str().expect("digits")[..2].to_owned()
    };
    let crowded = part(&mut caller, "crowded");
    let beside = (0..).map(|i| format!("k{i}")).find(|key| part(&mut caller, key) == crowded);
    let beside = beside.expect("some key is in the same part");
    // Two writes that had each seen 6,000 single versions: together more than travels.
    let mut n1 = Caller::to(cluster.addr_of("n1"));
    for from in [100_000, 200_000] {
        let dots: Vec<String> = (0..6_000).map(|i| format!("+1.{}", from + 2 * i)).collect();
        let (version, context) = (format!("1.{}", from + 90_000), dots.join(","));
        let record =
            json!({"key": "crowded", "value": "v", "version": version, "context": context});
        n1.call("apply", json!([[record]]));
    }
    n1.call("apply", json!([[{"key": beside, "value": "v", "version": "1.5"}]]));
    let report = caller.call("check", json!({"repair": true}));
    assert!(report["failed"].as_u64().is_some_and(|failed| failed > 0), "it is told: {report}");
    let mut n2 = Caller::to(cluster.addr_of("n2"));
    assert_eq!(n2.call("get", json!([beside]))["value"], "v", "{report}");
    assert_eq!(n2.call("get", json!(["crowded"]))["value"], serde_json::Value::Null);
    // Small again, it is everywhere.
    caller.call("put", json!(["crowded", "new"]));
    caller.call("check", json!({"repair": true}));
    assert_eq!(n2.call("get", json!(["crowded"]))["value"], "new");
}
