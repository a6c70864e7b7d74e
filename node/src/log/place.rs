//! Where a line stands on disk.
//!
//! The map remembers for each value the place of the line that stored it, so that a value that
//! is not in memory can be read back, and checked with the line before it.
//!
//! # Caveats
//!
//! A place is only as good as its file: who deletes a file makes sure first that no place is in it.

/// A file of the log: twice the number of a segment, and one more for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

impl FileId {
    /// A segment, active or closed.
    ///
    /// # Panics
    ///
    /// There are more than 2^31 segments.
    #[must_use]
    pub fn segment(number: u64) -> Self {
        let number =
            u32::try_from(2 * number).expect("no node closes two thousand million segments");
        Self(number)
    }

    /// The snapshot of all segments up to this one.
    #[must_use]
    pub fn snapshot(number: u64) -> Self {
        Self(Self::segment(number).0 + 1)
    }

    /// Whether it is a snapshot.
    #[must_use]
    pub const fn is_snapshot(self) -> bool {
        self.0 % 2 == 1
    }

    /// The number of the segment, or of the last one that the snapshot stands for.
    #[must_use]
    pub const fn number(self) -> u64 {
        (self.0 / 2) as u64
    }
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The line's first byte, from the start of the file. Never 0: a header comes first.
    pub offset: u64,
    /// The line's length in bytes, with its newline.
    pub len: u32,
}
