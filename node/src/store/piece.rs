//! Slots on their way into leaves.
//!
//! ```text
//!   whole    length  slot                 as it stands in a leaf: so it is copied from one place to another
//!   apart    value                        of a slot whose value stands apart; the slot's last byte will say which
//! ```
//!
//! A [`Row`] takes pieces in key order and makes leaves of them, as full as they may be or all alike.
//!
//! # Caveats
//!
//! A row knows neighbours only while it is made: what is to stand beside them later goes into the leaves.

use std::borrow::Cow;

use super::fences;
use super::leaf::{Filling, Leaf};
use super::slot::{Reader, Slot};

/// A slot, to be put into a leaf.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// Some bits of its key's hash.
    pub(super) tag: u16,
    /// Its bytes, with their length before them.
    pub(super) whole: &'a [u8],
    /// Its value, if that stands apart; the last of its bytes means nothing then.
    pub(super) apart: Option<Cow<'a, [u8]>>,
}

impl<'a> Piece<'a> {
    pub(super) fn slot(&self) -> Slot<'_> {
        match &self.apart {
            None => Slot::new(self.bytes(), &[]),
            Some(value) => {
                let (_, bytes) = self.bytes().split_last().expect("a slot has bytes");
                Slot::new(bytes, value)
            }
        }
    }

    pub(super) fn key(&self) -> &'a [u8] {
        Slot::new(self.bytes(), &[]).key()
    }

    fn bytes(&self) -> &'a [u8] {
        let mut rest = Reader(self.whole);
        rest.number_usize();
        rest.0
    }
}

/// A leaf, and the least key that may be in it; of the first of all nothing.
pub(super) type Bounded = (Box<[u8]>, Leaf);

/// Leaves in the making.
pub(super) struct Row<'p, 'o> {
    /// Those that are made.
    into: &'o mut Vec<Bounded>,
    /// The least key that may be in the next one.
    low: Box<[u8]>,
    /// How many slots it may have.
    slots_max: usize,
    /// What will be in it.
    pieces: Vec<Piece<'p>>,
    filling: Filling,
}

impl<'p, 'o> Row<'p, 'o> {
    /// Leaves of so many slots at the most will stand behind those given, the first from this key on.
    pub(super) fn new(into: &'o mut Vec<Bounded>, low: Box<[u8]>, slots_max: usize) -> Self {
        let (pieces, filling) = (Vec::with_capacity(slots_max), Filling::default());
        Self { into, low, slots_max, pieces, filling }
    }

    /// Adds a piece behind all others.
    pub(super) fn push(&mut self, piece: Piece<'p>) {
        if let Some(last) = self.pieces.last() {
            let bytes = piece.whole.len();
            if self.pieces.len() == self.slots_max || !self.filling.has_room(bytes) {
                let bound = fences::between(last.key(), piece.key());
                self.make_leaf();
                self.low = bound;
            }
        }
        self.filling.add(piece.whole.len());
        self.pieces.push(piece);
    }

    /// Adds some.
    pub(super) fn extend(&mut self, pieces: impl IntoIterator<Item = Piece<'p>>) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }

    /// Makes a leaf of what is left.
    pub(super) fn finish(mut self) {
        if !self.pieces.is_empty() {
            self.make_leaf();
        }
    }

    fn make_leaf(&mut self) {
        let bytes = std::mem::take(&mut self.filling).bytes();
        let leaf = Leaf::of(self.pieces.drain(..), bytes);
        self.into.push((std::mem::take(&mut self.low), leaf));
    }
}
