//! How large the log is: the newest snapshot, the closed segments behind it, the active one.
//!
//! # Caveats
//!
//! Older snapshots, torn tails and reserved room are not counted: recovery does not read them.

use std::collections::BTreeMap;

/// Bytes of the files that recovery would read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the newest snapshot; 0 if there is none.
    pub snapshot: u64,
    /// Closed segments by number.
    closed: BTreeMap<u64, u64>,
    /// Bytes of the active segment, with those that wait to be written.
    pub active: u64,
}

impl Sizes {
    /// The active segment, which had this number, is closed; the next has so many bytes.
    pub fn rotated(&mut self, segment: u64, next: u64) {
        self.closed(segment, self.active);
        self.active = next;
    }

    /// There is a closed segment.
    pub fn closed(&mut self, segment: u64, bytes: u64) {
        self.closed.insert(segment, bytes);
    }

    /// There is a snapshot in the place of all segments up to this one.
    pub fn compacted(&mut self, segment: u64, snapshot: u64) {
        self.snapshot = snapshot;
        self.closed.retain(|number, _| *number > segment);
    }

    /// Bytes written since the newest snapshot began.
    #[must_use]
    pub fn since_snapshot(&self) -> u64 {
        self.closed.values().sum::<u64>() + self.active
    }

    /// All bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.snapshot + self.since_snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_stands_for_the_segments_it_covers() {
        let mut sizes = Sizes { active: 100, ..Sizes::default() };
        sizes.rotated(1, 10);
        sizes.rotated(2, 20);
        assert_eq!((sizes.since_snapshot(), sizes.total()), (130, 130));
        sizes.compacted(1, 50);
        assert_eq!((sizes.since_snapshot(), sizes.total()), (30, 80));
    }
}
