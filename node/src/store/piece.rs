//! Slots on their way into leaves.
//!
//! ```text
//!   whole    length  slot                 as it stands in a leaf: so it is copied from one place to another
//!   apart    value                        of a slot whose value stands apart; the slot's last byte will say which
//! ```
//!
//! # Caveats
//!
//! A piece is no slot of its own: what it is of has to stay as long.

use std::borrow::Cow;

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
