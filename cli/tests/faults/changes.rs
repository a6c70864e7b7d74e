//! Changes of the ring, planned, rested, taken back and gone on with: every key is there all the time, and what was
//! planned is what is done.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

const KEYS: usize = 300;

/// So slow that it is in the middle of it until somebody lets it go faster: a few keys a second.
fn slowly(caller: &mut Caller) {
    caller.call("config", json!(["rebalance_rate", "1"]));
}

fn fast(caller: &mut Caller) {
    caller.call("config", json!(["rebalance_rate", "0"]));
}

/// Adds a node and waits until some of its keys are copied and most are not.
fn half_way(cluster: &mut Cluster) -> (Caller, String, String) {
    let (id, addr) = cluster.spare();
    let mut caller = cluster.caller();
    caller.call("addnode", json!({"id": id, "addr": addr}));
    slowly(&mut caller);
    caller.call("rebalance", json!({}));
    wait_for("some keys are copied", || {
        let report = caller.call("progress", json!([]));
        assert_eq!(report["state"], "running", "{report}");
        (report["copied"].as_u64() > Some(0)).then_some(())
    });
    (caller, id, addr)
}

fn ends(caller: &mut Caller) -> Value {
    wait_for("the rebalance ends", || {
        let report = caller.call("progress", json!([]));
        (!["running", "paused"].contains(&report["state"].as_str()?)).then_some(report)
    })
}

fn sum(rows: &Value, member: &str) -> u64 {
    let rows = rows.as_array().expect("rows").iter();
    rows.map(|row| row[member].as_u64().expect("a number")).sum()
}

#[test]
fn what_was_planned_is_what_is_done() {
    let mut cluster = Cluster::of(3, 2);
    cluster.fill(KEYS);
    let (id, addr) = cluster.spare();
    let mut caller = cluster.caller();
    caller.call("addnode", json!({"id": id, "addr": addr, "weight": 2}));
    let plan = caller.call("plan", json!([]));
    assert_eq!((&plan["stage"], &plan["keys"]), (&json!("staged"), &json!(KEYS)), "{plan}");
    assert_eq!(plan["changes"][0]["change"], "add", "{plan}");
    let epoch = plan["epoch"].as_u64().expect("a number");
    let stale = caller.error("rebalance", json!({"epoch": epoch - 1}));
    assert_eq!(stale["data"]["name"], "STALE_EPOCH", "{stale}");
    caller.call("rebalance", json!({"epoch": epoch}));
    let report = ends(&mut caller);
    assert_eq!(
        (&report["state"], &report["arrived"], &report["extra"]),
        (&json!("complete"), &json!(0), &json!(0))
    );
    assert_eq!(
        (&report["copied"], &report["removed"]),
        (&plan["copies"], &plan["removed"]),
        "{report}"
    );
    assert_eq!(report["bytes"], plan["bytes"]);
    let link = |row: &Value| json!([row["from"], row["to"], row["keys"], row["bytes"]]);
    let links = |of: &Value| -> Vec<Value> {
        of["links"].as_array().expect("links").iter().map(link).collect()
    };
    assert_eq!(links(&report), links(&plan));
    cluster.account(KEYS, 2 * KEYS);
    let held = |row: &Value| (row["id"].clone(), row["keys"].clone());
    let show = caller.call("show", json!([]));
    let now: Vec<_> = show["nodes"].as_array().expect("rows").iter().map(held).collect();
    let rows = plan["balance"].as_array().expect("rows").iter();
    let then: Vec<_> = rows.map(|row| (row["node"].clone(), row["keys_after"].clone())).collect();
    assert_eq!(now, then);
    let again = caller.call("plan", json!([]));
    assert_eq!(
        (&again["copies"], &again["removed"], &again["stage"]),
        (&json!(0), &json!(0), &json!("idle"))
    );
}

/// Keys are written while it runs: each planned copy is made or has arrived, on every link.
#[test]
fn what_was_planned_is_made_or_has_arrived() {
    let mut cluster = Cluster::of(2, 1);
    cluster.fill(KEYS);
    let (mut caller, ..) = half_way(&mut cluster);
    for i in (0..KEYS).step_by(3) {
        caller.call("put", json!([format!("k{i}"), format!("v{i}")]));
    }
    fast(&mut caller);
    let report = ends(&mut caller);
    assert_eq!(report["state"], "complete", "{report}");
    assert!(report["waited_ms"].as_u64() > Some(0), "it held back for its rate: {report}");
    assert!(report["arrived"].as_u64() > Some(0), "{report}");
    for link in report["links"].as_array().expect("links") {
        let of = |member: &str| link[member].as_u64().expect("a number");
        assert_eq!(of("planned") + of("extra"), of("keys") + of("arrived"), "{report}");
    }
    assert_eq!(report["planned"], sum(&report["links"], "planned"));
    assert_eq!(report["copied"], sum(&report["links"], "keys"));
    cluster.account(KEYS, KEYS);
}

#[test]
fn a_rebalance_rests_until_it_is_told_to_go_on_even_by_another_coordinator() {
    let mut cluster = Cluster::of(2, 1);
    cluster.fill(KEYS);
    let (mut caller, ..) = half_way(&mut cluster);
    assert_eq!(caller.call("pause", json!([]))["state"], "paused");
    let (id, addr) = cluster.spare();
    let another = json!({"id": id, "addr": addr});
    for (method, params) in [
        ("addnode", another.clone()),
        ("removenode", json!({"id": "n1"})),
        ("setweight", json!({"id": "n1", "weight": 2})),
        ("plan", json!({"clear": true})),
        ("rebalance", json!({})),
    ] {
        let busy = caller.error(method, params);
        assert_eq!(busy["data"]["name"], "BUSY", "{method}: {busy}");
        assert!(busy["data"]["hint"].as_str().expect("a hint").contains("resume"), "{busy}");
    }
    fast(&mut caller);
    cluster.readable(KEYS);
    let mut caller = cluster.restart_coordinator();
    cluster.readable(KEYS);
    cluster.fill(KEYS);
    let report = caller.call("progress", json!([]));
    assert_eq!(report["state"], "paused", "{report}");
    let copying = caller.call("show", json!([]));
    assert_eq!(copying["stage"], "copying", "{copying}");
    caller.call("resume", json!([]));
    let report = ends(&mut caller);
    assert_eq!(report["state"], "complete", "{report}");
    cluster.account(KEYS, KEYS);
    caller.call("addnode", another);
    caller.rebalance();
    cluster.account(KEYS, KEYS);
}

/// A node is silent in the middle of a batch, and who sees it lets the rebalance rest until it answers again.
#[test]
fn what_failed_before_a_rest_is_copied_after_it() {
    let mut cluster = Cluster::quick(2, 1);
    cluster.fill(KEYS);
    let (mut caller, id, _) = half_way(&mut cluster);
    cluster.node(&id).pause();
    fast(&mut caller);
    caller.wait_until(&id, "health", json!("DOWN"));
    caller.call("pause", json!([]));
    wait_for("the batch fails", || {
        let report = caller.call("progress", json!([]));
        assert_eq!(report["state"], "paused", "{report}");
        (report["failed"].as_u64() > Some(0)).then_some(())
    });
    cluster.node(&id).resume();
    caller.wait_until(&id, "health", json!("UP"));
    caller.call("resume", json!([]));
    let report = ends(&mut caller);
    assert_eq!(report["state"], "complete", "{report}");
    cluster.account(KEYS, KEYS);
}

#[test]
fn a_change_can_be_taken_back_half_way() {
    let mut cluster = Cluster::of(2, 1);
    cluster.fill(KEYS);
    for restart in [false, true] {
        let (mut caller, id, addr) = half_way(&mut cluster);
        for i in (0..KEYS).step_by(3) {
            caller.call("put", json!([format!("k{i}"), format!("v{i}")]));
        }
        caller.call("cancel", json!([]));
        if restart {
            caller = cluster.restart_coordinator();
        } else {
            assert_eq!(ends(&mut caller)["state"], "cancelled");
            let late = caller.error("cancel", json!([]));
            assert_eq!(late["data"]["name"], "NOT_APPLIED", "{late}");
        }
        wait_for("it is all as it was", || {
            let show = caller.call("show", json!([]));
            cluster.readable(KEYS);
            (show["stage"] == "idle").then_some(())
        });
        let show = caller.call("show", json!([]));
        assert_eq!(show["nodes"].as_array().map(Vec::len), Some(2), "{show}");
        cluster.account(KEYS, KEYS);
        assert_eq!(cluster.copies_at(&[&id]), 0, "what was copied there is dropped");
        let size = Caller::to(&addr).call("size", json!([]));
        assert_eq!(size["coordinator"], Value::Null, "it obeys nobody any more: {size}");
    }
}

/// Nobody says `rebalance` after the coordinator was killed.
#[test]
fn a_rebalance_goes_on_by_itself() {
    let mut cluster = Cluster::of(2, 2);
    cluster.fill(KEYS);
    half_way(&mut cluster);
    let mut caller = cluster.restart_coordinator();
    wait_for("the change is done", || {
        cluster.readable(KEYS);
        (caller.call("show", json!([]))["stage"] == "idle").then_some(())
    });
    assert_eq!(caller.call("show", json!([]))["nodes"].as_array().map(Vec::len), Some(3));
    cluster.account(KEYS, 2 * KEYS);
}

#[test]
fn a_node_is_replaced_and_nobody_elses_keys_move() {
    let mut cluster = Cluster::of(3, 2);
    cluster.fill(KEYS);
    let (id, addr) = cluster.spare();
    let mut caller = cluster.caller();
    let own = caller.error("replacenode", json!({"old": "n2", "id": "n1", "addr": addr}));
    assert_eq!(own["data"]["name"], "NODE_EXISTS", "{own}");
    caller.call("replacenode", json!({"old": "n2", "id": id, "addr": addr}));
    let plan = caller.call("plan", json!([]));
    assert_eq!(plan["changes"], json!([{"change": "replace", "old": "n2", "node": id}]), "{plan}");
    for link in plan["links"].as_array().expect("links") {
        assert_eq!(link["to"], id, "{plan}");
    }
    caller.rebalance();
    cluster.account(KEYS, 2 * KEYS);
    assert_eq!(cluster.copies_at(&["n2"]), 0);
    let old = json!({"id": "n2", "addr": cluster.addr_of("n2")});
    let seat = caller.error("addnode", old);
    assert_eq!(seat["data"]["name"], "NODE_EXISTS", "{seat}");
    assert!(seat["message"].as_str().expect("text").contains("sits in the seat"), "{seat}");
    // It can have its own seat back.
    let back = json!({"old": id, "id": "n2", "addr": cluster.addr_of("n2")});
    caller.call("replacenode", back);
    caller.rebalance();
    cluster.account(KEYS, 2 * KEYS);
    assert_eq!(cluster.copies_at(&[&id]), 0);
}

/// What is staged can be taken back, wish by wish or all of it.
#[test]
fn what_is_staged_can_be_taken_back() {
    let mut cluster = Cluster::of(3, 1);
    cluster.fill(KEYS);
    let (id, addr) = cluster.spare();
    let mut caller = cluster.caller();
    let n1 = json!({"id": "n1", "addr": cluster.addr_of("n1")});
    for (wish, params, back, and) in [
        ("addnode", json!({"id": id, "addr": addr}), "removenode", json!({"id": id})),
        ("removenode", json!({"id": "n1"}), "addnode", n1.clone()),
        (
            "setweight",
            json!({"id": "n1", "weight": 3}),
            "setweight",
            json!({"id": "n1", "weight": 1}),
        ),
        ("setzone", json!({"id": "n1", "zone": "a"}), "setzone", json!({"id": "n1"})),
        ("setreplica", json!([2]), "setreplica", json!([1])),
        ("setreplica", json!([2]), "plan", json!({"clear": true})),
    ] {
        assert_eq!(caller.call(wish, params)["pending"], true, "{wish}");
        assert_eq!(caller.call("show", json!([]))["stage"], "staged", "{wish}");
        caller.call(back, and);
        let plan = caller.call("plan", json!([]));
        assert_eq!(
            (&plan["stage"], &plan["changes"]),
            (&json!("idle"), &json!([])),
            "{wish}: {plan}"
        );
    }
    cluster.account(KEYS, KEYS);
}

/// A node that comes with keys of its own: they are there for every reader when it has joined, and for none before.
#[test]
fn what_a_newcomer_brings_is_there_when_it_has_joined() {
    let mut cluster = Cluster::of(2, 2);
    cluster.fill(50);
    let (id, addr) = cluster.spare();
    Caller::to(&addr).call("put", json!(["mine", "1"]));
    let mut caller = cluster.caller();
    caller.call("addnode", json!({"id": id, "addr": addr}));
    for (keys, status) in [(50, "not_found"), (51, "ok")] {
        let page = caller.call("scan", json!({"limit": 1000, "keys_only": true}));
        assert_eq!(page["items"].as_array().map(Vec::len), Some(keys), "{page}");
        assert_eq!(caller.call("stats", json!([]))["keys"], keys);
        assert_eq!(caller.call("get", json!(["mine"]))["status"], status);
        caller.rebalance();
    }
}
