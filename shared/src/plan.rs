//! What a rebalance does with one key, and how it walks over all keys.
//!
//! [`Merge`] joins the sorted key pages of many nodes into one sorted walk that needs memory for
//! one page a node, however many keys there are. [`decide`] looks at who holds which version of
//! a key and who should, and says what to copy and what to drop.
//!
//! Invariants: a copy carries its version, so it can only ever lose to newer data; a copy is
//! dropped only where the node is no owner, and only when every owner holds a version at least
//! as new.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::node::Record;
use crate::{Blob, NodeId, Version};

/// Who holds a key, at which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The node.
    pub node: NodeId,
    /// The version it has.
    pub version: Version,
}

/// What to do with one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The newest version anybody holds.
    pub version: Version,
    /// A node to copy it from: the first owner that has it, else whoever has.
    pub from: Option<NodeId>,
    /// Owners that lack it.
    pub copy_to: Vec<NodeId>,
    /// Nodes that hold the key and are no owners, with the version to drop there.
    pub drop_at: Vec<Holding>,
}

/// Decides for one key held as `holdings`, owned by `owners`.
#[must_use]
pub fn decide(holdings: &[Holding], owners: &[NodeId]) -> Decision {
    let Some(version) = holdings.iter().map(|h| h.version).max() else {
        return Decision::default();
    };
    let has = |node: &NodeId| holdings.iter().any(|h| h.node == *node && h.version == version);
    let newest = || holdings.iter().filter(|h| h.version == version).map(|h| h.node.clone());
    let from = owners.iter().find(|node| has(node)).cloned().or_else(|| newest().next());
    Decision {
        version,
        from,
        copy_to: owners.iter().filter(|node| !has(node)).cloned().collect(),
        drop_at: holdings.iter().filter(|h| !owners.contains(&h.node)).cloned().collect(),
    }
}

/// A sorted walk over the keys of many nodes.
#[derive(Debug, Default)]
pub struct Merge {
    sources: BTreeMap<NodeId, Source>,
}

#[derive(Debug, Default)]
struct Source {
    page: VecDeque<Record>,
    /// Where the next page starts; `None` with `ended` false before the first.
    after: Option<Blob>,
    ended: bool,
}

impl Merge {
    /// A walk over the keys of `nodes`.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self { sources: nodes.into_iter().map(|node| (node, Source::default())).collect() }
    }

    /// The nodes whose next page is needed before the walk can go on, with where it starts.
    #[must_use]
    pub fn wanted(&self) -> Vec<(NodeId, Option<Blob>)> {
        let empty = |source: &&Source| source.page.is_empty() && !source.ended;
        let wanted = self.sources.iter().filter(|(_, source)| empty(source));
        wanted.map(|(node, source)| (node.clone(), source.after.clone())).collect()
    }

    /// Gives the next page of a node: its records in key order, and where the one after starts.
    pub fn feed(&mut self, node: &NodeId, items: Vec<Record>, next: Option<Blob>) {
        if let Some(source) = self.sources.get_mut(node) {
            source.page = items.into();
            source.ended = next.is_none();
            source.after = next;
        }
    }

    /// The next key with each node's record of it; `None` when all is walked, or when a page is
    /// wanted first.
    pub fn next_key(&mut self) -> Option<Vec<(NodeId, Record)>> {
        if !self.wanted().is_empty() {
            return None;
        }
        let least = self.sources.values().filter_map(|s| s.page.front()).map(|r| &r.key).min()?;
        let least = least.clone();
        let mut group = Vec::new();
        for (node, source) in &mut self.sources {
            if source.page.front().is_some_and(|record| record.key == least) {
                group.extend(source.page.pop_front().map(|record| (node.clone(), record)));
            }
        }
        Some(group)
    }

    /// Whether every node's last page was walked.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.sources.values().all(|source| source.ended && source.page.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(text: &str) -> Vec<NodeId> {
        text.chars().map(|c| c.to_string().parse().unwrap()).collect()
    }

    /// Holdings as `a2b1` (node, counter), owners, then copies and drops.
    #[test]
    fn decisions() {
        let table = [
            ("a1b1", "ab", "from a", "copy", "drop"),
            ("a1", "ab", "from a", "copy b", "drop"),
            ("a1b2", "ab", "from b", "copy a", "drop"),
            ("a1b1", "bc", "from b", "copy c", "drop a1"),
            ("a1", "b", "from a", "copy b", "drop a1"),
            ("a2b1", "b", "from a", "copy b", "drop a2"),
            ("a1b1c1", "ab", "from a", "copy", "drop c1"),
            ("", "ab", "from", "copy", "drop"),
        ];
        for (held, owners, from, copy, dropped) in table {
            let held: Vec<char> = held.chars().collect();
            let holdings: Vec<Holding> = held
                .chunks(2)
                .map(|pair| Holding {
                    node: pair[0].to_string().parse().unwrap(),
                    version: Version::new(1, u64::from(pair[1].to_digit(10).unwrap())),
                })
                .collect();
            let decision = decide(&holdings, &ids(owners));
            let words = |head: &str, rest: Vec<String>| {
                std::iter::once(head.to_owned()).chain(rest).collect::<Vec<_>>().join(" ")
            };
            let text = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
            let drops = decision.drop_at.iter().map(|h| format!("{}{}", h.node, h.version.counter));
            let got = (
                words("from", text(&Vec::from_iter(decision.from.clone()))),
                words("copy", text(&decision.copy_to)),
                words("drop", drops.collect()),
            );
            assert_eq!(got, (from.into(), copy.into(), dropped.into()), "{held:?} {owners}");
        }
    }

    proptest! {
        /// Whatever the page size, the walk sees every key once, in order, with all its holders.
        #[test]
        fn the_walk_sees_everything_once(
            a in proptest::collection::btree_set(0u8..40, 0..30),
            b in proptest::collection::btree_set(0u8..40, 0..30),
            page in 1usize..7,
        ) {
            let nodes = ids("ab");
            let held: BTreeMap<NodeId, Vec<u8>> = [
                (nodes[0].clone(), a.iter().copied().collect()),
                (nodes[1].clone(), b.iter().copied().collect()),
            ].into();
            let mut merge = Merge::new(nodes.clone());
            let mut seen = Vec::new();
            while !merge.ended() {
                for (node, after) in merge.wanted() {
                    let rest: Vec<u8> = held[&node].iter().copied()
                        .filter(|key| after.as_ref().is_none_or(|a| *key > a.as_bytes()[0])).collect();
                    let items: Vec<Record> = rest.iter().take(page).map(|key| Record {
                        key: vec![*key].into(), value: None, deleted: false, version: Version::new(1, 1), expires: None,
                    }).collect();
                    let next = (rest.len() > page).then(|| vec![rest[page - 1]].into());
                    merge.feed(&node, items, next);
                }
                while let Some(group) = merge.next_key() {
                    seen.push((group[0].1.key.as_bytes()[0], group.len()));
                }
            }
            let expected: Vec<(u8, usize)> = a.union(&b)
                .map(|key| (*key, usize::from(a.contains(key)) + usize::from(b.contains(key)))).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
