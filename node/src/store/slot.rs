//! One entry of the map as a piece of bytes.
//!
//! ```text
//! flags  key length  key  epoch  counter  [seq]  [file offset length]  [expires]  [stamp]   [lengths]  [value]
//! 1      1-2              1-5    1-10     1-10   if it has a place     if it does  if it has  see below  if in memory
//! ```
//!
//! All numbers after the flags are LEB128: seven bits a byte, low ones first. What is usual is
//! small, so an entry costs 7 to 10 bytes beside its key and value. The `seq` is left out where it is the version's
//! counter: a node's own versions are numbered by its log. A
//! zstd frame has its raw length in front; a value that is not in memory has raw and stored length.
//! The flags also say whether the key has more than this entry, see [`more`](super::more).
//!
//! A [`Slot`] is a look at one, wherever it is: nearly all are side by side in a [`leaf`](super::leaf), where
//! a large value stands apart. A [`SlotBuf`] has its own memory: siblings, and what is kept for pictures. A [`Draft`] is
//! one that is about to be written down somewhere.
//!
//! # Caveats
//!
//! A slot is never changed but replaced: another place or a value less is another slot.

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
/// The `seq` is the counter of the version.
const OWN_SEQ: u8 = 0b100_0000;
/// The value stands apart.
const APART: u8 = 0b1000_0000;

/// The most bytes of a number.
const NUMBER_BYTES_MAX: usize = 10;
/// The most bytes of the fields between key and value.
const FIELDS_BYTES_MAX: usize = 5 + 10 + 10 + (5 + 10 + 5) + 10 + (10 + 5) + 5 + 5;

/// A key and its entry.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    bytes: &'a [u8],
    /// The value, if it stands apart.
    apart: &'a [u8],
}

/// A key and its entry in memory of their own.
pub(super) struct SlotBuf(Box<[u8]>);

/// A key and its entry, to be written down.
pub(super) struct Draft<'a> {
    flags: u8,
    key_len: Numbers<NUMBER_BYTES_MAX>,
    key: &'a [u8],
    fields: Numbers<FIELDS_BYTES_MAX>,
    value: &'a [u8],
}

impl<'a> Draft<'a> {
    /// Of a key that has this entry, and more beside it or not.
    pub(super) fn new<B: AsRef<[u8]>>(key: &'a [u8], entry: &'a Entry<B>, more: bool) -> Self {
        let mut fields = Numbers::new();
        let flags = fields.fill(entry) | if more { MORE } else { 0 };
        let value = match &entry.content {
            Content::Value(value) => value.stored(),
            Content::Evicted { .. } | Content::Tombstone => &[],
        };
        let mut key_len = Numbers::new();
        key_len.push(key.len() as u64);
        Self { flags, key_len, key, fields, value }
    }

    /// The value, to be put down apart; what is left is one without.
    pub(super) fn take_value(&mut self) -> &'a [u8] {
        self.flags |= APART;
        std::mem::take(&mut self.value)
    }

    pub(super) const fn key(&self) -> &'a [u8] {
        self.key
    }

    pub(super) const fn value_len(&self) -> usize {
        self.value.len()
    }

    /// How many bytes it will have.
    pub(super) const fn len(&self) -> usize {
        1 + self.key_len.len + self.key.len() + self.fields.len + self.value.len()
    }

    /// Gives its bytes piece by piece.
    pub(super) fn write(&self, mut emit: impl FnMut(&[u8])) {
        emit(&[self.flags]);
        emit(self.key_len.get());
        emit(self.key);
        emit(self.fields.get());
        emit(self.value);
    }
}

impl SlotBuf {
    /// The slot of a key that has this entry and no more.
    pub(super) fn new<B: AsRef<[u8]>>(key: &[u8], entry: &Entry<B>) -> Self {
        Self::of(&Draft::new(key, entry, false))
    }

    fn of(draft: &Draft<'_>) -> Self {
        let mut bytes = Vec::with_capacity(draft.len());
        draft.write(|piece| bytes.extend_from_slice(piece));
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn get(&self) -> Slot<'_> {
        Slot { bytes: &self.0, apart: &[] }
    }

    /// Bytes that it occupies, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Debug for SlotBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

impl<'a> Slot<'a> {
    /// The slot that these bytes are; its value, if it stands apart, is given.
    pub(super) const fn new(bytes: &'a [u8], apart: &'a [u8]) -> Self {
        Self { bytes, apart }
    }

    /// Whether the value of the slot that these bytes are stands apart.
    pub(super) const fn is_apart(bytes: &[u8]) -> bool {
        bytes[0] & APART != 0
    }

    /// Its bytes, and the value if that stands apart.
    pub(super) const fn parts(self) -> (&'a [u8], &'a [u8]) {
        (self.bytes, self.apart)
    }

    /// Whether it has a value that is not in memory.
    pub(super) const fn is_evicted(self) -> bool {
        self.bytes[0] & CONTENT == EVICTED
    }

    /// The same in memory of its own.
    pub(super) fn to_buf(self) -> SlotBuf {
        SlotBuf::of(&Draft::new(self.key(), &self.entry(), self.has_more()))
    }

    pub(super) fn key(self) -> &'a [u8] {
        let mut rest = Reader(&self.bytes[1..]);
        let len = rest.number_usize();
        &rest.0[..len]
    }

    /// Whether the key has more than this entry.
    pub(super) const fn has_more(self) -> bool {
        self.bytes[0] & MORE != 0
    }

    pub(super) fn version(self) -> Version {
        self.after_key().version()
    }

    pub(super) fn entry(self) -> Entry<&'a [u8]> {
        let flags = self.bytes[0];
        let mut rest = self.after_key();
        let version = rest.version();
        let seq = if flags & OWN_SEQ != 0 { version.counter } else { rest.number() };
        let place = (flags & HAS_PLACE != 0).then(|| rest.place());
        let expires = (flags & EXPIRES != 0).then(|| rest.number());
        let stamp = (flags & STAMP != 0).then(|| rest.stamp());
        let value = |rest: Reader<'a>| if flags & APART != 0 { self.apart } else { rest.0 };
        let content = match flags & CONTENT {
            TOMBSTONE => Content::Tombstone,
            PLAIN => Content::Value(Value::Plain(value(rest))),
            ZSTD => {
                let len = rest.number_u32();
                Content::Value(Value::Zstd { packed: value(rest), len })
            }
            _ => Content::Evicted { len: rest.number_u32(), stored_len: rest.number_u32() },
        };
        Entry { content, version, seq, place, expires, stamp }
    }

    fn after_key(self) -> Reader<'a> {
        let mut rest = Reader(&self.bytes[1..]);
        let len = rest.number_usize();
        Reader(&rest.0[len..])
    }
}

impl std::fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {:?}", self.key(), self.entry())
    }
}

/// Numbers of a slot, being put together.
pub(super) struct Numbers<const BYTES: usize> {
    bytes: [u8; BYTES],
    len: usize,
}

impl<const BYTES: usize> Numbers<BYTES> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; BYTES], len: 0 }
    }

    /// Puts down all fields between key and value; returns the flags.
    fn fill<B: AsRef<[u8]>>(&mut self, entry: &Entry<B>) -> u8 {
        let Entry { content, version, seq, place, expires, stamp } = entry;
        let mut flags = match content {
            Content::Tombstone => TOMBSTONE,
            Content::Value(Value::Plain(_)) => PLAIN,
            Content::Value(Value::Zstd { .. }) => ZSTD,
            Content::Evicted { .. } => EVICTED,
        };
        self.push_all([u64::from(version.epoch), version.counter]);
        if *seq == version.counter {
            flags |= OWN_SEQ;
        } else {
            self.push(*seq);
        }
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

    pub(super) fn push(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes[self.len] = number as u8 | 0x80;
            self.len += 1;
            number >>= 7;
        }
        self.bytes[self.len] = number as u8;
        self.len += 1;
    }

    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What is left of a slot.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

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

    pub(super) fn number_usize(&mut self) -> usize {
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
            version in any::<(u32, u64)>(), seq in any::<Option<u64>>(),
            place in proptest::option::of(any_place()), expires in any::<Option<u64>>(),
            stamp in any::<Option<(u64, u32)>>(), more in any::<bool>(),
        ) {
            let version = Version::new(version.0, version.1);
            let seq = seq.unwrap_or(version.counter);
            let stamp = stamp.map(|(ms, count)| Stamp { ms, count });
            let entry = Entry { content, version, seq, place, expires, stamp };
            let mut draft = Draft::new(&key, &entry, more);
            let whole = SlotBuf::of(&draft);
            prop_assert_eq!(whole.bytes(), draft.len());
            let apart = draft.take_value();
            let rest = SlotBuf::of(&draft);
            prop_assert!(Slot::is_apart(&rest.0) && !Slot::is_apart(&whole.0));
            let copy = whole.get().to_buf();
            for slot in [whole.get(), copy.get(), Slot::new(&rest.0, apart)] {
                prop_assert_eq!(slot.has_more(), more);
                prop_assert_eq!(slot.key(), &key[..]);
                prop_assert_eq!(slot.version(), version);
                prop_assert_eq!(slot.entry(), entry.as_ref());
            }
        }
    }

    #[test]
    fn what_is_usual_is_small() {
        let place = Some(Place { file: FileId(2), offset: 50_000_000, len: 180 });
        let content = Content::Value(Value::Plain([b'v'; 100]));
        let version = Version::new(1, 1_000_000);
        let entry = Entry { content, version, seq: 2_000_000, place, expires: None, stamp: None };
        let bytes = |entry: &Entry<_>| SlotBuf::new(&[b'k'; 16], entry).bytes() - 16 - 100;
        assert_eq!(bytes(&entry), 16);
        let entry = Entry { place: None, ..entry };
        assert_eq!(bytes(&entry), 9);
        assert_eq!(bytes(&Entry { seq: version.counter, ..entry }), 6);
    }
}
