//! A list of words through everything that happens to a cluster: loaded on three nodes at N=2, a
//! node killed and restarted, a fourth added, the first removed, the coordinator restarted. After
//! each step every word has its value, in exactly the copies that the ring asks for, and what a
//! rebalance moved is what the two rings differ in.
//!
//! The words are made here. `KV_WORDS=/usr/share/dict/words cargo test --release --test kv words --
//! --nocapture` takes a real list instead, and prints how long each step took.

#![allow(clippy::print_stderr, reason = "the times are for who asks for them with --nocapture")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Caller, Server, kv};
use ringkv_shared::NodeId;
use ringkv_shared::ring::{Ring, VNODES_DEFAULT};
use serde_json::{Value, json};

const COPIES: usize = 2;
/// How long a rebalance may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(300);
const COORDINATOR: &str = "coordinator";

/// Word to value.
type Words = BTreeMap<String, String>;

#[test]
fn every_word_survives_every_change() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (file, words) = words(dir.path());
    let mut cluster = Cluster::start(dir.path(), &["n1", "n2", "n3"]);
    step("load", || cluster.kv(&["load", &file]));
    cluster.verify(&words);

    step("kill -9 n2, restart", || cluster.crash("n2"));
    cluster.verify(&words);

    cluster.add_node("n4");
    let grown = cluster.ring.with(id("n4"), 1);
    step("addnode n4, rebalance", || cluster.change_to(grown, &words));
    cluster.verify(&words);

    let shrunk = cluster.ring.without(&id("n1"));
    cluster.caller().call("removenode", json!({"id": "n1"}));
    step("removenode n1, rebalance", || cluster.change_to(shrunk, &words));
    cluster.verify(&words);

    step("coordinator restart", || cluster.crash(COORDINATOR));
    cluster.verify(&words);
    step("get every word", || cluster.get_each(&words));
}

fn step<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    eprintln!("{name:<28}{:8.2} s", started.elapsed().as_secs_f64());
    done
}

/// The file to load, and what is in it: a word's value is the number of its line.
fn words(dir: &Path) -> (String, Words) {
    let file = std::env::var("KV_WORDS").unwrap_or_else(|_| {
        let made = dir.join("words.txt");
        let list: Vec<String> = (0..2_000).map(|n| format!("wörd {}", n * 7_919 % 2_000)).collect();
        std::fs::write(&made, list.join("\n")).expect("a file");
        made.to_str().expect("a UTF-8 path").to_owned()
    });
    let text = std::fs::read_to_string(&file).expect("a word list in UTF-8");
    let words: Words = text.lines().zip(1..).map(|(w, n)| (w.to_owned(), n.to_string())).collect();
    eprintln!("{} words of {file}", words.len());
    (file, words)
}

fn id(name: &str) -> NodeId {
    name.parse().expect("a node id")
}

struct Cluster<'d> {
    dir: &'d Path,
    /// The processes by name.
    servers: BTreeMap<&'static str, Server>,
    /// What the ring must be by now.
    ring: Ring,
}

impl<'d> Cluster<'d> {
    fn start(dir: &'d Path, names: &[&'static str]) -> Self {
        let ring = Ring::new(VNODES_DEFAULT, names.iter().map(|name| (id(name), 1)));
        let mut cluster = Self { dir, servers: BTreeMap::new(), ring };
        cluster.start_server(COORDINATOR, "127.0.0.1:0");
        names.iter().for_each(|name| cluster.add_node(name));
        cluster.caller().call("setreplica", json!([COPIES]));
        cluster
    }

    fn start_server(&mut self, name: &'static str, listen: &str) {
        let data = self.dir.join(name);
        let server = match name {
            COORDINATOR => Server::coordinator(&data),
            node => Server::node(node, &data, listen),
        };
        self.servers.insert(name, server);
    }

    fn add_node(&mut self, name: &'static str) {
        self.start_server(name, "127.0.0.1:0");
        self.caller().call("addnode", json!({"id": name, "addr": self.servers[name].addr}));
    }

    fn caller(&self) -> Caller {
        Caller::to(&self.servers[COORDINATOR].addr)
    }

    fn kv(&self, args: &[&str]) {
        let connect = ["--connect", &self.servers[COORDINATOR].addr];
        let output = kv(&[&connect, args].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {told}");
    }

    /// SIGKILL, and a start on the same directory.
    fn crash(&mut self, name: &'static str) {
        let server = self.servers.remove(name).expect("it runs");
        let addr = server.addr.clone();
        server.kill();
        self.start_server(name, &addr);
    }

    /// Rebalances to `ring`, and compares what moved with what the rings differ in.
    fn change_to(&mut self, ring: Ring, words: &Words) {
        let owners = |ring: &Ring, word: &str| -> BTreeSet<NodeId> {
            ring.owners(word.as_bytes(), COPIES).into_iter().collect()
        };
        let moves = words
            .keys()
            .map(|word| owners(&ring, word).difference(&owners(&self.ring, word)).count() as u64);
        let moves: u64 = moves.sum();
        for dry_run in [true, false] {
            let report = self.rebalance(dry_run);
            let told = ["copied", "removed", "failed"].map(|what| report[what].as_u64());
            assert_eq!(told, [Some(moves), Some(moves), Some(0)], "dry run: {dry_run}");
        }
        eprintln!("{moves} of {} copies moved", words.len() * COPIES);
        self.ring = ring;
    }

    fn rebalance(&self, dry_run: bool) -> Value {
        let (mut caller, deadline) = (self.caller(), Instant::now() + PATIENCE);
        caller.call("rebalance", json!({"dry_run": dry_run}));
        loop {
            let report = caller.call("progress", json!([]));
            if report["state"] != "running" {
                return report;
            }
            assert!(Instant::now() < deadline, "still running: {report}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Every node has exactly the words that the ring gives it, each with its value.
    fn verify(&self, words: &Words) {
        let mut expected: BTreeMap<&str, BTreeMap<&str, &str>> =
            self.members().map(|name| (name, BTreeMap::new())).collect();
        for (word, value) in words {
            for owner in self.ring.owners(word.as_bytes(), COPIES) {
                let at = expected.get_mut(owner.as_str()).expect("an owner runs");
                at.insert(word, value);
            }
        }
        for (name, expected) in expected {
            let found = dump(&self.servers[name].addr);
            let found: BTreeMap<&str, &str> =
                found.iter().map(|(word, value)| (word.as_str(), value.as_str())).collect();
            assert_eq!(found.len(), expected.len(), "words on {name}");
            assert!(found == expected, "{name} has other words or values than the ring gives it");
        }
    }

    /// The nodes, those too that left the ring and must be empty.
    fn members(&self) -> impl Iterator<Item = &'static str> {
        self.servers.keys().copied().filter(|name| *name != COORDINATOR)
    }

    fn get_each(&self, words: &Words) {
        let mut caller = self.caller();
        for (word, value) in words {
            let got = caller.call("get", json!([word]));
            assert_eq!(got["value"], json!(value), "{word}");
        }
    }
}

/// All that a node has, page by page.
fn dump(addr: &str) -> Words {
    let (mut caller, mut all, mut after) = (Caller::to(addr), Words::new(), Value::Null);
    loop {
        let page = caller.call("dump", json!({"after": after}));
        for item in page["items"].as_array().expect("items") {
            let text = |field: &str| item[field].as_str().expect("text").to_owned();
            all.insert(text("key"), text("value"));
        }
        after = page["next"].clone();
        if after.is_null() {
            return all;
        }
    }
}
