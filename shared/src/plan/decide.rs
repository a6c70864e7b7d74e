//! What becomes of one key: who is to get it from whom, and who may forget it.
//!
//! A copy is merged into what is held, so it can only add what was missing. A node forgets a key only where it
//! is no owner, and only when every owner has seen all that it has.

use crate::NodeId;
use crate::causal::{Context, Siblings};
use crate::protocol::node::Record;

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

/// To whom a key is offered before new owners get it: the owners of now that can be asked (`up`, some of `now`),
/// when none of the owners of now holds anything of it. It may have been deleted, and they know.
#[must_use]
pub fn offered_to<'a>(
    holdings: &[Holding],
    now: &[NodeId],
    up: &'a [NodeId],
) -> Option<&'a [NodeId]> {
    let known = holdings.iter().any(|holding| now.contains(&holding.node));
    (!known && !up.is_empty() && !holdings.is_empty()).then_some(up)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
