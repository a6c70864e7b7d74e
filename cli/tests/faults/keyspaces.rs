//! Keyspaces on real processes: each key of each is where the ring says and nowhere else, what was
//! dropped stays dropped, and a scan loses nothing while keys move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, kv, text, wait_for};

const KEYS: usize = 60;

fn create(caller: &mut Caller, name: &str, change: Value) -> Value {
    let mut change = change;
    change["create"] = json!(true);
    let reply = caller.call("keyspace", json!({"name": name, "change": change}));
    reply["keyspaces"][0].clone()
}

/// Puts `k0` … into a keyspace, each as its name and number.
fn fill(caller: &mut Caller, space: &str, keys: usize) {
    let put = |i| json!([format!("k{i}"), format!("{space}{i}"), {"keyspace": space}]);
    caller.calls("put", &(0..keys).map(put).collect::<Vec<_>>());
}

/// What a node itself has of a keyspace: the value of each key.
fn held(cluster: &Cluster, node: &str, space: &str) -> BTreeMap<String, String> {
    let page = json!({"keyspace": space, "limit": 10_000, "tombstones": true});
    let page = Caller::to(cluster.addr_of(node)).call("dump", page);
    let text = |value: &Value| value.as_str().unwrap_or("deleted").to_owned();
    let items = page["items"].as_array().expect("items").iter();
    items.map(|item| (text(&item["key"]), text(&item["value"]))).collect()
}

/// Every key of a keyspace is at its owners, with its value, and at nobody else.
fn account(cluster: &Cluster, nodes: &[&str], space: &str, n: usize) {
    let mut caller = cluster.caller();
    let mut expected: BTreeMap<&str, BTreeMap<String, String>> =
        nodes.iter().map(|node| (*node, BTreeMap::new())).collect();
    for i in 0..KEYS {
        let place = caller.call("where", json!({"key": format!("k{i}"), "keyspace": space}));
        let owners = place["owners"].as_array().expect("owners");
        assert_eq!(owners.len(), n, "{space} {place}");
        for owner in owners {
            let node = expected.get_mut(owner.as_str().expect("an id")).expect("a member");
            node.insert(format!("k{i}"), format!("{space}{i}"));
        }
    }
    for (node, keys) in expected {
        assert_eq!(held(cluster, node, space), keys, "{space} at {node}");
    }
}

#[test]
fn each_keyspace_is_moved_with_its_own_number_of_copies() {
    let mut cluster = Cluster::of(3, 1);
    let mut caller = cluster.caller();
    let orders = create(&mut caller, "orders", json!({"n": 3, "r": 2, "w": 2}));
    assert_eq!((&orders["n"], &orders["n_now"]), (&json!(3), &Value::Null), "{orders}");
    create(&mut caller, "clicks", json!({"n": 2, "policy": "lww", "ttl_ms": 3_600_000}));
    let spaces = ["default", "orders", "clicks"];
    spaces.iter().for_each(|space| fill(&mut caller, space, KEYS));
    let three = ["n1", "n2", "n3"];
    for (space, n) in [("default", 1), ("orders", 3), ("clicks", 2)] {
        account(&cluster, &three, space, n);
    }

    let (id, addr) = cluster.spare();
    caller.call("addnode", json!({"id": id, "addr": addr}));
    // The coordinator is killed while the change waits; it comes back with all of them.
    let before = caller.call("keyspace", json!({}));
    let mut caller = cluster.restart_coordinator();
    assert_eq!(caller.call("keyspace", json!({})), before);
    caller.call("setreplica", json!([2]));
    caller.rebalance();
    let four = ["n1", "n2", "n3", "n4"];
    for (space, n) in [("default", 2), ("orders", 3), ("clicks", 2)] {
        account(&cluster, &four, space, n);
    }
    let stats = caller.call("stats", json!([]));
    assert_eq!((&stats["keys"], &stats["keys_exact"]), (&json!(3 * KEYS), &json!(true)));

    // Another N of one keyspace, and a node less, in one step; R and W have to fit.
    let refused = caller.error("setreplica", json!([1, "orders"]));
    assert_eq!(refused["data"]["name"], "BAD_ARGUMENT", "{refused}");
    caller.call("keyspace", json!({"name": "orders", "change": {"r": 1, "w": 1}}));
    let change = caller.call("setreplica", json!([1, "orders"]));
    assert_eq!((&change["pending"], &change["replication_before"]), (&json!(true), &json!(3)));
    let row = caller.call("keyspace", json!({"name": "orders"}))["keyspaces"][0].clone();
    assert_eq!((&row["n"], &row["n_now"]), (&json!(1), &json!(3)), "{row}");
    caller.call("removenode", json!({"id": "n1"}));
    caller.rebalance();
    for (space, n) in [("default", 2), ("orders", 1), ("clicks", 2)] {
        account(&cluster, &four[1..], space, n);
    }
    for space in spaces {
        assert_eq!(held(&cluster, "n1", space), BTreeMap::new(), "{space}: n1 was cleared");
        let page = caller.call("scan", json!({"keyspace": space, "limit": 10_000}));
        assert_eq!(page["items"].as_array().map(Vec::len), Some(KEYS), "{space}");
    }
}

#[test]
fn what_is_asked_for_is_checked() {
    let cluster = Cluster::of(2, 1);
    let mut caller = cluster.caller();
    create(&mut caller, "orders", json!({"n": 2, "r": 2, "w": 2}));
    let table = [
        ("orders", json!({"create": true}), "there is a keyspace orders already"),
        ("clicks", json!({"create": true, "n": 3}), "replication 3 needs 3 nodes"),
        ("clicks", json!({"create": true, "n": 0}), "replication is at least 1"),
        ("clicks", json!({"create": true, "w": 2}), "keyspace clicks cannot have R=1 W=2 with N=1"),
        ("clicks", json!({"create": true, "drop": true}), "made or dropped, not both"),
        ("orders", json!({"n": 1}), "keyspace orders cannot have R=2 W=2 with N=1"),
        ("orders", json!({"r": 0}), "keyspace orders cannot have R=0 W=2"),
        ("orders", json!({"policy": "lww"}), "has the policy siblings, which is fixed"),
        ("default", json!({"drop": true}), "is always there"),
        ("order", json!({"r": 1}), "no keyspace order;"),
    ];
    let before = caller.call("keyspace", json!({}));
    for (name, change, message) in table {
        let error = caller.error("keyspace", json!({"name": name, "change": change}));
        assert_eq!(error["data"]["name"], "BAD_ARGUMENT", "{change}: {error}");
        assert!(error["message"].as_str().expect("text").contains(message), "{change}: {error}");
    }
    assert_eq!(caller.call("keyspace", json!({})), before, "nothing was changed");
    let unknown = caller.error("put", json!(["a", "1", {"keyspace": "order"}]));
    assert_eq!(unknown["data"]["hint"], "did you mean: orders", "{unknown}");
    for (method, params) in [("scan", json!({})), ("where", json!({"key": "a"}))] {
        let mut params = params;
        params["keyspace"] = json!("nowhere");
        assert_eq!(caller.error(method, params)["data"]["name"], "BAD_ARGUMENT", "{method}");
    }
    for i in 0..62 {
        create(&mut caller, &format!("s{i}"), json!({}));
    }
    let many = caller.error("keyspace", json!({"name": "t", "change": {"create": true}}));
    assert!(many["message"].as_str().expect("text").contains("64 keyspaces, the most"), "{many}");
}

#[test]
fn a_node_that_was_away_brings_no_dropped_keyspace_back() {
    let mut cluster = Cluster::quick(3, 1);
    let mut caller = cluster.caller();
    create(&mut caller, "orders", json!({"n": 3}));
    create(&mut caller, "clicks", json!({"n": 3}));
    ["default", "orders", "clicks"].iter().for_each(|space| fill(&mut caller, space, KEYS));
    // n3 leaves with what it has, and misses everything; n2 is away for a while.
    cluster.kill("n3");
    caller.wait_until("n3", "health", json!("DOWN"));
    caller.call("removenode", json!({"id": "n3", "force": true}));
    caller.rebalance_ends();
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    let drop = |name: &str| json!({"name": name, "change": {"drop": true}});
    let reply = caller.call("keyspace", drop("orders"));
    assert_eq!(reply["dropped"], json!([{"name": "orders", "unheard": ["n2"]}]), "{reply}");
    assert_eq!(held(&cluster, "n1", "orders"), BTreeMap::new());
    assert_eq!(held(&cluster, "n1", "clicks").len(), KEYS, "the other one stays");
    let gone = caller.error("get", json!(["k1", {"keyspace": "orders"}]));
    assert_eq!(gone["data"]["name"], "BAD_ARGUMENT", "{gone}");
    let again = json!({"name": "orders", "change": {"create": true}});
    let early = caller.error("keyspace", again.clone());
    assert_eq!(early["data"]["name"], "NOT_APPLIED", "{early}");
    assert!(early["message"].as_str().expect("text").contains("n2 may still hold"), "{early}");

    // That is not forgotten by a coordinator that is killed; n2 hears of it when it is back.
    let mut caller = cluster.restart_coordinator();
    cluster.start("n2");
    wait_for("n2 hears of it", || {
        caller.call("keyspace", json!({}))["dropped"].is_null().then_some(())
    });
    assert_eq!(held(&cluster, "n2", "orders"), BTreeMap::new());
    caller.call("keyspace", again);
    let reply = caller.call("get", json!(["k1", {"keyspace": "orders"}]));
    assert_eq!(reply["status"], "not_found", "{reply}");

    // So does a node that joins with what was salvaged of old data, before it is a member.
    let (old, salvaged) = (cluster.data("n3"), cluster.data("n3-salvaged"));
    assert!(kv(&["salvage", text(&old)]).status.success());
    std::fs::remove_dir_all(&old).expect("its directory");
    std::fs::rename(salvaged, old).expect("another one");
    cluster.start("n3");
    assert_eq!(held(&cluster, "n3", "orders").len(), KEYS);
    caller.call("addnode", json!({"id": "n3", "addr": cluster.addr_of("n3")}));
    assert_eq!(held(&cluster, "n3", "orders"), BTreeMap::new());
    caller.rebalance();
    let page = caller.call("scan", json!({"keyspace": "orders"}));
    assert_eq!(page["items"], json!([]), "{page}");
}

/// All keys that a scan in pages finds, in the order in which it does; `between` is called after each
/// page with its number and who was silent.
fn scan(caller: &mut Caller, limit: usize, mut between: impl FnMut(usize, &Value)) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), Value::Null);
    for number in 1.. {
        let params = json!({"limit": limit, "after": after, "keys_only": true});
        let page = caller.call("scan", params);
        let items = page["items"].as_array().expect("items").iter();
        keys.extend(items.map(|item| item["key"].as_str().expect("text").to_owned()));
        between(number, &page["silent"]);
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    keys
}

fn sorted(keys: usize) -> Vec<String> {
    (0..keys).map(|i| format!("k{i}")).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn a_cursor_outlives_changes_of_the_ring() {
    let mut cluster = Cluster::of(2, 2);
    cluster.fill(300);
    let mut caller = cluster.caller();
    let (mut scanner, mut other) = (cluster.caller(), cluster.caller());
    let mut named = Vec::new();
    let keys = scan(&mut scanner, 25, |number, silent| {
        named.push(silent.clone());
        match number {
            1 => {
                let (id, addr) = cluster.spare();
                caller.call("addnode", json!({"id": id, "addr": addr}));
            }
            2 => drop(other.call("rebalance", json!({}))),
            4 => {
                wait_for("the rebalance ends", || {
                    (other.call("progress", json!([]))["state"] == "complete").then_some(())
                });
            }
            // One node is silent for one page: with two copies that page lacks nothing.
            5 => cluster.node("n1").pause(),
            6 => {
                cluster.node("n1").resume();
                caller.wait_until("n1", "health", json!("UP"));
            }
            8 => drop(caller.call("removenode", json!({"id": "n2"}))),
            9 => caller.rebalance(),
            _ => {}
        }
    });
    assert_eq!(keys, sorted(300), "each key once, in order");
    let silent: Vec<usize> = named
        .iter()
        .enumerate()
        .filter(|(_, silent)| !silent.is_null())
        .map(|(at, _)| at + 1)
        .collect();
    assert_eq!((silent, &named[5]), (vec![6], &json!(["n1"])));
}

#[test]
fn a_scan_sees_every_key_once_while_they_move() {
    let mut cluster = Cluster::of(3, 1);
    cluster.fill(400);
    let (id, addr) = cluster.spare();
    let mut caller = cluster.caller();
    let done = AtomicBool::new(false);
    let expected = sorted(400);
    std::thread::scope(|scope| {
        let scans = scope.spawn(|| {
            let mut scanner = cluster.caller();
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(scan(&mut scanner, 60, |_, silent| assert!(silent.is_null())), expected);
                rounds += 1;
            }
            rounds
        });
        for _ in 0..3 {
            caller.call("addnode", json!({"id": id, "addr": addr}));
            caller.rebalance();
            caller.call("removenode", json!({"id": id}));
            caller.rebalance();
        }
        done.store(true, Ordering::Relaxed);
        assert!(scans.join().expect("every scan saw all") > 0);
    });
}

fn keys_moved(caller: &mut Caller) -> (u64, u64) {
    let report = caller.rebalance_ends();
    assert_eq!((&report["state"], &report["failed"]), (&json!("complete"), &json!(0)), "{report}");
    (report["copied"].as_u64().expect("a number"), report["removed"].as_u64().expect("a number"))
}

/// Two owners took writes that knew nothing of each other: no holder has all, and all of it is moved.
#[test]
fn values_that_nobody_has_all_of_are_brought_together() {
    let mut cluster = Cluster::of(2, 1);
    let mut caller = cluster.caller();
    create(&mut caller, "orders", json!({"n": 2}));
    let space = json!({"keyspace": "orders"});
    caller.call("put", json!(["k", "0", space]));
    for (node, value) in [("n1", "red"), ("n2", "blue")] {
        let put = json!({"key": "k", "value": value, "keyspace": "orders"});
        Caller::to(cluster.addr_of(node)).call("put", put);
    }
    let shown = |caller: &mut Caller| {
        let page = caller.call("scan", json!({"keyspace": "orders"}));
        let items = page["items"].as_array().expect("items").clone();
        assert_eq!(items.len(), 1, "a key with two values is one key: {page}");
        let values = [&items[0]["value"], &items[0]["siblings"][0]["value"]];
        BTreeSet::from(values.map(|value| value.as_str().expect("a value").to_owned()))
    };
    let both = BTreeSet::from(["blue".to_owned(), "red".to_owned()]);
    assert_eq!(shown(&mut caller), both);
    let (id, addr) = cluster.spare();
    caller.call("addnode", json!({"id": id, "addr": addr}));
    caller.call("setreplica", json!([3, "orders"]));
    assert!(keys_moved(&mut caller).0 >= 3, "each owner lacked something");
    for node in ["n1", "n2", "n3"] {
        let get = json!({"key": "k", "keyspace": "orders"});
        let held = Caller::to(cluster.addr_of(node)).call("get", get);
        let values = [&held["value"], &held["siblings"][0]["value"]];
        let values = values.map(|value| value.as_str().expect("a value").to_owned());
        assert_eq!(BTreeSet::from(values), both, "{node}: {held}");
    }
    assert_eq!(shown(&mut caller), both);
    assert_eq!(keys_moved(&mut caller), (0, 0), "all is where it belongs");
}

/// A node has a value whose deletion all owners have seen and forgotten: it does not come back.
#[test]
fn a_stale_copy_does_not_outlive_the_tombstone_that_was_collected() {
    let cluster = Cluster::of(2, 1);
    let mut caller = cluster.caller();
    create(&mut caller, "orders", json!({"n": 1}));
    let space = json!({"keyspace": "orders"});
    let old = caller.call("put", json!(["k", "old", space]))["version"].clone();
    let deleted = caller.call("del", json!(["k", space]))["version"].clone();
    let place = caller.call("where", json!({"key": "k", "keyspace": "orders"}));
    let owner = place["owners"][0].as_str().expect("an owner").to_owned();
    let other = if owner == "n1" { "n2" } else { "n1" };
    let leaf = u16::from_str_radix(&place["hash"].as_str().expect("hex")[..4], 16).expect("hex");
    let [part, at] = leaf.to_be_bytes();
    let mut at_owner = Caller::to(cluster.addr_of(&owner));
    let digests = at_owner.call("digests", json!({"keyspace": "orders", "part": part}));
    let digest = &digests["digests"][usize::from(at)];
    let collection = json!({"leaf": leaf, "digest": digest, "floor": deleted, "keys": ["k"]});
    let collected = at_owner.call("collect", json!({"leaves": [collection], "keyspace": "orders"}));
    assert_eq!(collected["changed"], 1, "{collected}");
    let stale = json!([{"key": "k", "value": "old", "version": old}]);
    Caller::to(cluster.addr_of(other))
        .call("apply", json!({"records": stale, "keyspace": "orders"}));
    assert_eq!(held(&cluster, other, "orders").len(), 1);
    assert_eq!(keys_moved(&mut caller), (0, 1), "it is dropped where it came from");
    for node in ["n1", "n2"] {
        assert_eq!(held(&cluster, node, "orders"), BTreeMap::new(), "{node}");
    }
}
