//! One sorted walk over the sorted key pages of many nodes.
//!
//! It needs memory for one page a node, however many keys there are. A page may come with the bytes of each record
//! (see [`DumpReply::sizes`](crate::protocol::node::DumpReply::sizes)); without, they are taken for 0.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::node::Record;
use crate::{Blob, NodeId};

/// A key of the walk as one node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The node.
    pub node: NodeId,
    /// What it holds, mostly without values.
    pub record: Record,
    /// Bytes of the key and all its values there.
    pub bytes: u64,
}

/// A sorted walk over the keys of many nodes.
#[derive(Debug, Default)]
pub struct Merge {
    sources: BTreeMap<NodeId, Source>,
}

#[derive(Debug, Default)]
struct Source {
    page: VecDeque<(Record, u64)>,
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

    /// Gives the next page of a node: its records in key order, the bytes of each or nothing, and where the page
    /// after it starts.
    pub fn feed(&mut self, node: &NodeId, items: Vec<Record>, sizes: &[u64], next: Option<Blob>) {
        if let Some(source) = self.sources.get_mut(node) {
            let sizes = sizes.iter().copied().chain(std::iter::repeat(0));
            source.page = items.into_iter().zip(sizes).collect();
            source.ended = next.is_none();
            source.after = next;
        }
    }

    /// The next key as each node holds it; `None` when all is walked, or when a page is wanted
    /// first.
    pub fn next_key(&mut self) -> Option<Vec<Found>> {
        if !self.wanted().is_empty() {
            return None;
        }
        let fronts = self.sources.values().filter_map(|source| source.page.front());
        let least = fronts.map(|(record, _)| &record.key).min()?.clone();
        let mut group = Vec::new();
        for (node, source) in &mut self.sources {
            if source.page.front().is_some_and(|(record, _)| record.key == least) {
                let found = source.page.pop_front();
                group.extend(found.map(|(record, bytes)| Found {
                    node: node.clone(),
                    record,
                    bytes,
                }));
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
                    let version = crate::Version::new(1, 1);
                    let record = |key: &u8| Record::new(vec![*key].into(), None, version);
                    let items: Vec<Record> = rest.iter().take(page).map(record).collect();
                    let next = (rest.len() > page).then(|| vec![rest[page - 1]].into());
                    let sizes: Vec<u64> = items.iter().map(|item| item.key.as_bytes()[0].into()).collect();
                    merge.feed(&node, items, &sizes, next);
                }
                while let Some(group) = merge.next_key() {
                    let key = group[0].record.key.as_bytes()[0];
                    prop_assert!(group.iter().all(|found| found.bytes == u64::from(key)));
                    seen.push((key, group.len()));
                }
            }
            let expected: Vec<(u8, usize)> = a.union(&b)
                .map(|key| (*key, usize::from(a.contains(key)) + usize::from(b.contains(key)))).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
