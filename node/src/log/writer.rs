//! The active segment: written, synced, and from time to time closed.
//!
//! Closing segment 41 is four steps, after all its lines are synced: the header of segment 42 is
//! written to `data.tmp`, in which there is room for more, and synced; `data.log` is renamed `data-000041.log`; the directory is synced;
//! `data.tmp` is renamed `data.log` and the directory synced again. A crash between leaves either
//! the old `data.log`, or no `data.log` and a whole closed segment, which the next start completes.
//!
//! # Caveats
//!
//! After any error the writer must not be used again: what reached the disk is not known.

use std::path::PathBuf;
use std::sync::Arc;

use super::files::{self, DataDir};
use super::mark::Mark;
use super::record::Header;
use crate::StorageError;
use crate::disk::{DiskFile, Open};
use crate::room::Room;
use crate::step::{Step, StepHook};

/// The open active segment with its mark.
#[derive(Debug)]
pub struct Writer {
    dir: Arc<DataDir>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Where the next line goes.
    end: u64,
    mark: Mark,
}

impl Writer {
    /// Writes to `file`, the open `data.log` of `dir`, behind its first `end` bytes.
    #[must_use]
    pub fn new(dir: Arc<DataDir>, file: Arc<dyn DiskFile>, end: u64, mark: Mark) -> Self {
        let path = dir.active();
        Self { dir, file, path, end, mark }
    }

    /// Appends lines.
    ///
    /// # Errors
    ///
    /// The write failed. What of it is in the file is cut off again, if the disk still does that;
    /// then the log is whole, and nothing of these lines is in it.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), StorageError> {
        if let Err(error) = self.file.write_at(lines, self.end) {
            // Should this fail too, the next start finds a torn tail and cuts it.
            let _ = self.file.truncate(self.end).and_then(|()| self.file.sync());
            return Err(StorageError::io("writing", &self.path)(error));
        }
        self.end += lines.len() as u64;
        Ok(())
    }

    /// Makes all lines durable, the last of which is `seq`, and marks it.
    ///
    /// # Errors
    ///
    /// The sync failed; it must not be tried again, because the next may claim success for lines
    /// that the operating system has given up.
    pub fn sync(&mut self, seq: u64) -> Result<(), StorageError> {
        self.file.sync().map_err(StorageError::io("syncing", &self.path))?;
        self.mark.set(seq)
    }

    /// The open file of the active segment.
    #[must_use]
    pub fn file(&self) -> Arc<dyn DiskFile> {
        Arc::clone(&self.file)
    }

    /// Closes the segment, all of whose lines are synced, and starts the next, whose file was
    /// prepared, with its header.
    ///
    /// # Errors
    ///
    /// A step failed.
    pub fn rotate(
        &mut self,
        file: Arc<dyn DiskFile>,
        next: &Header,
        bytes: &[u8],
        hook: &StepHook,
    ) -> Result<(), StorageError> {
        let tmp = self.dir.active_tmp();
        file.write_at(bytes, 0).map_err(StorageError::io("writing", &tmp))?;
        file.sync().map_err(StorageError::io("syncing", &tmp))?;
        hook.at(Step::NextSegmentPrepared);
        self.give_back();
        files::rename(self.dir.disk(), &self.path, &self.dir.closed(next.segment - 1))?;
        self.dir.sync()?;
        hook.at(Step::SegmentClosed);
        files::rename(self.dir.disk(), &tmp, &self.path)?;
        self.dir.sync()?;
        hook.at(Step::NextSegmentOpen);
        (self.file, self.end) = (file, bytes.len() as u64);
        Ok(())
    }

    /// Gives back the room that is reserved beyond the end.
    pub fn give_back(&self) {
        // What is not given back is only room; a disk that really fails will say so again.
        let _ = self.file.truncate(self.end);
    }
}

/// Makes the file of the next segment, with room and nothing in it; says how much room.
///
/// # Errors
///
/// It cannot be made, and is not there.
pub fn prepare(dir: &DataDir) -> Result<(Arc<dyn DiskFile>, u64), StorageError> {
    let tmp = dir.active_tmp();
    let file = dir.disk().open(&tmp, Open::New);
    let file = file.map_err(StorageError::io("making", &tmp))?;
    match Room::start(&*file) {
        Ok(reserved) => Ok((file, reserved)),
        Err(error) => {
            files::remove(dir.disk(), &tmp)?;
            Err(StorageError::io("reserving room in", &tmp)(error))
        }
    }
}
