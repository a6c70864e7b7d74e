//! What two replicas differ in, found by comparing few numbers: a tree of digests over the ring.
//!
//! ```text
//!   the whole ring                        ∑            1 digest
//!   16 parts                    ∑ ∑ ∑ … ∑              each sums up its 16 parts
//!   256, 4096                  …
//!   65 536 leaves       ∑ ∑ ∑ ∑ ∑ ∑ … ∑ ∑ ∑           each sums up what is held at its positions
//! ```
//!
//! A leaf is an arc of 2^48 positions; its digest is the sum of the hashes of all that is held there,
//! so that one change costs one subtraction and one addition on each of five levels, and the order of
//! changes does not matter. Two replicas that hold the same have the same tree; where they differ,
//! the digests on the way from the root to that leaf differ, and no others need to be looked at.
//!
//! # Caveats
//!
//! Equal sums of different contents have a chance of 1 in 2^64 each, by accident; who can choose
//! keys and values can make them. An arc of the ring that begins or ends within a leaf cannot be told
//! from its neighbour by this tree.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Levels below the root.
const LEVELS: u32 = 4;
/// How many parts a digest sums up, as a power of two.
const PARTS_BITS: u32 = 4;
/// Leaves of the tree.
pub const LEAVES: usize = 1 << (LEVELS * PARTS_BITS);

/// A digest of the tree: `index` of its level, from the start of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// 0 is the whole ring, [`Part::is_leaf`] the lowest.
    pub level: u32,
    /// Less than 16 to the power of the level.
    pub index: usize,
}

impl Part {
    /// The whole ring.
    pub const ROOT: Self = Self { level: 0, index: 0 };

    /// Whether it sums up no other digests.
    #[must_use]
    pub const fn is_leaf(self) -> bool {
        self.level == LEVELS
    }

    /// What it sums up; nothing for a leaf.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let count = if self.is_leaf() { 0 } else { 1 << PARTS_BITS };
        let first = self.index << PARTS_BITS;
        (first..first + count).map(move |index| Self { level: self.level + 1, index })
    }

    /// The part of this level that a ring position is in.
    #[must_use]
    pub fn of(position: u64, level: u32) -> Self {
        let bits = PARTS_BITS * level;
        let index = if bits == 0 { 0 } else { position >> (u64::BITS - bits) };
        Self { level, index: usize::try_from(index).expect("16 bits") }
    }

    /// The first and the last of its positions.
    #[must_use]
    pub fn positions(self) -> (u64, u64) {
        let width = u64::BITS - PARTS_BITS * self.level;
        if width == u64::BITS {
            return (0, u64::MAX);
        }
        let first = (self.index as u64) << width;
        (first, first | ((1 << width) - 1))
    }
}

/// The tree of one replica.
#[derive(Clone, Debug)]
pub struct Digests {
    /// The root's, then those of each level.
    levels: Vec<Vec<u64>>,
}

impl Default for Digests {
    fn default() -> Self {
        let levels = (0..=LEVELS).map(|level| vec![0; 1 << (PARTS_BITS * level)]).collect();
        Self { levels }
    }
}

impl Digests {
    /// The hash of one key with what is held for it.
    #[must_use]
    pub fn hash(key: &[u8], held: &[u8]) -> u64 {
        xxh3_64_with_seed(held, xxh3_64(key))
    }

    /// What is held at a position changes: the hash before and after; 0 for nothing.
    pub fn change(&mut self, position: u64, before: u64, after: u64) {
        let by = after.wrapping_sub(before);
        for (level, digests) in (0..).zip(&mut self.levels) {
            let digest = &mut digests[Part::of(position, level).index];
            *digest = digest.wrapping_add(by);
        }
    }

    /// The digest of a part; `None` if there is no such part.
    #[must_use]
    pub fn digest(&self, part: Part) -> Option<u64> {
        self.levels.get(usize::try_from(part.level).ok()?)?.get(part.index).copied()
    }

    /// The digests of what a part sums up: what travels in a comparison.
    #[must_use]
    pub fn below(&self, part: Part) -> Vec<u64> {
        part.parts().filter_map(|part| self.digest(part)).collect()
    }
}

/// A comparison of two trees under way, level by level: tells what to ask next, and in the end which
/// leaves differ.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Parts that differ and are no leaves, to be asked for.
    open: Vec<Part>,
    /// Leaves that differ.
    different: Vec<Part>,
}

impl Comparison {
    /// Begins with the roots.
    #[must_use]
    pub fn new(mine: &Digests, root_of_other: u64) -> Self {
        let differs = mine.digest(Part::ROOT) != Some(root_of_other);
        Self { open: if differs { vec![Part::ROOT] } else { Vec::new() }, different: Vec::new() }
    }

    /// Up to `max` parts whose [`Digests::below`] the other replica is to be asked for; none at the end.
    #[must_use]
    pub fn ask(&self, max: usize) -> &[Part] {
        &self.open[..self.open.len().min(max)]
    }

    /// The other's answer for the first part asked for.
    pub fn answer(&mut self, mine: &Digests, below: &[u64]) {
        if self.open.is_empty() {
            return;
        }
        let part = self.open.remove(0);
        for (part, theirs) in part.parts().zip(below) {
            if mine.digest(part) != Some(*theirs) {
                let list = if part.is_leaf() { &mut self.different } else { &mut self.open };
                list.push(part);
            }
        }
    }

    /// The leaves that differ, as far as is known.
    #[must_use]
    pub fn different(&self) -> &[Part] {
        &self.different
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::key_position;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn digests(held: &BTreeMap<u16, u8>) -> Digests {
        let mut digests = Digests::default();
        for (key, value) in held {
            let key = key.to_be_bytes();
            digests.change(key_position(&key), 0, Digests::hash(&key, &[*value]));
        }
        digests
    }

    fn compare(one: &Digests, other: &Digests) -> (BTreeSet<Part>, usize) {
        let mut comparison = Comparison::new(one, other.digest(Part::ROOT).unwrap());
        let mut asked = 0;
        while let Some(part) = comparison.ask(1).first().copied() {
            comparison.answer(one, &other.below(part));
            asked += 1;
        }
        (comparison.different().iter().copied().collect(), asked)
    }

    #[test]
    fn parts_cover_the_ring() {
        assert_eq!(Part::ROOT.positions(), (0, u64::MAX));
        let parts: Vec<Part> = Part::ROOT.parts().collect();
        assert_eq!(parts[0].positions().0, 0);
        assert_eq!(parts[15].positions().1, u64::MAX);
        assert!(parts.windows(2).all(|two| two[0].positions().1 + 1 == two[1].positions().0));
        let leaf = Part::of(u64::MAX, LEVELS);
        assert!(leaf.is_leaf() && leaf.index == LEAVES - 1 && leaf.parts().next().is_none());
    }

    #[test]
    fn one_difference_costs_one_question_a_level() {
        let mut held: BTreeMap<u16, u8> = (0..5000).map(|key| (key, 0)).collect();
        let one = digests(&held);
        held.insert(77, 1);
        let (different, asked) = compare(&one, &digests(&held));
        let leaf = Part::of(key_position(&77_u16.to_be_bytes()), LEVELS);
        assert_eq!((different, asked), (BTreeSet::from([leaf]), 4));
    }

    proptest! {
        #[test]
        fn exactly_the_leaves_that_differ_are_found(
            one in proptest::collection::btree_map(0..300_u16, 0..3_u8, 0..200),
            other in proptest::collection::btree_map(0..300_u16, 0..3_u8, 0..200),
        ) {
            let keys: BTreeSet<u16> = one.keys().chain(other.keys()).copied().collect();
            let differing = keys.iter().filter(|key| one.get(key) != other.get(key));
            let expected: BTreeSet<Part> =
                differing.map(|key| Part::of(key_position(&key.to_be_bytes()), LEVELS)).collect();
            prop_assert_eq!(compare(&digests(&one), &digests(&other)).0, expected);
        }

        #[test]
        fn changes_in_any_order_give_the_same_tree(
            held in proptest::collection::btree_map(0..50_u16, 0..3_u8, 1..40),
            gone in proptest::collection::btree_map(50..99_u16, 0..3_u8, 0..40),
        ) {
            let mut digests = digests(&gone);
            for (key, value) in &held {
                let key = key.to_be_bytes();
                digests.change(key_position(&key), 0, Digests::hash(&key, &[*value]));
            }
            for (key, value) in &gone {
                let key = key.to_be_bytes();
                digests.change(key_position(&key), Digests::hash(&key, &[*value]), 0);
            }
            prop_assert_eq!(digests.levels, super::tests::digests(&held).levels);
        }
    }
}
