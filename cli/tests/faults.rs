//! Real processes, killed without warning: what was acknowledged is there afterwards.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use support::{Caller, Server, kv};

/// Puts in flight at a time.
const WINDOW: u64 = 64;

/// A node under load is killed at another moment in each round, compactions (one each 50
/// operations and as many as there are keys) going on all the time.
#[test]
fn a_killed_node_has_every_acknowledged_write() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut acknowledged = BTreeSet::new();
    let mut next = 0;
    for kill_after in [1, 97, 500, 1300, 3000] {
        let node = Server::node("n1", dir.path(), "127.0.0.1:0");
        let mut caller = Caller::to(&node.addr);
        verify(&mut caller, &acknowledged);
        let first = next;
        let mut sent = |caller: &mut Caller| {
            next += 1;
            caller.send(next, "put", &json!([format!("key {next}"), format!("value\n{next}")]))
        };
        (0..WINDOW).for_each(|_| sent(&mut caller).expect("the node is there"));
        for _ in 0..kill_after {
            let answer = caller.answer().expect("the node answers");
            acknowledged.insert(answer["id"].as_u64().expect("our id"));
            sent(&mut caller).expect("the node is there");
        }
        node.kill();
        while let Some(answer) = caller.answer() {
            acknowledged.insert(answer["id"].as_u64().expect("our id"));
        }
        assert!(acknowledged.range(first..).count() >= kill_after);
    }
    let node = Server::node("n1", dir.path(), "127.0.0.1:0");
    verify(&mut Caller::to(&node.addr), &acknowledged);
}

fn verify(caller: &mut Caller, acknowledged: &BTreeSet<u64>) {
    for id in acknowledged {
        let got = caller.call("get", json!([format!("key {id}")]));
        assert_eq!(got["value"], format!("value\n{id}"), "key {id} was acknowledged");
    }
}

/// The coordinator is killed with a change pending; the next one knows nodes, N and the change,
/// finishes it, and numbers its writes above all earlier ones.
#[test]
fn a_killed_coordinator_is_replaced_by_one_that_knows_all() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    let nodes: Vec<Server> =
        ["n1", "n2", "n3"].map(|id| Server::node(id, &at(id), "127.0.0.1:0")).into_iter().collect();
    let coordinator = Server::coordinator(&at("c"));
    let mut caller = Caller::to(&coordinator.addr);
    for (id, node) in [("n1", &nodes[0]), ("n2", &nodes[1])] {
        caller.call("addnode", json!({"id": id, "addr": node.addr}));
    }
    caller.call("setreplica", json!([2]));
    for i in 0..300 {
        caller.call("put", json!([format!("k{i}"), format!("v{i}")]));
    }
    assert_eq!(caller.call("addnode", json!({"id": "n3", "addr": nodes[2].addr}))["pending"], true);
    coordinator.kill();

    let coordinator = Server::coordinator(&at("c"));
    let mut caller = Caller::to(&coordinator.addr);
    let show = caller.call("show", json!([]));
    assert_eq!((&show["pending"], &show["replication"]), (&json!(true), &json!(2)));
    assert_eq!(caller.call("put", json!(["k0", "again"]))["version"], "2.1");
    rebalance(&mut caller);
    assert_eq!(caller.call("get", json!(["k0"]))["value"], "again");
    for i in 1..300 {
        assert_eq!(caller.call("get", json!([format!("k{i}")]))["value"], format!("v{i}"));
    }
    assert_eq!(caller.call("stats", json!([]))["copies"], 600, "each key on exactly two nodes");
}

fn rebalance(caller: &mut Caller) {
    caller.call("rebalance", json!({}));
    loop {
        let report = caller.call("progress", json!([]));
        match report["state"].as_str() {
            Some("running") => std::thread::sleep(Duration::from_millis(10)),
            state => return assert_eq!(state, Some("complete"), "{report}"),
        }
    }
}

/// Reads and writes while a node joins and the rebalance runs: every key is there at every moment.
#[test]
fn no_key_is_ever_missing_while_the_ring_changes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = |id: &str| Server::node(id, &dir.path().join(id), "127.0.0.1:0");
    let (n1, n2) = (node("n1"), node("n2"));
    let coordinator = Server::coordinator(&dir.path().join("c"));
    let mut caller = Caller::to(&coordinator.addr);
    caller.call("addnode", json!({"id": "n1", "addr": n1.addr}));
    for i in 0..2000 {
        caller.call("put", json!([format!("k{i}"), "old"]));
    }
    caller.call("addnode", json!({"id": "n2", "addr": n2.addr}));
    caller.call("rebalance", json!({}));
    let mut other = Caller::to(&coordinator.addr);
    let mut i = 0;
    loop {
        let key = format!("k{}", i % 2000);
        assert_ne!(other.call("get", json!([key]))["status"], "not_found", "{key}");
        other.call("put", json!([key, "new"]));
        i += 1;
        let report = caller.call("progress", json!([]));
        if report["state"] != "running" {
            assert_eq!(report["state"], "complete", "{report}");
            break;
        }
    }
    for done in 0..i.min(2000) {
        assert_eq!(other.call("get", json!([format!("k{done}")]))["value"], "new");
    }
    rebalance(&mut caller);
    assert_eq!(caller.call("stats", json!([]))["copies"], 2000, "each key on exactly one node");
}

/// What is taken or missing is named, with the exit code of the contract.
#[test]
fn what_is_in_the_way_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().to_str().expect("a UTF-8 path");
    let node = Server::node("n1", dir.path(), "127.0.0.1:0");
    let spare = tempfile::tempdir().expect("a temporary directory");
    let spare = spare.path().to_str().expect("a UTF-8 path");
    let table: [(&[&str], i32, &str); 6] = [
        (&["node", "--id", "n1", "--listen", "127.0.0.1:0", "--data", data], 73, data),
        (&["node", "--id", "n2", "--listen", &node.addr, "--data", spare], 1, &node.addr),
        (&["coordinator", "--listen", &node.addr, "--data", spare], 1, &node.addr),
        (&["node", "--id", "n1", "--listen", "0.0.0.0:0", "--data", spare], 1, "0.0.0.0:0"),
        (&["--connect", "127.0.0.1:1", "get", "a"], 4, "127.0.0.1:1"),
        (&["gte", "a"], 2, "did you mean: get"),
    ];
    for (args, code, named) in table {
        let output = kv(args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(named), "{args:?}: {told}");
    }
}
