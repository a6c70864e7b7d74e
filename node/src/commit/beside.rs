//! What is done beside the writing of lines, by threads that may wait for the disk: taking more room, and most of the
//! closing of a segment.
//!
//! A segment is closed when all its lines are durable. Where groups are not synced one by one, that may be tens of
//! megabytes, and the disk takes as many milliseconds. So it is done in two steps, and only the second holds up who writes:
//!
//! ```text
//!   beside    the file of the next segment is made; what has been written is synced     lines are written on
//!   at once   what was written meanwhile is synced; header, renames                     lines wait
//! ```
//!
//! # Caveats
//!
//! In the first step nothing else syncs the segment: a sync that fails says so only once, and the one that is asked next
//! may claim success. The segment becomes larger than it should by what is written meanwhile.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::debug;

use super::Committer;
use crate::StorageError;
use crate::disk::DiskFile;
use crate::log::record::Header;
use crate::log::writer;

/// A request to close the active segment, answered with the header of the next, or why there is no
/// room for one.
pub(crate) type Rotation = oneshot::Sender<Result<Header, StorageError>>;

/// The file of the next segment, and how much room is in it; or why there is none for it.
type Next = Result<(Arc<dyn DiskFile>, u64), StorageError>;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Beside {
    closing: Option<JoinHandle<Result<Next, StorageError>>>,
    reserving: Option<JoinHandle<()>>,
}

impl Beside {
    /// Whether the active segment is being synced.
    pub(super) const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Waits until the next segment can be begun; for ever, if the active one is not being closed.
    pub(super) async fn next(&mut self) -> Result<Next, StorageError> {
        let Some(closing) = &mut self.closing else { return std::future::pending().await };
        let next = closing.await.expect("closing does not panic");
        self.closing = None;
        next
    }

    /// Waits until nothing of it is under way.
    pub(super) async fn end(&mut self) -> Result<(), StorageError> {
        self.has_reserved().await;
        if self.is_closing() {
            // Its file goes with the next start.
            let _ = self.next().await?;
        }
        Ok(())
    }

    async fn has_reserved(&mut self) {
        if let Some(reserving) = self.reserving.take() {
            reserving.await.expect("reserving does not panic");
        }
    }
}

impl Committer {
    /// Begins to close the active segment, unless that has begun.
    pub(super) fn begin_to_close(&mut self) {
        if self.beside.is_closing() {
            return;
        }
        let (dir, file) = (Arc::clone(&self.shared.dir), self.writer().file());
        let is_synced = self.unsynced == 0;
        self.beside.closing = Some(spawn_blocking(move || {
            let next = match writer::prepare(&dir) {
                Err(error) if error.is_full() || error.is_read_only() => return Ok(Err(error)),
                prepared => prepared?,
            };
            if !is_synced {
                file.sync().map_err(StorageError::io("syncing", &dir.active()))?;
            }
            Ok(Ok(next))
        }));
    }

    /// Closes the active segment, and tells who has asked for it.
    pub(super) async fn close(&mut self, next: Next) -> Result<(), StorageError> {
        let closed = match next {
            Ok((file, reserved)) => Ok(self.rotate(file, reserved).await?),
            Err(error) => Err(error),
        };
        match (self.asked.take(), closed) {
            // The compactor may have been told to stop; the segment is closed anyway.
            (Some(asked), closed) => drop(asked.send(closed)),
            (None, Ok(_)) => {}
            (None, Err(error)) => debug!(%error, "the segment stays open for want of room"),
        }
        Ok(())
    }

    /// Goes on in this file; the header of the segment that it is.
    async fn rotate(
        &mut self,
        next: Arc<dyn DiskFile>,
        reserved: u64,
    ) -> Result<Header, StorageError> {
        self.beside.has_reserved().await;
        let (rest, header, line, hook) = {
            let mut state = self.shared.lock();
            let (rest, header, line) = state.tail.rotate();
            state.sizes.rotated(header.segment - 1, line.len() as u64);
            state.room.passes_to(Arc::clone(&next), reserved);
            self.shared.lines.opened(state.tail.file(), Arc::clone(&next));
            (rest, header, line, self.shared.options.hook.clone())
        };
        self.write(rest, header.seq, true, false).await?;
        let written = header.clone();
        self.blocking(move |writer| writer.rotate(next, &written, &line, &hook)).await?;
        Ok(header)
    }

    /// Takes more room for the log while there is still some, so that no write waits for it.
    pub(super) fn reserve_ahead(&mut self) {
        if self.beside.reserving.as_ref().is_some_and(|reserving| !reserving.is_finished()) {
            return;
        }
        let ahead = {
            let mut state = self.shared.lock();
            let end = state.sizes.active;
            state.room.ahead(end)
        };
        let Some((file, from, bytes)) = ahead else { return };
        let shared = Arc::clone(&self.shared);
        self.beside.reserving = Some(spawn_blocking(move || {
            let reserved = file.reserve(from, bytes);
            // If it fails, the write that needs the room will find out, and say so.
            shared.lock().room.taken(&file, reserved.ok().map(|()| from + bytes));
        }));
    }
}
