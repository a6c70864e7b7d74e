//! Position to owners: the immutable ring.
//!
//! The preference list of a position is an order of *all* members; the owners are its first N. Without
//! zones it is the order in which the members' tokens are met clockwise. With zones, those who are the
//! first of their zone come first, then the second of each zone, and so on; among equals the order
//! is clockwise. So replicas lie in distinct zones while zones last, and are spread evenly beyond that; and a
//! member that joins, leaves or is weighted anew still moves only its own keys.

use std::collections::BTreeMap;

use super::seat::Seat;
use super::token::{key_position, token};
use crate::NodeId;

/// Virtual nodes of a node of weight 1. 3, the ancestor's number, lets the fullest of ten nodes
/// hold twice the mean; 256 hold it to about 1.1 times.
pub const VNODES_DEFAULT: u32 = 256;

/// Who owns which arc. Immutable; equal members give an equal ring on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Virtual nodes for each unit of weight.
    vnodes: u32,
    /// Every member with its seat.
    members: BTreeMap<NodeId, Seat>,
    /// The members in id order; tokens point into it.
    names: Vec<NodeId>,
    /// Of each of `names` the number of its zone; who has none is a zone of its own.
    zones: Vec<u16>,
    /// Whether two members share a zone: only then zones decide anything.
    zoned: bool,
    /// `(token, index into names)`, ascending. A token of two nodes belongs to the lesser id.
    tokens: Vec<(u64, u16)>,
}

impl Ring {
    /// A ring of `members` (id and seat, or just a weight), each with `vnodes × weight` tokens.
    #[must_use]
    pub fn new<S: Into<Seat>>(vnodes: u32, members: impl IntoIterator<Item = (NodeId, S)>) -> Self {
        let members = members.into_iter().map(|(node, seat)| (node, seat.into()));
        Self::seated(vnodes, members.collect())
    }

    /// A ring without members.
    #[must_use]
    pub fn empty(vnodes: u32) -> Self {
        Self::seated(vnodes, BTreeMap::new())
    }

    fn seated(vnodes: u32, members: BTreeMap<NodeId, Seat>) -> Self {
        let names: Vec<NodeId> = members.keys().cloned().collect();
        let mut tokens = Vec::new();
        for (index, (node, seat)) in (0u16..).zip(&members) {
            let name = seat.tokens_of(node);
            tokens.extend((0..vnodes * seat.weight).map(|i| (token(name, i), index)));
        }
        tokens.sort_unstable();
        tokens.dedup_by_key(|(token, _)| *token);
        let zones = zone_numbers(&members);
        let zoned = zones.iter().collect::<std::collections::BTreeSet<_>>().len() < names.len();
        Self { vnodes, members, names, zones, zoned, tokens }
    }

    /// Virtual nodes for each unit of weight.
    #[must_use]
    pub const fn vnodes(&self) -> u32 {
        self.vnodes
    }

    /// The members with their seats, in id order.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Seat> {
        &self.members
    }

    /// The same ring with a member added, or in another seat.
    #[must_use]
    pub fn with(&self, node: NodeId, seat: impl Into<Seat>) -> Self {
        let mut members = self.members.clone();
        members.insert(node, seat.into());
        Self::seated(self.vnodes, members)
    }

    /// The same ring with `new` in the seat of `old`: it gets the tokens, weight and zone, so nobody else's keys
    /// move. Without `old` it is the same ring.
    #[must_use]
    pub fn replaced(&self, old: &NodeId, new: NodeId) -> Self {
        let mut members = self.members.clone();
        if let Some(seat) = members.remove(old) {
            let name = seat.tokens_of(old).clone();
            let of = (name != new).then_some(name);
            members.insert(new, Seat { of, ..seat });
        }
        Self::seated(self.vnodes, members)
    }

    /// The member on this ring whose tokens are those of `name`: itself, or who replaced it.
    #[must_use]
    pub fn sits_for(&self, name: &NodeId) -> Option<&NodeId> {
        let mut members = self.members.iter();
        members.find(|(id, seat)| seat.tokens_of(id) == name).map(|(id, _)| id)
    }

    /// The same ring without a member.
    #[must_use]
    pub fn without(&self, node: &NodeId) -> Self {
        let mut members = self.members.clone();
        members.remove(node);
        Self::seated(self.vnodes, members)
    }

    /// Every token with its node, ascending.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = (u64, &NodeId)> {
        self.tokens.iter().map(|(token, index)| (*token, &self.names[usize::from(*index)]))
    }

    /// The first token at or after a position, with its node; `None` on an empty ring.
    #[must_use]
    pub fn token_at(&self, position: u64) -> Option<(u64, &NodeId)> {
        self.walk(position).next()
    }

    /// The `n` owners of a key in preference order, fewer when there are fewer nodes.
    #[must_use]
    pub fn owners(&self, key: &[u8], n: usize) -> Vec<NodeId> {
        self.owners_at(key_position(key), n)
    }

    /// The `n` owners of a position in preference order: distinct nodes, and of distinct zones while zones last.
    #[must_use]
    pub fn owners_at(&self, position: u64, n: usize) -> Vec<NodeId> {
        let n = n.min(self.names.len());
        let first =
            if self.zoned { self.first_by_zone(position, n) } else { self.first(position, n) };
        first.into_iter().map(|index| self.names[usize::from(index)].clone()).collect()
    }

    /// The first `n` members clockwise.
    fn first(&self, position: u64, n: usize) -> Vec<u16> {
        let mut met: Vec<u16> = Vec::with_capacity(n);
        for index in self.indices(position) {
            if met.len() == n {
                break;
            }
            if !met.contains(&index) {
                met.push(index);
            }
        }
        met
    }

    /// The first `n` by their place within their zone, and clockwise among equals.
    fn first_by_zone(&self, position: u64, n: usize) -> Vec<u16> {
        let mut seen = vec![false; self.names.len()];
        let mut of_zone = vec![0usize; self.names.len()];
        self.zones.iter().for_each(|zone| of_zone[usize::from(*zone)] += 1);
        // How many members there are of each place, and how many of them were not met yet.
        let mut unmet: Vec<usize> =
            (0..n).map(|place| of_zone.iter().filter(|size| **size > place).count()).collect();
        of_zone.fill(0);
        let (mut met, mut level, mut sure) = (Vec::new(), 0, 0);
        for index in self.indices(position) {
            // Who is met from here on has a later place than these.
            if sure >= n {
                break;
            }
            if std::mem::replace(&mut seen[usize::from(index)], true) {
                continue;
            }
            let place = &mut of_zone[usize::from(self.zones[usize::from(index)])];
            met.push((*place, index));
            sure += usize::from(*place == level);
            if let Some(unmet) = unmet.get_mut(*place) {
                *unmet -= 1;
            }
            *place += 1;
            while sure < n && unmet.get(level) == Some(&0) {
                level += 1;
                sure += met.iter().filter(|(place, _)| *place == level).count();
            }
        }
        // Stable: among equals as they were met.
        met.sort_by_key(|(place, _)| *place);
        met.into_iter().take(n).map(|(_, index)| index).collect()
    }

    fn indices(&self, position: u64) -> impl Iterator<Item = u16> {
        let start = self.tokens.partition_point(|(token, _)| *token < position);
        let (before, after) = self.tokens.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index)
    }

    /// The tokens clockwise from a position, once around.
    pub fn walk(&self, position: u64) -> impl Iterator<Item = (u64, &NodeId)> {
        let start = self.tokens.partition_point(|(token, _)| *token < position);
        let (before, after) = self.tokens.split_at(start);
        after.iter().chain(before).map(|(token, index)| (*token, &self.names[usize::from(*index)]))
    }

    /// The share of all positions that a node owns first, 0 to 1.
    #[must_use]
    pub fn share(&self, node: &NodeId) -> f64 {
        let owned = self.arcs().filter(|(_, _, owner)| *owner == node);
        owned.fold(0.0, |sum, (from, to, _)| sum + arc(from, to))
    }

    /// The share of all copies that each member has when a key has `n`, 0 to 1; they add up to 1 where there is a
    /// member.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "at most 1,000 members")]
    pub fn copy_shares(&self, n: usize) -> BTreeMap<NodeId, f64> {
        let mut shares: BTreeMap<NodeId, f64> =
            self.names.iter().map(|node| (node.clone(), 0.0)).collect();
        let of = n.min(self.names.len()).max(1) as f64;
        for (from, to, _) in self.arcs() {
            for owner in self.owners_at(to, n) {
                *shares.entry(owner).or_default() += arc(from, to) / of;
            }
        }
        shares
    }

    /// `(after, up to, owner)` for every arc; the first wraps around.
    fn arcs(&self) -> impl Iterator<Item = (u64, u64, &NodeId)> {
        let last = self.tokens.last().map_or(0, |(token, _)| *token);
        let starts = std::iter::once(last).chain(self.tokens.iter().map(|(token, _)| *token));
        starts.zip(self.tokens()).map(|(from, (to, node))| (from, to, node))
    }

    /// The share of all positions whose set of owners differs between two rings, 0 to 1.
    #[must_use]
    pub fn moved_share(&self, n: usize, other: &Self, other_n: usize) -> f64 {
        let mut cuts: Vec<u64> = self.tokens.iter().chain(&other.tokens).map(|(t, _)| *t).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let Some(last) = cuts.last().copied() else { return 0.0 };
        let starts = std::iter::once(last).chain(cuts.iter().copied());
        let set = |ring: &Self, at: u64, n: usize| {
            let mut owners = ring.owners_at(at, n);
            owners.sort_unstable();
            owners
        };
        starts
            .zip(cuts.iter().copied())
            .filter(|(_, to)| set(self, *to, n) != set(other, *to, other_n))
            .fold(0.0, |sum, (from, to)| sum + arc(from, to))
    }
}

/// A number for each zone, and one for each member without.
fn zone_numbers(members: &BTreeMap<NodeId, Seat>) -> Vec<u16> {
    let mut known = BTreeMap::new();
    let number = |(next, seat): (u16, &Seat)| match &seat.zone {
        Some(zone) => *known.entry(zone.clone()).or_insert(next),
        None => next,
    };
    (0u16..).zip(members.values()).map(number).collect()
}

/// The length of an arc as a share of the ring; from a token to itself is all the way around.
#[allow(clippy::cast_precision_loss)]
fn arc(from: u64, to: u64) -> f64 {
    let length = to.wrapping_sub(from);
    if length == 0 { 1.0 } else { length as f64 / 2f64.powi(64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(i: usize) -> NodeId {
        format!("n{i}").parse().unwrap()
    }

    fn ring(nodes: usize) -> Ring {
        Ring::new(VNODES_DEFAULT, (1..=nodes).map(|i| (id(i), 1)))
    }

    #[test]
    fn shares_of_copies_add_up() {
        let ring = Ring::new(
            16,
            [("a", 1), ("b", 2), ("c", 1)].map(|(id, weight)| (id.parse().unwrap(), weight)),
        );
        for n in 1..5 {
            let shares = ring.copy_shares(n);
            assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
            for (id, share) in shares {
                let expected = match n {
                    1 => ring.share(&id),
                    3.. => 1.0 / 3.0,
                    _ => share,
                };
                assert!((share - expected).abs() < 1e-9, "{id} with N={n}");
            }
        }
    }

    /// Fewer zones than copies: the same owners as when all members are met first.
    #[test]
    fn zones_that_run_out_are_not_looked_for() {
        for (nodes, zones) in [(2, 1), (7, 2), (9, 3), (12, 5)] {
            let seat = |i: u16| Seat {
                zone: format!("z{}", (i * i) % zones).parse().ok(),
                ..Seat::from(1)
            };
            let ring = Ring::new(8, (0..nodes).map(|i| (id(usize::from(i)), seat(i))));
            for (n, key) in (1..=5).flat_map(|n| (0..200u32).map(move |key| (n, key))) {
                let all = ring.first_by_zone(key_position(&key.to_be_bytes()), usize::from(nodes));
                let some =
                    ring.first_by_zone(key_position(&key.to_be_bytes()), n.min(usize::from(nodes)));
                assert_eq!(some, all[..some.len()], "{nodes} {zones} {n}");
            }
        }
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        assert_eq!(ring(0).owners(b"apple", 3), []);
        assert!(ring(0).token_at(7).is_none());
    }

    #[test]
    fn one_node_owns_all() {
        assert!((ring(1).share(&id(1)) - 1.0).abs() < 1e-9);
        let single = Ring::new(1, [(id(1), 1)]);
        assert!((single.share(&id(1)) - 1.0).abs() < 1e-9);
    }

    /// 256 tokens a node keep the fullest node near the mean; 3 do not.
    #[test]
    fn virtual_nodes_balance_the_load() {
        let spread = |vnodes| {
            let ring = Ring::new(vnodes, (1..=10).map(|i| (id(i), 1)));
            (1..=10).map(|i| ring.share(&id(i)) * 10.0).fold(0.0, f64::max)
        };
        assert!(spread(VNODES_DEFAULT) < 1.25, "{}", spread(VNODES_DEFAULT));
        assert!(spread(3) > 1.4, "{}", spread(3));
    }

    #[test]
    fn weight_is_a_share() {
        let ring = Ring::new(VNODES_DEFAULT, [(id(1), 1), (id(2), 3)]);
        assert!((ring.share(&id(2)) - 0.75).abs() < 0.05, "{}", ring.share(&id(2)));
    }

    proptest! {
        #[test]
        fn owners_are_distinct_and_the_first_n_of_more(nodes in 1usize..12, n in 1usize..6, position: u64) {
            let ring = ring(nodes);
            let owners = ring.owners_at(position, n);
            let distinct: std::collections::BTreeSet<_> = owners.iter().collect();
            prop_assert_eq!(owners.len(), n.min(nodes));
            prop_assert_eq!(distinct.len(), owners.len());
            prop_assert_eq!(&ring.owners_at(position, n + 1)[..owners.len()], &owners[..]);
        }

        /// Minimal movement: what a join changes, it changes to the newcomer only.
        #[test]
        fn a_join_moves_keys_only_to_the_newcomer(nodes in 1usize..10, n in 1usize..4, position: u64) {
            let (before, after) = (ring(nodes), ring(nodes + 1));
            let old = before.owners_at(position, n);
            let gained: Vec<NodeId> =
                after.owners_at(position, n).into_iter().filter(|o| !old.contains(o)).collect();
            prop_assert!(gained.len() <= 1);
            prop_assert!(gained.is_empty() || gained[0] == id(nodes + 1) || old.len() < n);
        }
    }

    /// About 1/(n+1) of the positions get a new first owner, and the newcomer's share is that.
    #[test]
    fn a_join_moves_about_its_share() {
        for nodes in [1usize, 3, 8] {
            let (before, after) = (ring(nodes), ring(nodes + 1));
            let moved = before.moved_share(1, &after, 1);
            assert!((moved - after.share(&id(nodes + 1))).abs() < 1e-9);
            #[allow(clippy::cast_precision_loss)]
            let ideal = 1.0 / (nodes + 1) as f64;
            assert!((moved - ideal).abs() < ideal * 0.25, "{nodes}: {moved}");
        }
    }
}
