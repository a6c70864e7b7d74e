//! Where replicas differ: a comparison of digests that remembers what it found alike.
//!
//! A round asks every member for the digests of all parts, then of the leaves of those parts that are not as
//! they were when they were last found in sync, part by part, the one whose turn is longest ago first.
//!
//! ```text
//!   parts     as when they were found in sync, or empty,
//!             or of one set of owners and alike  verified now
//!   leaves    all owners alike, others nothing   in sync
//!             cut by a token, as when walked     in sync
//!             else                               walk: compare the records of all keys
//! ```
//!
//! # Caveats
//!
//! It is of one keyspace on one ring; when the ring or N changes, a new one knows nothing yet. While a
//! member does not answer the others are compared, but nothing counts as verified.

use std::collections::BTreeMap;

use super::leaves::Leaves;
use crate::NodeId;
use crate::merkle::{Digest, PARTS, leaves_of, part_of};

/// What each node answered: its digests in order, 256 of them.
pub type Answers = BTreeMap<NodeId, Vec<Digest>>;

/// The comparison of one keyspace.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Whose digests count, in id order.
    members: Vec<NodeId>,
    leaves: Leaves,
    /// Whether a member that is no owner may hold something: while a change of the ring is pending.
    strays_allowed: bool,
    parts: Vec<Part>,
    /// The digests with which a cut leaf was walked and found in sync.
    walked: BTreeMap<u16, Vec<Digest>>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    /// The digests with which it was found in sync last, of each member.
    in_sync: Option<Vec<Digest>>,
    /// When it was known to be in sync last, by the clock of the caller, in milliseconds.
    verified_ms: Option<u64>,
    /// Whether its tombstones were looked through since its digests are what they are.
    swept: bool,
}

/// What the leaves of a part were found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The owners are alike and others have nothing: each with its digest. Leaves with nothing in them are
    /// left out.
    pub alike: Vec<(u16, Digest)>,
    /// Cut leaves that are as they were when they were walked.
    pub as_walked: usize,
    /// The records of these have to be compared.
    pub walk: Vec<u16>,
}

impl Audit {
    /// Of a keyspace whose leaves are these. `strays_allowed` while a change of the ring is pending.
    #[must_use]
    pub fn new(
        members: impl IntoIterator<Item = NodeId>,
        leaves: Leaves,
        strays_allowed: bool,
    ) -> Self {
        let mut members: Vec<NodeId> = members.into_iter().collect();
        members.sort_unstable();
        let parts = vec![Part::default(); PARTS];
        Self { members, leaves, strays_allowed, parts, walked: BTreeMap::new() }
    }

    /// Whose each leaf is.
    #[must_use]
    pub fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// The parts to look into, the one whose turn is longest ago first; the others are as they were
    /// when they were found in sync, so they are verified `now_ms` if every member has answered.
    pub fn parts(&mut self, now_ms: u64, answers: &Answers) -> Vec<u8> {
        let complete = self.is_complete(answers);
        let mut rest = Vec::new();
        for (part, index) in (0..=u8::MAX).zip(0..) {
            if complete && self.is_alike(part, answers) {
                let tuple = self.tuple(answers, index);
                self.found_in_sync(part, tuple, now_ms);
            } else if !self.is_as_in_sync(index, answers) {
                rest.push(part);
            } else if complete {
                self.parts[index].verified_ms = Some(now_ms);
            }
        }
        rest.sort_by_key(|part| (self.parts[usize::from(*part)].verified_ms, *part));
        rest
    }

    /// Whether nobody has anything in a part; or all its leaves have the same owners, these are alike, and
    /// others have nothing: then the sums tell it.
    fn is_alike(&self, part: u8, answers: &Answers) -> bool {
        let index = usize::from(part);
        if self.tuple(answers, index).iter().all(|digest| digest.0 == 0) {
            return true;
        }
        let owners = self.leaves.part_owners(part);
        owners.is_some_and(|owners| self.alike(owners, index, answers).is_some())
    }

    /// Whether those who answered hold what they held when the part was found in sync.
    fn is_as_in_sync(&self, index: usize, answers: &Answers) -> bool {
        let Some(in_sync) = &self.parts[index].in_sync else { return false };
        let as_then = |(member, then): (&NodeId, &Digest)| {
            answers.get(member).is_none_or(|digests| digest(digests, index) == *then)
        };
        self.members.iter().zip(in_sync).all(as_then)
    }

    /// What the leaves of a part are, by the digests of those who answered.
    #[must_use]
    pub fn look(&self, part: u8, answers: &Answers) -> Found {
        let mut found = Found::default();
        for (leaf, index) in leaves_of(part).zip(0..) {
            let tuple = self.tuple(answers, index);
            if tuple.iter().all(|digest| digest.0 == 0) {
                continue;
            }
            let owners = self.leaves.owners(leaf);
            match owners.and_then(|owners| self.alike(owners, index, answers)) {
                Some(digest) => found.alike.push((leaf, digest)),
                None if self.walked.get(&leaf) == Some(&tuple) && self.is_complete(answers) => {
                    found.as_walked += 1;
                }
                None => found.walk.push(leaf),
            }
        }
        found
    }

    /// The digest that all of these owners have, when nobody else has anything.
    fn alike(&self, owners: &[NodeId], index: usize, answers: &Answers) -> Option<Digest> {
        let (mine, others): (Vec<_>, Vec<_>) =
            answers.iter().partition(|(node, _)| owners.contains(node));
        let first = mine.first().map(|(_, digests)| digest(digests, index))?;
        let alike = mine.iter().all(|(_, digests)| digest(digests, index) == first);
        let strays = others.iter().any(|(_, digests)| digest(digests, index).0 != 0);
        (alike && (!strays || self.strays_allowed)).then_some(first)
    }

    /// A cut leaf was walked and found in sync, while these were the digests of its part.
    pub fn walked(&mut self, leaf: u16, answers: &Answers) {
        if self.leaves.owners(leaf).is_none() && self.is_complete(answers) {
            let tuple = self.tuple(answers, usize::from(leaf & 0xff));
            self.walked.insert(leaf, tuple);
        }
    }

    /// A part was found in sync, when these were the digests of its leaves. Nothing, if a member has
    /// not answered.
    pub fn in_sync(&mut self, part: u8, answers: &Answers, now_ms: u64) {
        if !self.is_complete(answers) {
            return;
        }
        let sum = |node: &NodeId| {
            let digests = answers[node].iter().fold(0, |sum: u64, leaf| sum.wrapping_add(leaf.0));
            Digest(digests)
        };
        let tuple: Vec<Digest> = self.members.iter().map(sum).collect();
        self.found_in_sync(part, tuple, now_ms);
    }

    fn found_in_sync(&mut self, part: u8, tuple: Vec<Digest>, now_ms: u64) {
        let state = &mut self.parts[usize::from(part)];
        state.swept &= state.in_sync.as_ref() == Some(&tuple);
        (state.in_sync, state.verified_ms) = (Some(tuple), Some(now_ms));
    }

    /// The parts in sync whose tombstones were not looked through since they changed.
    #[must_use]
    pub fn unswept(&self) -> Vec<u8> {
        let parts = (0..=u8::MAX).zip(&self.parts);
        let unswept = parts.filter(|(_, state)| state.in_sync.is_some() && !state.swept);
        unswept.map(|(part, _)| part).collect()
    }

    /// All tombstones of a part that can be collected are.
    pub fn swept(&mut self, part: u8) {
        self.parts[usize::from(part)].swept = true;
    }

    /// When the part was verified whose turn is longest ago; `None` while one never was.
    #[must_use]
    pub fn verified_ms(&self) -> Option<u64> {
        let least = self.parts.iter().map(|part| part.verified_ms).min();
        least.flatten()
    }

    /// Whether every part was verified at or after this time.
    #[must_use]
    pub fn is_verified_since(&self, ms: u64) -> bool {
        self.verified_ms().is_some_and(|verified| verified >= ms)
    }

    /// Whether every member has answered.
    #[must_use]
    pub fn is_complete(&self, answers: &Answers) -> bool {
        self.members.iter().all(|member| answers.contains_key(member))
    }

    /// The part of a leaf is no longer known to be in sync.
    pub fn doubt(&mut self, leaf: u16) {
        self.walked.remove(&leaf);
        self.parts[usize::from(part_of(leaf))].in_sync = None;
    }

    fn tuple(&self, answers: &Answers, index: usize) -> Vec<Digest> {
        let digests = |node| answers.get(node).map_or(Digest(0), |digests| digest(digests, index));
        self.members.iter().map(digests).collect()
    }
}

fn digest(digests: &[Digest], index: usize) -> Digest {
    digests.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use proptest::prelude::*;

    fn ids(nodes: usize) -> Vec<NodeId> {
        (1..=nodes).map(|i| format!("n{i}").parse().unwrap()).collect()
    }

    fn audit(nodes: usize, n: usize, strays: bool) -> Audit {
        let ring = Ring::new(8, ids(nodes).into_iter().map(|id| (id, 1)));
        Audit::new(ids(nodes), Leaves::new(&ring, n), strays)
    }

    /// Digests of a part of which only one leaf holds anything: of each node that answers.
    fn answers(at: u16, digests: &[(usize, u64)]) -> Answers {
        let of = |digest: u64| {
            let mut all = vec![Digest(0); 256];
            all[usize::from(at & 0xff)] = Digest(digest);
            all
        };
        digests.iter().map(|(node, digest)| (ids(*node).pop().unwrap(), of(*digest))).collect()
    }

    /// Owners n1 and n2 (two nodes) or two of three; digests of each node; what a leaf is found to be.
    #[test]
    fn leaves_are_alike_or_are_walked() {
        let of_two = audit(2, 2, false);
        let found = |audit: &Audit, leaf: u16, digests: &[(usize, u64)]| {
            let Found { alike, walk, .. } = audit.look(part_of(leaf), &answers(leaf, digests));
            match (alike.len(), walk.len()) {
                (0, 0) => "nothing",
                (1, 0) => "alike",
                (0, 1) => "walk",
                _ => "both",
            }
        };
        assert_eq!(found(&of_two, 300, &[(1, 0), (2, 0)]), "nothing");
        assert_eq!(found(&of_two, 300, &[(1, 7), (2, 7)]), "alike");
        assert_eq!(found(&of_two, 300, &[(1, 7), (2, 8)]), "walk");
        assert_eq!(found(&of_two, 300, &[(1, 7), (2, 0)]), "walk");
        // One that does not answer is left out.
        assert_eq!(found(&of_two, 300, &[(1, 7)]), "alike");
        let (of_three, pending) = (audit(3, 2, false), audit(3, 2, true));
        let has =
            |node: usize| of_three.leaves.owners(300).unwrap().contains(&ids(node).pop().unwrap());
        let (mine, other): (Vec<_>, Vec<_>) = (1..=3).partition(|node| has(*node));
        let (a, b, c) = (mine[0], mine[1], other[0]);
        assert_eq!(found(&of_three, 300, &[(a, 7), (b, 7), (c, 0)]), "alike");
        assert_eq!(found(&of_three, 300, &[(a, 7), (b, 7), (c, 7)]), "walk");
        assert_eq!(found(&of_three, 300, &[(a, 0), (b, 0), (c, 7)]), "walk");
        assert_eq!(found(&pending, 300, &[(a, 7), (b, 7), (c, 9)]), "alike");
        assert_eq!(found(&pending, 300, &[(a, 7), (b, 8), (c, 9)]), "walk");
    }

    #[test]
    fn a_cut_leaf_is_walked_once_for_each_change() {
        let mut audit = audit(3, 2, false);
        let leaf = (0..=u16::MAX).find(|leaf| audit.leaves.owners(*leaf).is_none()).unwrap();
        let (before, after) =
            (answers(leaf, &[(1, 3), (2, 4), (3, 5)]), answers(leaf, &[(1, 3), (2, 4), (3, 6)]));
        assert_eq!(audit.look(part_of(leaf), &before).walk, [leaf]);
        audit.walked(leaf, &before);
        assert_eq!(audit.look(part_of(leaf), &before), Found { as_walked: 1, ..Found::default() });
        assert_eq!(audit.look(part_of(leaf), &after).walk, [leaf]);
        audit.doubt(leaf);
        assert_eq!(audit.look(part_of(leaf), &before).walk, [leaf]);
    }

    #[test]
    fn what_has_not_changed_is_verified_without_a_look() {
        let mut audit = audit(2, 2, false);
        let all = answers(5, &[(1, 7), (2, 8)]);
        assert_eq!(audit.parts(10, &all), [5]);
        assert_eq!(audit.verified_ms(), None);
        // As after a walk: whatever the digests are, they are of replicas in sync.
        audit.in_sync(5, &all, 20);
        assert_eq!((audit.verified_ms(), audit.unswept().len()), (Some(10), 256));
        (0..=u8::MAX).for_each(|part| audit.swept(part));
        assert_eq!(audit.parts(500, &all), Vec::<u8>::new());
        assert!(audit.is_verified_since(500) && audit.unswept().is_empty());
        // One node has changed in part 5, and somebody does not answer.
        assert_eq!(audit.parts(600, &answers(5, &[(1, 7), (2, 9)])), [5]);
        assert_eq!(audit.verified_ms(), Some(500));
        assert_eq!(audit.parts(700, &answers(5, &[(1, 7)])), Vec::<u8>::new());
        assert_eq!(audit.parts(700, &answers(5, &[(1, 8)])), [5]);
        audit.in_sync(5, &answers(5, &[(1, 8)]), 700);
        assert_eq!(audit.verified_ms(), Some(500));
    }

    proptest! {
        /// A part counts as in sync while its digests are those with which it was found so, or alike.
        #[test]
        fn only_the_same_digests_are_in_sync(a in 0u64..3, b in 0u64..3, then_a in 0u64..3, then_b in 0u64..3) {
            let mut audit = audit(2, 2, false);
            audit.in_sync(0, &answers(0, &[(1, a), (2, b)]), 1);
            let rest = audit.parts(2, &answers(0, &[(1, then_a), (2, then_b)]));
            prop_assert_eq!(!rest.contains(&0), (a, b) == (then_a, then_b) || then_a == then_b);
        }
    }
}
