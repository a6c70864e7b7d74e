//! Hinted handoff: who hands over to whom next.
//!
//! A *keeper* has notes of keys that a *target* has missed. While both are up, one page at a time of each
//! such *link* is delivered: what the keeper holds of those keys now is merged at the target, then the notes are struck
//! off. After a failure the link rests, each time twice as long, until the target is seen to be back.
//!
//! ```text
//!   debts of keepers, who is up ──► next ──► Deliver keeper → target ──► ended(Delivered | Empty | Failed)
//! ```
//!
//! # Caveats
//!
//! What a keeper is known to owe is from its last heartbeat: a link may be asked for a page that is empty.
//! If a keeper goes away half-way, that its target was served is not told.

use std::collections::{BTreeMap, BTreeSet};

use crate::NodeId;
use crate::protocol::node::Debt;

/// The shortest rest of a link after a failure, in milliseconds.
const REST_MS: u64 = 500;
/// The longest.
const REST_MS_MAX: u64 = 60_000;
/// Pages under way at a time over all links: each may hold half a megabyte.
const PAGES_MAX: usize = 8;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hand over a page of what the keeper owes the target.
    Deliver {
        /// Who has the notes.
        keeper: NodeId,
        /// Who missed the writes.
        target: NodeId,
    },
    /// The target is no member any more: strike off all that the keeper owes it.
    Forgive {
        /// Who has the notes.
        keeper: NodeId,
        /// Who is gone.
        target: NodeId,
    },
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many keys were handed over.
    Delivered(u64),
    /// There was nothing left.
    Empty,
    /// It could not be done, or not all of it.
    Failed,
}

/// A target has all that was owed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Who.
    pub target: NodeId,
    /// Keys handed over since the first page.
    pub keys: u64,
    /// How long since then, in milliseconds.
    pub took_ms: u64,
    /// Whether it had been away.
    pub was_away: bool,
}

/// All links.
#[derive(Clone, Debug, Default)]
pub struct Handoff {
    links: BTreeMap<(NodeId, NodeId), Link>,
    drains: BTreeMap<NodeId, Drain>,
    /// Targets that came back and have not been drained since.
    back: BTreeSet<NodeId>,
}

#[derive(Clone, Debug, Default)]
struct Link {
    busy: bool,
    /// A page was handed over and there may be another, whatever the last heartbeat said.
    more: bool,
    /// Failures in a row.
    failures: u32,
    /// It rests until then.
    not_before_ms: u64,
}

/// What was handed over to a target so far.
#[derive(Clone, Debug)]
struct Drain {
    since_ms: u64,
    keys: u64,
}

impl Handoff {
    /// What to do now, when these nodes are up and owe this. `members` is all who may be owed to.
    pub fn next(
        &mut self,
        now_ms: u64,
        debts: &BTreeMap<NodeId, Vec<Debt>>,
        up: &BTreeSet<NodeId>,
        members: &BTreeSet<NodeId>,
    ) -> Vec<Step> {
        for (keeper, debt) in
            debts.iter().flat_map(|(keeper, owed)| owed.iter().map(move |d| (keeper, d)))
        {
            if debt.keys > 0 || !members.contains(&debt.to) {
                self.links.entry((keeper.clone(), debt.to.clone())).or_default();
            }
        }
        let both_up = |(keeper, target): &(NodeId, NodeId)| {
            up.contains(keeper) && (up.contains(target) || !members.contains(target))
        };
        self.links
            .retain(|link, state| state.busy || both_up(link) && (state.more || owes(debts, link)));
        self.drains.retain(|target, _| self.links.keys().any(|(_, to)| to == target));
        let mut busy = self.links.values().filter(|link| link.busy).count();
        let mut steps = Vec::new();
        for ((keeper, target), link) in &mut self.links {
            if link.busy || now_ms < link.not_before_ms || busy == PAGES_MAX {
                continue;
            }
            link.busy = true;
            busy += 1;
            let (keeper, target) = (keeper.clone(), target.clone());
            if members.contains(&target) {
                let drain = Drain { since_ms: now_ms, keys: 0 };
                self.drains.entry(target.clone()).or_insert(drain);
                steps.push(Step::Deliver { keeper, target });
            } else {
                steps.push(Step::Forgive { keeper, target });
            }
        }
        steps
    }

    /// A step has ended. Tells when the target has all that anybody owes it.
    pub fn ended(
        &mut self,
        now_ms: u64,
        keeper: &NodeId,
        target: &NodeId,
        outcome: Outcome,
    ) -> Option<Drained> {
        let name = (keeper.clone(), target.clone());
        let link = self.links.entry(name.clone()).or_default();
        link.busy = false;
        match outcome {
            Outcome::Failed => {
                let rest = REST_MS << link.failures.min(16);
                link.failures += 1;
                link.not_before_ms = now_ms + rest.min(REST_MS_MAX);
                return None;
            }
            Outcome::Delivered(keys) => {
                (link.failures, link.not_before_ms, link.more) = (0, now_ms, true);
                if let Some(drain) = self.drains.get_mut(target) {
                    drain.keys += keys;
                }
                return None;
            }
            Outcome::Empty => {}
        }
        self.links.remove(&name);
        if self.links.keys().any(|(_, other)| other == target) {
            return None;
        }
        let Drain { since_ms, keys } = self.drains.remove(target)?;
        let was_away = keys > 0 && self.back.remove(target);
        let took_ms = now_ms - since_ms;
        (keys > 0).then(|| Drained { target: target.clone(), keys, took_ms, was_away })
    }

    /// A node was away and is back: its links rest no longer.
    pub fn is_back(&mut self, target: &NodeId) {
        self.back.insert(target.clone());
        for (_, link) in self.links.iter_mut().filter(|((_, to), _)| to == target) {
            (link.failures, link.not_before_ms) = (0, 0);
        }
    }
}

fn owes(debts: &BTreeMap<NodeId, Vec<Debt>>, (keeper, target): &(NodeId, NodeId)) -> bool {
    let owes = |debt: &Debt| debt.to == *target;
    debts.get(keeper).is_some_and(|owed| owed.iter().any(owes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(text: &str) -> BTreeSet<NodeId> {
        text.chars().map(|c| c.to_string().parse().unwrap()).collect()
    }

    fn id(name: char) -> NodeId {
        name.to_string().parse().unwrap()
    }

    /// Debts as keeper, target and number of keys: `ab5 ac0`.
    fn debts(text: &str) -> BTreeMap<NodeId, Vec<Debt>> {
        let mut debts: BTreeMap<NodeId, Vec<Debt>> = BTreeMap::new();
        for word in text.split_whitespace() {
            let mut letters = word.chars();
            let (keeper, to) = (id(letters.next().unwrap()), id(letters.next().unwrap()));
            let keys = letters.as_str().parse().unwrap();
            let debt = Debt { to, keys, bytes: keys, since_ms: 0, overflow: keys == 0 };
            debts.entry(keeper).or_default().push(debt);
        }
        debts
    }

    fn words(steps: &[Step]) -> String {
        let word = |step: &Step| match step {
            Step::Deliver { keeper, target } => format!("{keeper}{target}"),
            Step::Forgive { keeper, target } => format!("!{keeper}{target}"),
        };
        steps.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// Debts, who is up; the steps. Members are a, b and c.
    #[test]
    fn who_is_up_gets_what_it_is_owed() {
        let table = [
            ("", "abc", ""),
            ("ac5", "abc", "ac"),
            ("ac5", "ab", ""),
            ("ac5", "bc", ""),
            ("ac5 bc2", "abc", "ac bc"),
            ("ab1 ac5", "abc", "ab ac"),
            // Overflown, with no note left: anti-entropy's part.
            ("ac0", "abc", ""),
            ("ad5 bd0", "abc", "!ad !bd"),
        ];
        for (owed, up, expected) in table {
            let steps = Handoff::default().next(0, &debts(owed), &ids(up), &ids("abc"));
            assert_eq!(words(&steps), expected, "{owed:?} {up}");
        }
    }

    #[test]
    fn one_page_of_a_link_at_a_time_and_a_rest_after_a_failure() {
        let (mut handoff, owed, all) = (Handoff::default(), debts("ac5"), ids("abc"));
        let next = |handoff: &mut Handoff, now| words(&handoff.next(now, &owed, &all, &all));
        let (a, c) = (id('a'), id('c'));
        assert_eq!(next(&mut handoff, 0), "ac");
        assert_eq!(next(&mut handoff, 0), "");
        assert_eq!(handoff.ended(10, &a, &c, Outcome::Failed), None);
        assert_eq!((next(&mut handoff, 509), next(&mut handoff, 510)), ("".into(), "ac".into()));
        handoff.ended(600, &a, &c, Outcome::Failed);
        assert_eq!((next(&mut handoff, 1599), next(&mut handoff, 1600)), ("".into(), "ac".into()));
        handoff.ended(1600, &a, &c, Outcome::Failed);
        handoff.is_back(&c);
        assert_eq!(next(&mut handoff, 1601), "ac");
        assert_eq!(handoff.ended(1700, &a, &c, Outcome::Delivered(5)), None);
        assert_eq!(next(&mut handoff, 1700), "ac");
        let drained = Drained { target: c.clone(), keys: 5, took_ms: 1750, was_away: true };
        assert_eq!(handoff.ended(1750, &a, &c, Outcome::Empty), Some(drained));
        // The heartbeat is older than that: a page too much, and no word of it.
        assert_eq!(next(&mut handoff, 1751), "ac");
        assert_eq!(handoff.ended(1752, &a, &c, Outcome::Empty), None);
    }

    /// The heartbeat may know that all was struck off before the last page was asked for.
    #[test]
    fn the_end_is_told_whatever_the_heartbeat_knows() {
        let (mut handoff, all) = (Handoff::default(), ids("abc"));
        let (a, c) = (id('a'), id('c'));
        assert_eq!(words(&handoff.next(0, &debts("ac5"), &all, &all)), "ac");
        handoff.ended(1, &a, &c, Outcome::Delivered(5));
        assert_eq!(words(&handoff.next(2, &debts(""), &all, &all)), "ac");
        let drained = Drained { target: c.clone(), keys: 5, took_ms: 3, was_away: false };
        assert_eq!(handoff.ended(3, &a, &c, Outcome::Empty), Some(drained));
        assert_eq!(words(&handoff.next(4, &debts(""), &all, &all)), "");
    }

    #[test]
    fn a_target_is_drained_when_all_keepers_are_done() {
        let (mut handoff, owed, all) = (Handoff::default(), debts("ac5 bc2"), ids("abc"));
        assert_eq!(words(&handoff.next(0, &owed, &all, &all)), "ac bc");
        let (a, b, c) = (id('a'), id('b'), id('c'));
        handoff.ended(1, &a, &c, Outcome::Delivered(5));
        handoff.ended(2, &b, &c, Outcome::Delivered(2));
        assert_eq!(words(&handoff.next(2, &owed, &all, &all)), "ac bc");
        assert_eq!(handoff.ended(3, &a, &c, Outcome::Empty), None);
        let drained = Drained { target: c.clone(), keys: 7, took_ms: 4, was_away: false };
        assert_eq!(handoff.ended(4, &b, &c, Outcome::Empty), Some(drained));
    }

    proptest! {
        /// Whatever fails on the way, no link is busy twice, the bound holds, and in the end all is drained once
        /// failures stop.
        #[test]
        fn all_is_handed_over_once_failures_stop(
            owed in proptest::collection::vec((0usize..6, 0usize..6, 1u64..9), 0..20),
            failures in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let name = |i: usize| id(char::from(b'a' + u8::try_from(i).unwrap()));
            let mut left: BTreeMap<(NodeId, NodeId), u64> = owed
                .into_iter()
                .filter(|(keeper, target, _)| keeper != target)
                .map(|(keeper, target, keys)| ((name(keeper), name(target)), keys))
                .collect();
            let total: u64 = left.values().sum();
            let all = ids("abcdef");
            let (mut handoff, mut failures) = (Handoff::default(), failures.into_iter());
            let (mut under_way, mut told) = (Vec::new(), 0);
            for now_ms in (0..).step_by(100).take(20_000) {
                let mut debts: BTreeMap<NodeId, Vec<Debt>> = BTreeMap::new();
                for ((keeper, to), keys) in left.iter().filter(|(_, keys)| **keys > 0) {
                    let debt = Debt { to: to.clone(), keys: *keys, bytes: 0, since_ms: 0, overflow: false };
                    debts.entry(keeper.clone()).or_default().push(debt);
                }
                under_way.extend(handoff.next(now_ms, &debts, &all, &all));
                prop_assert!(under_way.len() <= PAGES_MAX);
                let distinct: BTreeSet<String> = under_way.iter().map(|s| words(std::slice::from_ref(s))).collect();
                prop_assert_eq!(distinct.len(), under_way.len());
                let Some(Step::Deliver { keeper, target }) = under_way.pop() else {
                    // All links rest, or all is done.
                    if debts.is_empty() { break }
                    continue;
                };
                let link = left.get_mut(&(keeper.clone(), target.clone())).unwrap();
                let outcome = match (failures.next(), *link) {
                    (Some(true), _) => Outcome::Failed,
                    (_, 0) => Outcome::Empty,
                    _ => { *link -= 1; Outcome::Delivered(1) }
                };
                told += handoff.ended(now_ms, &keeper, &target, outcome).map_or(0, |d| d.keys);
                if outcome == Outcome::Delivered(1) && *link == 0 {
                    told += handoff.ended(now_ms, &keeper, &target, Outcome::Empty).map_or(0, |d| d.keys);
                }
            }
            prop_assert!(left.values().all(|keys| *keys == 0));
            prop_assert_eq!(told, total);
        }
    }
}
