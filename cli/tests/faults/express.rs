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
        if !method.ends_with("get") {
            mask(&mut answer);
        }
        answer.to_string()
    })
}

/// Versions, moments of expiry and times, which no two writes have the same.
fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "version" | "expires" | "took_us" => *member = json!("masked"),
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
                same_both_ways(&mut caller, method, &params);
            }
        }
    }
}

#[test]
fn a_batch_both_ways_answers_the_same() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    let spaces = [
        ("one", json!({"create": true, "n": 3, "r": 1, "w": 1})),
        ("two", json!({"create": true, "n": 3, "r": 2, "w": 2})),
        (
            "late",
            json!({"create": true, "n": 2, "r": 2, "w": 2, "policy": "lww", "ttl_ms": 3_600_000}),
        ),
    ];
    for (name, change) in &spaces {
        caller.call("keyspace", json!({"name": name, "change": change}));
    }
    cluster.fill(20);
    // More than may be under way at once.
    let many: Vec<String> = (0..600).map(|i| format!("key {i}")).collect();
    let lists =
        [vec!["a"], vec!["b", "", "a", "öl", "z"], many.iter().map(String::as_str).collect()];
    for name in ["default"].into_iter().chain(spaces.iter().map(|(name, _)| *name)) {
        let space = json!({"keyspace": name});
        for keys in &lists {
            let items = |value: &str| -> Vec<Value> {
                keys.iter().map(|key| json!({"key": key, "value": value})).collect()
            };
            let with_none: Vec<&str> = keys.iter().copied().chain(["none"]).collect();
            for (method, params) in [
                ("mget", json!([keys, space])),
                ("mput", json!([items("1"), space])),
                ("mget", json!([keys, space])),
                ("mput", json!([items(""), {"keyspace": name, "linger_ms": 20_000}])),
                ("mget", json!([with_none, space])),
                ("mdel", json!([keys, space])),
                ("mget", json!([keys, space])),
            ] {
                same_both_ways(&mut caller, method, &params);
            }
        }
    }
    // Siblings, escapes, keys twice, and lists that are none.
    caller.call("put", json!(["torn", "1", {"context": "1.1"}]));
    caller.call("put", json!(["torn", "2", {"context": "1.1"}]));
    caller.call("put", json!(["a", "x\n\"y"]));
    for (method, params) in [
        ("mget", json!([["torn", "a", "a", "none"]])),
        ("mput", json!([[{"key": "a", "value": "\t"}, {"key": "b", "value": "1"}]])),
        ("mput", json!([[{"key": "a", "value": "1"}], {"keyspace": "none"}])),
        ("mput", json!([[]])),
        ("mdel", json!([["k".repeat(1025), "a"]])),
        ("mget", json!([vec!["a"; 1024]])),
        ("mget", json!([vec!["a"; 1025]])),
        ("mget", json!(["a"])),
    ] {
        same_both_ways(&mut caller, method, &params);
    }
}

/// What does not fit an answer is told so, and so are batches behind it.
#[test]
fn an_answer_that_is_too_big_is_so_both_ways() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    let keys = ["a", "b", "c", "d", "e"];
    let large = "x".repeat(1024 * 1024);
    let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "value": large})).collect();
    for half in [&items[..3], &items[3..]] {
        let done = caller.call("mput", json!([half]));
        assert!(
            done.as_array().expect("outcomes").iter().all(|one| one["status"] == "ok"),
            "{done}"
        );
    }
    same_both_ways(&mut caller, "mget", &json!([keys]));
    assert_eq!(caller.error("mget", json!([keys]))["data"]["name"], "TOO_LARGE");
    let three = caller.call("mget", json!([keys[2..]]));
    assert!(three.as_array().expect("answers").iter().all(|one| one["value"] == large));
    // Four values of a quarter of the limit each leave no room for what is around them.
    same_both_ways(&mut caller, "mget", &json!([keys[..4]]));
}

fn same_both_ways(caller: &mut Caller, method: &str, params: &Value) {
    let [express, table] = both_ways(caller, method, params).map(|text| match method {
        // The second of two deletes finds nothing any more.
        "del" | "mdel" => text.replace("not_found", "ok"),
        _ => text,
    });
    // Who answers first is chance.
    let [express, table] = [express, table].map(|text| in_any_order(&text));
    let shown = |text: &str| text.chars().take(2000).collect::<String>();
    assert!(express == table, "{method}:\n{}\n{}", shown(&express), shown(&table));
}

/// Of a read, who gave it and who was asked besides is one list.
fn in_any_order(answer: &str) -> String {
    let mut answer: Value = serde_json::from_str(answer).expect("JSON");
    match &mut answer["result"] {
        Value::Array(results) => results.iter_mut().for_each(order),
        result => order(result),
    }
    answer.to_string()
}

fn order(result: &mut Value) {
    let Some(from) = result.get("from").cloned() else { return };
    let mut asked = vec![from.to_string()];
    let tried = result["tried"].as_array().cloned().unwrap_or_default();
    asked.extend(tried.iter().map(|report| report["node"].to_string()));
    asked.sort();
    let first = tried.first().cloned().map(|mut report| {
        report["node"] = json!("masked");
        report
    });
    result["from"] = json!(asked);
    result["tried"] = json!([first, tried.len()]);
}

/// Beside a node that is DOWN: who was not asked, and who has taken note of what it is owed, is told both ways.
#[test]
fn with_a_node_down_both_ways_answer_the_same() {
    let mut cluster = Cluster::of(4, 3);
    let mut caller = cluster.caller();
    let spaces = [
        ("one", json!({"create": true, "n": 3, "r": 1, "w": 1})),
        ("two", json!({"create": true, "n": 3, "r": 2, "w": 2})),
        ("all", json!({"create": true, "n": 3, "r": 3, "w": 3})),
        ("late", json!({"create": true, "n": 2, "r": 1, "w": 1, "policy": "lww"})),
        ("lone", json!({"create": true, "n": 1, "r": 1, "w": 1})),
        ("free", json!({"create": true, "n": 3, "r": 1, "w": 2, "sloppy": true})),
    ];
    for (name, change) in &spaces {
        caller.call("keyspace", json!({"name": name, "change": change}));
    }
    cluster.fill(20);
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    let partial = |caller: &mut Caller| caller.call("stats", json!([]))["partial_writes"].clone();
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for (name, _) in &spaces {
        let space = json!({"keyspace": name});
        for key in keys {
            for (method, params) in [
                ("get", json!([key, space])),
                ("put", json!([key, "1", space])),
                ("get", json!([key, space])),
                ("del", json!([key, space])),
            ] {
                same_both_ways(&mut caller, method, &params);
            }
        }
        let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "value": "2"})).collect();
        same_both_ways(&mut caller, "mput", &json!([items, space]));
        same_both_ways(&mut caller, "mget", &json!([keys, space]));
    }
    // Half of these were told by each.
    let told = partial(&mut caller).as_u64().expect("a number");
    assert!(told > 0 && told.is_multiple_of(2), "{told}");
    cluster.start("n2");
    crate::support::wait_for("all that n2 missed is there", || {
        (caller.call("stats", json!([]))["hints"] == 0).then_some(())
    });
    for (name, _) in &spaces {
        let check = caller.call("check", json!({"keyspace": name}));
        assert_eq!(check["different"], 0, "{name}: {check}");
    }
}

/// One is DOWN; who has taken note of what it is owed goes while writes are under way.
#[test]
fn who_keeps_the_notes_goes_too() {
    let mut cluster = Cluster::of(4, 4);
    let mut caller = cluster.caller();
    caller.call("keyspace", json!({"change": {"r": 2, "w": 2}}));
    cluster.fill(50);
    cluster.kill("n2");
    caller.wait_until("n2", "health", json!("DOWN"));
    for round in 0..1000 {
        if round == 300 {
            cluster.kill("n1");
        }
        let put = json!([format!("key {round}"), "1", {"linger_ms": 0}]);
        caller.send(round, "put", &put).expect("it is there");
    }
    for _ in 0..1000 {
        let answer = caller.answer().expect("an answer");
        assert_eq!(answer["result"]["status"], "ok", "{answer}");
    }
    caller.wait_until("n1", "health", json!("DOWN"));
    cluster.start("n1");
    cluster.start("n2");
    crate::support::wait_for("all that they missed is there", || {
        let hints = caller.call("stats", json!([]))["hints"].clone();
        (hints == 0 && ["n1", "n2"].iter().all(|id| cluster.copies_at(&[*id]) == 1050))
            .then_some(())
    });
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

/// A node takes nothing for a while, and more waits for it than may: who comes then waits for room, as he would in the
/// machine, and is not told that the node cannot be reached.
#[test]
fn who_finds_no_room_in_front_of_a_node_waits() {
    let cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    cluster.fill(20);
    cluster.node("n2").pause();
    let large = "x".repeat(1024 * 1024);
    for i in 0..24 {
        caller.send(i, "put", &json!([format!("key {i}"), large])).expect("it is there");
    }
    let mut n1 = Caller::to(cluster.addr_of("n1"));
    crate::support::wait_for("all are under way", || {
        (n1.call("size", json!([]))["size"] == 44).then_some(())
    });
    cluster.node("n2").resume();
    for _ in 0..24 {
        let answer = caller.answer().expect("an answer");
        let replicas = answer["result"]["replicas"].as_array().expect("replicas");
        assert!(replicas.iter().all(|one| one["outcome"] == "ok"), "{answer}");
    }
}

/// One owner cannot be reached, so the keys of a batch go to the machines; what comes behind it on the connection is
/// later than all of them.
#[test]
fn a_batch_keeps_its_place_among_other_calls() {
    let mut cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    cluster.fill(20);
    cluster.kill("n2");
    let keys: Vec<String> = (0..50).map(|i| format!("key {i}")).collect();
    let mut lines = String::new();
    let mut line = |method: &str, params: Value| {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        lines.push_str(&format!("{call}\n"));
    };
    for key in &keys {
        line("mput", json!([[{"key": key, "value": "1"}], {"linger_ms": 0}]));
        line("put", json!([key, "2", {"linger_ms": 0}]));
    }
    caller.send_raw(lines.as_bytes()).expect("it is there");
    for _ in 0..keys.len() * 2 {
        let answer = caller.answer().expect("an answer");
        assert!(answer["error"].is_null(), "{answer}");
    }
    let read = caller.call("mget", json!([keys]));
    assert!(read.as_array().expect("answers").iter().all(|one| one["value"] == "2"), "{read}");
}

/// Batches are under way when it goes; those that come then find it gone.
#[test]
fn of_batches_each_key_is_told_of_and_owed() {
    let mut cluster = Cluster::of(3, 3);
    let mut caller = cluster.caller();
    caller.call("keyspace", json!({"change": {"r": 2, "w": 2}}));
    cluster.fill(50);
    let keys = |batch: usize| (0..600).map(move |i| format!("key {batch} {i}"));
    for batch in 0..10 {
        if batch == 2 {
            cluster.kill("n2");
        }
        let items: Vec<Value> = keys(batch).map(|key| json!({"key": key, "value": "1"})).collect();
        caller.send(batch as u64, "mput", &json!([items, {"linger_ms": 0}])).expect("it is there");
    }
    for _ in 0..10 {
        let answer = caller.answer().expect("an answer");
        let done = answer["result"].as_array().expect("outcomes");
        assert_eq!(done.len(), 600);
        let batch = usize::try_from(answer["id"].as_u64().expect("our id")).expect("small");
        for (key, one) in keys(batch).zip(done) {
            assert_eq!((&one["key"], &one["status"]), (&json!(key), &json!("ok")), "{one}");
        }
    }
    for batch in 0..10 {
        let read = caller.call("mget", json!([keys(batch).collect::<Vec<_>>()]));
        assert!(read.as_array().expect("answers").iter().all(|one| one["value"] == "1"));
    }
    caller.wait_until("n2", "health", json!("DOWN"));
    cluster.start("n2");
    crate::support::wait_for("all that n2 missed is there", || {
        let stats = caller.call("stats", json!([]));
        (stats["hints"] == 0 && cluster.copies_at(&["n2"]) == 6050).then_some(())
    });
}
