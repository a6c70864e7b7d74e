//! Keys in their order, copied as they stand, for who writes them down elsewhere.
//!
//! ```text
//!   bytes   4: length of slot   4: length of value   slot   value, if it stands apart      one behind the other
//! ```
//!
//! While they are copied the map is locked, so no more is done than moving bytes; what they say is read later, by
//! whoever has the time. A key that is not plain, or whose value is not in memory, comes as all that is held for it.
//!
//! # Caveats
//!
//! What expires is copied as it is stored, whatever the time.

use std::ops::Bound;

use bytes::Bytes;

use super::Store;
use super::entry::Entry;
use super::more::Held;
use super::slot::Slot;

/// Some keys in their order.
#[derive(Debug, Default)]
pub struct Copied {
    /// Slots that say all there is to say.
    bytes: Vec<u8>,
    /// The other keys, each with how many bytes there are before it.
    others: Vec<(usize, Bytes, Held)>,
    /// The last key; `None`: there are no more behind these.
    pub last: Option<Bytes>,
}

/// A key, and what is held for it.
#[derive(Debug)]
pub enum CopiedKey<'c> {
    /// One value or tombstone, in memory, which has replaced all of its line before it.
    Plain(&'c [u8], Entry<&'c [u8]>),
    /// Anything else.
    Held(Bytes, Held),
}

impl Store {
    /// The keys after one, of all keyspaces, up to so many, and so many bytes of them and their values, if not one
    /// alone has more.
    #[must_use]
    pub fn copy(&self, after: Option<&[u8]>, keys_max: usize, bytes_max: usize) -> Copied {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut copied, mut keys, mut bytes) = (Copied::default(), 0, 0);
        let mut last = None;
        for slot in self.entries.from(from) {
            if keys >= keys_max || bytes >= bytes_max {
                copied.last = last.map(Bytes::copy_from_slice);
                break;
            }
            let (key, held) = (slot.key(), self.state_of(slot));
            if slot.has_more() || slot.is_evicted() {
                let held = held.held(0);
                bytes += key.len() + held.value_bytes();
                let key = Bytes::copy_from_slice(key);
                copied.others.push((copied.bytes.len(), key, held.copied()));
            } else {
                bytes += copied.add(slot);
            }
            keys += 1;
            last = Some(key);
        }
        copied
    }
}

impl Copied {
    /// Adds a slot; says how many bytes it has.
    fn add(&mut self, slot: Slot<'_>) -> usize {
        let (bytes, apart) = slot.parts();
        for part in [bytes, apart] {
            let len = u32::try_from(part.len()).expect("a value is at most 1 MiB");
            self.bytes.extend_from_slice(&len.to_le_bytes());
        }
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(apart);
        bytes.len() + apart.len()
    }

    /// Gives the keys in their order.
    ///
    /// # Errors
    ///
    /// What `each` says; it is given no more then.
    pub fn each<E>(self, mut each: impl FnMut(CopiedKey<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut others = self.others.into_iter().peekable();
        let mut at = 0;
        loop {
            while let Some((_, key, held)) = others.next_if(|(before, ..)| *before == at) {
                each(CopiedKey::Held(key, held))?;
            }
            if at == self.bytes.len() {
                return Ok(());
            }
            let mut rest = &self.bytes[at..];
            let mut len = || {
                let (len, behind) = rest.split_first_chunk().expect("a slot has its lengths");
                rest = behind;
                u32::from_le_bytes(*len) as usize
            };
            let (slot, apart) = (len(), len());
            let (slot, behind) = rest.split_at(slot);
            at = self.bytes.len() - behind.len() + apart;
            let slot = Slot::new(slot, &behind[..apart]);
            each(CopiedKey::Plain(slot.key(), slot.entry()))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::place::{FileId, Place};
    use crate::log::record::{Op, Record};
    use crate::log::value::Value;
    use crate::store::{Budget, PageRequest};
    use proptest::prelude::*;
    use ringkv_shared::Version;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn all_is_copied_as_it_is_held(
            writes in proptest::collection::vec((0..200_u16, 0..900_usize, 0..8_u8), 0..300),
            keys_max in 1..70_usize, bytes_max in 1..9000_usize, in_memory in 0..40_000_u64,
        ) {
            let mut store = Store::default();
            for (seq, (key, len, how)) in (1..).zip(writes) {
                let value = Value::Plain(Bytes::from(vec![b'v'; len]));
                let op = if how == 0 { Op::Del } else { Op::Put { value, expires: (how == 1).then_some(9) } };
                let record = Record::new(Bytes::from(format!("k{key}")), op, Version::new(1, seq));
                let record = if how == 2 { record.with_seen(&"1.0".parse().unwrap()) } else { record };
                store.apply(&Record { seq, ..record }, Some(Place { file: FileId(2), offset: seq * 1000, len: 999 }));
            }
            store.settle(u64::MAX);
            let budget = Budget { bytes: in_memory, values: None };
            while store.evict(&budget).is_to_go_on() {}
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let copied = store.copy(after.as_deref(), keys_max, bytes_max);
                let last = copied.last.clone();
                copied.each(|key| {
                    found.push(match key {
                        CopiedKey::Plain(key, entry) => {
                            (Bytes::copy_from_slice(key), Held { entry: entry.copied(), more: None })
                        }
                        CopiedKey::Held(key, held) => (key, held),
                    });
                    Ok::<_, ()>(())
                }).unwrap();
                after = last;
                if after.is_none() {
                    break;
                }
            }
            let request = PageRequest { keys_max: usize::MAX, bytes_max: usize::MAX, ..PageRequest::everything() };
            prop_assert_eq!(found, store.page(&request, 0).unwrap().entries);
        }
    }
}
