//! One value that is held for a key, or the tombstone of one.
//!
//! # Caveats
//!
//! A value's expiry is compared with a time that the caller gives: replicas with other clocks
//! answer differently for as long as their clocks differ.

use bytes::Bytes;
use ringkv_shared::Version;
use ringkv_shared::hlc::Stamp;

use crate::log::place::Place;
use crate::log::record::Op;
use crate::log::value::Value;

/// A value, in memory or not, or a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<B = Bytes> {
    /// A value in memory.
    Value(Value<B>),
    /// A value whose bytes are only in the log, at the entry's place.
    Evicted {
        /// Bytes of the value itself.
        len: u32,
        /// Bytes that it has when it is in memory.
        stored_len: u32,
    },
    /// The key was deleted, or its value has expired.
    Tombstone,
}

/// A value or tombstone of a key, in bytes that it owns (`Bytes`) or borrows from the map (`&[u8]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<B = Bytes> {
    /// The value or tombstone.
    pub content: Content<B>,
    /// The version of the write.
    pub version: Version,
    /// The log line that made it.
    pub seq: u64,
    /// Where that line stands; a tombstone has none.
    pub place: Option<Place>,
    /// When the value expires, in unix milliseconds; a tombstone has none.
    pub expires: Option<u64>,
    /// When it was written, where the last write wins.
    pub stamp: Option<Stamp>,
}

impl<B: AsRef<[u8]>> Entry<B> {
    /// Whether there is a value, in memory or not.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !matches!(self.content, Content::Tombstone)
    }

    /// Whether the value has expired by `now`, in unix milliseconds.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Whether this, with its value in memory, is what `op` stores.
    #[must_use]
    pub fn is_of<C: AsRef<[u8]>>(&self, op: &Op<C>) -> bool {
        match (&self.content, op) {
            (Content::Value(held), Op::Put { value, expires }) => {
                held.as_ref() == value.as_ref() && self.expires == *expires
            }
            (Content::Tombstone, Op::Del) => true,
            _ => false,
        }
    }

    /// Bytes of the value itself; 0 for a tombstone.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Value(value) => value.len(),
            Content::Evicted { len, .. } => *len as usize,
            Content::Tombstone => 0,
        }
    }

    /// Whether there are no bytes: an empty value or a tombstone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry as it answers at `now`: expired, it is the tombstone of its version.
    #[must_use]
    pub fn at(self, now: u64) -> Self {
        if self.is_expired(now) { self.deleted() } else { self }
    }

    /// The tombstone of the same version.
    pub(super) fn deleted(self) -> Self {
        Self { content: Content::Tombstone, place: None, expires: None, ..self }
    }

    /// The same without the value's bytes in memory.
    pub(super) fn evicted(self) -> Self {
        let Content::Value(value) = &self.content else { return self };
        let fits = "a value is at most 1 MiB";
        let len = u32::try_from(value.len()).expect(fits);
        let stored_len = u32::try_from(value.stored_len()).expect(fits);
        Self { content: Content::Evicted { len, stored_len }, ..self }
    }

    /// The same entry, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> Entry<&[u8]> {
        self.map(Value::as_ref)
    }

    /// The same entry with its own copy of the value.
    #[must_use]
    pub fn copied(&self) -> Entry {
        self.map(Value::copied)
    }

    fn map<'a, C>(&'a self, f: impl FnOnce(&'a Value<B>) -> Value<C>) -> Entry<C> {
        let content = match &self.content {
            Content::Value(value) => Content::Value(f(value)),
            Content::Evicted { len, stored_len } => {
                Content::Evicted { len: *len, stored_len: *stored_len }
            }
            Content::Tombstone => Content::Tombstone,
        };
        let Self { version, seq, place, expires, stamp, .. } = *self;
        Entry { content, version, seq, place, expires, stamp }
    }
}
