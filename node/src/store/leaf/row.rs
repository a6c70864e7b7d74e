//! Leaves filled one behind the other.
//!
//! What is put in comes in key order, and a leaf ends where a block does: so nearly all blocks are full, and of one size. Those
//! of leaves that give way are filled again.
//!
//! Memory that a thread of its own takes is given back to that thread's share of it, where glibc's allocator lets no
//! other have it; the map would have to be paid for twice when it is written to later. So the blocks come from a
//! [`Stock`], which is filled by the thread that will go on with the map.
//!
//! # Caveats
//!
//! What is small beside the blocks, index and bounds, is from the thread that fills the leaf.

use std::mem;
use std::sync::Mutex;

use super::{BLOCK_BYTES, BLOCKS_MAX, Leaf, OFFSET_BITS, SLOTS_MAX, capacity, fits};
use crate::store::fences;
use crate::store::piece::Piece;

/// How many blocks one takes from the stock, or gives back, at once.
const HANDFUL: usize = 32;

/// A leaf, and the least key that may be in it; of the first of all nothing.
pub(in crate::store) type Bounded = (Box<[u8]>, Leaf);

/// Blocks that nothing is in.
#[derive(Debug, Default)]
pub(in crate::store) struct Stock(Mutex<Vec<Vec<u8>>>);

impl Stock {
    /// Memory for so many bytes of slots.
    pub(in crate::store) fn of(bytes: usize) -> Self {
        Self(Mutex::new((0..bytes.div_ceil(BLOCK_BYTES)).map(|_| block()).collect()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        act(&mut self.0.lock().expect("nothing panics while it holds the stock"))
    }
}

/// Leaves in the making.
#[derive(Debug)]
pub(in crate::store) struct Row<'s> {
    stock: &'s Stock,
    /// Some blocks of it.
    blocks: Vec<Vec<u8>>,
    /// Leaves that are made.
    made: Vec<Bounded>,
    /// The least key that may be in the one that is being made.
    low: Box<[u8]>,
    /// That leaf.
    leaf: Leaf,
    /// How many slots are in its last block.
    in_block: usize,
}

impl<'s> Row<'s> {
    pub(in crate::store) fn new(stock: &'s Stock) -> Self {
        let (blocks, made, low, leaf) = (Vec::new(), Vec::new(), Box::default(), Leaf::default());
        Self { stock, blocks, made, low, leaf, in_block: 0 }
    }

    /// Where its memory comes from.
    pub(in crate::store) const fn stock(&self) -> &'s Stock {
        self.stock
    }

    /// The leaves up to here.
    pub(in crate::store) fn take(&mut self) -> Vec<Bounded> {
        self.end_leaf(Box::default());
        mem::take(&mut self.made)
    }

    /// What is pushed next is not below this key.
    pub(in crate::store) fn goes_on_from(&mut self, low: Box<[u8]>) {
        if self.leaf.len() == 0 {
            self.low = low;
        }
    }

    /// Puts a leaf as it is behind the others.
    pub(in crate::store) fn keep(&mut self, low: Box<[u8]>, leaf: Leaf) {
        self.end_leaf(Box::default());
        self.made.push((low, leaf));
    }

    /// Puts a slot behind the others.
    pub(in crate::store) fn push(&mut self, piece: Piece<'_>) {
        let Piece { tag, whole, apart } = piece;
        let has_room = self.leaf.blocks.last().is_some_and(|last| fits(last.len(), whole.len()));
        // Another block of slots like these would be too many.
        let is_last =
            self.leaf.len() + self.in_block > SLOTS_MAX || self.leaf.blocks.len() == BLOCKS_MAX;
        if self.leaf.len() == SLOTS_MAX || !has_room && is_last {
            let last = self.leaf.slot(self.leaf.len() - 1).key();
            self.end_leaf(fences::between(last, piece_key(whole)));
            self.add_block();
        } else if !has_room {
            self.add_block();
        }
        let number = self.leaf.blocks.len() - 1;
        let block = &mut self.leaf.blocks[number];
        let place = (number << OFFSET_BITS | block.len()) as u32;
        block.extend_from_slice(whole);
        self.in_block += 1;
        if let Some(value) = apart {
            *block.last_mut().expect("a slot has bytes") = self.leaf.apart.len() as u8;
            self.leaf.apart.push(Some(value.into_owned().into()));
        }
        self.leaf.index.push(u32::from(tag) << 16 | place);
    }

    /// Takes the blocks of a leaf of which all is put in that is to stay.
    pub(in crate::store) fn recycle(&mut self, leaf: Leaf) {
        let full = |block: &Vec<u8>| block.capacity() == capacity(BLOCK_BYTES);
        self.blocks.extend(leaf.blocks.into_iter().filter(full));
        if self.blocks.len() > 2 * HANDFUL {
            self.stock.with(|stock| stock.extend(self.blocks.drain(HANDFUL..)));
        }
    }

    fn add_block(&mut self) {
        if self.blocks.is_empty() {
            self.blocks = self.stock.with(|stock| {
                let from = stock.len().saturating_sub(HANDFUL);
                stock.split_off(from)
            });
        }
        let mut block = self.blocks.pop().unwrap_or_else(block);
        block.clear();
        self.leaf.blocks.push(block);
        self.in_block = 0;
    }

    /// Ends a leaf, behind which all keys are from this one on.
    fn end_leaf(&mut self, bound: Box<[u8]>) {
        let low = mem::replace(&mut self.low, bound);
        if self.leaf.len() == 0 {
            return;
        }
        let mut leaf = mem::take(&mut self.leaf);
        leaf.sorted = leaf.len();
        leaf.index.shrink_to_fit();
        leaf.blocks.shrink_to_fit();
        if let Some(last) = leaf.blocks.last_mut() {
            last.shrink_to(capacity(last.len()));
        }
        self.made.push((low, leaf));
        // The next one is as large.
        let (slots, blocks) = self.made.last().map_or((0, 0), |(_, l)| (l.len(), l.blocks.len()));
        self.leaf.index.reserve_exact(slots);
        self.leaf.blocks.reserve_exact(blocks);
    }
}

/// Memory for a block.
fn block() -> Vec<u8> {
    Vec::with_capacity(capacity(BLOCK_BYTES))
}

/// The key of a slot with its length before it.
fn piece_key(whole: &[u8]) -> &[u8] {
    Piece { tag: 0, whole, apart: None }.key()
}
