//! A cluster under load in the middle of a change of the ring, and what is looked at when it is over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::load::{Book, Load};
use crate::support::{Caller, wait_closely, wait_for};

/// What is to change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Join(&'static str),
    Leave(&'static str),
    /// Who leaves, and who takes its seat.
    Replace(&'static str, &'static str),
    /// N.
    Copies(usize),
    Weight(&'static str, u32),
}

/// The cluster, and the book of what was acknowledged.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    /// Written by the load while there is one.
    book: Option<Book>,
    load: Option<Load>,
    /// What is going on, for who reads of a failure.
    title: String,
    /// How often the load had lost the coordinator before.
    broken: u64,
    /// N before the change and after it, and W.
    n: usize,
    next_n: usize,
    w: usize,
}

impl Scene {
    /// Three members, N=2, and `n4` to `n6` to come.
    pub(crate) fn set(w: usize) -> Self {
        let mut cluster = Cluster::quick(3, 2);
        (0..3).for_each(|_| drop(cluster.spare()));
        cluster.caller().call("keyspace", json!({"name": "default", "change": {"r": 1, "w": w}}));
        let book = Some(Book::open(&cluster));
        let title = String::new();
        Self { cluster, book, load: None, title, broken: 0, n: 2, next_n: 2, w }
    }

    /// Stages the change, and starts the load.
    pub(crate) fn begin(&mut self, title: &str, change: Change) {
        let mut caller = self.cluster.caller();
        // Tombstones are collected when the scene says so.
        caller.call("config", json!(["anti_entropy", "0"]));
        if let Change::Join(id) | Change::Replace(_, id) = change {
            self.comes_empty(&mut caller, id);
        }
        self.stage(&mut caller, change);
        let mut book = self.book.take().expect("it is here between two changes");
        self.next_n = if let Change::Copies(n) = change { n } else { self.n };
        book.answers.clear();
        book.strict = 1 + self.w > self.n.max(self.next_n);
        (self.title, self.broken) = (title.to_owned(), book.broken);
        self.load = Some(Load::start(self.cluster.addr(), book));
    }

    /// Who has left without being cleared has old copies, and joins only without them.
    fn comes_empty(&mut self, caller: &mut Caller, id: &str) {
        if self.cluster.dump(id).is_empty() {
            return;
        }
        let back = json!({"id": id, "addr": self.cluster.addr_of(id)});
        let refused = caller.error("addnode", back);
        assert_eq!(refused["data"]["name"], "NOT_APPLIED", "{refused}");
        self.cluster.kill(id);
        std::fs::remove_dir_all(self.cluster.data(id)).expect("it was there");
        self.cluster.start(id);
    }

    fn stage(&self, caller: &mut Caller, change: Change) {
        let addr = |id: &str| self.cluster.addr_of(id).to_owned();
        let (method, params) = match change {
            Change::Join(id) => ("addnode", json!({"id": id, "addr": addr(id)})),
            Change::Leave(id) => ("removenode", json!({"id": id})),
            Change::Replace(old, id) => {
                ("replacenode", json!({"old": old, "id": id, "addr": addr(id)}))
            }
            Change::Copies(n) => ("setreplica", json!([n])),
            Change::Weight(id, weight) => ("setweight", json!({"id": id, "weight": weight})),
        };
        assert_eq!(caller.call(method, params)["pending"], true, "{method}");
    }

    /// The change is not going to be.
    pub(crate) fn is_taken_back(&mut self) {
        self.next_n = self.n;
    }

    /// Whether all members are UP.
    pub(crate) fn all_are_up(&self, caller: &mut Caller) -> bool {
        let show = caller.call("show", json!([]));
        show["nodes"].as_array().expect("rows").iter().all(|row| row["health"] == "UP")
    }

    /// Waits until nothing is staged or pending, by itself or with somebody who says `rebalance` when it rests.
    pub(crate) fn comes_to_its_end(&self, told_to: bool) {
        let mut caller = self.cluster.caller();
        wait_for(&format!("{}: it is done", self.title), || {
            let stage = caller.call("show", json!([]))["stage"].clone();
            if state(&mut caller).0 == "running" {
                return None;
            }
            if told_to && stage != "idle" {
                let again = caller.ask("rebalance", &json!({}));
                let name = &again["error"]["data"]["name"];
                assert!(name.is_null() || name == "BUSY", "{}: {again}", self.title);
            }
            (stage == "idle").then_some(())
        });
    }

    /// The load stops, the ring is as it should be, and every acknowledged key is where it should be.
    pub(crate) fn is_over(&mut self, ring: &str, killed: &[&str]) {
        let mut book = self.load.take().expect("it has begun").stop();
        assert!(book.answers.contains_key("put ok"), "{:?}", book.answers);
        let coordinator_killed = killed.contains(&"c");
        assert!(coordinator_killed || book.broken == self.broken, "{}: it hung up", self.title);
        self.n = self.next_n;
        let mut caller = self.cluster.caller();
        let show = caller.call("show", json!([]));
        let now = (members(&show), &show["replication"]);
        assert_eq!(now, (ring.into(), &json!(self.n)), "{}", self.told(&mut caller));
        let mut faults = Vec::new();
        if self.w == 2 {
            faults.extend(self.acknowledged_is_at_two(&book));
            if killed.iter().all(|id| *id == "c") {
                faults.extend(book.faults(&self.cluster));
                faults.extend(self.misplaced(&mut caller, &book, false));
            }
        }
        wait_for("all are back", || self.all_are_up(&mut caller).then_some(()));
        // What a node missed while it was away, and what it could not drop.
        caller.rebalance();
        faults.extend(book.faults(&self.cluster));
        faults.extend(self.misplaced(&mut caller, &book, true));
        let answers = &book.answers;
        assert!(
            faults.is_empty(),
            "{}\n{answers:?}\n{}",
            faults.join("\n"),
            self.told(&mut caller)
        );
        book.settle(&self.cluster);
        self.book = Some(book);
    }

    /// All there is to know for who reads of a failure.
    fn told(&self, caller: &mut Caller) -> String {
        let log = std::fs::read_to_string(self.cluster.data("c").join("coordinator.log"));
        let events = caller.call("events", json!({"after": 0}));
        let progress = caller.call("progress", json!([]));
        let (title, log) = (&self.title, log.expect("a log"));
        format!("{title}\n{log}\n{progress}\n{events}\n{:?}", self.cluster.running())
    }

    /// Who holds what of each key.
    fn held(&self) -> BTreeMap<String, Vec<(String, Value)>> {
        let mut held: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
        for id in self.cluster.running() {
            for record in self.cluster.dump(&id) {
                let key = record["key"].as_str().expect("text").to_owned();
                held.entry(key).or_default().push((id.clone(), record));
            }
        }
        held
    }

    /// What was acknowledged by two is at two, before anybody mends anything.
    fn acknowledged_is_at_two(&self, book: &Book) -> Vec<String> {
        let held = self.held();
        let mut faults = Vec::new();
        for key in book.keys() {
            let [Some(value)] = &book.of(&key)[..] else { continue };
            let holders = held.get(&key).into_iter().flatten();
            let having = holders.clone().filter(|(_, record)| record["value"] == **value).count();
            if having < 2 {
                let holders: Vec<_> = holders.collect();
                faults.push(format!("{key} = {value} was acknowledged by two, held: {holders:?}"));
            }
        }
        faults
    }

    /// Every owner has the same of every key, and nobody else anything. Unless it is `whole`, owners may lack
    /// what was not acknowledged.
    fn misplaced(&self, caller: &mut Caller, book: &Book, whole: bool) -> Vec<String> {
        let plan = caller.call("plan", json!([]));
        let show = caller.call("show", json!([]));
        let ring = members(&show);
        let ring: BTreeSet<&str> = ring.split(' ').collect();
        let (held, mut faults) = (self.held(), Vec::new());
        if plan["removed"] != 0 || whole && plan["copies"] != 0 {
            faults.push(format!("it is not done: {plan}"));
        }
        for key in book.keys() {
            let Some(holders) = held.get(&key) else { continue };
            let on_ring = holders.iter().filter(|(id, _)| ring.contains(id.as_str()));
            let records: Vec<&Value> = on_ring.map(|(_, record)| record).collect();
            let live = records.iter().any(|record| record["deleted"] != true);
            let alike = records.iter().all(|record| *record == records[0]);
            let everywhere = records.len() == self.n && alike;
            if records.len() > self.n || whole && live && !everywhere {
                faults.push(format!("{key}: {holders:?}"));
            }
        }
        faults
    }
}

/// What a rebalance is: how it stands, and its step.
pub(crate) fn state(caller: &mut Caller) -> (String, String) {
    let report = caller.call("progress", json!([]));
    let word = |member: &str| report[member].as_str().expect("a word").to_owned();
    (word("state"), word("step"))
}

/// Waits until some keys are copied and most are not.
pub(crate) fn copying(caller: &mut Caller) {
    wait_closely("some keys are copied", || {
        let report = caller.call("progress", json!([]));
        assert!(["running", "failed", "idle"].contains(&report["state"].as_str()?), "{report}");
        (report["copied"].as_u64() > Some(0)).then_some(())
    });
}

fn members(show: &Value) -> String {
    let rows = show["nodes"].as_array().expect("rows").iter();
    rows.map(|row| row["id"].as_str().expect("a name")).collect::<Vec<_>>().join(" ")
}
