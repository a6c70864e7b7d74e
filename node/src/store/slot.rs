//! One entry of the map in one piece of memory.
//!
//! ```text
//! flags  key length  key  epoch  counter  seq  [file offset length]  [expires]  [stamp]   [lengths]  [value]
//! 1      1-2              1-5    1-10     1-10 if it has a place     if it does  if it has  see below  if in memory
//! ```
//!
//! All numbers after the flags are LEB128: seven bits a byte, low ones first. What is usual is
//! small, so an entry costs about 16 bytes beside its key and value, and one allocation. A
//! zstd frame has its raw length in front; a value that is not in memory has raw and stored length.
//! The flags also say whether the key has more than this entry, see [`more`](super::more).
//!
//! # Caveats
//!
//! A slot is never changed but replaced: another place or a value less is another slot.

use std::cmp::Ordering;

use ringkv_shared::Version;
use ringkv_shared::hlc::Stamp;

use super::entry::{Content, Entry};
use crate::log::place::{FileId, Place};
use crate::log::value::Value;

const TOMBSTONE: u8 = 0;
const PLAIN: u8 = 1;
const ZSTD: u8 = 2;
const EVICTED: u8 = 3;
/// The flags that say what is in the slot.
const CONTENT: u8 = 0b11;
const HAS_PLACE: u8 = 0b100;
const EXPIRES: u8 = 0b1000;
const STAMP: u8 = 0b1_0000;
const MORE: u8 = 0b10_0000;

/// The most bytes of the fields between key and value.
const FIELDS_BYTES_MAX: usize = 5 + 10 + 10 + (5 + 10 + 5) + 10 + (10 + 5) + 5 + 5;

/// A key and its entry; ordered by key alone.
pub(super) struct Slot(Box<[u8]>);

impl Slot {
    /// The slot of a key that has this entry and no more.
    pub(super) fn new<B: AsRef<[u8]>>(key: &[u8], entry: &Entry<B>) -> Self {
        Self::with_flags(key, entry, 0)
    }

    /// The slot of a key that has more than this entry.
    pub(super) fn with_more<B: AsRef<[u8]>>(key: &[u8], entry: &Entry<B>) -> Self {
        Self::with_flags(key, entry, MORE)
    }

    /// The slot of the same key with another entry; whether there is more stays.
    pub(super) fn rewritten<B: AsRef<[u8]>>(&self, entry: &Entry<B>) -> Self {
        Self::with_flags(self.key(), entry, self.0[0] & MORE)
    }

    fn with_flags<B: AsRef<[u8]>>(key: &[u8], entry: &Entry<B>, more: u8) -> Self {
        let mut fields = Fields { bytes: [0; FIELDS_BYTES_MAX], len: 0 };
        let flags = fields.fill(entry) | more;
        let value = match &entry.content {
            Content::Value(value) => value.stored(),
            Content::Evicted { .. } | Content::Tombstone => &[],
        };
        let mut key_len = Fields { bytes: [0; FIELDS_BYTES_MAX], len: 0 };
        key_len.push(key.len() as u64);
        let pieces = [&[flags], key_len.get(), key, fields.get(), value];
        Self(pieces.concat().into_boxed_slice())
    }

    pub(super) fn key(&self) -> &[u8] {
        let mut rest = Reader(&self.0[1..]);
        let len = rest.number_usize();
        &rest.0[..len]
    }

    /// Whether the key has more than this entry.
    pub(super) fn has_more(&self) -> bool {
        self.0[0] & MORE != 0
    }

    pub(super) fn version(&self) -> Version {
        self.after_key().version()
    }

    pub(super) fn entry(&self) -> Entry<&[u8]> {
        let flags = self.0[0];
        let mut rest = self.after_key();
        let (version, seq) = (rest.version(), rest.number());
        let place = (flags & HAS_PLACE != 0).then(|| rest.place());
        let expires = (flags & EXPIRES != 0).then(|| rest.number());
        let stamp = (flags & STAMP != 0).then(|| rest.stamp());
        let content = match flags & CONTENT {
            TOMBSTONE => Content::Tombstone,
            PLAIN => Content::Value(Value::Plain(rest.0)),
            ZSTD => {
                let len = rest.number_u32();
                Content::Value(Value::Zstd { packed: rest.0, len })
            }
            _ => Content::Evicted { len: rest.number_u32(), stored_len: rest.number_u32() },
        };
        Entry { content, version, seq, place, expires, stamp }
    }

    /// Bytes that it occupies, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    fn after_key(&self) -> Reader<'_> {
        let mut rest = Reader(&self.0[1..]);
        let len = rest.number_usize();
        Reader(&rest.0[len..])
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Slot {}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {:?}", self.key(), self.entry())
    }
}

/// The numbers of a slot, being put together.
struct Fields {
    bytes: [u8; FIELDS_BYTES_MAX],
    len: usize,
}

impl Fields {
    /// Puts down all fields between key and value; returns the flags.
    fn fill<B: AsRef<[u8]>>(&mut self, entry: &Entry<B>) -> u8 {
        let Entry { content, version, seq, place, expires, stamp } = entry;
        let mut flags = match content {
            Content::Tombstone => TOMBSTONE,
            Content::Value(Value::Plain(_)) => PLAIN,
            Content::Value(Value::Zstd { .. }) => ZSTD,
            Content::Evicted { .. } => EVICTED,
        };
        self.push_all([u64::from(version.epoch), version.counter, *seq]);
        if let Some(Place { file, offset, len }) = place {
            flags |= HAS_PLACE;
            self.push_all([u64::from(file.0), *offset, u64::from(*len)]);
        }
        if let Some(expires) = expires {
            flags |= EXPIRES;
            self.push(*expires);
        }
        if let Some(Stamp { ms, count }) = stamp {
            flags |= STAMP;
            self.push_all([*ms, u64::from(*count)]);
        }
        match content {
            Content::Value(Value::Zstd { len, .. }) => self.push(u64::from(*len)),
            Content::Evicted { len, stored_len } => {
                self.push_all([u64::from(*len), u64::from(*stored_len)]);
            }
            Content::Value(Value::Plain(_)) | Content::Tombstone => {}
        }
        flags
    }

    fn push_all<const N: usize>(&mut self, numbers: [u64; N]) {
        numbers.into_iter().for_each(|number| self.push(number));
    }

    fn push(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes[self.len] = number as u8 | 0x80;
            self.len += 1;
            number >>= 7;
        }
        self.bytes[self.len] = number as u8;
        self.len += 1;
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What is left of a slot.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.0[0];
            self.0 = &self.0[1..];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }

    fn number_u32(&mut self) -> u32 {
        u32::try_from(self.number()).expect("it was a u32 when it was put down")
    }

    fn number_usize(&mut self) -> usize {
        usize::try_from(self.number()).expect("it was a usize when it was put down")
    }

    fn version(&mut self) -> Version {
        Version::new(self.number_u32(), self.number())
    }

    fn stamp(&mut self) -> Stamp {
        Stamp { ms: self.number(), count: self.number_u32() }
    }

    fn place(&mut self) -> Place {
        Place { file: FileId(self.number_u32()), offset: self.number(), len: self.number_u32() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_content() -> impl Strategy<Value = Content<Vec<u8>>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            Just(Content::Tombstone),
            bytes.clone().prop_map(|bytes| Content::Value(Value::Plain(bytes))),
            (bytes, any::<u32>())
                .prop_map(|(packed, len)| Content::Value(Value::Zstd { packed, len })),
            any::<(u32, u32)>().prop_map(|(len, stored_len)| Content::Evicted { len, stored_len }),
        ]
    }

    fn any_place() -> impl Strategy<Value = Place> {
        any::<(u32, u64, u32)>().prop_map(|(file, offset, len)| Place {
            file: FileId(file),
            offset,
            len,
        })
    }

    proptest! {
        #[test]
        fn any_entry_comes_back(
            key in proptest::collection::vec(any::<u8>(), 0..300), content in any_content(),
            version in any::<(u32, u64)>(), seq in any::<u64>(),
            place in proptest::option::of(any_place()), expires in any::<Option<u64>>(),
            stamp in any::<Option<(u64, u32)>>(), more in any::<bool>(),
        ) {
            let version = Version::new(version.0, version.1);
            let stamp = stamp.map(|(ms, count)| Stamp { ms, count });
            let entry = Entry { content, version, seq, place, expires, stamp };
            let slot = if more { Slot::with_more(&key, &entry) } else { Slot::new(&key, &entry) };
            prop_assert_eq!((slot.has_more(), slot.rewritten(&entry).has_more()), (more, more));
            prop_assert_eq!(slot.key(), &key[..]);
            prop_assert_eq!(slot.version(), version);
            prop_assert_eq!(slot.entry(), entry.as_ref());
        }
    }

    #[test]
    fn what_is_usual_is_small() {
        let place = Some(Place { file: FileId(2), offset: 50_000_000, len: 180 });
        let content = Content::Value(Value::Plain([b'v'; 100]));
        let version = Version::new(1, 1_000_000);
        let entry = Entry { content, version, seq: 1_000_000, place, expires: None, stamp: None };
        assert_eq!(Slot::new(&[b'k'; 16], &entry).bytes(), 16 + 100 + 16);
    }
}
