//! What is done to `data.log` before a node serves from it.
//!
//! A torn tail is kept in a file of its own and left out. Unless the last stop was in good order
//! (the last line is a durable `BYE`), the log is then *rewritten*: copied to `data.tmp`, synced,
//! renamed. The copy has the same bytes; what differs is what is known of them.
//! If a sync failed before the stop, the operating system may have marked pages clean that never
//! reached the disk. They can be read, so the replay finds them good, and a second sync of the old
//! file has nothing to write and succeeds; then a power cut takes lines that readers were shown in
//! between. A new file has new pages, and its sync tells the truth. The cost is one segment, whose
//! size is bounded by rotation; closed files were synced before they got their names.
//!
//! # Caveats
//!
//! The copy needs as much room as the active segment.

use std::path::Path;
use std::sync::Arc;

use super::files::{self, DataDir};
use crate::StorageError;
use crate::disk::{DiskFile, Open};

/// How much is in memory while files are copied, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Copies all of the active segment behind its first `good` bytes to a file of its own; says how
/// many bytes there were, and where they are.
///
/// # Errors
///
/// A file cannot be read or written. The segment is as it was.
pub fn keep_torn(dir: &DataDir, good: u64) -> Result<(u64, std::path::PathBuf), StorageError> {
    let (path, kept) = (dir.active(), dir.torn()?);
    let log = files::open(dir.disk(), &path, Open::Read)?;
    let end = log.len().map_err(StorageError::io("reading", &path))?;
    let tmp = dir.active_tmp();
    copy(dir, (&*log, &path), good..end, &tmp)?;
    files::rename(dir.disk(), &tmp, &kept)?;
    dir.sync()?;
    Ok((end - good, kept))
}

/// Puts a copy of the first `good` bytes of the active segment in its place, on new blocks.
///
/// # Errors
///
/// A file cannot be read or written. The segment is as it was, or the copy is in its place.
pub fn rewrite(dir: &DataDir, good: u64) -> Result<Arc<dyn DiskFile>, StorageError> {
    let (path, tmp) = (dir.active(), dir.active_tmp());
    let log = files::open(dir.disk(), &path, Open::Read)?;
    let file = copy(dir, (&*log, &path), 0..good, &tmp)?;
    files::rename(dir.disk(), &tmp, &path)?;
    dir.sync()?;
    Ok(file)
}

fn copy(
    dir: &DataDir,
    (from, path): (&dyn DiskFile, &Path),
    range: std::ops::Range<u64>,
    to: &Path,
) -> Result<Arc<dyn DiskFile>, StorageError> {
    let file = dir.disk().open(to, Open::New).map_err(StorageError::io("making", to))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = range.start;
    while at < range.end {
        let want =
            usize::try_from(range.end - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let read = from.read_at(&mut chunk[..want], at);
        let read = read.map_err(StorageError::io("reading", path))?;
        if read < want {
            let shorter = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(StorageError::io("reading", path)(shorter));
        }
        let written = file.write_at(&chunk[..want], at - range.start);
        written.map_err(StorageError::io("writing", to))?;
        at += want as u64;
    }
    file.sync().map_err(StorageError::io("syncing", to))?;
    Ok(file)
}
