//! A write from its start to its last answer: whom to send it to, who stands in, who is owed it.
//!
//! ```text
//!   start ──► Send to every owner that is up; those that are DOWN have answered: unreachable
//!             sloppy: Send to a stand-in for each of these, with the note whom it stands in for
//!             strict: the first owner that is up takes the note whom it is owed, in the same step
//!   answers ► sloppy: an owner that cannot be reached after all gets a stand-in, too
//!             enough have it ──► acknowledged
//!   end ────► Owe: whoever has it takes the note for each owner that has not
//! ```
//!
//! Knows no network and no clock: it is fed with answers, and told when the time is up.
//!
//! # Caveats
//!
//! With stand-ins, R+W>N promises nothing: a reader may meet none of those who have the write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::tracker::{Quorum, WriteTracker};
use super::write::WriteOutcome;
use crate::NodeId;
use crate::protocol::cluster::ReplicaOutcome;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutStep {
    /// Send the write.
    Send {
        /// To this node.
        to: NodeId,
        /// The owner that it stands in for, being none itself.
        stands_in_for: Option<NodeId>,
        /// Whom it is to note that this is owed to.
        owe: Vec<NodeId>,
    },
    /// Let `at`, who has the write, note that it is owed to `to`.
    Owe {
        /// The keeper of the note.
        at: NodeId,
        /// The owner.
        to: NodeId,
    },
}

/// A write under way.
#[derive(Clone, Debug)]
pub struct Put {
    tracker: WriteTracker,
    /// Nodes that may stand in and have not been asked to, in their order.
    spare: VecDeque<NodeId>,
    /// Who was asked to note what an owner is owed.
    notes: BTreeMap<NodeId, NodeId>,
}

impl Put {
    /// A write to the owners of these quorums. `spare` may stand in, in this order; it is empty for a
    /// strict write. `down` are not asked at all.
    #[must_use]
    pub fn start(
        quorums: Vec<Quorum>,
        down: &BTreeSet<NodeId>,
        spare: impl IntoIterator<Item = NodeId>,
    ) -> (Self, Vec<PutStep>) {
        let spare = spare.into_iter().filter(|node| !down.contains(node)).collect();
        let mut put = Self { tracker: WriteTracker::new(quorums), spare, notes: BTreeMap::new() };
        let owners: Vec<NodeId> = put.tracker.owners().into_iter().cloned().collect();
        let (absent, present): (Vec<_>, Vec<_>) =
            owners.into_iter().partition(|owner| down.contains(owner));
        absent.iter().for_each(|owner| put.tracker.answer(owner, ReplicaOutcome::Unreachable));
        let mut steps = put.stand_in();
        let mut owe: Vec<NodeId> =
            absent.into_iter().filter(|owner| !put.notes.contains_key(owner)).collect();
        let sends = present.into_iter().map(|to| {
            let owe = std::mem::take(&mut owe);
            owe.iter().for_each(|owner| drop(put.notes.insert(owner.clone(), to.clone())));
            PutStep::Send { to, stands_in_for: None, owe }
        });
        let sends: Vec<PutStep> = sends.collect();
        steps.splice(0..0, sends);
        (put, steps)
    }

    /// An answer, and what it makes necessary.
    pub fn answer(&mut self, node: &NodeId, outcome: ReplicaOutcome) -> Vec<PutStep> {
        self.tracker.answer(node, outcome);
        if self.outcome() == Some(WriteOutcome::Done) { Vec::new() } else { self.stand_in() }
    }

    /// Finds somebody for each owner that certainly does not have it.
    fn stand_in(&mut self) -> Vec<PutStep> {
        let mut steps = Vec::new();
        while let Some(to) = self.spare.pop_front() {
            let Some(owner) = self.tracker.stand_in(&to) else {
                self.spare.push_front(to);
                break;
            };
            self.notes.insert(owner.clone(), to.clone());
            let (stands_in_for, owe) = (Some(owner.clone()), vec![owner]);
            steps.push(PutStep::Send { to, stands_in_for, owe });
        }
        steps
    }

    /// What it has come to; `None` while that is open.
    #[must_use]
    pub fn outcome(&self) -> Option<WriteOutcome> {
        self.tracker.outcome()
    }

    /// What it has come to when the time is up.
    #[must_use]
    pub fn end(&self) -> WriteOutcome {
        self.tracker.end()
    }

    /// The notes that are still to be made, when all have answered or the time is up: for every owner
    /// without the write whom nobody who has it was asked to note.
    #[must_use]
    pub fn rest(&self) -> Vec<PutStep> {
        let Some(at) = self.tracker.owners().into_iter().find(|owner| self.tracker.has(owner))
        else {
            return Vec::new();
        };
        let noted = |owner: &NodeId| self.noted_at(owner).is_some();
        let behind = self.tracker.behind().into_iter().filter(|(owner, _)| !noted(owner));
        behind.map(|(to, _)| PutStep::Owe { at: at.clone(), to: to.clone() }).collect()
    }

    /// Who has the write and has noted that this owner is owed it.
    #[must_use]
    pub fn noted_at(&self, owner: &NodeId) -> Option<&NodeId> {
        self.notes.get(owner).filter(|keeper| self.tracker.has(keeper))
    }

    /// Whether every owner has it.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.tracker.behind().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<NodeId> {
        text.chars().map(|c| c.to_string().parse().unwrap()).collect()
    }

    fn outcome(letter: &str) -> ReplicaOutcome {
        match letter {
            "ok" => ReplicaOutcome::Ok,
            "refused" => ReplicaOutcome::Refused,
            "unknown" => ReplicaOutcome::Unknown,
            _ => ReplicaOutcome::Unreachable,
        }
    }

    fn words(steps: &[PutStep]) -> String {
        let word = |step: &PutStep| match step {
            PutStep::Send { to, stands_in_for, owe } => {
                let for_whom = stands_in_for.iter().map(|owner| format!(" for {owner}"));
                let owe = owe.iter().map(|owner| format!(" owes {owner}"));
                format!("{to}{}", for_whom.chain(owe).collect::<String>())
            }
            PutStep::Owe { at, to } => format!("{at} notes {to}"),
        };
        steps.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// Owners, W, who is DOWN, spare nodes; then the sends; then answers with the steps that each
    /// makes necessary and the outcome; then the notes left to make.
    #[test]
    fn sends_answers_and_notes() {
        type Row = (
            &'static str,
            usize,
            &'static str,
            &'static str,
            &'static str,
            &'static [(&'static str, &'static str, &'static str)],
            &'static str,
        );
        let table: [Row; 9] = [
            (
                "abc",
                2,
                "",
                "",
                "a, b, c",
                &[("a ok", "", "Open"), ("b ok", "", "Done"), ("c ok", "", "Done")],
                "",
            ),
            (
                "abc",
                2,
                "",
                "",
                "a, b, c",
                &[("a ok", "", "Open"), ("b ok", "", "Done"), ("c unknown", "", "Done")],
                "a notes c",
            ),
            ("abc", 2, "c", "", "a owes c, b", &[("a ok", "", "Open"), ("b ok", "", "Done")], ""),
            (
                "abc",
                2,
                "c",
                "",
                "a owes c, b",
                &[("b ok", "", "Open"), ("a -", "", "Partial")],
                "b notes a, b notes c",
            ),
            ("abc", 2, "bc", "", "a owes b owes c", &[("a ok", "", "Partial")], ""),
            (
                "abc",
                2,
                "bc",
                "de",
                "a, d for b owes b, e for c owes c",
                &[("a ok", "", "Open"), ("d ok", "", "Done"), ("e ok", "", "Done")],
                "",
            ),
            (
                "abc",
                2,
                "",
                "d",
                "a, b, c",
                &[
                    ("a ok", "", "Open"),
                    ("b -", "d for b owes b", "Open"),
                    ("d ok", "", "Done"),
                    ("c refused", "", "Done"),
                ],
                "a notes c",
            ),
            (
                "abc",
                3,
                "",
                "de",
                "a, b, c",
                &[
                    ("a -", "d for a owes a", "Open"),
                    ("d -", "", "Open"),
                    ("b ok", "", "Open"),
                    ("c ok", "", "Partial"),
                ],
                "b notes a",
            ),
            ("ab", 2, "ab", "", "", &[], ""),
        ];
        for (owners, w, down, spare, sends, answers, notes) in table {
            let quorum = Quorum { owners: ids(owners), needed: w };
            let (mut put, steps) =
                Put::start(vec![quorum], &ids(down).into_iter().collect(), ids(spare));
            assert_eq!(words(&steps), sends, "{owners} W={w}");
            for (answer, then, outcome_then) in answers {
                let (node, what) = answer.split_once(' ').unwrap();
                let steps = put.answer(&ids(node)[0], outcome(what));
                let now = put.outcome().map_or("Open".to_owned(), |outcome| format!("{outcome:?}"));
                assert_eq!(
                    (words(&steps).as_str(), now.as_str()),
                    (*then, *outcome_then),
                    "{owners} {answer}"
                );
            }
            assert_eq!(words(&put.rest()), notes, "{owners} {answers:?}");
        }
    }
}
