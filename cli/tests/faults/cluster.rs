//! A whole cluster of real processes to break.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Caller, PATIENT, Server, coordinator_args, node_args, wait_for, with_full_disk,
};

pub(crate) struct Cluster {
    dir: TempDir,
    /// `n1`, `n2`, …; `None` while one is down.
    nodes: Vec<Option<Server>>,
    addrs: Vec<String>,
    coordinator: Option<Server>,
    /// Where the coordinator listens: a free port at first, then the same one after each start.
    listen: String,
    /// More arguments of the coordinator.
    more: &'static [&'static str],
}

/// Notices sooner that a node is gone, and may be wrong on a machine that is too busy.
const QUICK: [&str; 4] = ["--heartbeat", "200", "--timeout", "1000"];

impl Cluster {
    /// So many members that keep so many copies.
    pub(crate) fn of(nodes: usize, replicas: usize) -> Self {
        Self::with(&PATIENT, nodes, replicas)
    }

    /// The same, for tests that wait until a node is DOWN and keep the machine calm.
    pub(crate) fn quick(nodes: usize, replicas: usize) -> Self {
        Self::with(&QUICK, nodes, replicas)
    }

    fn with(more: &'static [&'static str], nodes: usize, replicas: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (nodes_so_far, addrs, listen) = (Vec::new(), Vec::new(), "127.0.0.1:0".to_owned());
        let mut cluster = Self { dir, nodes: nodes_so_far, addrs, coordinator: None, listen, more };
        cluster.start_coordinator();
        for _ in 0..nodes {
            let (id, addr) = cluster.spare();
            cluster.caller().call("addnode", json!({"id": id, "addr": addr}));
        }
        cluster.caller().call("setreplica", json!([replicas]));
        cluster
    }

    /// Starts one more node that is no member yet: its id and address.
    pub(crate) fn spare(&mut self) -> (String, String) {
        self.spare_by(Server::start)
    }

    /// The same with so little room on its disk; started again, it has enough.
    pub(crate) fn spare_with_full_disk(&mut self, blocks: u32) -> (String, String) {
        self.spare_by(|args| Server::run(with_full_disk(blocks, args)))
    }

    fn spare_by(&mut self, start: impl Fn(&[&str]) -> Server) -> (String, String) {
        let id = format!("n{}", self.nodes.len() + 1);
        let node = start(&node_args(&id, &self.data(&id), "127.0.0.1:0"));
        let addr = node.addr.clone();
        self.nodes.push(Some(node));
        self.addrs.push(addr.clone());
        (id, addr)
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn addr(&self) -> &str {
        &self.coordinator.as_ref().expect("it runs").addr
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::to(self.addr())
    }

    pub(crate) fn restart_coordinator(&mut self) -> Caller {
        self.take_coordinator().kill();
        self.start_coordinator();
        self.caller()
    }

    /// Starts the coordinator on its data, where it was.
    pub(crate) fn start_coordinator(&mut self) {
        let (data, listen) = (self.data("c"), ["--listen", &self.listen]);
        let args =
            [&coordinator_args(&data)[..1], &listen, &coordinator_args(&data)[3..], self.more];
        let coordinator = Server::start(&args.concat());
        self.listen.clone_from(&coordinator.addr);
        self.coordinator = Some(coordinator);
    }

    /// The coordinator, to be kept or killed; the cluster has none until [`Cluster::recover`].
    pub(crate) fn take_coordinator(&mut self) -> Server {
        self.coordinator.take().expect("it runs")
    }

    /// Starts a coordinator in a new directory from what the nodes know, of which one is named.
    pub(crate) fn recover(&mut self, data: &str, node: &str, more: &[&str]) -> Caller {
        let (data, node) = (self.data(data), self.addr_of(node).to_owned());
        let recover = ["--recover", "--node", &node];
        let args = [&coordinator_args(&data)[..], self.more, &recover, more].concat();
        self.coordinator = Some(Server::start(&args));
        self.caller()
    }

    pub(crate) fn pause_coordinator(&self) {
        self.coordinator.as_ref().expect("it runs").pause();
    }

    pub(crate) fn resume_coordinator(&self) {
        self.coordinator.as_ref().expect("it runs").resume();
    }

    pub(crate) fn node(&self, id: &str) -> &Server {
        self.nodes[index(id)].as_ref().expect("it runs")
    }

    pub(crate) fn addr_of(&self, id: &str) -> &str {
        &self.addrs[index(id)]
    }

    /// Kills a node, or `c`, the coordinator.
    pub(crate) fn kill_any(&mut self, id: &str) {
        match id {
            "c" => self.take_coordinator().kill(),
            id => self.kill(id),
        }
    }

    /// Starts a node, or `c`, the coordinator, where it was.
    pub(crate) fn start_any(&mut self, id: &str) {
        match id {
            "c" => self.start_coordinator(),
            id => self.start(id),
        }
    }

    pub(crate) fn kill(&mut self, id: &str) {
        self.nodes[index(id)].take().expect("it runs").kill();
    }

    /// Starts a node where it was.
    pub(crate) fn start(&mut self, id: &str) {
        let addr = self.addrs[index(id)].clone();
        self.start_at(id, &addr);
    }

    pub(crate) fn start_at(&mut self, id: &str, addr: &str) {
        self.nodes[index(id)] = Some(Server::node(id, &self.data(id), addr));
    }

    /// Puts `k0` … as `v0` ….
    pub(crate) fn fill(&self, keys: usize) {
        let pairs: Vec<Value> =
            (0..keys).map(|i| json!([format!("k{i}"), format!("v{i}")])).collect();
        self.caller().calls("put", &pairs);
    }

    /// Every key of [`Cluster::fill`] is there, once in `scan`, on `copies` nodes in all.
    pub(crate) fn account(&self, keys: usize, copies: usize) {
        self.readable(keys);
        let mut caller = self.caller();
        let page = caller.call("scan", json!({"limit": 10_000, "keys_only": true}));
        assert_eq!(page["items"].as_array().map(Vec::len), Some(keys), "each key once");
        let stats = caller.call("stats", json!([]));
        let (exact, silent) = (&stats["keys_exact"], &stats["silent"]);
        assert_eq!((exact, silent), (&json!(true), &Value::Null), "{stats}");
        assert_eq!((&stats["keys"], &stats["copies"]), (&json!(keys), &json!(copies)), "{stats}");
    }

    /// All that each of these nodes holds, tombstones too: the same at all of them.
    pub(crate) fn alike(&self, ids: &[&str]) -> Vec<Value> {
        let dumps: Vec<Vec<Value>> = ids.iter().map(|id| self.dump(id)).collect();
        for (id, dump) in ids.iter().zip(&dumps) {
            assert_eq!(dump, &dumps[0], "{id} and {}", ids[0]);
        }
        dumps.into_iter().next().expect("at least one")
    }

    /// How many keys with a value these nodes hold in all.
    pub(crate) fn copies_at(&self, ids: &[&str]) -> usize {
        let live = |record: &&Value| record["deleted"] != true;
        ids.iter().map(|id| self.dump(id).iter().filter(live).count()).sum()
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<String> {
        let ids = (1..).map(|i| format!("n{i}")).zip(&self.nodes);
        ids.filter(|(_, node)| node.is_some()).map(|(id, _)| id).collect()
    }

    /// All that a node holds, tombstones too.
    pub(crate) fn dump(&self, id: &str) -> Vec<Value> {
        let page = json!({"limit": 10_000, "tombstones": true});
        let page = Caller::to(self.addr_of(id)).call("dump", page);
        assert!(page["next"].is_null(), "all fits one page");
        page["items"].as_array().expect("items").clone()
    }

    /// Waits until an event is told that begins so.
    pub(crate) fn told(&self, text: &str) {
        let mut caller = self.caller();
        wait_for(text, || {
            let events = caller.call("events", json!({"after": 0}));
            let mut events = events["events"].as_array().expect("events").iter();
            events
                .any(|event| event["text"].as_str().is_some_and(|t| t.starts_with(text)))
                .then_some(())
        });
    }

    pub(crate) fn readable(&self, keys: usize) {
        let asked: Vec<Value> = (0..keys).map(|i| json!([format!("k{i}")])).collect();
        for (i, got) in self.caller().calls("get", &asked).iter().enumerate() {
            assert_eq!(got["value"], format!("v{i}"), "k{i}: {got}");
        }
    }
}

fn index(id: &str) -> usize {
    id.trim_start_matches('n').parse::<usize>().expect("n1, n2, …") - 1
}
