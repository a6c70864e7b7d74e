//! Reading a file of the log a piece at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use super::note::Note;
use super::place::{FileId, Place};
use super::scan::{Kind, Scan, Scanned, Scanner};
use crate::StorageError;
use crate::disk::{Disk, DiskFile, Open};

/// How much of a file is in memory at once, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// A file that is being read.
#[derive(Debug)]
pub struct Walk {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    scanner: Scanner,
    chunk: Vec<u8>,
    /// Bytes read so far.
    at: u64,
}

impl Walk {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        kind: Kind,
        id: FileId,
    ) -> Result<Self, StorageError> {
        let file = files::open(disk, path, Open::Read)?;
        let (scanner, chunk) = (Scanner::new(kind, id), vec![0; CHUNK_BYTES]);
        Ok(Self { path: path.to_owned(), file, scanner, chunk, at: 0 })
    }

    /// Reads a piece, giving each good record in it to `each`; false at the end of the file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn step(&mut self, each: impl FnMut(&Scanned<'_>, Place)) -> Result<bool, StorageError> {
        let read = self.file.read_at(&mut self.chunk, self.at);
        let read = read.map_err(StorageError::io("reading", &self.path))?;
        self.scanner.feed(&self.chunk[..read], each);
        self.at += read as u64;
        Ok(read == self.chunk.len())
    }

    /// The same, which keeps the notes that it reads until they are taken.
    #[must_use]
    pub fn with_notes(self) -> Self {
        Self { scanner: self.scanner.with_notes(), ..self }
    }

    /// The good notes that were read since they were last taken.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.scanner.take_notes()
    }

    /// What was found so far.
    #[must_use]
    pub const fn so_far(&self) -> &Scan {
        self.scanner.so_far()
    }

    /// What was found in the whole file.
    #[must_use]
    pub fn finish(self) -> Scan {
        self.scanner.finish()
    }
}
