//! After a snapshot: each entry learns where its line stands now, before the old files go.
//!
//! An entry whose place was in a segment that the snapshot stands for has not changed since, so the
//! snapshot has its line. One that changed has another version, or is gone, and keeps what it
//! has: its line is in a later segment.
//!
//! # Caveats
//!
//! The snapshot is read once more, from the operating system's cache most likely.

use crate::StorageError;
use crate::engine::Shared;
use crate::log::place::FileId;
use crate::log::record::Op;
use crate::log::scan::Kind;
use crate::log::walk::Walk;

/// Moves the places of all entries to the lines of a snapshot. The map is locked for a piece of
/// the file at a time.
pub(crate) fn follow(shared: &Shared, segment: u64) -> Result<(), StorageError> {
    let path = shared.dir.snapshot(segment);
    let id = FileId::snapshot(segment);
    let mut walk = Walk::open(shared.dir.disk(), &path, Kind::Snapshot, id)?;
    let mut moved = Vec::new();
    loop {
        let more = walk.step(|record, place| {
            if matches!(record.op, Op::Put { .. }) {
                moved.push((record.key.to_vec(), record.version, place));
            }
        })?;
        let mut state = shared.lock();
        for (key, version, place) in moved.drain(..) {
            state.store.replace(&key, version, place);
        }
        drop(state);
        if !more {
            break;
        }
    }
    match walk.finish().bad {
        Some(bad) => {
            Err(StorageError::Unreadable { file: path, offset: bad.offset, reason: bad.reason })
        }
        None => Ok(()),
    }
}
