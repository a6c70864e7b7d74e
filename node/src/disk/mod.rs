//! The disk as the engine sees it: few operations, and what each one promises.
//!
//! | operation | what is true when it returns | after a power cut |
//! |---|---|---|
//! | [`DiskFile::write_at`] | the bytes can be read back | any part of them may be there, sector by sector |
//! | [`DiskFile::sync`] | all bytes of the file are durable | they are there |
//! | [`DiskFile::truncate`] | the file has that length, reserved room beyond it is given back | either length |
//! | [`DiskFile::reserve`] | writes into that range need no more room | the room may be gone |
//! | [`Disk::open`] with [`Open::New`] or [`Open::Keep`], [`Disk::rename`], [`Disk::remove`] | names are as told | any part of these changes may have happened |
//! | [`Disk::sync_dir`] | all changes of names in the directory are durable | they have happened |
//!
//! Everything the engine does with files goes through these two traits. [`RealDisk`] is the
//! operating system's; [`SimDisk`] is in memory, fails and loses power on request, and forgets then
//! just what the table lets it forget. The engine's fault tests run on it, so what they show holds
//! for any disk that keeps the table.
//!
//! # Caveats
//!
//! A `sync` that failed promises nothing about the next one: operating systems mark pages clean
//! that they could not write. Nobody may call it again on that file.

mod real;
mod sim;

pub use real::RealDisk;
pub use sim::{Operation, SimDisk};

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made if it is not there, kept as it is otherwise.
    Keep,
    /// For reading and writing; made if it is not there, emptied otherwise.
    New,
}

/// Where files are.
///
/// Every operation fails with the operating system's error and has then changed nothing, unless
/// it says otherwise.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a directory, and those above it, for its owner only; durable when it returns.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks a file, made if need be, against other processes until the lock is dropped;
    /// `None` if another has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;

    /// The names in a directory, in no order.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file. One that is made is for its owner only, and its name is not durable yet.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, taking it from the file that has it. Not durable yet.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a name. Not durable yet. Who has the file open can still read it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
#[allow(clippy::missing_errors_doc, reason = "said once, at `Disk`")]
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a log is empty")]
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Reads into all of `buf`, or to the end of the file; says how many bytes that were.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes there. On an error any first part of them may be in the file.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all that was written durable. After an error it is unknown what is, and no later
    /// sync will tell.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to this length and gives back room reserved beyond it.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Takes room for a range of the file without changing its length.
    /// [`io::ErrorKind::Unsupported`]: the file system knows no such thing.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;
}

/// A lock that is held until it is dropped.
pub struct Lock(Box<dyn Send + Sync>);

impl Lock {
    /// A lock that lasts as long as `guard`.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_held) = self;
        f.write_str("Lock")
    }
}

/// Whether the error says that there is no room.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the error says that nothing may be written at all.
#[must_use]
pub fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

#[cfg(test)]
mod tests;
