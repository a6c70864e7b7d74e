//! Some writes in key order, each as the slot that it would be.
//!
//! ```text
//!   bytes   length slot   length slot   length slot  4 bytes: length of value  value     a large one, which stands apart
//!   items   head, tag, where in the bytes: in the order of the keys, those of one key in that of their lines
//! ```
//!
//! A *head* is a piece of the key as a number: the eight bytes behind what all keys begin with. Most keys differ in it.
//! They are made where the lines are read, so what puts them into the map only moves bytes.
//!
//! # Caveats
//!
//! Only puts and deletes are writes. What a slot has no field for is left out: how a write came, and the horizon. Some writes
//! take 66 MiB of addresses, however few they are.

use std::collections::BTreeMap;

use ringkv_shared::causal::Context;

use crate::log::place::Place;
use crate::log::record::{Op, Record};
use crate::store::entry::{Content, Entry};
use crate::store::fences::{common, head};
use crate::store::index::tag;
use crate::store::leaf::is_apart;
use crate::store::merge::entry;
use crate::store::piece::Piece;
use crate::store::slot::{Draft, Numbers, Reader, Slot};

/// Where writes are kept, memory of so many bytes is taken, though little of it is used: of an allocator that keeps small
/// pieces for later, as glibc's does, what is as large as this is the operating system's again when it is freed. What is not
/// used costs nothing.
const MAPPED_BYTES: usize = 33 * 1024 * 1024;

/// What a processor fetches at once, in bytes.
const CACHE_LINE_BYTES: usize = 64;

/// A write among others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) head: u64,
    /// Where it begins.
    pub(super) at: u32,
    pub(super) tag: u16,
}

/// Writes in key order.
#[derive(Debug, Default)]
pub struct Writes {
    bytes: Vec<u8>,
    pub(super) items: Vec<Item>,
    /// What writers had seen, by where the write is.
    contexts: BTreeMap<u32, Box<Context>>,
    /// How many bytes all keys have in common.
    alike: usize,
    /// The last of their lines.
    pub(super) last: u64,
}

/// Writes as they come.
#[derive(Debug, Default)]
pub struct Unsorted(Writes);

impl Unsorted {
    /// Adds a put or delete, whose line stands there, if it may be asked for that.
    ///
    /// # Panics
    ///
    /// There are 4 GiB.
    pub fn push<B: AsRef<[u8]>>(&mut self, record: &Record<B>, place: Option<Place>) {
        self.0.reserve();
        let Writes { bytes, items, contexts, last, .. } = &mut self.0;
        let at = u32::try_from(bytes.len()).expect("a part of a log is much smaller than 4 GiB");
        let key = record.key.as_ref();
        let entry = entry(record, place);
        let mut draft = Draft::new(key, &entry, record.context.is_some());
        let apart = is_apart(&draft).then(|| draft.take_value());
        let mut len = Numbers::<10>::new();
        len.push((draft.len() + usize::from(apart.is_some())) as u64);
        bytes.extend_from_slice(len.get());
        draft.write(|piece| bytes.extend_from_slice(piece));
        if let Some(value) = apart {
            bytes.push(0);
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        if let Some(context) = &record.context {
            contexts.insert(at, context.clone());
        }
        *last = record.seq.max(*last);
        items.push(Item { head: 0, at, tag: tag(key) });
    }

    /// Puts them down in key order, in the place of what was there; nothing is left.
    pub fn sort_into(&mut self, sorted: &mut Writes) {
        let from = &mut self.0;
        let first = from.items.first().map_or(&[][..], |item| from.key(item.at));
        let alike = from.items.iter().fold(first, |alike, item| common(alike, from.key(item.at)));
        sorted.clear();
        sorted.reserve();
        (sorted.alike, sorted.last) = (alike.len(), from.last);
        let mut items = std::mem::take(&mut from.items);
        items.iter_mut().for_each(|item| item.head = head(&from.key(item.at)[sorted.alike..]));
        items.sort_unstable_by_key(|item| (item.head, item.at));
        for same in items.chunk_by_mut(|one, other| one.head == other.head) {
            if same.len() > 1 {
                same.sort_by_key(|item| from.key(item.at));
            }
        }
        for item in &items {
            let at = sorted.bytes.len() as u32;
            sorted.bytes.extend_from_slice(from.all_of(item.at));
            if let Some(context) = from.contexts.remove(&item.at) {
                sorted.contexts.insert(at, context);
            }
            sorted.items.push(Item { at, ..*item });
        }
        from.items = items;
        from.clear();
    }
}

impl Writes {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        self.contexts.clear();
        (self.alike, self.last) = (0, 0);
    }

    /// Takes memory that goes back to the operating system when it is freed, if there may be so much.
    fn reserve(&mut self) {
        if self.bytes.capacity() == 0 {
            let _ = self.bytes.try_reserve(MAPPED_BYTES);
            let _ = self.items.try_reserve(MAPPED_BYTES / size_of::<Item>());
        }
    }

    /// A look at the beginnings of some writes, so that who reads them next waits for them together.
    pub(super) fn look_at(&self, at: u32) -> u8 {
        let from = &self.bytes[at as usize..];
        from[0] ^ from.get(CACHE_LINE_BYTES).copied().unwrap_or_default()
    }

    /// How much memory they take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.items.len() * size_of::<Item>()
    }

    /// How many bytes the slots have, with values that stand apart.
    pub(super) fn slot_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        self.items.first().map_or(&[], |item| &self.key(item.at)[..self.alike])
    }

    /// The write that begins there.
    pub(super) fn piece(&self, tag: u16, at: u32) -> Piece<'_> {
        let (whole, value) = self.parts(at);
        Piece { tag, whole, apart: value.map(Into::into) }
    }

    pub(super) fn key(&self, at: u32) -> &[u8] {
        let mut rest = Reader(&self.bytes[at as usize..]);
        let len = rest.number_usize();
        Slot::new(&rest.0[..len], &[]).key()
    }

    /// A write as a record, and where its line stands.
    pub(super) fn record<'a>(&self, slot: Slot<'a>, at: u32) -> (Record<&'a [u8]>, Option<Place>) {
        let Entry { content, version, seq, place, expires, stamp } = slot.entry();
        let op = match content {
            Content::Value(value) => Op::Put { value, expires },
            Content::Tombstone => Op::Del,
            Content::Evicted { .. } => unreachable!("a line has its value"),
        };
        let context = self.contexts.get(&at).cloned();
        (Record { stamp, context, seq, ..Record::new(slot.key(), op, version) }, place)
    }

    /// All bytes of a write.
    fn all_of(&self, at: u32) -> &[u8] {
        let (whole, value) = self.parts(at);
        let value = value.map_or(0, |value| 4 + value.len());
        &self.bytes[at as usize..][..whole.len() + value]
    }

    /// A slot with its length before it, and its value, if that stands apart.
    fn parts(&self, at: u32) -> (&[u8], Option<&[u8]>) {
        let from = &self.bytes[at as usize..];
        let mut rest = Reader(from);
        let len = rest.number_usize();
        let (slot, behind) = rest.0.split_at(len);
        let whole = &from[..from.len() - behind.len()];
        let value = Slot::is_apart(slot).then(|| {
            let (len, rest) = behind.split_first_chunk().expect("a value has its length before it");
            &rest[..u32::from_le_bytes(*len) as usize]
        });
        (whole, value)
    }
}
