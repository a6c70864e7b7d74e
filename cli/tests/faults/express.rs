//! A request in the usual spelling is carried out by the coordinator's express, one in any other by the method table:
//! both answer the same, member by member in the same order, and both survive what befalls replicas.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::Caller;

/// One call in the usual spelling, and one that differs by a blank; versions are masked.
fn both_ways(caller: &mut Caller, method: &str, params: &Value) -> [String; 2] {
    [":", ": "].map(|colon| {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"{method}\",\"params\"{colon}{params}}}\n"
        );
        caller.send_raw(line.as_bytes()).expect("the server is there");
        let mut answer = caller.answer().unwrap_or_else(|| panic!("no answer to {method}"));
        if method != "get" {
            mask(&mut answer);
        }
        answer.to_string()
    })
}

/// Versions and moments of expiry, which no two writes have the same.
fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "version" | "expires" => *member = json!("masked"),
                    _ => mask(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

#[test]
fn both_ways_answer_the_same() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    let spaces = [
        ("one", json!({"create": true, "n": 3, "r": 1, "w": 1})),
        ("two", json!({"create": true, "n": 3, "r": 2, "w": 2})),
        ("all", json!({"create": true, "n": 3, "r": 3, "w": 3, "ttl_ms": 3_600_000})),
        ("late", json!({"create": true, "n": 2, "r": 2, "w": 2, "policy": "lww"})),
    ];
    for (name, change) in &spaces {
        caller.call("keyspace", json!({"name": name, "change": change}));
    }
    // All connections are there.
    cluster.fill(20);
    for name in ["default"].into_iter().chain(spaces.iter().map(|(name, _)| *name)) {
        let read = json!({"keyspace": name});
        for key in ["a", "b", "öl", "", "none"] {
            let mut asked = vec![("get", json!([key, read]))];
            if key != "none" {
                asked.extend([
                    ("put", json!([key, "1", read])),
                    ("get", json!([key, read])),
                    ("put", json!([key, "", read])),
                    ("get", json!([key, read])),
                    ("del", json!([key, read])),
                    ("get", json!([key, read])),
                ]);
            }
            for (method, params) in asked {
                let [express, table] = both_ways(&mut caller, method, &params);
                let table = match method {
                    // The second of two deletes finds nothing any more.
                    "del" => table.replace("not_found", "ok"),
                    _ => table,
                };
                let express =
                    if method == "del" { express.replace("not_found", "ok") } else { express };
                // Who answers first is chance.
                let [express, table] = [express, table].map(|text| in_any_order(&text));
                assert_eq!(express, table, "{name} {method} {params}");
            }
        }
    }
}

/// Of a read, who gave it and who was asked besides is one list.
fn in_any_order(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    let Some(from) = answer["result"].get("from").cloned() else { return answer.to_string() };
    let mut asked = vec![from.to_string()];
    let tried = answer["result"]["tried"].as_array().cloned().unwrap_or_default();
    asked.extend(tried.iter().map(|report| report["node"].to_string()));
    asked.sort();
    let first = tried.first().cloned().map(|mut report| {
        report["node"] = json!("masked");
        report
    });
    let mut answer = answer;
    answer["result"]["from"] = json!(asked);
    answer["result"]["tried"] = json!([first, tried.len()]);
    answer.to_string()
}

#[test]
fn a_replica_that_goes_is_told_of_and_owed() {
    let mut cluster = Cluster::quick(3, 3);
    let mut caller = cluster.caller();
    caller.call("keyspace", json!({"change": {"r": 2, "w": 2}}));
    cluster.fill(50);
    cluster.kill("n2");
    // Sent before it is known to be DOWN, and after.
    for round in 0..100 {
        let written = caller.call("put", json!([format!("key {round}"), "1", {"linger_ms": 0}]));
        assert_eq!(written["status"], "ok", "{written}");
        let read = caller.call("get", json!([format!("key {round}")]));
        assert_eq!(read["value"], "1", "{read}");
    }
    caller.wait_until("n2", "health", json!("DOWN"));
    cluster.start("n2");
    crate::support::wait_for("all that n2 missed is there", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 0 && cluster.copies_at(&["n2"]) == 150).then_some(())
    });
}
