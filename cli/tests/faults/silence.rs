//! Nodes that are paused or down: no call waits without a deadline, and every answer is honest.
//!
//! The tests measure no time. A call that waited for ever would run into the caller's own patience.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, kv, wait_for};

const KEYS: usize = 60;

/// Keys `k0` … by whether `node` is an owner.
fn owned_by(caller: &mut Caller, node: &str) -> (Vec<String>, Vec<String>) {
    (0..KEYS).map(|i| format!("k{i}")).partition(|key| {
        let owners = caller.call("where", json!({"key": key}))["owners"].clone();
        owners.as_array().expect("owners").contains(&json!(node))
    })
}

/// With a second copy, a paused node takes nothing away.
#[test]
fn a_paused_node_delays_but_withholds_nothing_that_has_another_copy() {
    let cluster = Cluster::quick(3, 2);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    let (on_n2, _) = owned_by(&mut caller, "n2");
    cluster.node("n2").pause();
    for key in &on_n2 {
        let reply = caller.call("put", json!([key, "new"]));
        let part = |node: &str| {
            let replicas = reply["replicas"].as_array().expect("replicas").clone();
            replicas.into_iter().find(|replica| replica["node"] == node)
        };
        let outcome = part("n2").expect("an owner")["outcome"].clone();
        assert!(["unknown", "unreachable"].map(Value::from).contains(&outcome), "{reply}");
        assert_eq!(caller.call("get", json!([key]))["value"], "new");
    }
    let stats = caller.call("stats", json!([]));
    assert_eq!(
        (&stats["silent"], &stats["keys_exact"]),
        (&json!(["n2"]), &json!(false)),
        "{stats}"
    );
    caller.wait_until("n2", "health", json!("DOWN"));

    let report = caller.rebalance_ends();
    let failed = report["failed"].as_u64().expect("a number");
    assert!(failed > 0 && report["removed"] == 0, "what n2 missed is not made up: {report}");
    cluster.node("n2").resume();
    caller.wait_until("n2", "health", json!("UP"));
    caller.rebalance();
    let mut n2 = Caller::to(cluster.addr_of("n2"));
    for key in &on_n2 {
        assert_eq!(n2.call("get", json!([key]))["value"], "new", "{key} was made up");
    }
    assert_eq!(caller.call("stats", json!([]))["copies"], 2 * KEYS);
}

/// With one copy, what is on the paused node is neither "written" nor "not found".
#[test]
fn the_only_copy_on_a_paused_node_is_unknown_not_absent() {
    let cluster = Cluster::quick(2, 1);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    let (on_n2, elsewhere) = owned_by(&mut caller, "n2");
    cluster.node("n2").pause();
    let (first, second) = (&on_n2[0], &on_n2[1]);
    assert_eq!(caller.error("put", json!([first, "new"]))["data"]["name"], "OUTCOME_UNKNOWN");
    assert_eq!(caller.error("get", json!([second]))["data"]["name"], "UNREACHABLE");
    caller.wait_until("n2", "health", json!("DOWN"));
    let refused = caller.error("put", json!([second, "new"]));
    assert_eq!(refused["data"]["name"], "UNREACHABLE", "nothing was sent: {refused}");
    for key in &elsewhere {
        assert!(caller.call("get", json!([key]))["value"].is_string());
    }
    let old = caller.call("get", json!([elsewhere[0]]));
    cluster.node("n2").resume();
    caller.wait_until("n2", "health", json!("UP"));
    assert_eq!(caller.call("get", json!([second]))["value"], format!("v{}", &second[1..]));
    assert_eq!(caller.call("get", json!([elsewhere[0]])), old);
}

/// A change of the ring with a paused node in it ends, moves nothing it cannot vouch for, and is
/// finished when the node goes on.
#[test]
fn a_rebalance_with_a_paused_node_ends_and_can_be_finished() {
    let mut cluster = Cluster::quick(2, 1);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    let (n3, addr) = cluster.spare();
    caller.call("addnode", json!({"id": n3, "addr": addr}));
    for paused in ["n3", "n2"] {
        cluster.node(paused).pause();
        let report = caller.rebalance_ends();
        assert_eq!(
            (&report["state"], &report["removed"]),
            (&json!("failed"), &json!(0)),
            "{report}"
        );
        assert!(report["error"]["hint"].is_string(), "{report}");
        assert_eq!(caller.call("show", json!([]))["pending"], true);
        cluster.node(paused).resume();
        caller.wait_until(paused, "health", json!("UP"));
    }
    caller.rebalance();
    cluster.account(KEYS, KEYS);
}

/// One change of the ring at a time: while a rebalance waits for a node, others are told so, even
/// the one that came in the same breath.
#[test]
fn changes_do_not_run_into_each_other() {
    let cluster = Cluster::quick(2, 1);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "timeout", "value": "10000"}));
    cluster.node("n2").pause();
    let call = |id: u64, method: &str, params: Value| {
        format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
    };
    let breath = call(1, "rebalance", json!({})) + &call(2, "rebalance", json!({}));
    caller.send_raw(breath.as_bytes()).expect("it reads");
    let answers = [caller.answer(), caller.answer()].map(|answer| answer.expect("an answer"));
    assert_eq!(answers[0]["result"]["state"], "running", "{answers:?}");
    assert_eq!(answers[1]["error"]["data"]["name"], "BUSY", "{answers:?}");
    assert_eq!(caller.error("setreplica", json!([2]))["data"]["name"], "BUSY");
    cluster.node("n2").resume();
    wait_for("the rebalance ends", || {
        let report = caller.call("progress", json!([]));
        (report["state"] == "complete").then_some(())
    });
}

/// The coordinator itself is paused: the shell gives up with a code, not never.
#[test]
fn a_paused_coordinator_is_given_up() {
    let cluster = Cluster::quick(1, 1);
    cluster.pause_coordinator();
    let output = kv(&["--connect", cluster.addr(), "get", "a"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!([4, 5].map(Some).contains(&output.status.code()), "{told}");
    assert!(told.contains(cluster.addr()), "{told}");
}

/// Looking works with nodes down, and says what it does not see.
#[test]
fn looking_works_with_nodes_down() {
    let mut cluster = Cluster::quick(3, 1);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    let (on_n1, _) = owned_by(&mut caller, "n1");
    cluster.kill("n1");
    for expected_before_and_after_it_is_noticed in 0..2 {
        let table = [
            (&["show"][..], 0, "n1"),
            (&["stats"], 0, "no answer: n1"),
            (&["ring"], 0, "n1"),
            (&["count"], 5, "n1"),
            (&["scan"], 5, "n1"),
            (&["where", &on_n1[0]], 0, "n1"),
            (&["get", &on_n1[0]], 4, "n1"),
            (&["config"], 0, "heartbeat"),
        ];
        for (command, code, named) in table {
            let output = kv(&[&["--connect", cluster.addr(), "--narrate"], command].concat());
            let told = [output.stdout, output.stderr].concat();
            let told = String::from_utf8_lossy(&told);
            assert_eq!(output.status.code(), Some(code), "{command:?}: {told}");
            assert!(told.contains(named), "{command:?}: {told}");
        }
        if expected_before_and_after_it_is_noticed == 0 {
            caller.wait_until("n1", "health", json!("DOWN"));
        }
    }
    let stats = caller.call("stats", json!([]));
    assert_eq!((&stats["nodes"], &stats["up"]), (&json!(3), &json!(2)));
    assert_eq!(stats["keys"], KEYS - on_n1.len(), "those that were seen: {stats}");
    cluster.start("n1");
    caller.wait_until("n1", "health", json!("UP"));
    cluster.account(KEYS, KEYS);
}
