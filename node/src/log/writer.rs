//! The active segment: written, synced, and from time to time closed.
//!
//! Closing segment 41 is four steps, after all its lines are synced: the header of segment 42 is
//! written to `data.tmp` and synced; `data.log` is renamed `data-000041.log`; the directory is synced;
//! `data.tmp` is renamed `data.log` and the directory synced again. A crash between leaves either
//! the old `data.log`, or no `data.log` and a whole closed segment, which the next start completes.
//!
//! # Caveats
//!
//! After any error the writer must not be used again: what reached the disk is not known.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::{self, DataDir};
use super::mark::Mark;
use super::record::Header;
use crate::StorageError;
use crate::engine::{Step, StepHook};

/// The open active segment with its mark.
#[derive(Debug)]
pub struct Writer {
    dir: Arc<DataDir>,
    file: File,
    path: PathBuf,
    mark: Mark,
}

impl Writer {
    /// Writes to `file`, the open `data.log` of `dir`, positioned at its end.
    #[must_use]
    pub fn new(dir: Arc<DataDir>, file: File, mark: Mark) -> Self {
        let path = dir.active();
        Self { dir, file, path, mark }
    }

    /// Appends lines.
    ///
    /// # Errors
    ///
    /// The write failed; some of it may be in the file.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), StorageError> {
        self.file.write_all(lines).map_err(StorageError::io("writing", &self.path))
    }

    /// Makes all lines durable, the last of which is `seq`, and marks it.
    ///
    /// # Errors
    ///
    /// The sync failed; it must not be tried again, because the next may claim success for lines
    /// that the operating system has given up.
    pub fn sync(&mut self, seq: u64) -> Result<(), StorageError> {
        self.file.sync_data().map_err(StorageError::io("syncing", &self.path))?;
        self.mark.set(seq)
    }

    /// Closes the segment, all of whose lines are synced, and starts the next with its header.
    ///
    /// # Errors
    ///
    /// A step failed.
    pub fn rotate(
        &mut self,
        next: &Header,
        bytes: &[u8],
        hook: &StepHook,
    ) -> Result<(), StorageError> {
        let tmp = self.dir.active_tmp();
        let file = files::write_new(&tmp, bytes)?;
        hook.at(Step::NextSegmentPrepared);
        files::rename(&self.path, &self.dir.closed(next.segment - 1))?;
        self.dir.sync()?;
        hook.at(Step::SegmentClosed);
        files::rename(&tmp, &self.path)?;
        self.dir.sync()?;
        hook.at(Step::NextSegmentOpen);
        self.file = file;
        Ok(())
    }

    /// Puts another file in the place of the log: how tests make the disk fail.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.file = file;
    }
}
