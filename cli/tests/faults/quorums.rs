//! R, W and who stands in, request by request, with a replica that is away or slow.
//!
//! Whom a pause meets is known: the nodes of a key in preference order. No time is measured; where an answer must
//! not wait for a paused node, waiting would end in another outcome.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

/// The owners of a key, in preference order.
fn owners(caller: &mut Caller, key: &str) -> Vec<String> {
    let owners = caller.call("where", json!({"key": key}))["owners"].clone();
    serde_json::from_value(owners).expect("names")
}

fn outcome(reply: &Value, node: &str) -> Value {
    let replicas = reply["replicas"].as_array().expect("replicas");
    let part = replicas.iter().find(|replica| replica["node"] == node);
    part.expect("it has a part")["outcome"].clone()
}

/// What a node itself has.
fn held(cluster: &Cluster, node: &str, key: &str) -> Value {
    Caller::to(cluster.addr_of(node)).call("get", json!([key]))["value"].clone()
}

#[test]
fn a_write_is_acknowledged_at_w_and_the_rest_comes_after() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    let slow = owners(&mut caller, "apple")[0].clone();
    cluster.node(&slow).pause();
    let reply = caller.call("put", json!(["apple", "1", {"w": 2, "linger_ms": 0}]));
    assert_eq!(outcome(&reply, &slow), "pending", "{reply}");
    cluster.node(&slow).resume();
    wait_for("the slow one has it, too", || (held(&cluster, &slow, "apple") == "1").then_some(()));
    for (w, message) in [(0, "W is at least 1"), (4, "W=4 of N=3 copies can never be")] {
        let refused = caller.error("put", json!(["apple", "2", {"w": w}]));
        assert!(refused["message"].as_str().expect("text").starts_with(message), "{refused}");
    }
}

#[test]
fn a_slow_replica_is_hedged() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    caller.call("put", json!(["apple", "1"]));
    let owners = owners(&mut caller, "apple");
    caller.call("config", json!({"name": "hedge", "value": "20"}));
    cluster.node(&owners[0]).pause();
    let reply = caller.call("get", json!(["apple"]));
    assert_eq!((&reply["value"], &reply["from"]), (&json!("1"), &json!(owners[1])), "{reply}");
    assert_eq!(caller.call("stats", json!([]))["hedged"], 1);
    cluster.node(&owners[0]).resume();
}

#[test]
fn a_read_of_two_mends_the_one_that_is_behind_after_its_answer() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    let owners = owners(&mut caller, "apple");
    // As a replica that missed the write: the others have it.
    for owner in &owners[1..] {
        let record = json!({"key": "apple", "value": "1", "version": "1.1000"});
        Caller::to(cluster.addr_of(owner)).call("apply", json!([[record]]));
    }
    assert_eq!(held(&cluster, &owners[0], "apple"), Value::Null);
    let reply = caller.call("get", json!(["apple", {"r": 2}]));
    assert_eq!(reply["value"], "1", "{reply}");
    wait_for("it is mended", || (held(&cluster, &owners[0], "apple") == "1").then_some(()));
    let stats = caller.call("stats", json!([]));
    assert_eq!((&stats["divergences"], &stats["repairs"]), (&json!(1), &json!(1)), "{stats}");
    // Numbers that somebody chose are written above.
    let reply = caller.call("put", json!(["apple", "2", {"w": 3}]));
    assert_eq!(reply["version"], "1.1001", "{reply}");
}

#[test]
fn another_node_stands_in_for_an_owner_that_is_down() {
    let mut cluster = Cluster::quick(4, 3);
    let mut caller = cluster.caller();
    let owners = owners(&mut caller, "apple");
    let down = owners[1].clone();
    cluster.kill(&down);
    caller.wait_until(&down, "health", json!("DOWN"));
    let strict = caller.error("put", json!(["apple", "1", {"w": 3}]));
    assert_eq!(strict["data"]["name"], "NOT_ENOUGH_REPLICAS", "{strict}");
    let reply = caller.call("put", json!(["apple", "2", {"w": 3, "sloppy": true}]));
    let replicas = reply["replicas"].as_array().expect("replicas");
    let stand_in = replicas.iter().find(|replica| replica["stands_in_for"] == *down);
    let stand_in = stand_in.expect("somebody stands in")["node"].as_str().expect("a name");
    assert!(!owners.contains(&stand_in.to_owned()), "{reply}");
    assert_eq!(held(&cluster, stand_in, "apple"), "2");
}

#[test]
fn a_named_request_is_one_write_however_often_it_comes() {
    let cluster = Cluster::of(3, 2);
    let mut caller = cluster.caller();
    let put = json!(["apple", "1", {"request": "r1"}]);
    let first = caller.call("put", put.clone());
    assert_eq!(caller.call("put", put)["version"], first["version"]);
    let other = caller.error("put", json!(["apple", "2", {"request": "r1"}]));
    assert_eq!(other["data"]["name"], "BAD_ARGUMENT", "{other}");

    // Nobody knows what became of it; the same name may ask again, under the same number.
    let owners = owners(&mut caller, "pear");
    caller.call("config", json!({"name": "timeout", "value": "200"}));
    owners.iter().for_each(|owner| cluster.node(owner).pause());
    let put = json!(["pear", "1", {"request": "r2"}]);
    let unknown = caller.error("put", put.clone());
    assert_eq!(unknown["data"]["name"], "OUTCOME_UNKNOWN", "{unknown}");
    owners.iter().for_each(|owner| cluster.node(owner).resume());
    caller.call("config", json!({"name": "timeout", "value": "10000"}));
    let again = wait_for("the nodes are back", || {
        let answer = caller.ask("put", &put);
        answer["error"].is_null().then(|| answer["result"].clone())
    });
    let next = caller.call("put", json!(["plum", "1"]));
    let number = |reply: &Value| {
        let version = reply["version"].as_str().expect("text").to_owned();
        version.trim_start_matches("1.").parse::<u64>().expect("a number")
    };
    assert_eq!(number(&again) + 1, number(&next), "no try got a number of its own");
}

#[test]
fn conditions_are_checked() {
    let cluster = Cluster::of(3, 2);
    let mut caller = cluster.caller();
    let put = caller.call("put", json!(["apple", "1", {"if_absent": true}]));
    let again = caller.error("put", json!(["apple", "2", {"if_absent": true}]));
    assert_eq!(again["data"]["name"], "CONFLICT", "{again}");
    let version = &put["version"];
    let next = caller.call("put", json!(["apple", "2", {"if_version": version}]));
    let stale = caller.error("put", json!(["apple", "3", {"if_version": version}]));
    let message = stale["message"].as_str().expect("text");
    let has = format!("apple has version {}", next["version"].as_str().expect("text"));
    assert!(message.starts_with(&has), "{stale}");
    assert_eq!(caller.call("get", json!(["apple"]))["value"], "2");
}

#[test]
fn a_batch_tells_of_each_key() {
    let mut cluster = Cluster::quick(3, 1);
    let mut caller = cluster.caller();
    let keys: Vec<String> = (0..30).map(|i| format!("k{i}")).collect();
    let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "value": key})).collect();
    let done = caller.call("mput", json!([items]));
    assert!(done.as_array().expect("outcomes").iter().all(|one| one["status"] == "ok"), "{done}");
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    let got = caller.call("mget", json!([keys]));
    for (key, got) in keys.iter().zip(got.as_array().expect("answers")) {
        assert_eq!(got["key"], *key);
        let lost = owners(&mut caller, key) == ["n2"];
        assert_eq!(got["error"]["name"] == "UNREACHABLE", lost, "{got}");
        assert_eq!(got["value"] == *key, !lost, "{got}");
    }
    let many: Vec<Value> = vec![json!({"key": "a", "value": "1"}); 1025];
    assert_eq!(caller.error("mput", json!([many]))["data"]["name"], "TOO_LARGE");
}
