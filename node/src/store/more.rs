//! Keys that have more than one entry, or a past of their own.
//!
//! Nearly every key is *plain*: it has one value or tombstone, which has replaced all that its line of
//! versions had before, and nothing else. Its slot says all there is to say. Of the others the slot
//! has the entry with the greatest version and a flag; what was replaced and the other entries, its
//! *siblings*, are in a map beside:
//!
//! ```text
//!   slots   apple 1.7 PLAIN      pear 1.9 MORE ──┐      plum 1.4 PLAIN
//!                                                ▼
//!   more                         pear: past 1.5,+1.6; 1.8
//! ```
//!
//! # Caveats
//!
//! Only values in slots are ever evicted; those of siblings stay in memory until the key has one value
//! again.

use bytes::Bytes;
use ringkv_shared::Version;
use ringkv_shared::causal::Context;

use super::entry::Entry;
use super::slot::{Slot, SlotBuf};
use crate::log::record::CONTEXT_PART_BYTES_MAX;

/// How many bytes of a value, of which each may take six in a line, take the room of a version in a context.
const PART_BYTES: usize = CONTEXT_PART_BYTES_MAX.div_ceil(6);
/// The same of the fields of a sibling, which has up to 180 characters beside its value.
const SIBLING_BYTES: usize = 30;

/// What a context and so many siblings, without their values, take in a page: counted as bytes of a value, of
/// which each may be escaped, while nothing of these ever is.
pub fn fields_bytes(past: Option<&Context>, siblings: usize) -> usize {
    past.map_or(0, Context::parts) * PART_BYTES + siblings * SIBLING_BYTES
}

/// What a key that is not plain has beside its slot.
#[derive(Debug)]
pub(super) struct More {
    /// What was replaced.
    pub(super) past: Context,
    /// The other entries, in the order of their versions.
    pub(super) others: Vec<SlotBuf>,
    /// The last line that changed any of it.
    pub(super) seq: u64,
}

/// All that the map has for a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct State<'a> {
    pub(super) slot: Slot<'a>,
    pub(super) more: Option<&'a More>,
}

/// All that the map had for a key.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) slot: SlotBuf,
    pub(super) more: Option<Box<More>>,
}

impl Left {
    pub(super) fn state(&self) -> State<'_> {
        State { slot: self.slot.get(), more: self.more.as_deref() }
    }

    /// Bytes that it occupies, about.
    pub(super) fn bytes(&self) -> usize {
        let more = self.more.as_deref().map_or(0, |more| {
            more.others.iter().map(SlotBuf::bytes).sum::<usize>() + more.past.parts() * 32
        });
        self.slot.bytes() + more
    }
}

impl<'a> State<'a> {
    /// The entries in the order of their versions.
    pub(super) fn entries(self) -> impl DoubleEndedIterator<Item = Entry<&'a [u8]>> + Clone {
        let others = self.more.map_or(&[][..], |more| &more.others);
        others.iter().map(SlotBuf::get).chain([self.slot]).map(Slot::entry)
    }

    /// What was replaced.
    pub(super) fn past(self) -> Context {
        match self.more {
            Some(more) => more.past.clone(),
            None => Context::before(self.slot.version()),
        }
    }

    /// The last line that changed it.
    pub(super) fn seq(self) -> u64 {
        self.more.map_or_else(|| self.slot.entry().seq, |more| more.seq)
    }

    /// As it answers at `now`.
    pub(super) fn held(self, now: u64) -> Held<&'a [u8]> {
        let more = self.more.map(|more| {
            let others = more.others.iter().map(|slot| slot.get().entry().at(now)).collect();
            Box::new(HeldMore { past: more.past.clone(), others })
        });
        Held { entry: self.slot.entry().at(now), more }
    }
}

/// All that is held for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<B = Bytes> {
    /// The value or tombstone with the greatest version.
    pub entry: Entry<B>,
    /// What a key that is not plain has beside it.
    pub more: Option<Box<HeldMore<B>>>,
}

/// What a key that is not plain has beside the greatest version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMore<B = Bytes> {
    /// What was replaced.
    pub past: Context,
    /// The other values and tombstones, in the order of their versions.
    pub others: Vec<Entry<B>>,
}

impl<B: AsRef<[u8]>> Held<B> {
    /// All values and tombstones, in the order of their versions.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<B>> {
        let others = self.more.as_ref().map_or(&[][..], |more| &more.others);
        others.iter().chain([&self.entry])
    }

    /// Whether there is a value among them, in memory or not.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.entries().any(Entry::is_live)
    }

    /// Bytes of all values.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.entries().map(Entry::len).sum()
    }

    /// What its context and siblings take in a page, see [`fields_bytes`].
    #[must_use]
    pub fn fields_bytes(&self) -> usize {
        self.more.as_ref().map_or(0, |more| fields_bytes(Some(&more.past), more.others.len()))
    }

    /// What was replaced.
    #[must_use]
    pub fn past(&self) -> Context {
        match &self.more {
            Some(more) => more.past.clone(),
            None => Context::before(self.entry.version),
        }
    }

    /// What a reader of this has seen.
    #[must_use]
    pub fn seen(&self) -> Context {
        let mut seen = self.past();
        self.entries().for_each(|entry| seen.add(entry.version));
        seen
    }

    /// Whether this version is held, and nothing else.
    #[must_use]
    pub fn is_only(&self, version: Version) -> bool {
        self.entry.version == version && self.entries().count() == 1
    }

    /// The same with its own copies of the values.
    #[must_use]
    pub fn copied(&self) -> Held {
        self.map(Entry::copied)
    }

    /// The same with each entry changed.
    pub(super) fn map<C>(&self, each: impl Fn(&Entry<B>) -> Entry<C>) -> Held<C> {
        let more = self.more.as_ref().map(|more| {
            let others = more.others.iter().map(&each).collect();
            Box::new(HeldMore { past: more.past.clone(), others })
        });
        Held { entry: each(&self.entry), more }
    }
}

impl Held {
    /// The same with each entry changed, or why one cannot be.
    ///
    /// # Errors
    ///
    /// What `each` says.
    pub fn try_map<E>(self, mut each: impl FnMut(Entry) -> Result<Entry, E>) -> Result<Self, E> {
        let entry = each(self.entry)?;
        let more = match self.more {
            Some(more) => {
                let others = more.others.into_iter().map(each).collect::<Result<_, _>>()?;
                Some(Box::new(HeldMore { past: more.past, others }))
            }
            None => None,
        };
        Ok(Self { entry, more })
    }
}
