//! Where a line stands on disk.
//!
//! The map remembers for each value the place of the line that stored it, so that a value that
//! is not in memory can be read back, and checked with the line before it.
//!
//! # Caveats
//!
//! A place is only as good as its file: who deletes a file makes sure first that no place is in it.

/// A file of the log. What the number means is the business of who opens the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

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
