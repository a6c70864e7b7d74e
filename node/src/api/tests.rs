//! What the methods answer, as tables of calls.

use super::*;
use crate::NodeService;
use crate::checks::COUNTER_MAX;
use crate::options::EngineOptions;
use ringkv_shared::limits::{CONTEXT_DOTS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::merkle;
use ringkv_shared::net::{NODE_METHODS, Service as _};
use serde_json::{Value, json};

fn service(dir: &std::path::Path) -> NodeService {
    let options = EngineOptions::new("n1".parse().unwrap(), dir.to_owned());
    NodeService::new(Engine::open(options).unwrap().0)
}

async fn call(service: &NodeService, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let (reply, _) = service.methods().raw_json_request(&request.to_string(), 1).await.unwrap();
    let reply: Value = serde_json::from_str(reply.get()).unwrap();
    let object = reply.as_object().unwrap();
    object.get("result").or_else(|| object.get("error")).unwrap().clone()
}

/// Calls one after another; `OWN` stands for the epoch of the node's own line.
async fn play(service: &NodeService, calls: Vec<(&str, Value, Value)>) {
    let own = format!("x{:08x}", service.engine.own_epoch());
    let real = |value: Value| -> Value {
        serde_json::from_str(&value.to_string().replace("OWN", &own)).unwrap()
    };
    for (number, (method, params, expected)) in calls.into_iter().enumerate() {
        let shown = format!("call {number}: {method} {params}");
        assert_eq!(call(service, method, real(params)).await, real(expected), "{shown}");
    }
}

fn ok(mut fields: Value) -> Value {
    fields["status"] = json!("ok");
    fields
}

#[tokio::test]
async fn results_have_the_shapes_of_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let far = 4_102_444_800_000_u64;
    play(
        &service,
        vec![
            ("get", json!(["a"]), json!({"status": "not_found"})),
            ("put", json!(["a", "1"]), ok(json!({"version": "OWN.1"}))),
            ("get", json!({"key": "a"}), ok(json!({"value": "1", "version": "OWN.1"}))),
            ("put", json!(["b", "2", "3.5"]), ok(json!({"version": "3.5"}))),
            ("put", json!(["b", "2", "3.5"]), ok(json!({"version": "3.5"}))),
            ("put", json!(["b", "9", "3.5"]), ok(json!({"version": "3.5", "superseded": true}))),
            ("put", json!(["b", "0", "1.1"]), ok(json!({"version": "3.5", "superseded": true}))),
            ("get", json!(["b"]), ok(json!({"value": "2", "version": "3.5"}))),
            ("put", json!(["t", "1", "3.4", far]), ok(json!({"version": "3.4"}))),
            ("get", json!(["t"]), ok(json!({"value": "1", "version": "3.4", "expires": far}))),
            ("put", json!(["t", "1", "3.5", 1]), ok(json!({"version": "3.5"}))),
            ("get", json!(["t"]), json!({"status": "not_found", "version": "3.5"})),
            ("del", json!(["t", "3.5"]), json!({"status": "not_found", "version": "3.5"})),
            ("drop", json!([[{"key": "t", "version": "3.5"}]]), ok(json!({"changed": 1}))),
            ("del", json!(["a"]), ok(json!({"version": "OWN.7"}))),
            ("del", json!(["a"]), json!({"status": "not_found", "version": "OWN.8"})),
            ("get", json!(["a"]), json!({"status": "not_found", "version": "OWN.8"})),
            (
                "fetch",
                json!([["a", "c"]]),
                ok(json!({"records": [{"key": "a", "deleted": true, "version": "OWN.8"}]})),
            ),
            (
                "apply",
                json!([[{"key": "b", "value": "x", "version": "4.1"}]]),
                ok(json!({"changed": 1})),
            ),
            (
                "apply",
                json!([[{"key": "b", "value": "x", "version": "4.1"}]]),
                ok(json!({"changed": 0})),
            ),
            (
                "dump",
                json!({}),
                ok(json!({"items": [{"key": "b", "value": "x", "version": "4.1"}]})),
            ),
            (
                "dump",
                json!({"limit": 1, "keys_only": true, "tombstones": true}),
                ok(json!({"items": [{"key": "a", "deleted": true, "version": "OWN.8"}],
                "sizes": [1], "next": "a"})),
            ),
            ("drop", json!([[{"key": "b", "version": "4.2"}]]), ok(json!({"changed": 0}))),
            ("drop", json!([[{"key": "b", "version": "4.1"}]]), ok(json!({"changed": 1}))),
        ],
    )
    .await;
    let size = call(&service, "size", json!([])).await;
    assert_eq!(
        (&size["size"], &size["tombstones"], &size["id"]),
        (&json!(0), &json!(1), &json!("n1"))
    );
    assert_eq!(call(&service, "stats", json!([])).await["sequence"], json!(10));
}

fn write(value: Option<&str>, version: &str, context: Option<&str>) -> Value {
    let mut record = json!({"key": "k", "version": version});
    match value {
        Some(value) => record["value"] = json!(value),
        None => record["deleted"] = json!(true),
    }
    if let Some(context) = context {
        record["context"] = json!(context);
    }
    json!({"write": {"record": record}})
}

#[tokio::test]
async fn writes_that_knew_nothing_of_each_other_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let three = json!({"value": "c", "version": "1.4", "context": "1.2", "siblings": [
        {"value": "b", "version": "1.3"}
    ]});
    play(
        &service,
        vec![
            ("write", write(Some("a"), "1.2", None), ok(json!({"version": "1.2"}))),
            ("write", write(Some("b"), "1.3", Some("1.2")), ok(json!({"version": "1.3"}))),
            ("get", json!(["k"]), ok(json!({"value": "b", "version": "1.3"}))),
            (
                "write",
                write(Some("c"), "1.4", Some("1.2")),
                ok(json!({"version": "1.4", "siblings": 1})),
            ),
            (
                "write",
                write(Some("c"), "1.4", Some("1.2")),
                ok(json!({"version": "1.4", "siblings": 1})),
            ),
            (
                "write",
                write(Some("x"), "1.4", Some("1.2")),
                ok(json!({"version": "1.4", "superseded": true, "siblings": 1})),
            ),
            (
                "write",
                write(Some("a"), "1.2", None),
                ok(json!({"version": "1.4", "superseded": true, "siblings": 1})),
            ),
            ("get", json!(["k"]), ok(three)),
            // A tombstone may be one of them: the value that is there comes first.
            (
                "write",
                write(None, "1.5", Some("1.3")),
                ok(json!({"version": "1.5", "siblings": 1})),
            ),
            (
                "get",
                json!(["k"]),
                ok(json!({"value": "c", "version": "1.4", "siblings": [
                    {"deleted": true, "version": "1.5"}
                ]})),
            ),
            (
                "fetch",
                json!([["k"]]),
                ok(json!({"records": [{"key": "k", "deleted": true, "version": "1.5",
                "context": "1.3", "siblings": [{"value": "c", "version": "1.4"}]}]})),
            ),
            // Who talks to the node itself replaces all.
            ("put", json!(["k", "d"]), ok(json!({"version": "OWN.5"}))),
            (
                "get",
                json!(["k"]),
                ok(json!({"value": "d", "version": "OWN.5", "context": "1.5,OWN.4"})),
            ),
            ("write", write(Some("e"), "1.6", None), ok(json!({"version": "1.6", "siblings": 1}))),
            ("drop", json!([[{"key": "k", "version": "OWN.5"}]]), ok(json!({"changed": 0}))),
            (
                "drop",
                json!([[{"key": "k", "version": "OWN.5", "context": "1.6,OWN.4"}]]),
                ok(json!({"changed": 0})),
            ),
            (
                "drop",
                json!([[{"key": "k", "version": "OWN.5", "context": "1.9,OWN.5"}]]),
                ok(json!({"changed": 1})),
            ),
            ("get", json!(["k"]), json!({"status": "not_found"})),
        ],
    )
    .await;
    let several = json!({"key": "k", "value": "c", "version": "1.9", "context": "1.2",
        "siblings": [{"deleted": true, "version": "1.8"}, {"value": "a", "version": "1.5"}]});
    play(
        &service,
        vec![
            ("apply", json!([[several], null, "sync"]), ok(json!({"changed": 1}))),
            ("apply", json!([[several], null, "sync"]), ok(json!({"changed": 0}))),
        ],
    )
    .await;
    let stats = call(&service, "stats", json!([])).await;
    assert_eq!((&stats["conflicts"], &stats["keys"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn where_the_last_wins_the_others_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let lww = |value: &str, version: &str, stamp: &str| {
        json!({"write": {"keyspace": "recent", "record": {
            "key": "k", "value": value, "version": version, "stamp": stamp, "context": "-"}}})
    };
    play(
        &service,
        vec![
            ("write", lww("a", "1.2", "100.0"), ok(json!({"version": "1.2"}))),
            ("write", lww("b", "1.3", "90.5"), ok(json!({"version": "1.2", "superseded": true}))),
            (
                "get",
                json!(["k", "recent"]),
                ok(json!({"value": "a", "version": "1.2", "stamp": "100.0"})),
            ),
            ("write", lww("c", "x80000001.9", "100.1"), ok(json!({"version": "x80000001.9"}))),
            (
                "get",
                json!(["k", "recent"]),
                ok(json!({"value": "c", "version": "x80000001.9", "stamp": "100.1"})),
            ),
            (
                "write",
                lww("d", "1.4", "100.1"),
                ok(json!({"version": "x80000001.9", "superseded": true})),
            ),
        ],
    )
    .await;
    let stats = call(&service, "stats", json!([])).await;
    assert_eq!((&stats["conflicts"], &stats["discarded"]), (&json!(0), &json!(3)));
}

#[tokio::test]
async fn keyspaces_do_not_show_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    play(
        &service,
        vec![
            ("put", json!(["a", "1"]), ok(json!({"version": "OWN.1"}))),
            ("put", json!(["a", "2", null, null, "carts"]), ok(json!({"version": "OWN.2"}))),
            ("put", json!(["\0", "3"]), ok(json!({"version": "OWN.3"}))),
            ("put", json!(["\0", "4", null, null, "carts"]), ok(json!({"version": "OWN.4"}))),
            ("put", json!(["b", "5", null, null, "cart"]), ok(json!({"version": "OWN.5"}))),
            ("get", json!(["a", "carts"]), ok(json!({"value": "2", "version": "OWN.2"}))),
            ("get", json!(["a", "default"]), ok(json!({"value": "1", "version": "OWN.1"}))),
            ("del", json!(["a", null, "cart"]), json!({"status": "not_found", "version": "OWN.6"})),
            (
                "dump",
                json!({}),
                ok(json!({"items": [
                    {"key": "\0", "value": "3", "version": "OWN.3"},
                    {"key": "a", "value": "1", "version": "OWN.1"},
                ]})),
            ),
            (
                "dump",
                json!({"keyspace": "carts"}),
                ok(json!({"items": [
                    {"key": "\0", "value": "4", "version": "OWN.4"},
                    {"key": "a", "value": "2", "version": "OWN.2"},
                ]})),
            ),
            (
                "dump",
                json!({"limit": 1}),
                ok(json!({"items": [{"key": "\0", "value": "3", "version": "OWN.3"}],
                "next": "\0"})),
            ),
            (
                "dump",
                json!({"after": "\0"}),
                ok(json!({"items": [{"key": "a", "value": "1", "version": "OWN.1"}]})),
            ),
            (
                "dump",
                json!({"keyspace": "carts", "prefix": "a", "keys_only": true}),
                ok(json!({"items": [{"key": "a", "version": "OWN.2"}], "sizes": [2]})),
            ),
            ("drop_keyspace", json!(["carts"]), ok(json!({"changed": 2}))),
            ("drop_keyspace", json!(["carts"]), ok(json!({"changed": 0}))),
            ("dump", json!({"keyspace": "carts"}), ok(json!({"items": []}))),
            ("get", json!(["a"]), ok(json!({"value": "1", "version": "OWN.1"}))),
        ],
    )
    .await;
    let size = call(&service, "size", json!([])).await;
    assert_eq!((&size["size"], &size["tombstones"]), (&json!(3), &json!(1)));
    let refused = call(&service, "drop_keyspace", json!(["default"])).await;
    assert_eq!(refused["data"]["name"], json!("BAD_ARGUMENT"));
}

/// The leaf of the key k, its place in its part, and what the node tells of it.
async fn leaf_of_k(service: &NodeService) -> (u16, Value) {
    let leaf = merkle::leaf_of_key(b"k");
    let part = merkle::part_of(leaf);
    let told = call(service, "digests", json!({"part": part})).await;
    (leaf, told["digests"][usize::from(leaf as u8)].clone())
}

#[tokio::test]
async fn tombstones_are_collected_by_the_digest_of_their_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let nothing = ok(json!({"digests": vec!["0"; 256]}));
    assert_eq!(call(&service, "digests", json!([])).await, nothing);
    call(&service, "write", write(None, "1.7", None)).await;
    let (leaf, digest) = leaf_of_k(&service).await;
    let parts = call(&service, "digests", json!([])).await;
    assert_eq!(parts["digests"][usize::from(merkle::part_of(leaf))], digest);
    let collect = |digest: &Value| json!([[{"leaf": leaf, "digest": digest, "floor": "1.20", "keys": ["k"]}]]);
    play(
        &service,
        vec![
            ("digests", json!({"keyspace": "carts", "part": 7}), nothing.clone()),
            ("collect", collect(&json!("00000000000000ff")), ok(json!({"changed": 0}))),
            ("collect", collect(&digest), ok(json!({"changed": 1}))),
            ("collect", collect(&digest), ok(json!({"changed": 0}))),
            ("digests", json!([]), nothing),
            ("get", json!(["k"]), json!({"status": "not_found"})),
            (
                "write",
                write(Some("a"), "1.2", None),
                ok(json!({"version": "1.20", "superseded": true})),
            ),
            (
                "apply",
                json!([[{"key": "k", "value": "a", "version": "1.2"}], null, "sync"]),
                ok(json!({"changed": 0, "deleted": ["k"]})),
            ),
            ("write", write(Some("b"), "1.21", None), ok(json!({"version": "1.21"}))),
            ("get", json!(["k"]), ok(json!({"value": "b", "version": "1.21"}))),
        ],
    )
    .await;
    assert_eq!(call(&service, "stats", json!([])).await["collected"], json!(1));
}

#[tokio::test]
async fn what_others_have_missed_is_listed_until_it_is_paid() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let mut missed = write(Some("v"), "1.2", None);
    missed["write"]["owe"] = json!(["n2", "n3"]);
    let cart = json!({"keyspace": "carts", "key": "a"});
    play(
        &service,
        vec![
            ("write", missed, ok(json!({"version": "1.2"}))),
            ("owe", json!(["n2", [cart]]), ok(json!({}))),
            ("owed", json!(["n2"]), ok(json!({"keys": [cart, {"key": "k"}]}))),
            ("owed", json!(["n2", cart]), ok(json!({"keys": [{"key": "k"}]}))),
            ("paid", json!(["n2", [cart]]), ok(json!({}))),
            ("paid", json!(["n3"]), ok(json!({}))),
            ("owed", json!(["n3"]), ok(json!({"keys": []}))),
        ],
    )
    .await;
    let debts = &call(&service, "size", json!([])).await["debts"];
    assert_eq!((&debts[0]["to"], &debts[0]["keys"]), (&json!("n2"), &json!(1)));
    assert_eq!((debts.as_array().unwrap().len(), &debts[0]["overflow"]), (1, &Value::Null));
}

#[tokio::test]
async fn a_page_may_be_of_some_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let item = |key: &str| json!({"key": key, "version": "1.1"});
    for key in ["j", "k", "l"] {
        call(&service, "put", json!([key, "v", "1.1"])).await;
        call(&service, "put", json!([key, "v", "1.1", null, "carts"])).await;
    }
    let (j, k) = (merkle::leaf_of_key(b"j"), merkle::leaf_of_key(b"k"));
    let dump = |leaves: &[u16], limit: usize, keyspace: &str| json!({"leaves": leaves, "limit": limit, "keyspace": keyspace, "keys_only": true});
    play(
        &service,
        vec![
            ("dump", dump(&[k], 9, "default"), ok(json!({"items": [item("k")], "sizes": [2]}))),
            (
                "dump",
                dump(&[k, j], 9, "carts"),
                ok(json!({"items": [item("j"), item("k")], "sizes": [2, 2]})),
            ),
            (
                "dump",
                dump(&[k, j], 1, "carts"),
                ok(json!({"items": [item("j")], "sizes": [2], "next": "j"})),
            ),
            ("dump", dump(&[], 9, "carts"), ok(json!({"items": []}))),
        ],
    )
    .await;
}

/// Key and all values, as long as they are unpacked, whatever the keyspace.
#[tokio::test]
async fn a_page_without_values_says_how_large_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let long = "x".repeat(10_000);
    call(&service, "put", json!(["packed", long, null, null, "carts"])).await;
    call(&service, "del", json!(["gone", null, "carts"])).await;
    for (value, version) in [("one", "2.1"), ("three", "3.1")] {
        let record = json!({"key": "two", "value": value, "version": version, "context": "-"});
        call(&service, "write", json!([{"keyspace": "carts", "record": record}])).await;
    }
    let ask = json!({"keyspace": "carts", "keys_only": true, "tombstones": true});
    let page = call(&service, "dump", ask).await;
    let keys: Vec<&Value> =
        page["items"].as_array().unwrap().iter().map(|item| &item["key"]).collect();
    assert_eq!(keys, ["gone", "packed", "two"]);
    assert_eq!(page["sizes"], json!([4, 6 + 10_000, 3 + 3 + 5]));
    assert_eq!(page["items"][2]["siblings"][0].get("value"), None);
}

#[tokio::test]
async fn every_method_says_what_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let mut names: Vec<_> = service(dir.path()).methods().method_names().collect();
    names.sort_unstable();
    assert_eq!(names, NODE_METHODS.map(|(name, _)| name));
}

/// The bounds of lines do not count there.
#[tokio::test]
async fn as_many_single_versions_as_a_client_may_give_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let dots = (1..=CONTEXT_DOTS_MAX).map(|n| format!(",+2.{}", 2 * n)).collect::<String>();
    let seen = format!("1.9,x80000001.7{dots}");
    let taken = ok(json!({"version": "2.9999"}));
    play(&service, vec![("write", write(Some("v"), "2.9999", Some(&seen)), taken)]).await;
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let big = "v".repeat(VALUE_BYTES_MAX + 1);
    let half = "v".repeat(PAGE_BYTES_MAX / 2 + 1);
    let record = |key: &str, value: &str| json!({"key": key, "value": value, "version": "1.1"});
    let several = json!({"key": "k", "value": "v", "version": "1.9", "context": "-",
        "siblings": [{"value": "w", "version": "1.8"}]});
    let dots: Vec<String> = (1..=1101).map(|n| format!("+1.{}", 2 * n)).collect();
    let dots = dots.join(",");
    let stamped =
        |stamp: &str| json!([[{"key": "k", "value": "v", "version": "1.9", "stamp": stamp}]]);
    let many: Vec<Value> =
        (1..=1000).map(|n| json!({"value": "v", "version": format!("1.{n}")})).collect();
    let many =
        json!({"key": "k", "value": "v", "version": "2.1", "context": "-", "siblings": many});
    for (method, params, name) in [
        ("put", json!(["k".repeat(KEY_BYTES_MAX + 1), "v"]), "TOO_LARGE"),
        ("put", json!(["k", big]), "TOO_LARGE"),
        ("apply", json!([[record("a", "1"), record("b", &big)]]), "TOO_LARGE"),
        ("apply", json!([[record("a", &half), record("b", &half)]]), "TOO_LARGE"),
        ("apply", json!([[record("a", "1"), {"key": "b", "version": "1.1"}]]), "BAD_ARGUMENT"),
        ("put", json!(["k", "v", format!("1.{}", COUNTER_MAX + 1)]), "BAD_ARGUMENT"),
        ("write", write(Some("v"), "1.5", Some("1.5")), "BAD_ARGUMENT"),
        ("write", write(Some("v"), "1.5", Some(&format!("1.{}", COUNTER_MAX + 1))), "BAD_ARGUMENT"),
        ("write", write(Some("v"), "1.9999", Some(&dots)), "TOO_LARGE"),
        ("write", json!([{"record": several}]), "BAD_ARGUMENT"),
        ("apply", stamped(&format!("{}.0", u64::MAX)), "BAD_ARGUMENT"),
        ("apply", json!([[many]]), "TOO_LARGE"),
        ("owe", json!(["n2", [{"key": "k".repeat(KEY_BYTES_MAX + 1)}]]), "TOO_LARGE"),
        ("paid", json!(["n2", vec![json!({"key": "k"}); 10_001]]), "TOO_LARGE"),
        ("write", json!([{"record": record("k", "v"), "owe": vec!["n2"; 65]}]), "TOO_LARGE"),
        (
            "collect",
            json!([[{"leaf": 1, "digest": "1", "floor": "-", "keys": []}]]),
            "BAD_ARGUMENT",
        ),
        (
            "apply",
            json!([[{"key": "k", "deleted": true, "version": "1.9", "siblings": [
            {"value": "v", "version": "1.3"}]}]]),
            "BAD_ARGUMENT",
        ),
    ] {
        assert_eq!(call(&service, method, params).await["data"]["name"], json!(name));
    }
    assert_eq!(call(&service, "stats", json!([])).await["sequence"], json!(0));
}

/// A census, a page and a shed of the same arcs: told of once, they are named.
#[tokio::test]
async fn arcs_are_known_by_their_name_once_they_were_told() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    call(&service, "put", json!(["a", "1", "3.5"])).await;
    let arcs = Arcs::new((1..=100).map(|n: u64| (n * (u64::MAX / 100), (n % 2) as u16 + 1)));
    let (name, page) =
        (Told::short(&arcs).to_string(), |arcs: &str| json!({"arcs": arcs, "tombstones": true}));
    let error = call(&service, "dump", page(&name)).await;
    assert_eq!(
        (&error["data"]["name"], &error["message"]),
        (&json!("NOT_APPLIED"), &json!("no arcs of that name are known here; nothing was done"))
    );
    let told = call(&service, "dump", page(&arcs.to_string())).await;
    assert_eq!(told["items"][0]["key"], "a");
    assert_eq!(call(&service, "dump", page(&name)).await, told);
    let census = call(&service, "census", json!([{"arcs": name}])).await;
    let sort = arcs.sort_of(ringkv_shared::ring::key_position(b"a"));
    assert_eq!(
        (&census["sorts"][0]["sort"], &census["sorts"][0]["keys"]),
        (&json!(sort), &json!(1))
    );
    // What is held together is not what is said: the key stays, until it is.
    let mut sorts = census["sorts"].clone();
    sorts[0]["keys"] = json!(2);
    let shed = call(&service, "shed", json!([{"arcs": name}, null, sorts])).await;
    assert_eq!(shed, ok(json!({"changed": 0, "left": 1})));
    let shed = call(&service, "shed", json!([{"arcs": name}, null, census["sorts"]])).await;
    assert_eq!(shed, ok(json!({"changed": 1, "left": 0})));
    assert_eq!(call(&service, "get", json!(["a"])).await, json!({"status": "not_found"}));
}
