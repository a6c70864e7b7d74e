//! What a rebalance does with one key, and how it walks over all keys.
//!
//! [`Merge`] joins the sorted key pages of many nodes into one sorted walk that needs memory for
//! one page a node, however many keys there are. [`decide`] looks at who holds which version of
//! a key and who should, and says what to copy and what to drop.
//!
//! Invariants: a copy is merged into what is held, so it can only add what was missing; a copy is
//! dropped only where the node is no owner, and only when every owner has seen all that it has.

use std::collections::{BTreeMap, VecDeque};

use crate::causal::{Context, Siblings};
use crate::protocol::node::Record;
use crate::{Blob, NodeId};

/// Who holds what of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The node.
    pub node: NodeId,
    /// What it has.
    pub held: Record,
}

/// What to do with one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Copies to make: from whom to whom. One source for each owner that lacks something, but where nobody has
    /// all of it.
    pub copies: Vec<(NodeId, NodeId)>,
    /// Nodes that hold the key and are no owners.
    pub drop_at: Vec<NodeId>,
    /// All that all of them together have: what may be dropped when every owner has it.
    pub seen: Context,
}

/// Decides for one key held as `holdings`, owned by `owners`.
#[must_use]
pub fn decide(holdings: &[Holding], owners: &[NodeId]) -> Decision {
    let Some(first) = holdings.first() else { return Decision::default() };
    let drops = holdings.iter().filter(|h| !owners.contains(&h.node));
    let drop_at: Vec<NodeId> = drops.map(|h| h.node.clone()).collect();
    let alike = holdings.iter().all(|h| h.held.is_same(&first.held));
    if alike && owners.iter().all(|owner| holdings.iter().any(|h| h.node == *owner)) {
        // Nearly all keys are like this.
        return Decision { copies: Vec::new(), drop_at, seen: first.held.seen() };
    }
    if holdings.iter().any(|holding| holding.held.stamp.is_some()) {
        return decide_by_clock(holdings, owners, drop_at);
    }
    // Owners first, in their order: copies come from them where they can.
    let rank = |node: &NodeId| owners.iter().position(|o| o == node).unwrap_or(owners.len());
    let mut sets: Vec<(&NodeId, Siblings<()>)> =
        holdings.iter().map(|h| (&h.node, h.held.versions_held())).collect();
    sets.sort_by_key(|(node, _)| rank(node));
    let all = sets.iter().fold(Siblings::default(), |mut all, (_, held)| {
        all.merge(held);
        all
    });
    // Who has all comes before who has some.
    sets.sort_by_key(|(_, held)| *held != all);
    let mut copies = Vec::new();
    for owner in owners {
        let held = sets.iter().find(|(node, _)| *node == owner).map(|(_, held)| held.clone());
        let mut held = held.unwrap_or_default();
        let sources = sets.iter().filter(|(_, theirs)| held.merge(theirs));
        copies.extend(sources.map(|(from, _)| ((*from).clone(), owner.clone())));
    }
    Decision { copies, drop_at, seen: all.context() }
}

/// Where the last write wins: who does not have that is to get it.
fn decide_by_clock(holdings: &[Holding], owners: &[NodeId], drop_at: Vec<NodeId>) -> Decision {
    let records: Vec<&Record> = holdings.iter().map(|holding| &holding.held).collect();
    let last = Record::merged(records).expect("there is a holding");
    let has = |node: &NodeId| holdings.iter().any(|h| h.node == *node && h.held.is_same(&last));
    let holder = holdings.iter().map(|h| &h.node).find(|node| has(node));
    let from = owners.iter().find(|owner| has(owner)).or(holder).expect("somebody has the last");
    let lack = owners.iter().filter(|owner| !has(owner));
    let copies = lack.map(|owner| (from.clone(), owner.clone())).collect();
    let mut seen = Context::empty();
    holdings.iter().for_each(|holding| seen.join(&holding.held.seen()));
    Decision { copies, drop_at, seen }
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

    /// Holdings as `a2 b1-4` (node, counter, and what its writer had seen, if that was said), owners,
    /// then copies (from and to) and drops.
    #[test]
    fn decisions() {
        let table = [
            ("a1 b1", "ab", "", ""),
            ("a1", "ab", "ab", ""),
            ("a1 b2", "ab", "ba", ""),
            ("a1 b1", "bc", "bc", "a"),
            ("a1", "b", "ab", "a"),
            ("a2 b1", "b", "ab", "a"),
            ("a1 b1 c1", "ab", "", "c"),
            ("", "ab", "", ""),
            // 3 and 2 had both seen 1 only: nobody has all.
            ("a2-1 b3-1", "ab", "ba ab", ""),
            ("a2-1 b3-1", "abc", "ba ab ac bc", ""),
            ("a2-1 b4-3", "ab", "ba", ""),
            ("a2-1 b3-1", "c", "ac bc", "ab"),
        ];
        for (held, owners, copies, dropped) in table {
            let holdings: Vec<Holding> = held.split_whitespace().map(holding).collect();
            let decision = decide(&holdings, &ids(owners));
            let links = decision.copies.iter().map(|(from, to)| format!("{from}{to}"));
            let drops: String = decision.drop_at.iter().map(NodeId::as_str).collect();
            let got = (links.collect::<Vec<_>>().join(" "), drops);
            assert_eq!(got, (copies.into(), dropped.into()), "{held:?} {owners}");
        }
    }

    fn holding(text: &str) -> Holding {
        let (what, seen) = text.split_once('-').map_or((text, None), |(w, s)| (w, Some(s)));
        let version = |counter: &str| crate::Version::new(1, counter.parse().unwrap());
        let mut held = Record::new("k".into(), Some("v".into()), version(&what[1..]));
        held.context = seen.map(|seen| Context::up_to(version(seen)));
        held.context = held.context.filter(|seen| !seen.is_before(held.version));
        Holding { node: what[..1].parse().unwrap(), held }
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
