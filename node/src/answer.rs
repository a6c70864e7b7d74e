//! What a node answers for a key: what the map has, with its values unpacked, as it travels.
//!
//! # Caveats
//!
//! Unpacking a compressed value costs one to two milliseconds a megabyte.

use bytes::Bytes;
use ringkv_shared::Blob;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::node::{GetReply, Record, Sibling};

use crate::log::key;
use crate::store::{Content, Entry, Held};

/// Keys in their order, with all that is held for each.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The stored key and what is held; with `keys_only` without values.
    pub entries: Vec<(Bytes, Record)>,
    /// With `keys_only`, of each entry: bytes of its key and of all its values.
    pub sizes: Vec<u64>,
    /// Whether there are more.
    pub more: bool,
    /// The last key that was looked at, when that is not the last of the entries: more are after this.
    pub reached: Option<Bytes>,
}

/// What is held for a stored key, on request without values. All values must be in memory.
pub(crate) fn record(stored: &[u8], held: Held, with_values: bool) -> Record {
    let key = Bytes::copy_from_slice(key::split(stored).1).into();
    let Sibling { value, deleted, version, expires, stamp } = sibling(held.entry, with_values);
    let (context, siblings) = match held.more {
        None => (None, Vec::new()),
        Some(more) => {
            let others = more.others.into_iter().map(|entry| sibling(entry, with_values));
            ((!more.past.is_before(version)).then_some(more.past), others.collect())
        }
    };
    Record { key, value, deleted, version, expires, stamp, context, siblings }
}

fn sibling(entry: Entry, with_value: bool) -> Sibling {
    let Entry { content, version, expires, stamp, .. } = entry;
    let value = match content {
        Content::Value(value) => Some(value),
        Content::Tombstone => None,
        Content::Evicted { .. } => unreachable!("what is answered was read back before"),
    };
    let deleted = value.is_none();
    let value = value.filter(|_| with_value).map(|value| Blob::from(value.into_bytes()));
    Sibling { value, deleted, version, expires, stamp }
}

/// The answer to a read: first the value with the greatest version, if there is any.
pub(crate) fn get_reply(record: Option<Record>) -> GetReply {
    let Some(record) = record else { return nothing() };
    let mut all: Vec<Sibling> = record.values().collect();
    let live = all.iter().rposition(|sibling| !sibling.deleted);
    let status = if live.is_some() { Status::Ok } else { Status::NotFound };
    let first = all.remove(live.unwrap_or(all.len() - 1));
    let past = record.past();
    let context = (!past.is_before(first.version)).then_some(past);
    let Sibling { value, version, expires, stamp, .. } = first;
    GetReply { status, value, version: Some(version), expires, stamp, context, siblings: all }
}

fn nothing() -> GetReply {
    let (value, version, expires, stamp, context) = (None, None, None, None, None);
    let (status, siblings) = (Status::NotFound, Vec::new());
    GetReply { status, value, version, expires, stamp, context, siblings }
}
