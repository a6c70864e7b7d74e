//! One node becomes two while people work: what moves is what the ring says, nobody is kept from anything, and
//! each key stands where it belongs afterwards.
//!
//! `KV_MOVED=1000000 cargo test --release --test kv half -- --nocapture` moves half of so many keys (16 bytes, values
//! of 100) and prints how fast, and how long requests took meanwhile. `KV_CALLERS=0` lets nobody work meanwhile;
//! `KV_DURABILITY=os` lets nobody wait for the disk.

#![allow(clippy::print_stderr, reason = "the figures are for who asks for them with --nocapture")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Caller, Server, text, wait_for};
use ringkv_shared::NodeId;
use ringkv_shared::ring::{Ring, VNODES_DEFAULT};
use serde_json::{Value, json};

/// Records in a call.
const BATCH: u64 = 500;
/// How long the rebalance may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn half_of_the_keys_move_while_others_work() {
    let (keys, callers) = (number("KV_MOVED", 3000), number("KV_CALLERS", 1));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (n1, n2) = (node("n1", dir.path()), node("n2", dir.path()));
    fill(&n1.addr, keys);
    let coordinator = Server::coordinator(&dir.path().join("coordinator"));
    let mut caller = Caller::to(&coordinator.addr);
    for (name, addr) in [("n1", &n1.addr), ("n2", &n2.addr)] {
        caller.call("addnode", json!({"id": name, "addr": addr}));
        if name == "n1" {
            // Alone on the ring it has nothing to give away.
            assert_eq!(rebalance(&mut caller)["copied"], 0);
        }
    }

    let ring = ["n1", "n2"].map(|name| (name.parse().expect("a node id"), 1));
    let ring = Ring::new(VNODES_DEFAULT, ring);
    let n2_id: NodeId = "n2".parse().expect("a node id");
    let moves = (0..keys).filter(|i| ring.owners(key(*i).as_bytes(), 1)[0] == n2_id).count() as u64;

    let quiet = Work::start(&coordinator.addr, callers, keys);
    std::thread::sleep(Duration::from_secs(u64::from(keys > 100_000)));
    quiet.stop("quiet");
    let work = Work::start(&coordinator.addr, callers, keys);
    let started = Instant::now();
    let servers = [&n1, &n2, &coordinator];
    let before = servers.map(Server::cpu);
    let report = rebalance(&mut caller);
    let took = started.elapsed();
    for ((name, server), before) in ["n1", "n2", "coordinator"].iter().zip(servers).zip(before) {
        eprintln!("{name}: {:?} of processor time", server.cpu() - before);
    }
    work.stop("moving");
    assert_eq!((&report["planned"], &report["failed"]), (&json!(moves), &json!(0)), "{report}");
    assert_eq!(report["removed"], json!(moves), "{report}");
    #[allow(clippy::cast_precision_loss, reason = "a rate that people read")]
    let rate = moves as f64 / took.as_secs_f64();
    eprintln!("{moves} of {keys} keys moved in {:.2} s: {rate:.0}/s", took.as_secs_f64());

    let sizes =
        [&n1, &n2].map(|node| Caller::to(&node.addr).call("size", json!([]))["size"].clone());
    assert_eq!(sizes, [json!(keys - moves), json!(moves)]);
    for i in (0..keys).step_by(usize::try_from(keys / 1000).expect("few").max(1)) {
        assert_eq!(caller.call("get", json!([key(i)]))["value"], value(i), "{}", key(i));
    }
}

/// Three nodes that hold all keys become four, while somebody writes and deletes, after a change that was taken back half-way.
#[test]
fn replicas_move_while_they_are_written() {
    let (keys, names) = (3000, ["n1", "n2", "n3", "n4"]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let nodes = names.map(|name| node(name, dir.path()));
    let coordinator = Server::coordinator(&dir.path().join("coordinator"));
    let mut caller = Caller::to(&coordinator.addr);
    for (name, node) in names.iter().zip(&nodes).take(3) {
        caller.call("addnode", json!({"id": name, "addr": node.addr}));
    }
    caller.call("setreplica", json!([3]));
    caller.rebalance();
    caller.call("keyspace", json!({"name": "default", "change": {"w": 2}}));
    let puts: Vec<Value> = (0..keys).map(|i| json!([key(i), "first"])).collect();
    caller.calls("put", &puts);

    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&coordinator.addr, keys, &done));
        caller.call("addnode", json!({"id": "n4", "addr": nodes[3].addr}));
        let planned = caller.call("plan", json!({}));
        assert!(planned["copies"].as_u64() > Some(keys / 2), "{planned}");
        caller.call("config", json!(["rebalance_rate", "1"]));
        caller.call("rebalance", json!({}));
        let progress = |caller: &mut Caller| caller.call("progress", json!([]));
        wait_for("some are copied", || {
            (progress(&mut caller)["copied"].as_u64() > Some(0)).then_some(())
        });
        caller.call("cancel", json!([]));
        caller.call("config", json!(["rebalance_rate", "0"]));
        wait_for("it is taken back", || {
            (progress(&mut caller)["state"] == "cancelled").then_some(())
        });
        caller.call("addnode", json!({"id": "n4", "addr": nodes[3].addr}));
        caller.rebalance();
        done.store(true, Ordering::Relaxed);
        writer.join().expect("no write failed")
    });

    for (i, last) in (0..).zip(&written) {
        let expected = last.clone().map_or(Value::Null, Value::from);
        assert_eq!(caller.call("get", json!([key(i)]))["value"], expected, "{}", key(i));
    }
    let members = names.map(|name| (name.parse().expect("a node id"), 1));
    let ring = Ring::new(VNODES_DEFAULT, members);
    // What was written while copies were dropped is dropped by the next one.
    caller.rebalance();
    for (name, node) in names.iter().zip(&nodes) {
        let id: NodeId = name.parse().expect("a node id");
        let owns = |i: &u64| ring.owners(key(*i).as_bytes(), 3).contains(&id);
        let lives = |i: &u64| written[usize::try_from(*i).expect("few")].is_some();
        let expected: Vec<String> = (0..keys).filter(|i| owns(i) && lives(i)).map(key).collect();
        let page = Caller::to(&node.addr).call("dump", json!({"keys_only": true}));
        let held = page["items"].as_array().expect("records").iter();
        let held: Vec<&str> = held.filter_map(|record| record["key"].as_str()).collect();
        assert_eq!(held, expected, "{name}");
    }
}

/// Writes and deletes until it is told to end; what was written last to each key.
fn write(addr: &str, keys: u64, done: &AtomicBool) -> Vec<Option<String>> {
    let mut caller = Caller::to(addr);
    let mut last: Vec<Option<String>> = (0..keys).map(|_| Some("first".to_owned())).collect();
    for turn in 0u64.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let i = turn * 7919 % keys;
        let at = usize::try_from(i).expect("few");
        if turn % 5 == 0 {
            caller.call("del", json!([key(i)]));
            last[at] = None;
        } else {
            let value = format!("turn {turn}");
            caller.call("put", json!([key(i), value]));
            last[at] = Some(value);
        }
    }
    last
}

fn node(name: &str, dir: &Path) -> Server {
    let (data, durability) = (dir.join(name), std::env::var("KV_DURABILITY"));
    let durability = durability.as_deref().unwrap_or("always");
    let (id, data) = (["node", "--id", name], ["--data", text(&data)]);
    let rest = ["--listen", "127.0.0.1:0", "--durability", durability, "--stop-on-eof"];
    Server::start(&[&id[..], &data, &rest].concat())
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn key(i: u64) -> String {
    format!("key:{i:012}")
}

fn value(i: u64) -> String {
    format!("{i:0>100}")
}

/// Puts the keys where nobody is obeyed yet.
fn fill(addr: &str, keys: u64) {
    let mut caller = Caller::to(addr);
    let record =
        |i: u64| json!({"key": key(i), "value": value(i), "version": format!("1.{}", i + 1)});
    let starts: Vec<u64> = (0..keys).step_by(usize::try_from(BATCH).expect("few")).collect();
    for starts in starts.chunks(100) {
        let batch = |start: &u64| (*start..keys.min(start + BATCH)).map(record).collect::<Vec<_>>();
        let calls: Vec<Value> = starts.iter().map(|start| json!([batch(start)])).collect();
        caller.calls("apply", &calls);
    }
}

fn rebalance(caller: &mut Caller) -> Value {
    let (begun, mut step) = (Instant::now(), Value::Null);
    caller.call("rebalance", json!({}));
    loop {
        let report = caller.call("progress", json!([u64::MAX]));
        if report["step"] != step {
            step = report["step"].clone();
            eprintln!("{:8.2} s {step} {}", begun.elapsed().as_secs_f64(), report["copied"]);
        }
        if report["state"] != "running" {
            assert_eq!(report["state"], "complete", "{report}");
            return report;
        }
        assert!(begun.elapsed() < PATIENCE, "still running: {report}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Callers who read and write what is there, one call after another.
struct Work {
    done: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Vec<Duration>>>,
}

impl Work {
    fn start(addr: &str, callers: u64, keys: u64) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let caller = |caller: u64| {
            let (done, addr) = (Arc::clone(&done), addr.to_owned());
            std::thread::spawn(move || work(&addr, caller, keys, &done))
        };
        Self { callers: (0..callers).map(caller).collect(), done }
    }

    fn stop(self, when: &str) {
        self.done.store(true, Ordering::Relaxed);
        let ended = self.callers.into_iter().map(|caller| caller.join().expect("no call failed"));
        let mut took: Vec<Duration> = ended.flatten().collect();
        took.sort_unstable();
        let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
        eprintln!("{when}: {} requests, p50 {:?}, p99 {:?}", took.len(), at(50), at(99));
    }
}

fn work(addr: &str, caller: u64, keys: u64, done: &AtomicBool) -> Vec<Duration> {
    let (mut calls, mut took) = (Caller::to(addr), Vec::new());
    let mut i = caller;
    while !done.load(Ordering::Relaxed) {
        i = (i * 6_364_136_223 + 1_442_695_041) % keys;
        let started = Instant::now();
        if took.len() % 10 == 0 {
            calls.call("put", json!({"key": key(i), "value": value(i), "linger_ms": 0}));
        } else {
            assert_eq!(calls.call("get", json!([key(i)]))["value"], value(i));
        }
        took.push(started.elapsed());
    }
    took
}
