//! `kill -9` at each step of a change of the ring, under load: every acknowledged key afterwards.
//!
//! A row is a change, the step at which somebody is killed, and who. The killed start again on their data, the
//! change goes on by itself or is begun again by whom it has told that it failed, and when it is done
//! the book is compared with what is read and with what each node holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::load::{Book, Load};
use crate::support::{Caller, wait_closely, wait_for};

/// The step at which somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// Nothing is committed yet.
    Counting,
    /// The log says so, and the nodes are being told.
    Committed,
    /// Some copies are made, most are not.
    Copying,
    /// The log says that the new ring is in force.
    Final,
    Dropping,
    /// The log says that it is taken back.
    Cancelled,
}
use When::{Cancelled, Committed, Copying, Counting, Dropping, Final};

#[derive(Clone, Copy, Debug)]
enum Change {
    Join(&'static str),
    Leave(&'static str),
    Replace(&'static str, &'static str),
    Copies(usize),
    Weight(&'static str, u32),
}
use Change::{Copies, Join, Leave, Replace, Weight};

/// Change, step, who is killed (`c` is the coordinator), the ring when it is done.
type Row = (Change, When, &'static [&'static str], &'static str);

struct Scene {
    cluster: Cluster,
    book: Option<Book>,
    /// N of now, and W.
    n: usize,
    w: usize,
}

impl Scene {
    /// Three members, N=2, `n4` to `n6` to come.
    fn set(w: usize) -> Self {
        let mut cluster = Cluster::quick(3, 2);
        (0..3).for_each(|_| drop(cluster.spare()));
        cluster.caller().call("keyspace", json!({"name": "default", "change": {"r": 1, "w": w}}));
        let book = Some(Book::open(&cluster));
        Self { cluster, book, n: 2, w }
    }

    fn play(&mut self, rows: &[Row]) {
        for row in rows {
            let started = std::time::Instant::now();
            self.carry_out(row);
            eprintln!("{row:?}: {:?}", started.elapsed());
        }
    }

    fn carry_out(&mut self, row: &Row) {
        let (change, when, killed, ring) = *row;
        let mut caller = self.cluster.caller();
        caller.call("config", json!(["anti_entropy", "0"]));
        self.stage(&mut caller, change);
        let before = caller.call("show", json!([]));
        let mut book = self.book.take().expect("it is here between rows");
        let n = if let (Copies(n), true) = (change, when != Cancelled) { n } else { self.n };
        book.strict = self.n.max(n) < 1 + self.w;
        let (asked, broken) = (book.count(), book.broken);
        let load = Load::start(self.cluster.addr(), book);
        self.kill_at(&mut caller, when, killed);
        let mut caller = self.cluster.caller();
        self.comes_to_its_end(&mut caller, row);
        let mut book = load.stop();
        assert!(book.count() > asked, "{row:?}: it was asked meanwhile");
        let gone = killed.contains(&"c");
        assert!(gone || book.broken == broken, "{row:?}: nobody else hangs up");
        self.n = n;
        let show = caller.call("show", json!([]));
        assert_eq!((members(&show), &show["replication"]), (ring.into(), &json!(n)), "{row:?}: {before} {show}");
        self.account(&mut caller, &mut book, row);
        self.book = Some(book);
    }

    fn stage(&self, caller: &mut Caller, change: Change) {
        let addr = |id: &str| self.cluster.addr_of(id).to_owned();
        let staged = match change {
            Join(id) => caller.call("addnode", json!({"id": id, "addr": addr(id)})),
            Leave(id) => caller.call("removenode", json!({"id": id})),
            Replace(old, id) => {
                caller.call("replacenode", json!({"old": old, "id": id, "addr": addr(id)}))
            }
            Copies(n) => caller.call("setreplica", json!([n])),
            Weight(id, weight) => caller.call("setweight", json!({"id": id, "weight": weight})),
        };
        assert_eq!(staged["pending"], true, "{staged}");
    }

    /// Begins the change, waits for the step, kills, and starts again who was killed.
    fn kill_at(&mut self, caller: &mut Caller, when: When, killed: &[&str]) {
        let log = self.log().len();
        let slowly = matches!(when, Committed | Copying | Cancelled);
        caller.call("config", json!(["rebalance_rate", if slowly { "1" } else { "0" }]));
        // It is counting until all have answered.
        let held = ["n2", "n1"].into_iter().find(|id| !killed.contains(id));
        let held = held.filter(|_| when == Counting);
        held.inspect(|id| self.cluster.node(id).pause());
        caller.call("rebalance", json!({}));
        match when {
            Counting => {
                let report = caller.call("progress", json!([]));
                assert_eq!((&report["state"], &report["step"]), (&json!("running"), &json!("counting")), "{report}");
            }
            Committed => self.logged(log, "\nCOMMIT"),
            Copying => copying(caller),
            Final => self.logged(log, "\nFINAL"),
            Dropping => wait_closely("it drops", || {
                (caller.call("progress", json!([]))["step"] == "dropping").then_some(())
            }),
            Cancelled => {
                copying(caller);
                caller.send(1, "cancel", &json!([])).expect("it is there");
                self.logged(log, "\nCANCEL");
            }
        }
        for id in killed {
            match *id {
                "c" => self.cluster.take_coordinator().kill(),
                id => self.cluster.kill(id),
            }
        }
        held.inspect(|id| self.cluster.node(id).resume());
        for id in killed {
            match *id {
                "c" => self.cluster.start_coordinator(),
                id => self.cluster.start(id),
            }
        }
        self.cluster.caller().call("config", json!(["rebalance_rate", "0"]));
    }

    fn log(&self) -> String {
        let path = self.cluster.data("c").join("coordinator.log");
        std::fs::read_to_string(path).expect("a log")
    }

    fn logged(&self, after: usize, word: &str) {
        wait_closely(word, || self.log()[after - 1..].contains(word).then_some(()));
    }

    /// Waits until nothing is pending. What a killed coordinator had committed is gone on with by itself. When a
    /// node was killed it may have failed, and says so; then it is begun again, as somebody would who has no
    /// patience, for it would begin again later by itself.
    fn comes_to_its_end(&self, caller: &mut Caller, row: &Row) {
        let by_itself = row.2.contains(&"c") && row.1 != Counting;
        wait_for(&format!("{row:?} is done"), || {
            let (stage, report) = (caller.call("show", json!([]))["stage"].clone(), caller.call("progress", json!([])));
            if report["state"] == "running" {
                return None;
            }
            if stage == "idle" {
                return Some(());
            }
            if !by_itself {
                let again = caller.ask("rebalance", &json!({}));
                let name = &again["error"]["data"]["name"];
                assert!(name.is_null() || name == "BUSY", "{row:?}: {again}");
            }
            None
        });
    }

    fn account(&self, caller: &mut Caller, book: &mut Book, row: &Row) {
        let events = caller.call("events", json!({"after": 0}));
        let progress = caller.call("progress", json!([]));
        let told = || {
            let dumps = self.held();
            let held: Vec<String> = dumps.iter().map(|(key, held)| format!("{key}: {held:?}")).collect();
            format!("{row:?}\nlog:\n{}\nprogress: {progress}\nevents: {events}\nheld:\n{}", self.log(), held.join("\n"))
        };
        let nodes_killed = row.2 != ["c"];
        if !nodes_killed && self.w == 2 {
            book.account(&self.cluster, &told);
            self.check_placement(caller, book, false, &told);
        }
        if self.w == 2 {
            self.check_acknowledged(book, &told);
        }
        caller.rebalance();
        // Deletes are forgotten now: what stays somewhere by mistake comes back.
        let t = std::time::Instant::now();
        let check = caller.call("check", json!({"repair": true}));
        eprintln!("check {:?}", t.elapsed());
        assert_eq!((&check["silent"], &check["different"]), (&json!(null), &json!(0)), "{check}");
        book.account(&self.cluster, &told);
        self.check_placement(caller, book, true, &told);
        book.settle(&self.cluster);
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

    /// What was acknowledged by two is at two.
    fn check_acknowledged(&self, book: &Book, told: impl Fn() -> String) {
        let held = self.held();
        for key in book.keys() {
            let [Some(value)] = &book.of(&key)[..] else { continue };
            let holders = held.get(&key).into_iter().flatten();
            let holders = holders.filter(|(_, record)| record["value"] == **value).count();
            assert!(holders >= 2, "{key} = {value} is at {holders}\n{}", told());
        }
    }

    /// Every owner has the same, and nobody else anything. Without `whole` owners may lack what was not
    /// acknowledged.
    fn check_placement(&self, caller: &mut Caller, book: &Book, whole: bool, told: impl Fn() -> String) {
        let plan = caller.call("plan", json!([]));
        assert_eq!(plan["removed"], 0, "{plan}\n{}", told());
        let show = caller.call("show", json!([]));
        let ring = members(&show);
        let ring: BTreeSet<&str> = ring.split(' ').collect();
        let held = self.held();
        for key in book.keys() {
            let Some(holders) = held.get(&key) else { continue };
            let strange = holders.iter().any(|(id, _)| !ring.contains(id.as_str()));
            assert!(!strange || holders.len() > 0, "x");
            let on_ring: Vec<_> = holders.iter().filter(|(id, _)| ring.contains(id.as_str())).collect();
            assert!(on_ring.len() <= self.n, "{key} is at {on_ring:?}\n{}", told());
            if whole && on_ring.iter().any(|(_, record)| record["deleted"] != true) {
                let alike = on_ring.len() == self.n && on_ring.iter().all(|(_, record)| record == &on_ring[0].1);
                assert!(alike, "{key} is at {on_ring:?}\n{}", told());
            }
        }
    }
}

fn copying(caller: &mut Caller) {
    wait_closely("some keys are copied", || {
        let report = caller.call("progress", json!([]));
        assert_eq!(report["state"], "running", "{report}");
        (report["copied"].as_u64() > Some(0)).then_some(())
    });
}

fn members(show: &Value) -> String {
    let rows = show["nodes"].as_array().expect("rows").iter();
    rows.map(|row| row["id"].as_str().expect("a name")).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_coordinator_is_killed_at_each_step() {
    Scene::set(2).play(&[
        (Join("n4"), Counting, &["c"], "n1 n2 n3 n4"),
        (Leave("n1"), Committed, &["c"], "n2 n3 n4"),
        (Replace("n3", "n1"), Copying, &["c"], "n1 n2 n4"),
        (Weight("n1", 3), Final, &["c"], "n1 n2 n4"),
        (Copies(3), Cancelled, &["c"], "n1 n2 n4"),
        (Copies(3), Copying, &["c"], "n1 n2 n4"),
        (Copies(2), Dropping, &["c"], "n1 n2 n4"),
    ]);
}

#[test]
fn who_gives_keys_away_is_killed_at_each_step() {
    Scene::set(2).play(&[
        (Join("n4"), Counting, &["n1"], "n1 n2 n3 n4"),
        (Leave("n1"), Committed, &["n1"], "n2 n3 n4"),
        (Join("n1"), Copying, &["n2"], "n1 n2 n3 n4"),
        (Leave("n2"), Final, &["n2"], "n1 n3 n4"),
        (Weight("n1", 3), Dropping, &["n3"], "n1 n3 n4"),
        (Join("n2"), Cancelled, &["n1"], "n1 n3 n4"),
    ]);
}

#[test]
fn who_gets_keys_is_killed_at_each_step() {
    Scene::set(2).play(&[
        (Join("n4"), Counting, &["n4"], "n1 n2 n3 n4"),
        (Leave("n4"), Committed, &["n1"], "n1 n2 n3"),
        (Join("n4"), Committed, &["n4"], "n1 n2 n3 n4"),
        (Copies(3), Copying, &["n2"], "n1 n2 n3 n4"),
        (Copies(2), Final, &["n4"], "n1 n2 n3 n4"),
        (Replace("n3", "n5"), Copying, &["n5"], "n1 n2 n4 n5"),
        (Leave("n5"), Dropping, &["n4"], "n1 n2 n4"),
        (Replace("n2", "n6"), Cancelled, &["n6"], "n1 n2 n4"),
    ]);
}

#[test]
fn another_member_is_killed_at_each_step() {
    Scene::set(2).play(&[
        (Replace("n1", "n4"), Counting, &["n3"], "n2 n3 n4"),
        (Replace("n4", "n5"), Committed, &["n3"], "n2 n3 n5"),
        (Join("n6"), Copying, &["n2"], "n2 n3 n5 n6"),
        (Weight("n6", 4), Final, &["n2"], "n2 n3 n5 n6"),
        (Leave("n6"), Dropping, &["n2"], "n2 n3 n5"),
        (Join("n6"), Cancelled, &["n3"], "n2 n3 n5"),
    ]);
}

#[test]
fn the_coordinator_and_a_node_are_killed_at_once() {
    Scene::set(2).play(&[
        (Join("n4"), Counting, &["c", "n4"], "n1 n2 n3 n4"),
        (Leave("n1"), Committed, &["n1", "c"], "n2 n3 n4"),
        (Join("n1"), Copying, &["c", "n1"], "n1 n2 n3 n4"),
        (Replace("n2", "n5"), Final, &["c", "n2"], "n1 n3 n4 n5"),
        (Leave("n5"), Dropping, &["n5", "c"], "n1 n3 n4"),
        (Weight("n3", 3), Cancelled, &["c", "n1", "n3", "n4"], "n1 n3 n4"),
    ]);
}

/// With W=1 a read may miss the last write, and no write is lost.
#[test]
fn with_one_acknowledgement_no_write_is_lost() {
    Scene::set(1).play(&[
        (Join("n4"), Copying, &["n1"], "n1 n2 n3 n4"),
        (Leave("n1"), Final, &["n1"], "n2 n3 n4"),
        (Join("n1"), Committed, &["n1", "c"], "n1 n2 n3 n4"),
        (Replace("n2", "n5"), Dropping, &["n3"], "n1 n3 n4 n5"),
        (Leave("n3"), Cancelled, &["n3"], "n1 n3 n4 n5"),
    ]);
}
