//! One sorted walk over the sorted key pages of many nodes.
//!
//! It needs memory for one page a node, however many keys there are. Whose key is next is known from a heap with one key
//! a node, so a thousand nodes cost a key ten comparisons. A page may come with the bytes of each record
//! (see [`DumpReply::sizes`](crate::protocol::node::DumpReply::sizes)); without, they are taken for 0.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::vec::IntoIter;

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
    /// In id order.
    sources: Vec<Source>,
    /// The next key of each source that has one, with the number of the source: the least comes out first.
    fronts: BinaryHeap<Reverse<(Blob, usize)>>,
    /// The sources whose next page is needed.
    starving: BTreeSet<usize>,
}

#[derive(Debug)]
struct Source {
    node: NodeId,
    page: IntoIter<(Record, u64)>,
    /// Where the next page starts; `None` with `ended` false before the first.
    after: Option<Blob>,
    ended: bool,
}

impl Merge {
    /// A walk over the keys of `nodes`.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
        let source = |node| Source { node, page: IntoIter::default(), after: None, ended: false };
        let sources: Vec<Source> = nodes.into_iter().map(source).collect();
        let starving = (0..sources.len()).collect();
        Self { sources, fronts: BinaryHeap::new(), starving }
    }

    /// The nodes whose next page is needed before the walk can go on, with where it starts.
    #[must_use]
    pub fn wanted(&self) -> Vec<(NodeId, Option<Blob>)> {
        let starving = self.starving.iter().map(|number| &self.sources[*number]);
        starving.map(|source| (source.node.clone(), source.after.clone())).collect()
    }

    /// Gives the next page of a node that wants one: its records in key order, the bytes of each or nothing, and where
    /// the page after it starts.
    pub fn feed(&mut self, node: &NodeId, items: Vec<Record>, sizes: &[u64], next: Option<Blob>) {
        let number = self.sources.binary_search_by(|source| source.node.cmp(node));
        let Some(number) = number.ok().filter(|number| self.starving.contains(number)) else {
            return;
        };
        let sizes = sizes.iter().copied().chain(std::iter::repeat(0));
        let page: Vec<(Record, u64)> = items.into_iter().zip(sizes).collect();
        let source = &mut self.sources[number];
        source.page = page.into_iter();
        source.ended = next.is_none();
        source.after = next;
        self.look_ahead(number);
    }

    /// Puts the next key of a source among the others, or says that a page is needed.
    fn look_ahead(&mut self, number: usize) {
        let source = &self.sources[number];
        match source.page.as_slice().first() {
            Some((record, _)) => self.fronts.push(Reverse((record.key.clone(), number))),
            None if !source.ended => {
                self.starving.insert(number);
                return;
            }
            None => {}
        }
        self.starving.remove(&number);
    }

    /// The next key as each node holds it; `None` when all is walked, or when a page is wanted
    /// first.
    pub fn next_key(&mut self) -> Option<Vec<Found>> {
        if !self.starving.is_empty() {
            return None;
        }
        let Reverse((key, number)) = self.fronts.pop()?;
        let mut group = Vec::new();
        group.extend(self.take(number));
        while self.fronts.peek().is_some_and(|Reverse((front, _))| *front == key) {
            let Some(Reverse((_, number))) = self.fronts.pop() else { break };
            group.extend(self.take(number));
        }
        Some(group)
    }

    fn take(&mut self, number: usize) -> Option<Found> {
        let source = &mut self.sources[number];
        let (record, bytes) = source.page.next()?;
        let found = Found { node: source.node.clone(), record, bytes };
        self.look_ahead(number);
        Some(found)
    }

    /// Whether every node's last page was walked.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.starving.is_empty() && self.fronts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
