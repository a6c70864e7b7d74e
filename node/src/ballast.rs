//! 4 MiB that nobody needs, until the disk is full.
//!
//! Compaction makes room, but needs some first. The file `ballast` keeps it: while the disk is full
//! the file is deleted, and made again before the node takes puts, so that they cannot use it up.
//!
//! # Caveats
//!
//! A snapshot that is larger than the ballast and what else is free does not fit; then only who
//! frees room elsewhere can help. Where room cannot be reserved there is no ballast.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::Open;
use crate::log::files::DataDir;

/// Its size.
const BALLAST_BYTES: u64 = 4 * 1024 * 1024;

/// The file.
#[derive(Debug)]
pub(crate) struct Ballast {
    dir: Arc<DataDir>,
    path: PathBuf,
    held: bool,
}

impl Ballast {
    /// Not made yet, as far as this process knows.
    pub(crate) fn new(dir: Arc<DataDir>) -> Self {
        let path = dir.path().join("ballast");
        Self { dir, path, held: false }
    }

    /// Takes the room, if it is not held.
    pub(crate) fn make(&mut self) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        let file = self.dir.disk().open(&self.path, Open::Keep)?;
        match file.reserve(0, BALLAST_BYTES) {
            Ok(()) => self.held = true,
            Err(error) => {
                drop(file);
                self.dir.disk().remove(&self.path)?;
                if error.kind() != io::ErrorKind::Unsupported {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Deletes the file that an earlier process left; true if there was one.
    pub(crate) fn free_left_over(&self) -> bool {
        self.dir.disk().remove(&self.path).is_ok()
    }

    /// Gives the room back, if it is held.
    pub(crate) fn free(&mut self) -> io::Result<()> {
        if self.held {
            self.dir.disk().remove(&self.path)?;
            self.held = false;
        }
        Ok(())
    }
}
