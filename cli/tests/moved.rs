//! One node becomes two while people work: what moves is what the ring says, nobody is kept from anything, and
//! each key stands where it belongs afterwards.
//!
//! `KV_MOVED=1000000 cargo test --release --test moved -- --nocapture` moves half of so many keys (16 bytes, values of
//! 100) and prints how fast, and how long requests took meanwhile. `KV_CALLERS=0` lets nobody work meanwhile.

#![allow(clippy::print_stderr, reason = "the figures are for who asks for them with --nocapture")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringkv_shared::NodeId;
use ringkv_shared::ring::{Ring, VNODES_DEFAULT};
use serde_json::{Value, json};
use support::{Caller, Server};

/// Records in a call.
const BATCH: u64 = 500;
/// How long the rebalance may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn half_of_the_keys_move_while_others_work() {
    let (keys, callers) = (number("KV_MOVED", 3000), number("KV_CALLERS", 1));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = |name: &str| Server::node(name, &dir.path().join(name), "127.0.0.1:0");
    let (n1, n2) = (node("n1"), node("n2"));
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
    let report = rebalance(&mut caller);
    let took = started.elapsed();
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
