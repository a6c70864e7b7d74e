//! The bytes of one simulated file: what is seen, what is durable, and what lies between.

use std::collections::BTreeMap;

use rand::{Rng as _, RngCore};

/// The unit in which a disk writes: a power cut leaves a sector old or new, never half.
const SECTOR: usize = 512;
/// How many contents a sector that was not synced is remembered with.
const VERSIONS_MAX: usize = 4;

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What readers see: the page cache.
    seen: Vec<u8>,
    /// What a power cut leaves at least.
    durable: Vec<u8>,
    /// Sectors that the next sync writes, with the contents they had since the last.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The end of the reserved range.
    reserved: u64,
    /// How many have it open.
    pub(super) handles: usize,
}

impl Inode {
    /// A file that lies on the disk with these bytes.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { seen: bytes.clone(), durable: bytes, ..Self::default() }
    }

    /// The same file, which nobody has open.
    pub(super) fn closed(&self) -> Self {
        Self { handles: 0, ..self.clone() }
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Room taken.
    pub(super) fn allocated(&self) -> u64 {
        self.reserved.max(self.seen.len() as u64)
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let (before, end) = (self.seen.len(), offset + bytes.len());
        if bytes.is_empty() {
            return;
        }
        self.seen.resize(before.max(end), 0);
        self.seen[offset..end].copy_from_slice(bytes);
        self.touch(offset.min(before), end);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        let before = self.seen.len();
        self.seen.resize(len, 0);
        self.reserved = 0;
        self.touch(len.min(before), len.max(before));
    }

    pub(super) fn reserve(&mut self, end: u64) {
        self.reserved = self.reserved.max(end);
    }

    fn touch(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            let content = content(&self.seen, sector).to_vec();
            let versions = self.dirty.entry(sector).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(content);
        }
    }

    pub(super) fn sync(&mut self) {
        for (sector, _) in std::mem::take(&mut self.dirty) {
            place(&mut self.durable, sector, content(&self.seen, sector));
        }
        self.durable.resize(self.seen.len(), 0);
    }

    /// A sync that fails: some sectors are written, all are marked clean.
    pub(super) fn fail_sync(&mut self, rng: &mut dyn RngCore) {
        for (sector, _) in std::mem::take(&mut self.dirty) {
            if rng.random_bool(0.5) {
                place(&mut self.durable, sector, content(&self.seen, sector));
            }
        }
    }

    /// What a power cut leaves, if each unsynced sector had this chance to be written.
    pub(super) fn crash(&self, chance: f64, rng: &mut dyn RngCore) -> Self {
        let mut bytes = self.durable.clone();
        for (sector, versions) in &self.dirty {
            if rng.random_bool(chance) {
                let version = &versions[rng.random_range(0..versions.len())];
                place(&mut bytes, *sector, version);
            }
        }
        // The length is written apart from the bytes; what never came reads as zeros.
        if !self.dirty.is_empty() && rng.random_bool(chance) {
            bytes.resize(self.seen.len(), 0);
        }
        Self::durable(bytes)
    }
}

fn content(bytes: &[u8], sector: usize) -> &[u8] {
    let start = (sector * SECTOR).min(bytes.len());
    &bytes[start..bytes.len().min(start + SECTOR)]
}

fn place(bytes: &mut Vec<u8>, sector: usize, content: &[u8]) {
    let start = sector * SECTOR;
    if content.is_empty() {
        return;
    }
    bytes.resize(bytes.len().max(start + content.len()), 0);
    bytes[start..start + content.len()].copy_from_slice(content);
}
