//! Slots in key order, found fast.
//!
//! ```text
//!   fences      … │ user:0004 │ user:0009 │ …          which branch
//!                       │
//!   branch      fences  …│ user:00047 │ user:00051 │…  which leaf
//!                              │
//!   leaf        up to 128 slots, side by side
//! ```
//!
//! A look at memory that is in no cache costs more than all else. The [fences](super::fences) of a million
//! keys are 100 KiB, which stay in the processor's cache; so a lookup waits for the [`leaf`](super::leaf) only, for
//! its tags and for the slot. A branch is cut in half when it has too many leaves. There are three levels
//! and no more: at a hundred million keys the row of branches is ten thousand long, and a bit is
//! put into it once in some thousand keys.
//!
//! # Caveats
//!
//! Leaves that become small are not joined, only empty ones go: after many keys were
//! dropped here and there, there are more leaves than there have to be.

mod leaves;
#[cfg(test)]
mod tests;

use std::hint::black_box;
use std::ops::Bound;

use xxhash_rust::xxh3::xxh3_64;

use super::fences::Fences;
use super::leaf::{Leaf, Taken};
use super::slot::{Draft, Slot};

/// The most leaves of a branch.
const LEAVES_MAX: usize = 128;

/// Slots in key order.
#[derive(Debug)]
pub(super) struct Index {
    /// What parts the branches.
    fences: Fences,
    /// At least one.
    branches: Vec<Branch>,
    /// How many slots.
    len: usize,
}

/// Neighbouring leaves.
#[derive(Debug, Default)]
struct Branch {
    /// What parts the leaves.
    fences: Fences,
    /// At least one; only the first of all is ever empty.
    leaves: Vec<Leaf>,
}

/// Where the slot of a key is or would be, until something is put in or taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    branch: usize,
    leaf: usize,
    tag: u16,
    /// Where in the leaf it is; `None`: it is not there.
    at: Option<usize>,
}

impl Default for Index {
    fn default() -> Self {
        let branch = Branch { leaves: vec![Leaf::default()], ..Branch::default() };
        Self { fences: Fences::default(), branches: vec![branch], len: 0 }
    }
}

impl Index {
    /// How many slots.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The slot of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Slot<'_>> {
        self.at(self.seek(key))
    }

    /// Where the slot of a key is or would be.
    pub(super) fn seek(&self, key: &[u8]) -> Seat {
        let (branch, leaf) = self.leaf_of(key);
        let tag = tag(key);
        let at = self.branches[branch].leaves[leaf].find(tag, key);
        Seat { branch, leaf, tag, at }
    }

    /// The seat of a key that had this one: nearly always it still has.
    pub(super) fn seek_again(&self, seat: Seat, key: &[u8]) -> Seat {
        let is_there = seat.at.is_some_and(|at| {
            let branch = self.branches.get(seat.branch);
            let leaf = branch.and_then(|branch| branch.leaves.get(seat.leaf));
            leaf.is_some_and(|leaf| at < leaf.len() && leaf.slot(at).key() == key)
        });
        if is_there { seat } else { self.seek(key) }
    }

    /// The seats of some keys. Each look at memory is made for all keys before the next one for any, and none decides
    /// what is looked at next for another key: so the processor waits for them together.
    pub(super) fn seek_all<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        into: &mut Vec<Seat>,
    ) {
        into.clear();
        into.extend(keys.clone().map(|key| {
            let (branch, leaf) = self.leaf_of(key);
            Seat { branch, leaf, tag: tag(key), at: None }
        }));
        let leaf = |seat: &Seat| &self.branches[seat.branch].leaves[seat.leaf];
        // What is looked at is not used: nothing waits for it here.
        black_box(into.iter().fold(0, |seen, seat| seen ^ leaf(seat).look_at_self()));
        black_box(into.iter().fold(0, |seen, seat| seen ^ leaf(seat).look_at_index()));
        for seat in into.iter_mut() {
            seat.at = leaf(seat).first(seat.tag);
        }
        let slot = |seat: &Seat| seat.at.map_or(0, |at| leaf(seat).look_at_slot(at));
        black_box(into.iter().fold(0, |seen, seat| seen ^ slot(seat)));
        for (seat, key) in into.iter_mut().zip(keys) {
            *seat = self.seek_again(*seat, key);
        }
    }

    /// The slot there.
    pub(super) fn at(&self, seat: Seat) -> Option<Slot<'_>> {
        seat.at.map(|at| self.branches[seat.branch].leaves[seat.leaf].slot(at))
    }

    /// Puts a slot in, in the place of the one that its key had.
    pub(super) fn put(&mut self, seat: Seat, draft: Draft<'_>) {
        self.len += usize::from(seat.at.is_none());
        let leaf = &mut self.branches[seat.branch].leaves[seat.leaf];
        if leaf.is_full(seat.at.is_none()) {
            leaf.remove(seat.at.into_iter().collect());
            let (branch, at) = self.cut(seat, draft.key());
            return self.branches[branch].leaves[at].insert(seat.tag, draft);
        }
        match seat.at {
            Some(at) => leaf.replace(at, draft),
            None => leaf.insert(seat.tag, draft),
        }
    }

    /// Takes the slots of these keys out, which ascend, each of a leaf at once; shows each slot before.
    pub(super) fn take<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
        mut each: impl FnMut(Slot<'_>),
    ) {
        let mut keys = keys.peekable();
        while let Some(first) = keys.peek() {
            let (branch, at) = self.leaf_of(first);
            let leaf = &self.branches[branch].leaves[at];
            let mut taken = Taken::default();
            while let Some(key) = keys.next_if(|key| self.leaf_of(key) == (branch, at)) {
                if let Some(slot) = leaf.find(tag(key), key) {
                    each(leaf.slot(slot));
                    taken.add(slot);
                }
            }
            self.len -= taken.count();
            self.branches[branch].leaves[at].remove(taken);
            self.join(branch, at);
        }
    }

    /// A leaf goes if nothing is left in it.
    fn join(&mut self, branch: usize, leaf: usize) {
        let Branch { leaves, fences } = &mut self.branches[branch];
        if leaves[leaf].len() > 0 {
            return;
        }
        if leaves.len() > 1 {
            leaves.remove(leaf);
            fences.join(leaf);
        } else if self.branches.len() > 1 {
            self.branches.remove(branch);
            self.fences.join(branch);
        }
    }

    /// The slots from a key on, in order.
    pub(super) fn from(&self, from: Bound<&[u8]>) -> Walk<'_> {
        let key = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let (branch, leaf) = self.leaf_of(key);
        let mut walk = Walk { index: self, branch, leaf, order: Vec::new(), next: 0 };
        let first = walk.open();
        let is_before = |slot: Slot<'_>| match from {
            Bound::Excluded(key) => slot.key() <= key,
            _ => slot.key() < key,
        };
        walk.next = walk.order.partition_point(|at| is_before(first.slot(usize::from(*at))));
        walk
    }

    /// The same up to the first that `is_behind`, as all after it are.
    pub(super) fn within<F: Fn(&[u8]) -> bool>(
        &self,
        from: Bound<&[u8]>,
        is_behind: F,
    ) -> Within<'_, F> {
        Within { walk: self.from(from), is_behind, left: 0 }
    }

    /// Puts the leaves in key order from that of a key on, those of so many keys or up to one that `is_behind`: whoever
    /// walks there finds them sorted.
    pub(super) fn sort(&mut self, from: &[u8], keys: usize, is_behind: impl Fn(&[u8]) -> bool) {
        let (mut branch, mut at) = self.leaf_of(from);
        let mut seen = 0;
        while seen <= keys
            && let Some(Branch { leaves, .. }) = self.branches.get_mut(branch)
        {
            let Some(leaf) = leaves.get_mut(at) else {
                (branch, at) = (branch + 1, 0);
                continue;
            };
            black_box(leaf.look_at_all());
            leaf.sort();
            if leaf.len() > 0 && is_behind(leaf.slot(0).key()) {
                return;
            }
            seen += leaf.len();
            at += 1;
        }
    }

    /// In which leaf of which branch a key belongs.
    fn leaf_of(&self, key: &[u8]) -> (usize, usize) {
        let branch = self.fences.child(key);
        (branch, self.branches[branch].fences.child(key))
    }

    /// Cuts a full leaf in two; returns in which of them a key belongs.
    fn cut(&mut self, seat: Seat, key: &[u8]) -> (usize, usize) {
        let branch = &mut self.branches[seat.branch];
        let (bound, behind) = branch.leaves[seat.leaf].cut(key);
        branch.fences.cut(seat.leaf, bound);
        branch.leaves.insert(seat.leaf + 1, behind);
        if branch.leaves.len() > LEAVES_MAX {
            // What comes in order comes behind: then the full branch stays, too.
            let behind = seat.leaf + 2 == branch.leaves.len();
            let at = if behind { LEAVES_MAX } else { LEAVES_MAX / 2 };
            let leaves = branch.leaves.split_off(at);
            let (bound, fences) = branch.fences.split_off(at);
            self.fences.cut(seat.branch, bound);
            self.branches.insert(seat.branch + 1, Branch { fences, leaves });
        }
        self.leaf_of(key)
    }
}

/// A walk over slots in key order.
pub(super) struct Walk<'a> {
    index: &'a Index,
    branch: usize,
    leaf: usize,
    /// The order of the slots of this leaf.
    order: Vec<u8>,
    /// Which of them is next.
    next: usize,
}

impl<'a> Walk<'a> {
    /// Puts the slots of this leaf in order.
    fn open(&mut self) -> &'a Leaf {
        let leaf = &self.index.branches[self.branch].leaves[self.leaf];
        // Slots stand in any order: one by one, each would be waited for.
        black_box(leaf.look_at_all());
        leaf.order(&mut self.order);
        self.next = 0;
        leaf
    }

    /// Goes on to where there is a slot; false at the end.
    fn find(&mut self) -> bool {
        while self.next == self.order.len() {
            let Some(branch) = self.index.branches.get(self.branch) else { return false };
            self.leaf += 1;
            if self.leaf == branch.leaves.len() {
                (self.branch, self.leaf) = (self.branch + 1, 0);
                if self.branch == self.index.branches.len() {
                    return false;
                }
            }
            self.open();
        }
        true
    }

    fn slot(&self, at: u8) -> Slot<'a> {
        self.index.branches[self.branch].leaves[self.leaf].slot(usize::from(at))
    }

    /// How many of the slots to come in their leaf are not behind something.
    fn left_before(&mut self, is_behind: impl Fn(&[u8]) -> bool) -> usize {
        if !self.find() {
            return 0;
        }
        let left = &self.order[self.next..];
        match left.last() {
            Some(last) if !is_behind(self.slot(*last).key()) => left.len(),
            _ => left.partition_point(|at| !is_behind(self.slot(*at).key())),
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Slot<'a>;

    fn next(&mut self) -> Option<Slot<'a>> {
        let at = self.find().then(|| self.order[self.next])?;
        self.next += 1;
        Some(self.slot(at))
    }
}

/// A walk that ends before the first slot that is behind something: that is asked once a leaf, and not of every slot.
pub(super) struct Within<'a, F> {
    walk: Walk<'a>,
    is_behind: F,
    /// So many more are not behind it.
    left: usize,
}

impl<'a, F: Fn(&[u8]) -> bool> Iterator for Within<'a, F> {
    type Item = Slot<'a>;

    fn next(&mut self) -> Option<Slot<'a>> {
        if self.left == 0 {
            self.left = self.walk.left_before(&self.is_behind);
        }
        self.left = self.left.checked_sub(1)?;
        self.walk.next()
    }
}

/// Some bits of the hash of a key.
pub(super) fn tag(key: &[u8]) -> u16 {
    (xxh3_64(key) >> 48) as u16
}
