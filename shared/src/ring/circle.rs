//! Where all tokens lie, which one comes next from a position, and who is preferred there.
//!
//! Tokens are hashes, so they are spread evenly: cut into about as many equal *slices* as there are tokens, the
//! circle has about one in each. So putting them in order is one pass that drops each into its slice, and finding
//! the next one is a look at the slice of a position and a step or two: the same at 3 nodes and at 1,000. The
//! preference list lies beside the token, so a lookup touches memory in two places.

use super::lists::{List, NOBODY, fill};
use super::token::tokens_of;
use super::walk::Zones;
use crate::NodeId;

/// Members are told apart by small numbers, their places in id order.
pub(super) type Number = u16;

/// Tokens that are looked at before it is asked whether the one looked for was among them.
const WINDOW: usize = 3;

/// What ends at a token: the positions up to it, behind the token before.
#[derive(Clone, Debug)]
pub(super) struct Arc {
    pub(super) token: u64,
    /// Who is preferred there; the first is whose the token is.
    pub(super) list: List,
}

impl Arc {
    const fn new(token: u64, owner: Number) -> Self {
        let mut list = [NOBODY; _];
        list[0] = owner;
        Self { token, list }
    }

    /// Whose the token is.
    pub(super) const fn owner(&self) -> Number {
        self.list[0]
    }
}

/// The arcs in order.
#[derive(Debug, Default)]
pub(super) struct Circle {
    /// By token, no two alike: a token of two members belongs to the lesser id.
    arcs: Vec<Arc>,
    /// Of each slice, how many tokens lie before it.
    slices: Vec<u32>,
    /// A position shifted right by this is the number of its slice.
    shift: u32,
    /// How many members a list names: all that it has room for, or all who have a token.
    width: usize,
}

impl Circle {
    /// Of members in id order: whose tokens each has, and how many; and where they stand.
    pub(super) fn new<'a>(
        members: impl Iterator<Item = (&'a NodeId, u32)> + Clone,
        zones: &Zones,
    ) -> Self {
        let all: usize = members.clone().map(|(_, count)| count as usize).sum();
        if all == 0 {
            return Self::default();
        }
        let bits = all.next_power_of_two().trailing_zeros().max(1);
        let shift = u64::BITS - bits;
        let mut arcs = sort_by_slice(members, shift, 1 << bits);
        arcs.dedup_by_key(|arc| arc.token);
        let slices = slices_of(&arcs, shift, 1 << bits);
        let width = fill(&mut arcs, zones);
        Self { arcs, slices, shift, width }
    }

    /// Every arc, by token.
    pub(super) fn arcs(&self) -> &[Arc] {
        &self.arcs
    }

    /// The place of the arc that a position is in; `None` without tokens.
    pub(super) fn at(&self, position: u64) -> Option<usize> {
        let slice = usize::try_from(position >> self.shift).unwrap_or(usize::MAX);
        let mut at = *self.slices.get(slice)? as usize;
        // How many are before the position is not to be guessed, so nothing depends on it but a sum.
        while let Some(window) = self.arcs[at..].first_chunk::<WINDOW>() {
            let before = window.iter().map(|arc| usize::from(arc.token < position)).sum::<usize>();
            at += before;
            if before < WINDOW {
                return Some(at);
            }
        }
        at += self.arcs[at..].iter().take_while(|arc| arc.token < position).count();
        Some(if at == self.arcs.len() { 0 } else { at })
    }

    /// The first `n` who are preferred at a position; fewer if fewer have a token, `None` if there may be more than
    /// a list names.
    pub(super) fn preferred(&self, position: u64, n: usize) -> Option<&[Number]> {
        let Some(at) = self.at(position) else { return Some(&[]) };
        let list = &self.arcs[at].list;
        (n <= self.width || self.width < list.len()).then(|| &list[..n.min(self.width)])
    }

    /// Clockwise from a position, once around: each token with whose it is.
    pub(super) fn walk(&self, position: u64) -> impl Iterator<Item = (u64, Number)> {
        let (before, after) = self.arcs.split_at(self.at(position).unwrap_or(0));
        after.iter().chain(before).map(|arc| (arc.token, arc.owner()))
    }
}

/// Ascending. Each token is dropped where its slice begins, and is near its place by then.
fn sort_by_slice<'a>(
    members: impl Iterator<Item = (&'a NodeId, u32)>,
    shift: u32,
    slices: usize,
) -> Vec<Arc> {
    let slice = |token: u64| usize::try_from(token >> shift).expect("fewer slices than tokens");
    let (mut tokens, mut ends) = (Vec::with_capacity(slices), Vec::new());
    for (name, count) in members {
        tokens.extend(tokens_of(name, count));
        ends.push(tokens.len());
    }
    let mut next = vec![0u32; slices + 1];
    tokens.iter().for_each(|token| next[slice(*token) + 1] += 1);
    (1..=slices).for_each(|i| next[i] += next[i - 1]);
    let mut sorted = vec![Arc::new(0, 0); tokens.len()];
    let mut start = 0;
    for (number, end) in (0..).zip(ends) {
        for token in &tokens[start..end] {
            let at = &mut next[slice(*token)];
            sorted[*at as usize] = Arc::new(*token, number);
            *at += 1;
        }
        start = end;
    }
    let order = |arc: &Arc| (arc.token, arc.owner());
    for i in 1..sorted.len() {
        let mut at = i;
        while at > 0 && order(&sorted[at - 1]) > order(&sorted[at]) {
            sorted.swap(at - 1, at);
            at -= 1;
        }
    }
    sorted
}

fn slices_of(arcs: &[Arc], shift: u32, slices: usize) -> Vec<u32> {
    let mut before = Vec::with_capacity(slices);
    let mut at = 0;
    for slice in 0..slices as u64 {
        while arcs.get(at as usize).is_some_and(|arc| arc.token >> shift < slice) {
            at += 1;
        }
        before.push(at);
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Seat, token};
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<NodeId> {
        (0..count).map(|i| format!("n{i}").parse().unwrap()).collect()
    }

    /// Of members with so many tokens each, all in zones of their own.
    fn circle(names: &[NodeId], each: u32) -> Circle {
        let seats = names.iter().map(|name| (name.clone(), Seat::from(1))).collect();
        Circle::new(names.iter().map(|name| (name, each)), &Zones::new(&seats))
    }

    #[test]
    fn without_tokens_there_is_no_next() {
        for names in [names(0), names(1)] {
            let circle = circle(&names, 0);
            assert_eq!((circle.at(7), circle.walk(7).count()), (None, 0));
        }
    }

    #[test]
    fn a_token_of_two_belongs_to_the_first() {
        let (two, name) = (names(2), &names(1)[0]);
        let seats = two.into_iter().map(|name| (name, Seat::from(1))).collect();
        let circle = Circle::new([(name, 3), (name, 4)].into_iter(), &Zones::new(&seats));
        let of_second: Vec<u64> =
            circle.walk(0).filter(|(_, member)| *member == 1).map(|(token, _)| token).collect();
        assert_eq!((circle.arcs().len(), of_second), (4, vec![token(name, 3)]));
    }

    proptest! {
        /// In order, and found as by looking at all of them.
        #[test]
        fn the_next_token_is_found(members in 0usize..9, each in 1u32..40, position: u64, near in 0usize..360) {
            let names = names(members);
            let circle = circle(&names, each);
            let mut all: Vec<u64> = names.iter().flat_map(|name| (0..each).map(|i| token(name, i))).collect();
            all.sort_unstable();
            let tokens: Vec<u64> = circle.arcs().iter().map(|arc| arc.token).collect();
            prop_assert_eq!(&tokens, &all);
            let near = all.get(near).copied().unwrap_or(0);
            for position in [position, near, near.wrapping_add(1), near.wrapping_sub(1), 0, u64::MAX] {
                let expected = all.iter().position(|token| *token >= position);
                prop_assert_eq!(circle.at(position), expected.or((!all.is_empty()).then_some(0)));
            }
        }
    }
}
