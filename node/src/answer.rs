//! What a node answers for a key: entries of the map with their values unpacked.
//!
//! # Caveats
//!
//! Unpacking a compressed value costs one to two milliseconds a megabyte.

use bytes::Bytes;
use ringkv_shared::Version;

use crate::store::{self, Content};

/// A value or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The version of the write.
    pub version: Version,
    /// When the value expires, in unix milliseconds.
    pub expires: Option<u64>,
}

/// Entries in key order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries; with `keys_only` a live one has an empty value.
    pub entries: Vec<(Bytes, Entry)>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl From<store::Entry> for Entry {
    fn from(entry: store::Entry) -> Self {
        let value = match entry.content {
            Content::Value(value) => Some(value.into_bytes()),
            Content::Tombstone => None,
            Content::Evicted { .. } => unreachable!("what is answered was read back before"),
        };
        Self { value, version: entry.version, expires: entry.expires }
    }
}
