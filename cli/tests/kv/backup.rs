//! Backups: an export is one moment, whatever is written meanwhile; it is restored into a cluster of
//! any size; values that live for a time take their time with them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Caller, Server, kv, wait_for};
use serde_json::{Value, json};

/// Ten pages.
const KEYS: u64 = 10_000;
/// Writes in a burst.
const BURST: u64 = 200;
const EXPORTS: usize = 6;

struct Cluster {
    coordinator: Server,
    nodes: Vec<Server>,
}

impl Cluster {
    fn start(dir: &Path, nodes: usize, copies: usize) -> Self {
        let coordinator = Server::coordinator(&dir.join("c"));
        let nodes: Vec<Server> = (1..=nodes)
            .map(|n| Server::node(&format!("n{n}"), &dir.join(format!("n{n}")), "127.0.0.1:0"))
            .collect();
        let mut caller = Caller::to(&coordinator.addr);
        for (n, node) in (1..).zip(&nodes) {
            caller.call("addnode", json!({"id": format!("n{n}"), "addr": node.addr}));
        }
        caller.call("setreplica", json!([copies]));
        // A machine that runs all tests at once may be slow for a moment.
        caller.call("config", json!({"name": "timeout", "value": "30000"}));
        Self { coordinator, nodes }
    }

    fn caller(&self) -> Caller {
        Caller::to(&self.coordinator.addr)
    }

    fn kv(&self, args: &[&str]) -> Output {
        kv(&[&["--connect", &self.coordinator.addr], args].concat())
    }

    /// Runs `kv` to its end, which must be good; what it printed.
    fn done(&self, args: &[&str]) -> String {
        let output = self.kv(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn objects(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("an export");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The n-th write: each of the keys has its turn, and writes one after another are pages apart.
fn nth(n: u64) -> Value {
    json!([format!("key-{:05}", key_of(n)), n.to_string()])
}

fn key_of(n: u64) -> u64 {
    n % KEYS * 7_919 % KEYS
}

/// Ends the writer, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_export_is_one_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path(), 3, 2);
    let first: Vec<Value> = (0..KEYS).map(nth).collect();
    cluster.caller().calls("put", &first);
    let done = AtomicBool::new(false);
    let mut last_seen = Vec::new();
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut caller, mut next) = (cluster.caller(), KEYS);
            while !done.load(Ordering::Relaxed) {
                let burst: Vec<Value> = (next..next + BURST).map(nth).collect();
                caller.calls("put", &burst);
                next += BURST;
            }
            next
        });
        let stop = Stop(&done);
        for n in 0..EXPORTS {
            let file = dir.path().join(format!("{n}.jsonl"));
            cluster.done(&["export", file.to_str().expect("UTF-8")]);
            last_seen.push(prefix(&file));
        }
        drop(stop);
        writer.join().expect("the writer ends")
    });
    assert!(last_seen.is_sorted(), "{last_seen:?}");
    assert!(last_seen[0] < *last_seen.last().expect("exports") && written > KEYS, "{last_seen:?}");
}

/// The last write that an export has; it must have every one before it, and none after.
fn prefix(file: &Path) -> u64 {
    let pairs: BTreeMap<u64, u64> = objects(file)
        .iter()
        .map(|object| {
            let text = |name: &str| object[name].as_str().expect("text").to_owned();
            let key = text("key").trim_start_matches("key-").parse().expect("a number");
            (key, text("value").parse().expect("a number"))
        })
        .collect();
    assert_eq!(pairs.len() as u64, KEYS);
    let last = *pairs.values().max().expect("keys");
    for (key, value) in pairs {
        let newest = value + KEYS > last && key_of(value) == key;
        assert!(newest, "key {key} has write {value} in an export of writes up to {last}");
    }
    last
}

#[test]
fn a_backup_fits_a_cluster_of_any_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = |name: &str| dir.path().join(name);
    let from = Cluster::start(&place("from"), 3, 2);
    let bytes: Vec<u8> = (0..=255).collect();
    let mut caller = from.caller();
    let puts: Vec<Value> = (0..500).map(nth).collect();
    caller.calls("put", &puts);
    caller.call("put", json!(["long", "all work and no play ".repeat(500)]));
    let base64 = serde_json::to_value(ringkv_shared::Blob::from(bytes)).expect("JSON");
    caller.call("put", json!([base64, base64]));
    caller.call("put", json!(["deleted", "1"]));
    caller.call("del", json!(["deleted"]));
    let backup = place("backup.jsonl");
    let backup_name = backup.to_str().expect("UTF-8");
    let said = from.done(&["export", backup_name]);
    let version = caller.call("freeze", json!([]))["version"].clone();
    assert!(said.starts_with("Exported 502 keys to "), "{said}");
    assert!(
        said.contains(&format!(": all writes up to {}, at 2", version.as_str().expect("text"))),
        "{said}"
    );
    for (nodes, copies) in [(1, 1), (5, 3)] {
        let into = Cluster::start(&place(&format!("into-{nodes}")), nodes, copies);
        into.done(&["load", backup_name]);
        assert_eq!(into.done(&["count"]), "502\n");
        let again = place(&format!("again-{nodes}.jsonl"));
        into.done(&["export", again.to_str().expect("UTF-8")]);
        assert_eq!(
            std::fs::read(&again).expect("an export"),
            std::fs::read(&backup).expect("an export")
        );
    }
}

#[test]
fn what_may_be_missing_is_not_exported_unless_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start(dir.path(), 3, 2);
    let mut caller = cluster.caller();
    caller.calls("put", &(0..100).map(nth).collect::<Vec<_>>());
    let file = dir.path().join("b.jsonl");
    let name = file.to_str().expect("UTF-8");
    cluster.nodes.pop().expect("three").kill();
    caller.wait_until("n3", "health", json!("DOWN"));
    let output = cluster.kv(&["export", name]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "n3 did not answer; the others have every key\n");
    assert_eq!(objects(&file).len(), 100);
    std::fs::remove_file(&file).expect("it is there");
    cluster.nodes.pop().expect("two").kill();
    caller.wait_until("n2", "health", json!("DOWN"));
    let output = cluster.kv(&["export", name]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(
        text(&output.stderr),
        "error: n2 n3 did not answer and may hold the only copy of some keys; nothing was exported\n  \
         restart it, then export again; or take what there is: export FILE --partial\n"
    );
    assert!(!file.exists());
    let output = cluster.kv(&["export", name, "--partial"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    let some = objects(&file).len();
    assert!(0 < some && some < 100, "{some}");
}

#[test]
fn values_live_as_long_as_they_are_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start(dir.path(), 3, 2);
    let mut caller = cluster.caller();
    cluster.done(&["put", "long", "1", "--ttl", "1h"]);
    cluster.done(&["put", "short", "1", "--ttl", "1ms"]);
    cluster.done(&["put", "kept", "1"]);
    wait_for("the value to expire", || {
        (cluster.kv(&["get", "short"]).status.code() == Some(3)).then_some(())
    });
    assert_eq!(cluster.kv(&["get", "short", "--all"]).status.code(), Some(3), "nobody has it");
    assert_eq!(cluster.done(&["scan"]), "kept\t1\nlong\t1\n");
    let get: Value = serde_json::from_str(&cluster.done(&["--json", "get", "long"])).expect("JSON");
    let expires = get["expires"].as_u64().expect("an expiry");

    // The replicas agree on the expiry, and an export carries it into another cluster.
    let copies = caller.call("where", json!({"key": "long"}))["copies"].clone();
    let of_each = copies.as_array().expect("copies").iter();
    assert!(
        of_each.map(|copy| &copy["record"]["expires"]).all(|at| *at == json!(expires)),
        "{copies}"
    );
    let file = dir.path().join("b.jsonl");
    let name = file.to_str().expect("UTF-8");
    cluster.done(&["export", name]);
    assert_eq!(objects(&file)[1], json!({"key": "long", "value": "1", "expires": expires}));
    let gone = "{\"key\":\"gone\",\"value\":\"1\",\"expires\":1}\n";
    let lines = std::fs::read_to_string(&file).expect("an export") + gone;
    std::fs::write(&file, lines).expect("a file");
    let other = Cluster::start(&dir.path().join("other"), 1, 1);
    let said = other.done(&["load", name]);
    assert!(
        said.starts_with("Loaded 2 keys") && said.ends_with("1 value had expired.\n"),
        "{said}"
    );
    let again = other.caller().call("get", json!(["long"]))["expires"].as_u64().expect("an expiry");
    assert!(again.abs_diff(expires) < 60_000, "{again} {expires}");

    // The keyspace's default outlives the coordinator; a word on the put beats it.
    let lives = |text: String| {
        text.lines().next().map(|line| line.rsplit(", ").next() == Some("values live for 2h"))
    };
    assert_eq!(lives(cluster.done(&["keyspace"])), Some(false));
    cluster.done(&["keyspace", "set", "default", "--ttl", "2h"]);
    let addr = cluster.coordinator.addr.clone();
    let data = dir.path().join("c");
    std::mem::replace(&mut cluster.coordinator, other.coordinator).kill();
    cluster.coordinator =
        Server::start(&["coordinator", "--listen", &addr, "--data", data.to_str().expect("UTF-8")]);
    assert_eq!(lives(cluster.done(&["keyspace", "show", "default"])), Some(true));
    cluster.done(&["put", "a", "1"]);
    cluster.done(&["put", "b", "1", "--ttl", "none"]);
    let mut caller = cluster.caller();
    assert!(caller.call("get", json!(["a"]))["expires"].is_u64());
    assert!(caller.call("get", json!(["b"]))["expires"].is_null());
    for (args, told) in [
        (
            &["keyspace", "show", "other"][..],
            "error: no keyspace other; nothing was done\n  keyspace list shows them; keyspace create other makes it\n",
        ),
        (&["put", "a", "1", "--ttl", "11y"], "error: a time to live of "),
        (
            &["keyspace", "set", "default"],
            "error: a keyspace is set by its name and what is to hold for it",
        ),
    ] {
        let output = cluster.kv(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).starts_with(told), "{}", text(&output.stderr));
    }
}
