//! Who is behind an address: nothing goes to a node that is not the one that was meant.

use std::net::TcpListener;

use serde_json::json;

use crate::cluster::Cluster;

const KEYS: usize = 60;

#[test]
fn a_node_that_cannot_be_added_is_named_with_the_reason_and_the_next_step() {
    let mut cluster = Cluster::quick(2, 1);
    let mut caller = cluster.caller();
    let (_, spare) = cluster.spare();
    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mute = mute.local_addr().expect("an address").to_string();
    let (n1, n2, coordinator) = (cluster.addr_of("n1"), cluster.addr_of("n2"), cluster.addr());
    let table = [
        ("n3", "127.0.0.1:1", 1, "UNREACHABLE", "127.0.0.1:1", "kv node --id n3"),
        ("n3", &mute, 1, "UNREACHABLE", &mute, "kv node --id n3"),
        ("n3", coordinator, 1, "UNREACHABLE", "is no storage node", "kv node --id n3"),
        ("n9", &spare, 1, "BAD_ARGUMENT", "is called n3, not n9", "addnode n3"),
        ("n1", n1, 1, "NODE_EXISTS", n1, "show lists the nodes"),
        ("n3", n1, 1, "NODE_EXISTS", "that is n1", "show lists the nodes"),
        ("n1", n2, 1, "NODE_EXISTS", "that is n2", "show lists the nodes"),
        ("n3", "not an address", 1, "BAD_ARGUMENT", "not an address", "addnode n4"),
        ("n3", &spare, 0, "BAD_ARGUMENT", "weight 0", "weight 1"),
    ];
    for (id, addr, weight, name, message, hint) in table {
        let error = caller.error("addnode", json!({"id": id, "addr": addr, "weight": weight}));
        assert_eq!(error["data"]["name"], name, "{id} {addr}: {error}");
        assert!(error["message"].as_str().expect("text").contains(message), "{error}");
        assert!(error["data"]["hint"].as_str().expect("text").contains(hint), "{error}");
    }
    let show = caller.call("show", json!([]));
    assert_eq!(show["nodes"].as_array().map(Vec::len), Some(2), "nothing was added: {show}");
    let gone = caller.error("removenode", json!({"id": "n7"}));
    assert_eq!(gone["data"]["name"], "NODE_NOT_FOUND");
    assert_eq!(gone["data"]["hint"], "nodes: n1 n2");
}

/// A node comes back with an empty directory: it is noticed and said, it gets nothing and answers
/// for nothing, and it can be replaced without losing a key.
#[test]
fn a_wiped_node_is_noticed_and_can_be_replaced() {
    let mut cluster = Cluster::quick(3, 2);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    cluster.kill("n2");
    std::fs::remove_dir_all(cluster.data("n2")).expect("its directory");
    cluster.start("n2");
    cluster.readable(KEYS);
    cluster.fill(KEYS);
    caller.wait_until("n2", "stranger", json!(true));
    let events = caller.call("events", json!({}))["events"].to_string();
    assert!(events.contains("has another data directory than before"), "{events}");
    caller.wait_until("n2", "health", json!("DOWN"));
    cluster.readable(KEYS);
    let mut n2 = crate::support::Caller::to(cluster.addr_of("n2"));
    assert_eq!(n2.call("size", json!([]))["size"], 0, "nothing was sent there");

    let n2 = json!({"id": "n2", "addr": cluster.addr_of("n2")});
    let known = caller.error("addnode", n2.clone());
    assert_eq!(known["data"]["name"], "NODE_EXISTS");
    assert!(known["data"]["hint"].as_str().expect("text").contains("removenode n2"), "{known}");
    caller.call("removenode", json!({"id": "n2"}));
    caller.rebalance();
    caller.call("addnode", n2);
    caller.rebalance();
    cluster.account(KEYS, 2 * KEYS);
}

/// Two nodes come back at each other's address: neither gets the other's keys.
#[test]
fn nodes_that_changed_places_are_not_mistaken_for_each_other() {
    let mut cluster = Cluster::quick(2, 1);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    let (n1, n2) = (cluster.addr_of("n1").to_owned(), cluster.addr_of("n2").to_owned());
    cluster.kill("n1");
    cluster.kill("n2");
    cluster.start_at("n1", &n2);
    cluster.start_at("n2", &n1);
    for i in 0..KEYS {
        let name = caller.error("get", json!([format!("k{i}")]))["data"]["name"].clone();
        assert_eq!(name, "UNREACHABLE", "k{i} is not lost");
    }
    caller.wait_until("n1", "stranger", json!(true));
    let show = caller.call("show", json!([]));
    let error = show["nodes"][0]["error"].as_str().expect("text");
    assert!(error.contains("answers in place of n1"), "{show}");
    cluster.kill("n1");
    cluster.kill("n2");
    cluster.start("n1");
    cluster.start_at("n2", "127.0.0.1:0");
    let moved = cluster.node("n2").addr.clone();
    caller.wait_until("n1", "health", json!("UP"));
    caller.call("addnode", json!({"id": "n2", "addr": moved}));
    cluster.account(KEYS, KEYS);
}
