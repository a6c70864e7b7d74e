//! `kill -9` at each step of a change of the ring, under load: every acknowledged key afterwards.
//!
//! A row is a change, the step at which somebody is killed, and who. The killed start again on their data, the
//! change goes on by itself or is begun again by whom it has told that it failed, and when it is done
//! the book is compared with what is read and with what each node holds.
//!
//! # Caveats
//!
//! A step that is short may be over when the signal comes: then the next one is hit.

use serde_json::json;

use crate::scene::{Change, Scene, copying, state};
use crate::support::{wait_closely, wait_for};

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
use Change::{Copies, Join, Leave, Replace, Weight};
use When::{Cancelled, Committed, Copying, Counting, Dropping, Final};

/// Change, step, who is killed (`c` is the coordinator), the ring when it is done.
type Row = (Change, When, &'static [&'static str], &'static str);

impl Scene {
    fn play(&mut self, rows: &[Row]) {
        for row in rows {
            self.carry_out(row);
        }
    }

    fn carry_out(&mut self, row: &Row) {
        let (change, when, killed, ring) = *row;
        self.begin(&format!("{row:?}"), change);
        if when == Cancelled {
            self.is_taken_back();
        }
        self.kill_at(when, killed);
        // What was committed is gone on with by itself. When a node was killed it may have failed, and says so; then
        // it is begun again, as somebody would who has no patience, for it would begin again later by itself.
        let by_itself = killed.contains(&"c") && when != Counting;
        self.comes_to_its_end(!by_itself);
        self.is_over(ring, killed);
    }

    /// Begins to carry it out, waits for the step, kills, and starts again who was killed.
    fn kill_at(&mut self, when: When, killed: &[&str]) {
        let mut caller = self.cluster.caller();
        let log = self.log().len();
        let slowly = matches!(when, Committed | Copying | Cancelled);
        caller.call("config", json!(["rebalance_rate", if slowly { "1" } else { "0" }]));
        // It is counting until all have answered.
        let held = ["n2", "n3"].into_iter().find(|id| !killed.contains(id));
        let held = held.filter(|_| when == Counting);
        held.inspect(|id| self.cluster.node(id).pause());
        caller.call("rebalance", json!({}));
        match when {
            Counting => assert_eq!(state(&mut caller), ("running".into(), "counting".into())),
            Committed => self.logged(log, "\nCOMMIT"),
            Copying => copying(&mut caller),
            Final => self.logged(log, "\nFINAL"),
            Dropping => {
                wait_closely("it drops", || (state(&mut caller).1 == "dropping").then_some(()))
            }
            Cancelled => {
                copying(&mut caller);
                caller.send(1, "cancel", &json!([])).expect("it is there");
                self.logged(log, "\nCANCEL");
            }
        }
        killed.iter().for_each(|id| self.cluster.kill_any(id));
        held.inspect(|id| self.cluster.node(id).resume());
        killed.iter().for_each(|id| self.cluster.start_any(id));
        self.cluster.caller().call("config", json!(["rebalance_rate", "0"]));
    }

    fn log(&self) -> String {
        let path = self.cluster.data("c").join("coordinator.log");
        std::fs::read_to_string(path).expect("a log")
    }

    /// Waits until the log says so behind its first so many bytes.
    fn logged(&self, after: usize, word: &str) {
        wait_closely(word, || self.log()[after - 1..].contains(word).then_some(()));
    }
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
        (Leave("n1"), Copying, &["n1"], "n2 n3 n4"),
        (Join("n1"), Committed, &["n1", "c"], "n1 n2 n3 n4"),
        (Replace("n2", "n5"), Dropping, &["n3"], "n1 n3 n4 n5"),
        (Leave("n3"), Cancelled, &["n3"], "n1 n3 n4 n5"),
        (Leave("n3"), Final, &["n3"], "n1 n4 n5"),
    ]);
}

/// Somebody is killed again and again in the middle of one change.
#[test]
fn a_change_survives_kill_after_kill() {
    let mut scene = Scene::set(2);
    scene.begin("kill after kill", Join("n4"));
    let mut caller = scene.cluster.caller();
    caller.call("config", json!(["rebalance_rate", "4"]));
    caller.call("rebalance", json!({}));
    for killed in [&["n4"][..], &["c"], &["n1", "c"], &["n4", "n2"], &["c", "n4"]] {
        copying(&mut caller);
        killed.iter().for_each(|id| scene.cluster.kill_any(id));
        killed.iter().for_each(|id| scene.cluster.start_any(id));
        caller = scene.cluster.caller();
        caller.call("config", json!(["rebalance_rate", "4"]));
        wait_for("all are back", || scene.all_are_up(&mut caller).then_some(()));
        // One that has failed begins again, one that was not told of it goes on.
        caller.ask("rebalance", &json!({}));
    }
    caller.call("config", json!(["rebalance_rate", "0"]));
    scene.comes_to_its_end(true);
    scene.is_over("n1 n2 n3 n4", &["c", "n1", "n2", "n4"]);
}

/// Who was to join is lost for good while it gets its keys: the change is taken back, and somebody else joins.
#[test]
fn a_newcomer_that_is_lost_is_given_up() {
    let mut scene = Scene::set(2);
    let mut caller = scene.cluster.caller();
    scene.begin("the newcomer is lost", Join("n4"));
    caller.call("config", json!(["rebalance_rate", "1"]));
    caller.call("rebalance", json!({}));
    copying(&mut caller);
    scene.cluster.kill("n4");
    caller.wait_until("n4", "health", json!("DOWN"));
    let cancelled = caller.ask("cancel", &json!([]));
    assert!(cancelled["error"].is_null(), "{cancelled}");
    scene.is_taken_back();
    scene.comes_to_its_end(false);
    scene.is_over("n1 n2 n3", &[]);
    scene.begin("another one joins", Join("n5"));
    caller.call("config", json!(["rebalance_rate", "0"]));
    scene.comes_to_its_end(true);
    scene.is_over("n1 n2 n3 n5", &[]);
    // It is found again, with what it had got: that goes first.
    scene.cluster.start("n4");
    scene.begin("it is found again", Join("n4"));
    scene.comes_to_its_end(true);
    scene.is_over("n1 n2 n3 n4 n5", &["n4"]);
}

/// Who leaves is lost for good before it has given its keys away: each has another copy.
#[test]
fn who_leaves_may_be_lost_on_the_way() {
    let mut scene = Scene::set(2);
    let mut caller = scene.cluster.caller();
    scene.begin("who leaves is lost", Leave("n1"));
    caller.call("config", json!(["rebalance_rate", "1"]));
    caller.call("rebalance", json!({}));
    copying(&mut caller);
    scene.cluster.kill("n1");
    caller.wait_until("n1", "health", json!("DOWN"));
    caller.call("config", json!(["rebalance_rate", "0"]));
    scene.comes_to_its_end(true);
    scene.is_over("n2 n3", &["n1"]);
}

/// Who gets keys is there and does nothing, for longer than anybody waits for it.
#[test]
fn a_newcomer_that_sleeps_gets_its_keys_when_it_wakes() {
    let mut scene = Scene::set(2);
    let mut caller = scene.cluster.caller();
    scene.begin("the newcomer sleeps", Join("n4"));
    caller.call("config", json!(["rebalance_rate", "1"]));
    caller.call("rebalance", json!({}));
    copying(&mut caller);
    scene.cluster.node("n4").pause();
    caller.call("config", json!(["rebalance_rate", "0"]));
    wait_for("it has failed", || (state(&mut caller).0 == "failed").then_some(()));
    scene.cluster.node("n4").resume();
    caller.wait_until("n4", "health", json!("UP"));
    scene.comes_to_its_end(true);
    scene.is_over("n1 n2 n3 n4", &[]);
}

/// The newcomer has no room for all its keys: what was acknowledged is where it was, and when there is room it gets
/// them.
#[test]
fn a_newcomer_without_room_gets_its_keys_when_there_is_some() {
    let mut scene = Scene::set(2);
    assert_eq!(scene.cluster.spare_with_full_disk(24).0, "n7");
    let mut caller = scene.cluster.caller();
    scene.begin("the newcomer has no room", Join("n7"));
    caller.call("rebalance", json!({}));
    wait_for("it has failed", || (state(&mut caller).0 == "failed").then_some(()));
    scene.cluster.start("n7");
    caller.wait_until("n7", "health", json!("UP"));
    scene.comes_to_its_end(true);
    scene.is_over("n1 n2 n3 n7", &["n7"]);
}
