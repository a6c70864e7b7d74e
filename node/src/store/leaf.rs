//! Some neighbours in key order, packed side by side.
//!
//! ```text
//!   index     c507 0:0    07a1 0:41    e1b2 1:0    5a00 …     a tag, a block and where in it, up to 128
//!   blocks  0 len slot  len slot  ░░░░░░░░  len slot          ░ was replaced by another of another length
//!           1 len slot  …
//!   apart     value                                           large values, each in memory of its own
//! ```
//!
//! Side by side a key costs no pointer, no allocation and no size class. And a lookup looks at few
//! places in memory, which is what it costs: the index, where a *tag*, 16 bits of the key's hash, tells the slot, nearly
//! always only the right one; and the slot.
//!
//! A new slot goes behind the others, so that nothing moves; how many of the index's first are
//! in key order is known, and the rest are put in order when the leaf is cut or walked. Memory is taken in blocks of 2 KiB, of which
//! only the last of a leaf grows, by an eighth of it: so little is not used yet, little moves, and what one leaf gives back is of a size
//! that another one wants. What was replaced by a slot of another length, or taken out, leaves a gap; gaps go once they are a
//! quarter, or an eighth and there is no room.
//!
//! # Caveats
//!
//! A walk of a leaf that was filled in another order sorts it anew each time: 30 to 50 ns a key. Who walks often has the
//! leaves put in order first.

mod row;

use std::borrow::Cow;

use super::fences;
use super::piece::Piece;
use super::slot::{Draft, Numbers, Reader, Slot};

pub(super) use row::{Bounded, Row, Stock};

/// The most slots in a leaf. More would make the fences fewer and a search of tags longer.
const SLOTS_MAX: usize = 128;

/// Values of more bytes stand apart, so that what moves when a leaf is cut is small.
const PACKED_BYTES_MAX: usize = 512;

/// The most bytes of the length before a slot.
const LEN_BYTES_MAX: usize = 3;

/// What the allocator has beside an allocation: with it the sizes are few, and fit each other's gaps.
const ALLOCATOR_BYTES: usize = 8;
/// A block, with what the allocator has. A slot of a key of 1 KiB, its keyspace, all fields and a packed value fits.
const BLOCK_BYTES: usize = 1 << OFFSET_BITS;
/// The step in which the last block grows.
const STEP_BYTES: usize = BLOCK_BYTES / 8;
/// Of a leaf with more blocks the next write makes two. Slots put closer in another order may take up to twice as
/// many blocks, and these still have numbers of five bits.
const BLOCKS_MAX: usize = 12;

/// How many bits of a reference are the offset in its block; those above are the block, up to 16.
const OFFSET_BITS: u32 = 11;

const _: () = assert!(PACKED_BYTES_MAX + 1024 + 256 <= BLOCK_BYTES);
const _: () = assert!(2 * (BLOCKS_MAX + 1) < 1 << (16 - OFFSET_BITS));

/// How many tags are compared at once: those of a cache line.
const STRIDE: usize = 16;

/// What a processor fetches at once, in bytes.
const CACHE_LINE_BYTES: usize = 64;
/// How many such pieces of a slot are looked at ahead.
const LOOKED_AT: usize = 3;

/// Neighbours in key order.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// Of each slot a tag, the high half, and where it is in the blocks.
    index: Vec<u32>,
    /// Slots, each with its length before it, and gaps.
    blocks: Vec<Vec<u8>>,
    /// Values that stand apart; the last byte of such a slot says which.
    apart: Vec<Option<Box<[u8]>>>,
    /// Bytes of blocks that belong to no slot.
    gaps: usize,
    /// How many of the index's first are in key order.
    sorted: usize,
}

/// Some slots of a leaf: a bit of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken(u128);

const _: () = assert!(SLOTS_MAX <= u128::BITS as usize);

impl Taken {
    pub(super) const fn add(&mut self, at: usize) {
        self.0 |= 1 << at;
    }

    pub(super) const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    const fn has(self, at: usize) -> bool {
        self.0 >> at & 1 == 1
    }
}

impl FromIterator<usize> for Taken {
    fn from_iter<I: IntoIterator<Item = usize>>(slots: I) -> Self {
        let mut taken = Self::default();
        slots.into_iter().for_each(|at| taken.add(at));
        taken
    }
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

    /// The first slot with this tag: nearly always the one of the key.
    pub(super) fn first(&self, tag: u16) -> Option<usize> {
        let is = |one: &u32| (*one >> 16) as u16 == tag;
        let any = |stride: &[u32]| stride.iter().fold(false, |any, one| any | is(one));
        let stride = self.index.chunks(STRIDE).position(any)?;
        let from = stride * STRIDE;
        self.index[from..].iter().position(is).map(|at| from + at)
    }

    /// A look at what a lookup needs first, and what follows from nothing else.
    pub(super) fn look_at_self(&self) -> usize {
        self.index.len() ^ self.blocks.len()
    }

    /// A look at the index, and at where the blocks are.
    pub(super) fn look_at_index(&self) -> usize {
        let index = self.index.iter().step_by(STRIDE).fold(0, |seen, one| seen ^ one);
        self.blocks.iter().fold(index as usize, |seen, block| seen ^ block.len())
    }

    /// A look at a slot, up to where one of a usual size ends.
    pub(super) fn look_at_slot(&self, at: usize) -> u8 {
        let (block, offset) = self.place(at);
        let from = &self.blocks[block][offset..];
        from.iter().step_by(CACHE_LINE_BYTES).take(LOOKED_AT).fold(0, |seen, byte| seen ^ byte)
    }

    /// A look at all slots.
    pub(super) fn look_at_all(&self) -> u8 {
        let lines = self.blocks.iter().flat_map(|block| block.iter().step_by(CACHE_LINE_BYTES));
        lines.fold(0, |seen, byte| seen ^ byte)
    }

    pub(super) fn slot(&self, at: usize) -> Slot<'_> {
        let (_, bytes) = self.bytes(at);
        if !Slot::is_apart(bytes) {
            return Slot::new(bytes, &[]);
        }
        let (which, bytes) = bytes.split_last().expect("a slot has bytes");
        let apart = self.apart[usize::from(*which)].as_deref();
        Slot::new(bytes, apart.expect("what stands apart stays as long as its slot"))
    }

    /// Whether it has to be cut before this goes in, as a new slot or in the place of another.
    pub(super) fn is_full(&self, is_new: bool) -> bool {
        is_new && self.len() >= SLOTS_MAX || self.blocks.len() > BLOCKS_MAX
    }

    /// Puts in a slot whose key is new. The leaf is not full.
    pub(super) fn insert(&mut self, tag: u16, mut draft: Draft<'_>) {
        let behind = self.is_behind(draft.key());
        self.make_room(&draft);
        let place = self.append(&mut draft);
        if self.index.len() == self.index.capacity() {
            self.index.reserve_exact(STRIDE / 2);
        }
        self.index.push(u32::from(tag) << 16 | place);
        self.sorted += usize::from(behind);
    }

    /// Puts another slot in the place of one with the same key.
    pub(super) fn replace(&mut self, at: usize, mut draft: Draft<'_>) {
        self.free_apart(at);
        let (whole, old) = self.bytes(at);
        let (whole, from, until) = (whole.len(), whole.len() - old.len(), whole.len());
        if !is_apart(&draft) && draft.len() == old.len() {
            let (block, offset) = self.place(at);
            let slot = &mut self.blocks[block][offset + from..offset + until];
            let mut to = 0;
            draft.write(|piece| {
                slot[to..to + piece.len()].copy_from_slice(piece);
                to += piece.len();
            });
            return;
        }
        // First: as long as the index has the old slot, closing gaps keeps it.
        self.make_room(&draft);
        self.gaps += whole;
        let place = self.append(&mut draft);
        self.index[at] = self.index[at] & !0xffff | place;
        self.tidy();
    }

    /// Takes some slots out.
    pub(super) fn remove(&mut self, taken: Taken) {
        for at in (0..self.len()).filter(|at| taken.has(*at)) {
            self.free_apart(at);
            self.gaps += self.bytes(at).0.len();
        }
        self.sorted -= (0..self.sorted).filter(|at| taken.has(*at)).count();
        let mut at = 0..;
        self.index.retain(|_| !at.next().is_some_and(|at| taken.has(at)));
        self.tidy();
    }

    /// Cuts a full leaf, into which this key is to go; returns what is behind, with the bound between. When
    /// keys come in order, as from a snapshot, the full one stays and a new one begins.
    pub(super) fn cut(&mut self, key: &[u8]) -> (Box<[u8]>, Self) {
        if self.is_behind(key) {
            self.index.shrink_to_fit();
            let last = self.slot(self.len() - 1).key();
            return (fences::between(last, key), Self::default());
        }
        self.sort();
        let half = self.len() / 2;
        let bound = fences::between(self.slot(half - 1).key(), self.slot(half).key());
        let behind = self.part(half, self.len());
        *self = self.part(0, half);
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

    /// Puts the index in key order.
    pub(super) fn sort(&mut self) {
        if self.sorted == self.len() {
            return;
        }
        let mut order = Vec::new();
        self.order(&mut order);
        let sorted: Vec<u32> = order.iter().map(|at| self.index[usize::from(*at)]).collect();
        self.index.copy_from_slice(&sorted);
        self.sorted = self.len();
    }

    /// Whether all slots are in order, and a key is behind them.
    fn is_behind(&self, key: &[u8]) -> bool {
        self.sorted == self.len()
            && self.len().checked_sub(1).is_none_or(|last| self.slot(last).key() < key)
    }

    /// Appends a slot; returns where it is in the blocks.
    fn append(&mut self, draft: &mut Draft<'_>) -> u32 {
        let which = is_apart(draft).then(|| self.put_apart(draft.take_value()));
        let slot_len = draft.len() + usize::from(which.is_some());
        let mut len = Numbers::<LEN_BYTES_MAX>::new();
        len.push(slot_len as u64);
        let whole = len.get().len() + slot_len;
        let (place, block) = open(&mut self.blocks, whole, whole);
        block.extend_from_slice(len.get());
        draft.write(|piece| block.extend_from_slice(piece));
        block.extend(which);
        place
    }

    /// Puts a value down apart; returns which it is.
    fn put_apart(&mut self, value: &[u8]) -> u8 {
        let free = self.apart.iter().position(Option::is_none);
        let which = free.unwrap_or(self.apart.len());
        match free {
            Some(free) => self.apart[free] = Some(value.into()),
            None => self.apart.push(Some(value.into())),
        }
        u8::try_from(which).expect("there are fewer slots")
    }

    /// Closes the gaps if another block would be taken and they are worth it.
    fn make_room(&mut self, draft: &Draft<'_>) {
        let apart = if is_apart(draft) { draft.value_len() } else { 0 };
        let bytes = LEN_BYTES_MAX + draft.len() + 1 - apart;
        let has_room = self.blocks.last().is_some_and(|last| fits(last.len(), bytes));
        if !has_room && self.gaps > self.all_bytes() / 8 {
            self.pack();
        }
    }

    /// Closes the gaps if they are too many.
    fn tidy(&mut self) {
        if self.gaps > self.all_bytes() / 4 {
            self.pack();
        }
    }

    /// Closes the gaps.
    fn pack(&mut self) {
        let mut blocks = Vec::new();
        let mut rest = self.all_bytes() - self.gaps;
        for at in 0..self.len() {
            let (whole, _) = self.bytes(at);
            let (place, block) = open(&mut blocks, whole.len(), rest);
            block.extend_from_slice(whole);
            rest -= whole.len();
            self.index[at] = self.index[at] & !0xffff | place;
        }
        (self.blocks, self.gaps) = (blocks, 0);
    }

    /// A leaf of some slots, which are in order; their values that stand apart leave this one.
    fn part(&mut self, from: usize, until: usize) -> Self {
        let mut apart = std::mem::take(&mut self.apart);
        let bytes = (from..until).map(|at| self.bytes(at).0.len()).sum();
        let part = Self::of((from..until).map(|at| self.piece(at, &mut apart)), bytes);
        self.apart = apart;
        part
    }

    /// A leaf of some slots, in key order; all have so many bytes, without values that stand apart.
    fn of<'p>(pieces: impl ExactSizeIterator<Item = Piece<'p>>, bytes: usize) -> Self {
        let slots = (pieces.len() + STRIDE / 2).min(SLOTS_MAX);
        let mut leaf = Self { index: Vec::with_capacity(slots), ..Self::default() };
        let mut rest = bytes;
        for Piece { tag, whole, apart } in pieces {
            let (place, block) = open(&mut leaf.blocks, whole.len(), rest);
            block.extend_from_slice(whole);
            rest -= whole.len();
            leaf.index.push(u32::from(tag) << 16 | place);
            if let Some(value) = apart {
                *block.last_mut().expect("a slot has bytes") = leaf.apart.len() as u8;
                leaf.apart.push(Some(value.into_owned().into()));
            }
        }
        leaf.sorted = leaf.len();
        leaf
    }

    /// A slot, to be put into another leaf; its value, if that stands apart, is taken out of those given.
    pub(super) fn piece(&self, at: usize, apart: &mut [Option<Box<[u8]>>]) -> Piece<'_> {
        let (tag, (whole, slot)) = ((self.index[at] >> 16) as u16, self.bytes(at));
        let apart = Slot::is_apart(slot).then(|| {
            let which = usize::from(*slot.last().expect("a slot has bytes"));
            let value = apart[which].take().expect("what stands apart stays as long as its slot");
            Cow::Owned(value.into())
        });
        Piece { tag, whole, apart }
    }

    /// Takes out the values that stand apart; nothing is left of the slots but [`piece`](Self::piece)s.
    pub(super) fn take_apart(&mut self) -> Vec<Option<Box<[u8]>>> {
        std::mem::take(&mut self.apart)
    }

    /// The slots from a key on leave.
    pub(super) fn split_off(&mut self, key: &[u8]) -> Self {
        self.sort();
        let until = (0..self.len()).filter(|at| self.slot(*at).key() < key).count();
        let behind = self.part(until, self.len());
        *self = self.part(0, until);
        behind
    }

    /// A slot goes: its value with it, if that stands apart.
    fn free_apart(&mut self, at: usize) {
        let (_, slot) = self.bytes(at);
        if let (true, Some(&which)) = (Slot::is_apart(slot), slot.last()) {
            self.apart[usize::from(which)] = None;
        }
    }

    fn all_bytes(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    /// In which block a slot is, and where.
    fn place(&self, at: usize) -> (usize, usize) {
        let place = self.index[at] as usize & 0xffff;
        (place >> OFFSET_BITS, place & (BLOCK_BYTES - 1))
    }

    /// The bytes of a slot: with its length before it, and without.
    fn bytes(&self, at: usize) -> (&[u8], &[u8]) {
        let (block, offset) = self.place(at);
        let from = &self.blocks[block][offset..];
        let mut rest = Reader(from);
        let len = rest.number_usize();
        (&from[..from.len() - rest.0.len() + len], &rest.0[..len])
    }
}

/// Whether so many bytes more go into a block of so many.
const fn fits(block: usize, bytes: usize) -> bool {
    block + bytes <= BLOCK_BYTES - ALLOCATOR_BYTES
}

/// The block for so many bytes more, with room for them, and where they will be in the blocks; a new one has room for
/// all that are still to come.
fn open(blocks: &mut Vec<Vec<u8>>, bytes: usize, to_come: usize) -> (u32, &mut Vec<u8>) {
    if !blocks.last().is_some_and(|last| fits(last.len(), bytes)) {
        blocks.reserve_exact(1);
        blocks.push(Vec::with_capacity(capacity(to_come)));
    }
    let number = blocks.len() - 1;
    let block = &mut blocks[number];
    let len = block.len();
    if block.capacity() - len < bytes {
        block.reserve_exact(capacity(len + bytes) - len);
    }
    let place = u16::try_from(number << OFFSET_BITS | len).expect("a leaf is cut before");
    (u32::from(place), block)
}

/// How much memory is taken for so many bytes, or for a block.
fn capacity(bytes: usize) -> usize {
    let whole = (bytes + ALLOCATOR_BYTES).next_multiple_of(STEP_BYTES).min(BLOCK_BYTES);
    whole - ALLOCATOR_BYTES
}

/// Whether the value is to stand apart.
pub(super) const fn is_apart(draft: &Draft<'_>) -> bool {
    draft.value_len() > PACKED_BYTES_MAX
}

#[cfg(test)]
impl Leaf {
    /// Panics if the parts do not fit each other, or there is more room or there are more gaps than there should be.
    pub(super) fn check(&self) {
        assert!(self.len() <= SLOTS_MAX && self.sorted <= self.len());
        assert!(self.blocks.len() <= BLOCKS_MAX + 1);
        let all: usize = (0..self.len()).map(|at| self.bytes(at).0.len()).sum();
        assert_eq!(all + self.gaps, self.all_bytes());
        assert!(self.gaps <= self.all_bytes() / 4);
        let is_tight = |block: &Vec<u8>| block.capacity() - block.len() < STEP_BYTES;
        assert!(self.blocks.last().is_none_or(is_tight));
        let keys: Vec<&[u8]> = (0..self.len()).map(|at| self.slot(at).key()).collect();
        assert!(keys[..self.sorted].is_sorted_by(|a, b| a < b));
        let held = (0..self.len()).filter(|at| Slot::is_apart(self.bytes(*at).1));
        assert_eq!(held.count(), self.apart.iter().flatten().count());
    }
}
