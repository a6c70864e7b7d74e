//! The ring cut into arcs by what becomes of their keys, when one placement follows another.
//!
//! All keys of a *sort* have the same owners now and the same then, and whoever copies them to new owners takes them
//! from the same one. So what is to be done with them is decided once, and how many there are is counted where
//! they are.

use std::collections::BTreeMap;

use super::Placement;
use crate::arcs::{ARCS_MAX, Arcs};
use crate::{KeyspaceName, NodeId};

/// What the keys of a sort have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sort {
    /// The owners now, in id order.
    pub now: Vec<NodeId>,
    /// The owners then: first who copies come from, if one of now stays, then in id order.
    pub then: Vec<NodeId>,
}

/// All sorts of a keyspace, and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorts {
    /// The arcs; the first of `sorts` is sort 1 there.
    pub arcs: Arcs,
    /// The sorts.
    pub sorts: Vec<Sort>,
}

impl Sorts {
    /// What becomes of each part of the ring; `None` if the arcs are too many.
    #[must_use]
    pub fn between(now: &Placement, then: &Placement, keyspace: &KeyspaceName) -> Option<Self> {
        let tokens = |placement: &Placement| -> Vec<u64> {
            placement.ring.tokens().map(|(token, _)| token).collect()
        };
        let mut ends = [tokens(now), tokens(then), vec![u64::MAX]].concat();
        ends.sort_unstable();
        ends.dedup();
        if ends.len() > ARCS_MAX {
            return None;
        }
        let (mut known, mut sorts) = (BTreeMap::new(), Vec::new());
        let mut numbered = Vec::with_capacity(ends.len());
        for end in ends {
            let sort = Sort::at(now, then, keyspace, end);
            let next = u16::try_from(sorts.len() + 1).ok()?;
            let number = *known.entry(sort).or_insert_with_key(|sort: &Sort| {
                sorts.push(sort.clone());
                next
            });
            numbered.push((end, number));
        }
        Some(Self { arcs: Arcs::new(numbered), sorts })
    }
}

impl Sort {
    fn at(now: &Placement, then: &Placement, keyspace: &KeyspaceName, position: u64) -> Self {
        let mut before = now.preferred(keyspace, position).to_vec();
        let after = then.preferred(keyspace, position).to_vec();
        before.sort_unstable();
        let source = after.iter().find(|node| before.contains(node)).cloned();
        let mut then = after;
        then.sort_unstable();
        // Only where something is to be copied it matters from whom.
        if let Some(source) = source.filter(|_| then.iter().any(|node| !before.contains(node))) {
            then.retain(|node| *node != source);
            then.insert(0, source);
        }
        Self { now: before, then }
    }

    /// From whom copies are made: an owner of now, one that stays if there is one.
    #[must_use]
    pub fn source(&self) -> Option<&NodeId> {
        self.then.first().filter(|node| self.now.contains(node)).or(self.now.first())
    }

    /// Whether it is copied from one node to another, where that has nothing of it.
    #[must_use]
    pub fn goes(&self, from: &NodeId, to: &NodeId) -> bool {
        self.source() == Some(from) && self.then.contains(to) && !self.now.contains(to)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ring::{Ring, key_position};

    proptest! {
        #[test]
        fn a_key_is_of_the_sort_of_its_owners(
            nodes in 1usize..6, then in 1usize..6, n in 1usize..4, n_then in 1usize..4,
        ) {
            let ring = |nodes: usize| Ring::new(8, (0..nodes).map(|i| (format!("n{i}").parse().unwrap(), 1)));
            let (now, then) = (Placement::new(ring(nodes), n), Placement::new(ring(then), n_then));
            let space = KeyspaceName::default();
            let Sorts { arcs, sorts } = Sorts::between(&now, &then, &space).unwrap();
            let distinct: BTreeSet<&Sort> = sorts.iter().collect();
            prop_assert_eq!(distinct.len(), sorts.len());
            let set = |nodes: &[NodeId]| nodes.iter().cloned().collect::<BTreeSet<_>>();
            for key in 0..200u16 {
                let key = key.to_be_bytes();
                let sort = &sorts[usize::from(arcs.sort_of(key_position(&key))) - 1];
                let (before, after) = (now.owners(&space, &key), then.owners(&space, &key));
                prop_assert_eq!((set(&sort.now), set(&sort.then)), (set(&before), set(&after)));
                let source = after.iter().find(|node| before.contains(node));
                if source.is_some() && after.iter().any(|node| !before.contains(node)) {
                    prop_assert_eq!(sort.then.first(), source);
                }
                let from = sort.source().expect("it has owners now");
                prop_assert!(before.contains(from) && source.is_none_or(|_| after.contains(from)));
                let goes: BTreeSet<_> = after.iter().filter(|to| sort.goes(from, to)).collect();
                let new: BTreeSet<_> = after.iter().filter(|to| !before.contains(to)).collect();
                prop_assert_eq!(goes, new);
            }
        }
    }
}
