//! Position to owners: the immutable ring.
//!
//! The preference list of a position is an order of *all* members; the owners are its first N. Without
//! zones it is the order in which the members' tokens are met clockwise. With zones, those who are the
//! first of their zone come first, then the second of each zone, and so on; among equals the order
//! is clockwise. So replicas lie in distinct zones while zones last, and are spread evenly beyond that; and a
//! member that joins, leaves or is weighted anew still moves only its own keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::circle::Circle;
use super::owners::Owners;
use super::seat::Seat;
use super::token::key_position;
use super::walk::{self, Zones};
use crate::NodeId;

/// Virtual nodes of a node of weight 1. 3, the ancestor's number, lets the fullest of ten nodes
/// hold twice the mean; 256 hold it to about 1.1 times.
pub const VNODES_DEFAULT: u32 = 256;

/// Who owns which arc. Immutable; equal members give an equal ring on every machine.
///
/// A copy is another handle on the same ring. What is looked up in is made when it is first needed: a ring that
/// nobody asks, as those that a log passes through, costs no more than its members.
#[derive(Clone, Debug)]
pub struct Ring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Virtual nodes for each unit of weight.
    vnodes: u32,
    /// Every member with its seat.
    members: BTreeMap<NodeId, Seat>,
    /// The members in id order; numbers point into it.
    ids: Vec<NodeId>,
    made: OnceLock<Made>,
    /// Of each of `ids` the share of all positions that it owns first.
    shares: OnceLock<Vec<f64>>,
}

/// What follows from the members.
#[derive(Debug)]
struct Made {
    circle: Circle,
    zones: Zones,
}

/// All else follows from these.
impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        Arc::ptr_eq(a, b) || (a.vnodes == b.vnodes && a.members == b.members)
    }
}

impl Eq for Ring {}

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
        let ids = members.keys().cloned().collect();
        let (made, shares) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner { vnodes, members, ids, made, shares }))
    }

    fn made(&self) -> &Made {
        let Inner { vnodes, members, made, .. } = &*self.0;
        made.get_or_init(|| {
            let seats = members.iter();
            let tokens = seats.map(|(node, seat)| (seat.tokens_of(node), vnodes * seat.weight));
            let zones = Zones::new(members);
            Made { circle: Circle::new(tokens, &zones), zones }
        })
    }

    fn circle(&self) -> &Circle {
        &self.made().circle
    }

    /// Virtual nodes for each unit of weight.
    #[must_use]
    pub fn vnodes(&self) -> u32 {
        self.0.vnodes
    }

    /// The members with their seats, in id order.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Seat> {
        &self.0.members
    }

    /// The members in id order: the number of a member is its place here.
    #[must_use]
    pub fn ids(&self) -> &[NodeId] {
        &self.0.ids
    }

    /// The same ring with a member added, or in another seat.
    #[must_use]
    pub fn with(&self, node: NodeId, seat: impl Into<Seat>) -> Self {
        let mut members = self.members().clone();
        members.insert(node, seat.into());
        Self::seated(self.vnodes(), members)
    }

    /// The same ring with `new` in the seat of `old`: it gets the tokens, weight and zone, so nobody else's keys
    /// move. Without `old` it is the same ring.
    #[must_use]
    pub fn replaced(&self, old: &NodeId, new: NodeId) -> Self {
        let mut members = self.members().clone();
        if let Some(seat) = members.remove(old) {
            let name = seat.tokens_of(old).clone();
            let of = (name != new).then_some(name);
            members.insert(new, Seat { of, ..seat });
        }
        Self::seated(self.vnodes(), members)
    }

    /// The member on this ring whose tokens are those of `name`: itself, or who replaced it.
    #[must_use]
    pub fn sits_for(&self, name: &NodeId) -> Option<&NodeId> {
        let mut members = self.members().iter();
        members.find(|(id, seat)| seat.tokens_of(id) == name).map(|(id, _)| id)
    }

    /// The same ring without a member.
    #[must_use]
    pub fn without(&self, node: &NodeId) -> Self {
        let mut members = self.members().clone();
        members.remove(node);
        Self::seated(self.vnodes(), members)
    }

    /// Every token with its node, ascending.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = (u64, &NodeId)> {
        let arcs = self.circle().arcs().iter();
        arcs.map(|arc| (arc.token, &self.0.ids[usize::from(arc.owner())]))
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
        self.preferred(position, n).to_vec()
    }

    /// The same, borrowed from the ring: a few nanoseconds and no allocation for 8 owners or fewer.
    #[must_use]
    pub fn preferred(&self, position: u64, n: usize) -> Owners<'_> {
        let Made { circle, zones } = self.made();
        let numbers = match circle.preferred(position, n) {
            Some(numbers) => Cow::Borrowed(numbers),
            None => Cow::Owned(walk::first(circle, zones, position, n)),
        };
        Owners::new(&self.0.ids, numbers)
    }

    /// The tokens clockwise from a position, once around.
    pub fn walk(&self, position: u64) -> impl Iterator<Item = (u64, &NodeId)> {
        let tokens = self.circle().walk(position);
        tokens.map(|(token, number)| (token, &self.0.ids[usize::from(number)]))
    }

    /// The share of all positions that a node owns first, 0 to 1.
    #[must_use]
    pub fn share(&self, node: &NodeId) -> f64 {
        let shares = self.0.shares.get_or_init(|| {
            let mut shares = vec![0.0; self.0.ids.len()];
            for ((from, to), at) in self.arcs().zip(self.circle().arcs()) {
                shares[usize::from(at.owner())] += arc(from, to);
            }
            shares
        });
        self.0.ids.binary_search(node).map_or(0.0, |number| shares[number])
    }

    /// The share of all copies that each member has when a key has `n`, 0 to 1; they add up to 1 where there is a
    /// member.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "at most 1,000 members")]
    pub fn copy_shares(&self, n: usize) -> BTreeMap<NodeId, f64> {
        let mut shares = vec![0.0; self.0.ids.len()];
        let of = n.min(shares.len()).max(1) as f64;
        for (from, to) in self.arcs() {
            for owner in self.preferred(to, n).numbers() {
                shares[usize::from(*owner)] += arc(from, to) / of;
            }
        }
        self.0.ids.iter().cloned().zip(shares).collect()
    }

    /// `(after, up to)` for every arc, in the order of the tokens; the first wraps around.
    fn arcs(&self) -> impl Iterator<Item = (u64, u64)> {
        let arcs = self.circle().arcs();
        let starts = arcs.last().into_iter().chain(arcs).map(|arc| arc.token);
        starts.zip(arcs.iter().map(|arc| arc.token))
    }

    /// The share of all positions whose set of owners differs between two rings, 0 to 1.
    #[must_use]
    pub fn moved_share(&self, n: usize, other: &Self, other_n: usize) -> f64 {
        let cuts = self.circle().arcs().iter().chain(other.circle().arcs());
        let mut cuts: Vec<u64> = cuts.map(|arc| arc.token).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let starts = cuts.last().into_iter().chain(&cuts).copied();
        let same = |at: u64| {
            let (ours, theirs) = (self.preferred(at, n), other.preferred(at, other_n));
            // Each is there once: as many, and all of them there.
            ours.len() == theirs.len() && ours.iter().all(|owner| theirs.contains(owner))
        };
        let moved = starts.zip(cuts.iter().copied()).filter(|(_, to)| !same(*to));
        moved.fold(0.0, |sum, (from, to)| sum + arc(from, to))
    }
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

    /// The owners of a position, by walking there.
    fn walked(ring: &Ring, position: u64, n: usize) -> Vec<NodeId> {
        let Made { circle, zones } = ring.made();
        let numbers = walk::first(circle, zones, position, n);
        numbers.into_iter().map(|number| ring.ids()[usize::from(number)].clone()).collect()
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
                let position = key_position(&key.to_be_bytes());
                let all = walked(&ring, position, usize::from(nodes));
                let some = walked(&ring, position, n);
                assert_eq!(some, all[..n.min(all.len())], "{nodes} {zones} {n}");
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
        /// The lists say what a walk meets, whatever the weights, zones, replacements and numbers of copies.
        #[test]
        fn a_list_is_what_a_walk_meets(
            seats in proptest::collection::vec((1u32..4, 0u8..8), 0..14),
            zones in 1u8..9, vnodes in 1u32..20, replaced: bool, near in 0usize..600, inside: u64,
        ) {
            let seat = |(weight, zone): &(u32, u8)| Seat {
                weight: *weight,
                zone: (*zone < 6).then(|| format!("z{}", zone % zones).parse().unwrap()),
                of: None,
            };
            let mut ring = Ring::new(vnodes, seats.iter().zip(1..).map(|(s, i)| (id(i), seat(s))));
            if replaced {
                // The second has the tokens of the first: whoever comes first has them all.
                ring = ring.replaced(&id(1), id(99)).with(id(1), 1);
            }
            let token = ring.tokens().nth(near).map_or(0, |(token, _)| token);
            for position in [inside, token, token.wrapping_add(1)] {
                for n in 0..16 {
                    prop_assert_eq!(ring.owners_at(position, n), walked(&ring, position, n));
                }
            }
        }

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
