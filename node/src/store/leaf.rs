//! Some neighbours in key order, packed side by side.
//!
//! ```text
//!   index    c507:0    07a1:41    e1b2:82    5a00:…       a tag and an offset each, up to 128
//!   bytes    len slot  len slot   ░░░░░░░░   len slot  …  ░ was replaced by another of another length
//!   apart                         value                   large values, each in memory of its own
//! ```
//!
//! Side by side a key costs no pointer, no allocation and no size class. And a lookup looks at few
//! places in memory, which is what it costs: the index, where a *tag*, 16 bits of the key's hash, tells the slot, nearly
//! always only the right one; and the slot.
//!
//! A new slot goes behind the others, so that nothing moves; how many of the index's first are
//! in key order is known, and the rest are put in order when the leaf is cut or walked. Room is taken a
//! sixteenth to an eighth at a time, since what is not used yet costs memory for each key. What was replaced by a slot of
//! another length, or taken out, leaves a gap; gaps go once they are a quarter, or an eighth and there is no room.
//!
//! # Caveats
//!
//! A walk of a leaf that was filled in another order sorts it anew each time: 30 to 50 ns a key.

use super::fences;
use super::slot::{Draft, Numbers, Reader, Slot};

/// The most slots in a leaf. More would make the fences fewer and a search of tags longer.
const SLOTS_MAX: usize = 128;

/// The most bytes of slots, so that an offset fits 16 bits with room to spare for a longest slot of a key of
/// 1 KiB, its keyspace and its fields.
const BYTES_MAX: usize = 32 * 1024;

/// Values of more bytes stand apart, so that what moves when room is taken or a leaf is cut is small.
const PACKED_BYTES_MAX: usize = 512;

/// The most bytes of the length before a slot.
const LEN_BYTES_MAX: usize = 3;

const _: () = assert!(BYTES_MAX + PACKED_BYTES_MAX + 2 * 1024 <= 1 << 16);

/// The least step in which room is taken.
const ALLOCATION_BYTES_MIN: usize = 64;
/// What the allocator has beside an allocation, so that with it the sizes are few and fit each other's gaps.
const ALLOCATOR_BYTES: usize = 8;

/// How many tags are compared at once.
const STRIDE: usize = 16;

/// Neighbours in key order.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// Of each slot a tag, the high half, and where it begins in `bytes`.
    index: Vec<u32>,
    /// Slots, each with its length before it, and gaps.
    bytes: Vec<u8>,
    /// Values that stand apart; the last byte of such a slot says which.
    apart: Vec<Option<Box<[u8]>>>,
    /// Bytes that belong to no slot.
    gaps: usize,
    /// How many of the index's first are in key order.
    sorted: usize,
}

impl Leaf {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Which slot is that of a key.
    pub(super) fn find(&self, tag: u16, key: &[u8]) -> Option<usize> {
        let mut from = 0;
        for stride in self.index.chunks(STRIDE) {
            // Without an early way out the compiler compares all of a stride at once.
            let any = stride.iter().fold(false, |any, one| any | ((one >> 16) as u16 == tag));
            if any {
                let mut alike = (0..stride.len()).filter(|at| (stride[*at] >> 16) as u16 == tag);
                if let Some(at) = alike.find(|at| self.slot(from + at).key() == key) {
                    return Some(from + at);
                }
            }
            from += stride.len();
        }
        None
    }

    pub(super) fn slot(&self, at: usize) -> Slot<'_> {
        let (from, until) = self.range(at);
        let bytes = &self.bytes[from..until];
        if !Slot::is_apart(bytes) {
            return Slot::new(bytes, &[]);
        }
        let (which, bytes) = bytes.split_last().expect("a slot has bytes");
        let apart = self.apart[usize::from(*which)].as_deref();
        Slot::new(bytes, apart.expect("what stands apart stays as long as its slot"))
    }

    /// Whether it has to be cut before this goes in, as a new slot or in the place of another.
    pub(super) fn is_full(&self, draft: &Draft<'_>, is_new: bool) -> bool {
        let apart = if is_apart(draft) { draft.value_len() } else { 0 };
        let slot = LEN_BYTES_MAX + draft.len() + 1 - apart;
        let bytes = self.bytes.len() - self.gaps + slot;
        is_new && self.len() >= SLOTS_MAX || bytes > BYTES_MAX
    }

    /// Puts in a slot whose key is new. The leaf is not full.
    pub(super) fn insert(&mut self, tag: u16, mut draft: Draft<'_>) {
        let behind = self.is_behind(draft.key());
        let offset = self.append(&mut draft);
        if self.index.len() == self.index.capacity() {
            self.index.reserve_exact(STRIDE / 2);
        }
        self.index.push(entry(tag, offset));
        self.sorted += usize::from(behind);
    }

    /// Puts another slot in the place of one with the same key.
    pub(super) fn replace(&mut self, at: usize, mut draft: Draft<'_>) {
        let (from, until) = self.range(at);
        self.free_apart(from, until);
        if !is_apart(&draft) && draft.len() == until - from {
            let mut to = from;
            draft.write(|piece| {
                self.bytes[to..to + piece.len()].copy_from_slice(piece);
                to += piece.len();
            });
            return;
        }
        let gap = until - self.offset(at);
        // First: as long as the index has the old slot, closing gaps keeps it.
        self.reserve(LEN_BYTES_MAX + draft.len() + 1);
        self.gaps += gap;
        let offset = self.append(&mut draft);
        self.index[at] = entry((self.index[at] >> 16) as u16, offset);
        self.tidy();
    }

    /// Takes a slot out.
    pub(super) fn remove(&mut self, at: usize) {
        let (from, until) = self.range(at);
        self.free_apart(from, until);
        self.gaps += until - self.offset(at);
        self.index.remove(at);
        self.sorted -= usize::from(at < self.sorted);
        self.tidy();
    }

    /// Cuts a full leaf, into which this key is to go; returns what is behind, with the bound between. When
    /// keys come in order, as from a snapshot, the full one stays and a new one begins.
    pub(super) fn cut(&mut self, key: &[u8]) -> (Box<[u8]>, Self) {
        if self.is_behind(key) {
            self.pack(0);
            self.index.shrink_to_fit();
            let last = self.slot(self.len() - 1).key();
            return (fences::between(last, key), Self::default());
        }
        self.sort();
        let half = self.len() / 2;
        let bound = fences::between(self.slot(half - 1).key(), self.slot(half).key());
        let mut behind = self.part(half, self.len());
        *self = self.part(0, half);
        behind.sorted = behind.len();
        (bound, behind)
    }

    /// All slots in key order, by where they are in the index.
    pub(super) fn order(&self, into: &mut Vec<u8>) {
        into.clear();
        into.extend((0..self.len()).map(|at| at as u8));
        if self.sorted < self.len() {
            into.sort_by_key(|at| self.slot(usize::from(*at)).key());
        }
    }

    fn sort(&mut self) {
        let mut order = Vec::new();
        self.order(&mut order);
        self.index = order.iter().map(|at| self.index[usize::from(*at)]).collect();
        self.sorted = self.len();
    }

    /// Whether all slots are in order, and a key is behind them.
    fn is_behind(&self, key: &[u8]) -> bool {
        self.sorted == self.len()
            && self.len().checked_sub(1).is_none_or(|last| self.slot(last).key() < key)
    }

    /// Appends a slot; returns where it begins.
    fn append(&mut self, draft: &mut Draft<'_>) -> usize {
        let which = is_apart(draft).then(|| {
            let value = Some(draft.take_value().into());
            let free = self.apart.iter().position(Option::is_none);
            let which = free.unwrap_or(self.apart.len());
            match free {
                Some(free) => self.apart[free] = value,
                None => self.apart.push(value),
            }
            u8::try_from(which).expect("there are fewer slots")
        });
        let mut len = Numbers::<LEN_BYTES_MAX>::new();
        len.push((draft.len() + usize::from(which.is_some())) as u64);
        self.reserve(LEN_BYTES_MAX + draft.len() + 1);
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(len.get());
        draft.write(|piece| self.bytes.extend_from_slice(piece));
        self.bytes.extend(which);
        offset
    }

    /// Makes room, of the gaps if they are worth it.
    fn reserve(&mut self, bytes: usize) {
        if self.bytes.capacity() - self.bytes.len() >= bytes {
            return;
        }
        if self.gaps > self.bytes.len() / 8 {
            self.pack(bytes);
        } else {
            let room = capacity(self.bytes.len() + bytes);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
    }

    /// Closes the gaps if they are too many.
    fn tidy(&mut self) {
        if self.gaps > self.bytes.len() / 4 {
            self.pack(0);
        }
    }

    /// Closes the gaps, with at least so much room behind.
    fn pack(&mut self, room: usize) {
        let mut bytes = Vec::with_capacity(capacity(self.bytes.len() - self.gaps + room));
        for at in 0..self.len() {
            let (from, (_, until)) = (self.offset(at), self.range(at));
            self.index[at] = self.index[at] & !0xffff | bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[from..until]);
        }
        (self.bytes, self.gaps) = (bytes, 0);
    }

    /// A leaf of some slots, which are in order; their values that stand apart leave this one.
    fn part(&mut self, from: usize, until: usize) -> Self {
        let mut part =
            Self { index: Vec::with_capacity(until - from + STRIDE / 2), ..Self::default() };
        let bytes = (from..until).map(|at| self.range(at).1 - self.offset(at)).sum::<usize>();
        part.bytes.reserve_exact(capacity(bytes));
        for at in from..until {
            let (begin, (slot, end)) = (self.offset(at), self.range(at));
            part.index.push(self.index[at] & !0xffff | part.bytes.len() as u32);
            part.bytes.extend_from_slice(&self.bytes[begin..end]);
            if Slot::is_apart(&self.bytes[slot..end]) {
                let last = part.bytes.last_mut().expect("a slot has bytes");
                let value = self.apart[usize::from(*last)].take();
                *last = part.apart.len() as u8;
                part.apart.push(value);
            }
        }
        part.sorted = part.len();
        part
    }

    /// The slot of these bytes goes: its value with it, if that stands apart.
    fn free_apart(&mut self, from: usize, until: usize) {
        if Slot::is_apart(&self.bytes[from..until]) {
            self.apart[usize::from(self.bytes[until - 1])] = None;
        }
    }

    fn offset(&self, at: usize) -> usize {
        (self.index[at] & 0xffff) as usize
    }

    /// Where the bytes of a slot begin, behind its length, and end.
    fn range(&self, at: usize) -> (usize, usize) {
        let offset = self.offset(at);
        let mut rest = Reader(&self.bytes[offset..]);
        let len = rest.number_usize();
        let from = self.bytes.len() - rest.0.len();
        (from, from + len)
    }
}

/// How much memory is taken for so many bytes.
fn capacity(bytes: usize) -> usize {
    let step = (bytes / 16).next_power_of_two().max(ALLOCATION_BYTES_MIN);
    (bytes + ALLOCATOR_BYTES).next_multiple_of(step) - ALLOCATOR_BYTES
}

/// Whether the value is to stand apart.
const fn is_apart(draft: &Draft<'_>) -> bool {
    draft.value_len() > PACKED_BYTES_MAX
}

fn entry(tag: u16, offset: usize) -> u32 {
    u32::from(tag) << 16 | u32::from(u16::try_from(offset).expect("a leaf is cut before"))
}

#[cfg(test)]
impl Leaf {
    /// Panics if the parts do not fit each other, or there is more room or there are more gaps than there should be.
    pub(super) fn check(&self) {
        assert!(self.len() <= SLOTS_MAX && self.sorted <= self.len());
        let all: usize = (0..self.len()).map(|at| self.range(at).1 - self.offset(at)).sum();
        assert_eq!(all + self.gaps, self.bytes.len());
        assert!(
            all <= BYTES_MAX && self.gaps <= self.bytes.len() / 4 + PACKED_BYTES_MAX + 2 * 1024
        );
        let keys: Vec<&[u8]> = (0..self.len()).map(|at| self.slot(at).key()).collect();
        assert!(keys[..self.sorted].is_sorted_by(|a, b| a < b));
        let held = (0..self.len()).filter(|at| {
            let (from, until) = self.range(*at);
            Slot::is_apart(&self.bytes[from..until])
        });
        assert_eq!(held.count(), self.apart.iter().flatten().count());
    }
}
