//! Whose each leaf is.

use crate::NodeId;
use crate::merkle::{LEAVES, leaves_of, positions_of};
use crate::ring::Ring;

/// The owners of every leaf, on one ring with one number of copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// Each set of owners once, its members in id order.
    sets: Vec<Vec<NodeId>>,
    /// Of each leaf, which set; `None`: a token cuts it, so that it belongs to more than one.
    of: Vec<Option<u32>>,
}

impl Leaves {
    /// Looks at every leaf: a few milliseconds for each thousand tokens.
    #[must_use]
    pub fn new(ring: &Ring, n: usize) -> Self {
        let mut leaves = Self { sets: Vec::new(), of: Vec::with_capacity(LEAVES) };
        let tokens: Vec<u64> = ring.tokens().map(|(token, _)| token).collect();
        // Of the position just looked at; what is between two tokens is alike.
        let mut set = leaves.set_at(ring, 0, n);
        let mut next = 0;
        for leaf in 0..=u16::MAX {
            let last = *positions_of(leaf).end();
            let first_set = set;
            let mut cut = false;
            while let Some(token) = tokens.get(next).filter(|token| **token <= last) {
                next += 1;
                set = leaves.set_at(ring, token.wrapping_add(1), n);
                // A token at the very end cuts nothing off.
                cut |= *token < last && set != first_set;
            }
            leaves.of.push((!cut).then_some(first_set));
        }
        leaves
    }

    fn set_at(&mut self, ring: &Ring, position: u64, n: usize) -> u32 {
        let mut owners = ring.owners_at(position, n);
        owners.sort_unstable();
        let known = self.sets.iter().rposition(|set| *set == owners);
        let index = known.unwrap_or_else(|| {
            self.sets.push(owners);
            self.sets.len() - 1
        });
        u32::try_from(index).expect("fewer sets than tokens")
    }

    /// The owners of all keys in a leaf, in id order; `None` if a token cuts it.
    #[must_use]
    pub fn owners(&self, leaf: u16) -> Option<&[NodeId]> {
        self.of[usize::from(leaf)].map(|set| &self.sets[set as usize][..])
    }

    /// The owners of all keys in a part, in id order; `None` if its leaves have different ones.
    #[must_use]
    pub fn part_owners(&self, part: u8) -> Option<&[NodeId]> {
        let first = self.owners(*leaves_of(part).start())?;
        leaves_of(part).all(|leaf| self.owners(leaf) == Some(first)).then_some(first)
    }

    /// How many leaves are cut.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.of.iter().filter(|set| set.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(vnodes: u32, nodes: usize) -> Ring {
        Ring::new(vnodes, (1..=nodes).map(|i| (format!("n{i}").parse().unwrap(), 1)))
    }

    fn sorted(ring: &Ring, position: u64, n: usize) -> Vec<NodeId> {
        let mut owners = ring.owners_at(position, n);
        owners.sort_unstable();
        owners
    }

    #[test]
    fn tokens_cut_leaves_unless_all_own_all() {
        let table =
            [(256, 3, 3, 0..=0), (256, 1, 1, 0..=0), (256, 3, 2, 200..=768), (4, 3, 1, 5..=12)];
        for (vnodes, nodes, n, cut) in table {
            let leaves = Leaves::new(&ring(vnodes, nodes), n);
            assert!(cut.contains(&leaves.cut()), "{vnodes} {nodes} {n}: {}", leaves.cut());
        }
        let all = Leaves::new(&ring(256, 3), 3);
        assert!((0..=u8::MAX).all(|part| all.part_owners(part).is_some_and(|o| o.len() == 3)));
        let some = Leaves::new(&ring(256, 3), 1);
        assert!((0..=u8::MAX).any(|part| some.part_owners(part).is_none()));
        assert_eq!(Leaves::new(&Ring::empty(8), 3).owners(7), Some(&[][..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// A leaf that is not cut has the owners of each of its positions; one that is cut has two
        /// positions next to each other with different ones.
        #[test]
        fn owners_are_those_of_every_position(vnodes in 1u32..40, nodes in 1usize..6, n in 1usize..4, inside: u64) {
            let ring = ring(vnodes, nodes);
            let leaves = Leaves::new(&ring, n);
            for leaf in 0..=u16::MAX {
                let (first, last) = (*positions_of(leaf).start(), *positions_of(leaf).end());
                let some = first + (inside >> 16);
                match leaves.owners(leaf) {
                    Some(owners) => {
                        for position in [first, some, last] {
                            prop_assert_eq!(owners, &sorted(&ring, position, n)[..]);
                        }
                    }
                    None => {
                        let mut within = ring.tokens().map(|(t, _)| t).filter(|t| (first..last).contains(t));
                        prop_assert!(within.any(|t| sorted(&ring, t + 1, n) != sorted(&ring, first, n)));
                    }
                }
            }
        }
    }
}
