//! Processes killed without warning: what was acknowledged is there afterwards.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use crate::cluster::Cluster;
use crate::support::{Caller, PATIENCE, Server, wait_for};

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
    caller.rebalance();
    assert_eq!(caller.call("get", json!(["k0"]))["value"], "again");
    for i in 1..300 {
        assert_eq!(caller.call("get", json!([format!("k{i}")]))["value"], format!("v{i}"));
    }
    assert_eq!(caller.call("stats", json!([]))["copies"], 600, "each key on exactly two nodes");
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
    let by = Instant::now() + PATIENCE;
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
        assert!(Instant::now() < by, "the rebalance does not end: {report}");
    }
    for done in 0..i.min(2000) {
        assert_eq!(other.call("get", json!([format!("k{done}")]))["value"], "new");
    }
    caller.rebalance();
    assert_eq!(caller.call("stats", json!([]))["copies"], 2000, "each key on exactly one node");
}

/// Few keys written again and again, so that a compaction follows the other: after each kill, each
/// key has the last value that was acknowledged, or one that was sent after it.
#[test]
fn kills_among_compactions_lose_nothing() {
    const KEYS: u64 = 40;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut sent, mut acknowledged) = (0, vec![0; KEYS as usize]);
    let mut compactions = 0;
    for kill_after in [211, 97, 350, 149, 503, 307, 101, 419, 263, 199, 601, 151] {
        let node = Server::node("n1", dir.path(), "127.0.0.1:0");
        let mut caller = Caller::to(&node.addr);
        for key in 0..KEYS {
            let (least, most) = (acknowledged[key as usize], sent);
            let got = caller.call("get", json!([format!("k{key}")]));
            let value = got["value"].as_str().map_or(0, |text| text.parse().expect("our number"));
            let ours = value == 0 || value % KEYS == key;
            assert!(
                ours && (least..=most).contains(&value),
                "k{key}: {value}, not {least}..={most}"
            );
        }
        let mut send = |caller: &mut Caller| {
            sent += 1;
            let _gone =
                caller.send(sent, "put", &json!([format!("k{}", sent % KEYS), sent.to_string()]));
        };
        (0..WINDOW).for_each(|_| send(&mut caller));
        let mut note = |answer: serde_json::Value| {
            let id = answer["id"].as_u64().expect("our id");
            let slot = &mut acknowledged[(id % KEYS) as usize];
            *slot = id.max(*slot);
        };
        for _ in 0..kill_after {
            note(caller.answer().expect("the node answers"));
            send(&mut caller);
        }
        compactions += Caller::to(&node.addr).call("stats", json!([]))["compactions"]
            .as_u64()
            .expect("a number");
        node.kill();
        while let Some(answer) = caller.answer() {
            note(answer);
        }
    }
    assert!(compactions > 0, "there was something to kill");
}

/// The coordinator is killed again and again in the middle of a rebalance, the ring growing and
/// shrinking meanwhile: every key can be read all the time, and in the end each has its N copies.
#[test]
fn a_rebalance_survives_its_coordinator() {
    const KEYS: usize = 1500;
    let mut cluster = Cluster::of(2, 2);
    cluster.fill(KEYS);
    let (n3, addr) = cluster.spare();
    let mut caller = cluster.caller();
    for (round, killed_at) in [1, 501, 700, 1].into_iter().enumerate() {
        let change = if round % 2 == 0 { "addnode" } else { "removenode" };
        let params =
            if round % 2 == 0 { json!({"id": n3, "addr": addr}) } else { json!({"id": n3}) };
        caller.call(change, params);
        caller.call("rebalance", json!({}));
        wait_for("the rebalance is on its way", || {
            let report = caller.call("progress", json!([]));
            let done = report["copied"].as_u64() >= Some(killed_at) || report["state"] != "running";
            done.then_some(())
        });
        caller = cluster.restart_coordinator();
        cluster.readable(KEYS);
        caller.rebalance();
        cluster.account(KEYS, 2 * KEYS);
    }
}

/// The coordinator is killed while it adds a node: afterwards the node is a member or it is not,
/// and it can be made one.
#[test]
fn addnode_is_done_or_not_done() {
    let mut cluster = Cluster::of(1, 1);
    cluster.fill(50);
    let mut caller = cluster.caller();
    for round in 0..6 {
        let (id, addr) = cluster.spare();
        let params = json!({"id": id, "addr": addr});
        caller.send(1, "addnode", &params).expect("it is there");
        // Killed at once, or when it has just been done.
        if round % 2 == 1 {
            wait_for("the node is listed", || {
                let show = cluster.caller().call("show", json!([]));
                show["nodes"].to_string().contains(&addr).then_some(())
            });
        }
        caller = cluster.restart_coordinator();
        let listed = caller.call("show", json!([]))["nodes"].to_string().contains(&addr);
        let again = caller.ask("addnode", &params);
        assert_eq!(listed, again["error"]["data"]["name"] == "NODE_EXISTS", "{again}");
        caller.rebalance();
    }
    cluster.account(50, 50);
    assert_eq!(caller.call("show", json!([]))["nodes"].as_array().map(Vec::len), Some(7));
}
