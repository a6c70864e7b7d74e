//! Who is DOWN, why that is thought, and what is done about it.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{kv, wait_for};

const KEYS: usize = 60;

/// The coordinator is stopped for so long that every node would be DOWN twice over.
#[test]
fn a_coordinator_that_slept_convicts_nobody() {
    let cluster = Cluster::quick(3, 1);
    let mut caller = cluster.caller();
    // Long enough for a node on a busy machine, and one miss is enough.
    for (name, value) in [("heartbeat", "1000"), ("down_after", "1")] {
        caller.call("config", json!({"name": name, "value": value}));
    }
    cluster.pause_coordinator();
    // A shell gives up on it after seconds.
    kv(&["--connect", cluster.addr(), "get", "a"]);
    cluster.resume_coordinator();
    cluster.told("the coordinator slept");
    for node in ["n1", "n2", "n3"] {
        let why = caller.call("why_down", json!([node]));
        assert_eq!(why["health"], "UP", "{why}");
        let probes = why["probes"].as_array().expect("probes");
        let excused = probes.iter().filter(|probe| !probe["missed"].is_null());
        assert!(excused.clone().all(|probe| probe["excused"].is_string()), "{why}");
    }
    let events = caller.call("events", json!({}))["events"].to_string();
    assert!(!events.contains("is DOWN"), "{events}");
}

#[test]
fn why_a_node_is_down_and_up_again_is_shown_probe_by_probe() {
    let mut cluster = Cluster::quick(2, 1);
    let mut caller = cluster.caller();
    caller.wait_until("n2", "health", json!("UP"));
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    let why = caller.call("why_down", json!(["n2"]));
    assert_eq!((&why["health"], &why["addr"]), (&json!("DOWN"), &json!(cluster.addr_of("n2"))));
    assert_eq!((&why["heartbeat_ms"], &why["down_after"]), (&json!(200), &json!(3)), "{why}");
    assert!(why["heals_at_ms"].is_null(), "nothing moves by itself: {why}");
    let probes = why["probes"].as_array().expect("probes");
    let convicted = probes.iter().find(|probe| probe["health"] == "DOWN").expect("it was");
    assert_eq!(convicted["misses"], 3, "{why}");
    assert!(convicted["missed"].is_string() && convicted["excused"].is_null(), "{why}");

    cluster.start("n2");
    caller.wait_until("n2", "health", json!("UP"));
    let why = wait_for("a probe that was answered", || {
        let why = caller.call("why_down", json!(["n2"]));
        let last = why["probes"].as_array().and_then(|probes| probes.last()).cloned();
        last.is_some_and(|probe| probe["missed"].is_null()).then_some(why)
    });
    assert_eq!(why["health"], "UP", "{why}");
    assert_eq!(caller.error("why_down", json!(["n9"]))["data"]["name"], "NODE_NOT_FOUND");
}

#[test]
fn a_node_that_is_gone_for_long_is_healed_if_that_was_asked_for() {
    let mut cluster = Cluster::quick(4, 2);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "autoheal", "value": "1"}));
    cluster.kill("n2");
    cluster.told("autoheal: n2 was DOWN for too long");
    wait_for("n2 is off the ring", || {
        let report = caller.call("progress", json!([]));
        let show = caller.call("show", json!([]));
        let on = show["nodes"].as_array().expect("nodes").iter().any(|row| row["id"] == "n2");
        (!on && report["state"] == "complete").then_some(())
    });
    cluster.account(KEYS, 2 * KEYS);
}

#[test]
fn a_node_with_the_only_copies_is_left_where_it_is() {
    let mut cluster = Cluster::quick(2, 1);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    caller.call("config", json!({"name": "autoheal", "value": "1"}));
    cluster.kill("n2");
    cluster.told("autoheal leaves n2 on the ring: default keeps one copy");
    let show = caller.call("show", json!([]));
    let members: Vec<&Value> = show["nodes"].as_array().expect("nodes").iter().collect();
    assert!(members.len() == 2 && show["pending"] == false, "{show}");
    let doctor = caller.call("doctor", json!([]));
    let worst = doctor["now"][0]["text"].as_str().expect("something is wrong");
    assert!(worst.contains("of default cannot be read (N=1, R=1) without n2"), "{doctor}");
}

/// What is supposed is what there is, once it happens.
#[test]
fn what_if_a_node_was_dead_is_what_is_when_it_is() {
    let mut cluster = Cluster::quick(3, 1);
    cluster.fill(KEYS);
    let mut caller = cluster.caller();
    let suppose = json!({"suppose": [{"suppose": "kill", "nodes": ["n2"]}]});
    let outage = caller.call("what_if", suppose.clone())["outages"][0].clone();
    assert_eq!((&outage["keys"], &outage["keyspace"]), (&json!(KEYS), &json!("default")));
    let held = caller.call("show", json!([]))["nodes"][1]["keys"].clone();
    assert_eq!((&outage["unreadable"], &outage["lost"]), (&held, &held), "{outage}");
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    for key in outage["unreadable_keys"].as_array().expect("keys") {
        assert_eq!(caller.error("get", json!([key]))["data"]["name"], "UNREACHABLE", "{key}");
    }
    let nobody = caller.call("what_if", json!({"suppose": [{"suppose": "kill", "nodes": []}]}));
    assert_eq!(nobody["dead"], json!(["n2"]), "who is DOWN is dead: {nobody}");
    let share = |reply: &Value| reply["unreadable_share"].as_f64().expect("a share");
    assert!((share(&nobody["outages"][0]) - share(&outage)).abs() < 1e-9, "{nobody}");
}
