//! A write and a read under way: whose answers are in, whether that is enough, whom to ask next.
//!
//! Both are fed with answers and know no network and no clock; when time is up, they are asked what
//! that means. The same two serve a coordinator, a node and a client that routes by itself.
//!
//! **A write** goes to all owners at once. It is done when enough of them have it, of the pending
//! placement, too, while there is one. Answers that come later still count for the account of who has
//! it. An owner that cannot be reached may be *stood in* for (a sloppy quorum): another node
//! keeps the write for it, and counts in its place. What the write came to otherwise is known only
//! when everybody has answered or the time is up:
//!
//! | enough have it | some have it | some may have it | outcome |
//! |---|---|---|---|
//! | yes | | | `Done` |
//! | no | yes | | `Partial` |
//! | no | no | yes | `Unknown` |
//! | no | no | no | `NotApplied` |
//!
//! **A read** asks as many owners as must answer, in preference order, and another one for each
//! that fails or is slow (*hedging*). Replies that come when it is answered already, still tell who needs repair.
//!
//! # Caveats
//!
//! With stand-ins, R+W>N promises nothing: a reader may meet none of those who have the write.

use std::collections::{BTreeMap, BTreeSet};

use super::write::WriteOutcome;
use crate::NodeId;
use crate::protocol::cluster::ReplicaOutcome;

/// The owners of a key under one placement, and how many of them must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// In preference order.
    pub owners: Vec<NodeId>,
    /// At least 1, at most as many as there are owners.
    pub needed: usize,
}

/// A write under way.
#[derive(Clone, Debug)]
pub struct WriteTracker {
    quorums: Vec<Quorum>,
    /// Those who have answered, stand-ins too, in the order of their answers: they are few.
    answers: Vec<(NodeId, ReplicaOutcome)>,
    /// Who keeps it for which owner.
    stand_ins: BTreeMap<NodeId, NodeId>,
}

impl WriteTracker {
    /// A write that must reach each of these quorums: that of the current placement and, while a
    /// change is pending, that of the next.
    #[must_use]
    pub fn new(quorums: Vec<Quorum>) -> Self {
        Self { quorums, answers: Vec::new(), stand_ins: BTreeMap::new() }
    }

    /// Everybody it goes to: each owner once, those of the current placement first.
    #[must_use]
    pub fn owners(&self) -> Vec<&NodeId> {
        let mut seen = BTreeSet::new();
        self.quorums.iter().flat_map(|q| &q.owners).filter(|owner| seen.insert(*owner)).collect()
    }

    /// An answer. A second one of the same node changes nothing, but for one: what was unknown is
    /// known when the answer comes after all.
    pub fn answer(&mut self, node: &NodeId, outcome: ReplicaOutcome) {
        match self.answers.iter_mut().find(|(other, _)| other == node) {
            Some((_, before)) if *before == ReplicaOutcome::Unknown => *before = outcome,
            Some(_) => {}
            None => self.answers.push((node.clone(), outcome)),
        }
    }

    fn answer_of(&self, node: &NodeId) -> Option<ReplicaOutcome> {
        self.answers.iter().find(|(other, _)| other == node).map(|(_, outcome)| *outcome)
    }

    /// Lets `candidate` keep the write for the first owner that certainly does not have it and
    /// has nobody yet; that owner. `None` when there is none, or the candidate has a part already.
    pub fn stand_in(&mut self, candidate: &NodeId) -> Option<NodeId> {
        let owners = self.owners();
        if owners.contains(&candidate) || self.stand_ins.contains_key(candidate) {
            return None;
        }
        let absent = |owner: &&&NodeId| {
            self.answer_of(owner) == Some(ReplicaOutcome::Unreachable)
                && !self.stand_ins.values().any(|other| other == **owner)
        };
        let owner = (*owners.iter().find(absent)?).clone();
        self.stand_ins.insert(candidate.clone(), owner.clone());
        Some(owner)
    }

    /// What it has come to; `None` while that is open.
    #[must_use]
    pub fn outcome(&self) -> Option<WriteOutcome> {
        if self.is_done() {
            return Some(WriteOutcome::Done);
        }
        let asked = self.owners().into_iter().chain(self.stand_ins.keys());
        let all_answered = asked.into_iter().all(|node| self.answer_of(node).is_some());
        all_answered.then(|| self.end())
    }

    /// What it has come to when the time is up: who has not answered may have it.
    #[must_use]
    pub fn end(&self) -> WriteOutcome {
        if self.is_done() {
            return WriteOutcome::Done;
        }
        let asked = self.owners().into_iter().chain(self.stand_ins.keys());
        let outcomes: Vec<ReplicaOutcome> =
            asked.map(|node| self.answer_of(node).unwrap_or(ReplicaOutcome::Unknown)).collect();
        if outcomes.contains(&ReplicaOutcome::Ok) {
            WriteOutcome::Partial
        } else if outcomes.contains(&ReplicaOutcome::Unknown) {
            WriteOutcome::Unknown
        } else {
            WriteOutcome::NotApplied
        }
    }

    /// Owners that do not have it for certain, with who keeps it for them: what is left to hand over.
    #[must_use]
    pub fn behind(&self) -> Vec<(&NodeId, Option<&NodeId>)> {
        let keeper = |owner: &NodeId| {
            let mut kept = self.stand_ins.iter().filter(|(node, o)| *o == owner && self.has(node));
            kept.next().map(|(node, _)| node)
        };
        let owners = self.owners().into_iter().filter(|owner| !self.has(owner));
        owners.map(|owner| (owner, keeper(owner))).collect()
    }

    fn is_done(&self) -> bool {
        !self.quorums.is_empty() && self.quorums.iter().all(|quorum| self.reached(quorum))
    }

    fn reached(&self, quorum: &Quorum) -> bool {
        let stood_in = |owner: &NodeId| {
            self.stand_ins.iter().any(|(node, other)| other == owner && self.has(node))
        };
        let have = quorum.owners.iter().filter(|owner| self.has(owner) || stood_in(owner)).count();
        have >= quorum.needed.max(1)
    }

    /// Whether a node has it for certain.
    #[must_use]
    pub fn has(&self, node: &NodeId) -> bool {
        self.answer_of(node) == Some(ReplicaOutcome::Ok)
    }
}

/// A read under way; `R` is what a replica replies.
#[derive(Clone, Debug)]
pub struct ReadTracker<R> {
    quorum: Quorum,
    /// How many owners were asked.
    asked: usize,
    /// Of those, in the order of their answers: the reply, or `None` when they failed.
    answers: Vec<(NodeId, Option<R>)>,
}

/// How a read stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// Answers are missing.
    Open,
    /// Enough have replied.
    Enough,
    /// Not enough can reply any more.
    TooFew,
}

impl<R> ReadTracker<R> {
    /// A read that needs so many replies.
    #[must_use]
    pub const fn new(quorum: Quorum) -> Self {
        Self { quorum, asked: 0, answers: Vec::new() }
    }

    /// The same of the first so many owners, before any is asked.
    #[must_use]
    pub(super) fn of_first(mut self, owners: usize) -> Self {
        self.quorum.owners.truncate(owners);
        self
    }

    /// Whom to ask now: as many as could still make it enough. To be called at the start and
    /// after each failure.
    pub fn ask(&mut self) -> Vec<NodeId> {
        let failed = self.answers.iter().filter(|(_, reply)| reply.is_none()).count();
        let wanted = (self.quorum.needed.max(1) + failed).min(self.quorum.owners.len());
        let from = self.asked;
        self.asked = from.max(wanted);
        self.quorum.owners[from..self.asked].to_vec()
    }

    /// One more, because somebody is slow; `None` when all were asked.
    pub fn hedge(&mut self) -> Option<NodeId> {
        let next = self.quorum.owners.get(self.asked)?.clone();
        self.asked += 1;
        Some(next)
    }

    /// A reply, or a failure. Only the first of a node counts.
    pub fn answer(&mut self, node: &NodeId, reply: Option<R>) {
        if self.answers.iter().all(|(other, _)| other != node) {
            self.answers.push((node.clone(), reply));
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> ReadState {
        let replied = self.replies().count();
        let failed = self.answers.len() - replied;
        let needed = self.quorum.needed.max(1);
        if replied >= needed {
            ReadState::Enough
        } else if self.quorum.owners.len() - failed < needed {
            ReadState::TooFew
        } else {
            ReadState::Open
        }
    }

    /// The replies, in the order in which they came.
    pub fn replies(&self) -> impl Iterator<Item = (&NodeId, &R)> {
        self.answers.iter().filter_map(|(node, reply)| reply.as_ref().map(|reply| (node, reply)))
    }

    /// Everybody who was asked and has not answered.
    pub fn silent(&self) -> impl Iterator<Item = &NodeId> {
        let asked = self.quorum.owners[..self.asked].iter();
        asked.filter(|node| self.answers.iter().all(|(other, _)| other != *node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReplicaOutcome::{Ok, Refused, Unknown, Unreachable};

    fn ids(text: &str) -> Vec<NodeId> {
        text.chars().map(|c| c.to_string().parse().unwrap()).collect()
    }

    fn quorum(owners: &str, needed: usize) -> Quorum {
        Quorum { owners: ids(owners), needed }
    }

    fn outcome(letter: char) -> Option<ReplicaOutcome> {
        match letter {
            'o' => Some(Ok),
            'r' => Some(Refused),
            '-' => Some(Unreachable),
            'u' => Some(Unknown),
            _ => None,
        }
    }

    /// Owners now/then, W, answers of all owners in their order (o ok, r refused, - unreachable, u
    /// unknown, . none yet), the outcome so far, the outcome when the time is up.
    #[test]
    fn writes() {
        let table = [
            ("abc", "   ", 2, "...", "Open      ", "Unknown   "),
            ("abc", "   ", 2, "o..", "Open      ", "Partial   "),
            ("abc", "   ", 2, "o.o", "Done      ", "Done      "),
            ("abc", "   ", 2, "o-r", "Partial   ", "Partial   "),
            ("abc", "   ", 2, "--.", "Open      ", "Unknown   "),
            ("abc", "   ", 2, "--r", "NotApplied", "NotApplied"),
            ("abc", "   ", 2, "-u-", "Unknown   ", "Unknown   "),
            ("abc", "   ", 3, "oo.", "Open      ", "Partial   "),
            ("abc", "   ", 3, "ooo", "Done      ", "Done      "),
            ("ab ", "bc ", 1, "o..", "Open      ", "Partial   "),
            ("ab ", "bc ", 1, ".o.", "Done      ", "Done      "),
            ("ab ", "bc ", 1, "o.o", "Done      ", "Done      "),
            ("ab ", "bc ", 2, "oo.", "Open      ", "Partial   "),
            ("ab ", "bc ", 2, "oo-", "Partial   ", "Partial   "),
            ("ab ", "bc ", 2, "ooo", "Done      ", "Done      "),
            ("ab ", "cd ", 1, "o..o", "Done      ", "Done      "),
        ];
        for (now, then, w, answers, so_far, at_end) in table {
            let mut quorums = vec![quorum(now.trim(), w)];
            quorums.extend((!then.trim().is_empty()).then(|| quorum(then.trim(), w)));
            let mut tracker = WriteTracker::new(quorums);
            let owners: Vec<NodeId> = tracker.owners().into_iter().cloned().collect();
            for (owner, letter) in owners.iter().zip(answers.chars()) {
                if let Some(outcome) = outcome(letter) {
                    tracker.answer(owner, outcome);
                }
            }
            let name = |outcome: WriteOutcome| format!("{outcome:?}");
            let found = (tracker.outcome().map_or("Open".into(), name), name(tracker.end()));
            let expected = (so_far.trim().to_owned(), at_end.trim().to_owned());
            assert_eq!(found, expected, "{now}/{then} W={w} {answers}");
        }
    }

    /// Every N to 5, every W, every combination of answers: the outcome says what is so.
    #[test]
    fn every_combination_to_five_owners() {
        let letters = ['o', 'r', '-', 'u', '.'];
        for n in 1..=5_usize {
            let owners = ids(&"abcde"[..n]);
            for w in 1..=n {
                for case in 0..5_usize.pow(u32::try_from(n).unwrap()) {
                    let answers: Vec<char> = (0..n)
                        .map(|i| letters[case / 5_usize.pow(u32::try_from(i).unwrap()) % 5])
                        .collect();
                    let mut tracker = WriteTracker::new(vec![quorum(&"abcde"[..n], w)]);
                    for (owner, letter) in owners.iter().zip(&answers) {
                        if let Some(outcome) = outcome(*letter) {
                            tracker.answer(owner, outcome);
                        }
                    }
                    let count = |letter| answers.iter().filter(|a| **a == letter).count();
                    let (ok, open, unknown) = (count('o'), count('.'), count('u'));
                    let told = tracker.end();
                    assert_eq!(told == WriteOutcome::Done, ok >= w, "{answers:?} W={w}");
                    assert_eq!(told == WriteOutcome::NotApplied, ok + open + unknown == 0);
                    assert_eq!(tracker.outcome().is_none(), ok < w && open > 0);
                    assert_eq!(tracker.behind().len(), n - ok);
                }
            }
        }
    }

    #[test]
    fn a_late_answer_settles_what_was_unknown_and_nothing_else() {
        let mut tracker = WriteTracker::new(vec![quorum("ab", 2)]);
        let [a, b] = <[NodeId; 2]>::try_from(ids("ab")).unwrap();
        tracker.answer(&a, Ok);
        tracker.answer(&b, Unknown);
        assert_eq!(tracker.outcome(), Some(WriteOutcome::Partial));
        tracker.answer(&b, Ok);
        tracker.answer(&b, Refused);
        assert_eq!(tracker.outcome(), Some(WriteOutcome::Done));
    }

    #[test]
    fn who_stands_in_counts_for_the_owner_that_is_away() {
        let mut tracker = WriteTracker::new(vec![quorum("abc", 2)]);
        let [a, b, c, d, e] = <[NodeId; 5]>::try_from(ids("abcde")).unwrap();
        assert_eq!(tracker.stand_in(&d), None, "nobody is away");
        tracker.answer(&a, Unreachable);
        tracker.answer(&b, Unknown);
        assert_eq!(tracker.stand_in(&c), None, "an owner has a part of its own");
        assert_eq!(tracker.stand_in(&d), Some(a.clone()));
        assert_eq!(tracker.stand_in(&d), None);
        assert_eq!(tracker.stand_in(&e), None, "what is unknown may be there");
        tracker.answer(&c, Ok);
        assert_eq!(tracker.outcome(), None, "d has not answered");
        tracker.answer(&d, Ok);
        assert_eq!(tracker.outcome(), Some(WriteOutcome::Done));
        assert_eq!(tracker.behind(), [(&a, Some(&d)), (&b, None)]);
    }

    #[test]
    fn a_read_asks_in_order_and_one_more_for_each_that_fails() {
        let mut read = ReadTracker::new(quorum("abcd", 2));
        let [a, b, c, d] = <[NodeId; 4]>::try_from(ids("abcd")).unwrap();
        assert_eq!(read.ask(), [a.clone(), b.clone()]);
        read.answer(&a, None);
        assert_eq!((read.ask(), read.state()), (vec![c.clone()], ReadState::Open));
        read.answer(&c, Some(3));
        assert_eq!(read.hedge(), Some(d.clone()), "b is slow");
        assert_eq!(read.silent().collect::<Vec<_>>(), [&b, &d]);
        read.answer(&d, Some(4));
        assert_eq!(read.state(), ReadState::Enough);
        read.answer(&b, Some(2));
        assert_eq!(read.replies().collect::<Vec<_>>(), [(&c, &3), (&d, &4), (&b, &2)]);
        assert_eq!((read.ask(), read.hedge()), (vec![], None));
    }

    #[test]
    fn a_read_that_too_few_can_answer_is_given_up() {
        let mut read: ReadTracker<()> = ReadTracker::new(quorum("abc", 2));
        for (node, state) in [("a", ReadState::Open), ("b", ReadState::TooFew)] {
            read.ask();
            read.answer(&ids(node)[0], None);
            assert_eq!(read.state(), state, "after {node} failed");
        }
    }
}
