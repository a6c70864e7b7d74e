//! Whose each leaf is.

use std::collections::BTreeMap;

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
    /// Looks at every leaf and every token: tens of milliseconds for a thousand nodes.
    #[must_use]
    pub fn new(ring: &Ring, n: usize) -> Self {
        let mut leaves = Self { sets: Vec::new(), of: Vec::with_capacity(LEAVES) };
        let mut known = BTreeMap::new();
        let mut tokens = ring.tokens().map(|(token, _)| token).peekable();
        // Of the position just looked at, with its number once it is known; what is between two tokens is alike.
        let (mut set, mut number) = (set_at(ring, 0, n), None);
        for leaf in 0..=u16::MAX {
            let last = *positions_of(leaf).end();
            let first = *number.get_or_insert_with(|| leaves.number(ring, &mut known, &set));
            let mut cut = false;
            while let Some(token) = tokens.next_if(|token| *token <= last) {
                let next = set_at(ring, token.wrapping_add(1), n);
                if next != set {
                    (set, number) = (next, None);
                    // A token at the very end cuts nothing off.
                    cut |= token < last;
                }
            }
            leaves.of.push((!cut).then_some(first));
        }
        leaves
    }

    /// The number of a set of members.
    fn number(&mut self, ring: &Ring, known: &mut BTreeMap<Vec<u16>, u32>, set: &[u16]) -> u32 {
        if let Some(number) = known.get(set) {
            return *number;
        }
        let number = u32::try_from(self.sets.len()).expect("fewer sets than leaves");
        known.insert(set.to_vec(), number);
        self.sets.push(set.iter().map(|member| ring.ids()[usize::from(*member)].clone()).collect());
        number
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

/// The owners of a position as the ring numbers its members, ascending: so in id order.
fn set_at(ring: &Ring, position: u64, n: usize) -> Vec<u16> {
    let mut owners = ring.preferred(position, n).numbers().to_vec();
    owners.sort_unstable();
    owners
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
