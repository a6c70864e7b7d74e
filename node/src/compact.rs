//! Compaction: the log gives way to a snapshot, while writes go on.
//!
//! When it is due, says [`policy`](crate::policy). Then:
//!
//! 1. the committer closes segment n; new lines go to n + 1;
//! 2. notes and map are copied page by page into `snap-n.tmp`, between other requests; while some pages are written the next are taken;
//! 3. all lines appended until then are made durable, then `END`, sync, rename, sync directory;
//! 4. entries whose values may leave memory are told where their lines stand now;
//! 5. segments up to n are deleted, and snapshots beyond those to be kept.
//!
//! The pages are taken from the live map, so the snapshot is *fuzzy*: it may already hold changes
//! whose lines are in segment n + 1. Replaying them over it gives the same map. Take one key, let o
//! be what it held in the original history and r in the replay, which starts with r = v, what the page saw.
//! Until the page saw it the key got some lines of segment n + 1. If none of them forgets the key, v is the merge of
//! what was before with all of them, so merging them once more leaves r = v, and when the last of them
//! is replayed, o is v, too. If one of them is a `DRP` or `DRK`, both r and o are nothing after it.
//! Once equal they stay equal, since they get the same lines. Step 3 keeps the order between
//! keys: no snapshot holds a change whose predecessors a crash could still take.
//!
//! Notes stand for themselves, and the last one about a floor or a debt decides: replaying them over what the
//! snapshot was told already gives the same. None of them decides what a record does.
//!
//! A crash between any two steps leaves either the old files or the new snapshot complete, and
//! recovery uses the newest snapshot that has its name.
//!
//! # Caveats
//!
//! Tombstones are kept, so a map that only sees deletes does not shrink; `drop` is what
//! removes them. A deleted key's version is what stops an old copy from coming back.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::StorageError;
use crate::behind::behind;
use crate::engine::{Engine, Shared};
use crate::log::record::Header;
use crate::log::snapshot::{self, SnapshotWriter};
use crate::moves;
use crate::policy::Reason;
use crate::replica::Cursor;
use crate::space::{RETRY_INTERVAL, Space};
use crate::store::Copied;

/// Notes copied at a time, while the map is locked.
const NOTES_IN_PAGE: usize = 1000;

/// Keys copied at a time, while the map is locked: some 50 µs, for which every request waits.
const COPIED_KEYS_MAX: usize = 1000;
/// Bytes of keys and values copied at a time.
const COPIED_BYTES_MAX: usize = 256 * 1024;
/// Pages that wait to be written.
const PAGES_WAITING_MAX: usize = 4;

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Records in the snapshot.
    pub records: u64,
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk after.
    pub bytes_after: u64,
}

/// A snapshot that has its name.
struct Written {
    records: u64,
    bytes: u64,
    /// Whether the files it stands for could not be deleted, because a picture needs them.
    held_up: bool,
}

/// Where a caller waits for a compaction to end.
pub(crate) type CompactRequest = oneshot::Sender<Result<Compacted, NotCompacted>>;

/// Why a compaction was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCompacted {
    #[error("too many callers wait for a compaction already")]
    Busy,
    #[error("the node is stopping")]
    Stopping,
    #[error("there is no room for a snapshot; nothing was changed")]
    NoRoom,
    #[error("nothing was changed: {0}")]
    Unreadable(String),
}

impl Engine {
    /// Compacts now; the answer comes when it is done.
    pub(crate) async fn compact(&self) -> Result<Compacted, NotCompacted> {
        let (done, wait) = oneshot::channel();
        self.0.compactions.try_send(done).map_err(|_| NotCompacted::Busy)?;
        wait.await.unwrap_or(Err(NotCompacted::Stopping))
    }
}

/// The background task that compacts.
#[derive(Debug)]
pub struct Compactor {
    pub(crate) shared: Arc<Shared>,
    requests: mpsc::Receiver<CompactRequest>,
    pub(crate) space: Space,
    /// Whether files that the newest snapshot stands for are still there, for a picture.
    pub(crate) held_up: bool,
}

impl Compactor {
    pub(crate) const fn new(
        shared: Arc<Shared>,
        requests: mpsc::Receiver<CompactRequest>,
        space: Space,
    ) -> Self {
        Self { shared, requests, space, held_up: false }
    }

    /// Compacts when it is due or asked for, until `stop`; a compaction that runs is given up then.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StorageError> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            result = self.work() => result,
        }
    }

    async fn work(&mut self) -> Result<(), StorageError> {
        let shared = Arc::clone(&self.shared);
        let mut well = false;
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(done) = self.requests.recv() => {
                    let compacted = self.compact_if_possible(Reason::Request).await?;
                    // Whoever asked may be gone.
                    let _ = done.send(compacted);
                }
                () = shared.compaction_due.notified() => self.compact_if_due().await?,
                () = old_age(&shared) => self.compact_if_due().await?,
                () = shared.space_short.notified() => well = self.look_for_room().await?,
                _ = retry.tick(), if !well => well = self.look_for_room().await?,
            }
        }
    }

    /// Operations may have notified again while a compaction ran that covered them.
    async fn compact_if_due(&mut self) -> Result<(), StorageError> {
        let reason = {
            let mut state = self.shared.lock();
            let since = state.since_compaction();
            if since.operations == 0 {
                // Nothing changed: the snapshot is as good as a new one.
                state.compacted_at = Instant::now();
            }
            // While a picture is taken it would free nothing, only add a snapshot.
            let frozen = state.store.is_frozen();
            self.shared.options.compaction.due(&since).filter(|_| !frozen)
        };
        match reason {
            Some(reason) if self.space.may_compact() => {
                if self.compact_if_possible(reason).await?.is_err() {
                    self.space.compact_later();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One compaction, unless there is no room for it or a value cannot be read back.
    pub(crate) async fn compact_if_possible(
        &mut self,
        reason: Reason,
    ) -> Result<Result<Compacted, NotCompacted>, StorageError> {
        match self.compact(reason).await {
            Err(error) if error.is_full() || error.is_read_only() => {
                warn!(%error, %reason, "gave up a compaction");
                Ok(Err(NotCompacted::NoRoom))
            }
            Err(error @ StorageError::Unreadable { .. }) => {
                warn!(%error, %reason, "gave up a compaction");
                Ok(Err(NotCompacted::Unreadable(error.to_string())))
            }
            compacted => Ok(Ok(compacted?)),
        }
    }

    /// One compaction, now.
    ///
    /// # Errors
    ///
    /// The disk failed, or is full; then what was written of the snapshot is deleted again.
    pub async fn compact(&mut self, reason: Reason) -> Result<Compacted, StorageError> {
        let (covered, bytes_before) = self.begin();
        let (reply, rotated) = oneshot::channel();
        // A committer that is gone has failed or was stopped, and this task ends with it.
        let _ = self.shared.rotations.send(reply).await;
        let Ok(next) = rotated.await else { std::future::pending().await };
        let next = next?;
        let segment = next.segment - 1;
        let written = self.write_snapshot(next, reason).await;
        if written.is_err() {
            // The next start deletes it, if this does not.
            let _ = self.shared.dir.disk().remove(&self.shared.dir.snapshot_tmp(segment));
        }
        let Written { records, bytes, held_up } = written?;
        self.held_up = held_up;
        let bytes_after = self.end(segment, bytes, covered, reason);
        info!(records, bytes_before, bytes_after, segment, %reason, "compacted the log");
        Ok(Compacted { records, bytes_before, bytes_after })
    }

    /// Writes the snapshot of all before the segment that `next` is the header of, and deletes what
    /// it stands for.
    async fn write_snapshot(&self, next: Header, reason: Reason) -> Result<Written, StorageError> {
        let (dir, segment) = (Arc::clone(&self.shared.dir), next.segment - 1);
        let writer = behind(move || SnapshotWriter::start(dir, &next)).await?;
        let writer = self.copy_ledger(writer).await?;
        let writer = self.copy_map(writer).await?;
        // Whatever the policy says: no snapshot holds a change whose predecessors a crash could still take.
        let last = self.shared.lock().tail.seq();
        self.shared.durable(last).await;
        let hook = self.shared.options.hook.clone();
        // What people might go back to gives way to what they want to write now.
        let full = reason == Reason::Space;
        let kept = if full { 1 } else { self.shared.options.snapshots_kept };
        let dir = Arc::clone(&self.shared.dir);
        let shared = Arc::clone(&self.shared);
        behind(move || {
            let (records, bytes) = writer.finish(&hook)?;
            if shared.options.memory.is_some() {
                moves::follow(&shared, segment)?;
            }
            // A picture may still need what stands in the old files; the next compaction deletes
            // them, too.
            let held_up = shared.lock().store.is_frozen();
            if !held_up {
                let deleted = snapshot::delete_covered(&dir, segment, kept, &hook)?;
                deleted.into_iter().for_each(|id| shared.lines.forget(id));
            }
            Ok(Written { records, bytes, held_up })
        })
        .await
    }

    /// The operations that this compaction covers, and the bytes there are.
    fn begin(&self) -> (u64, u64) {
        let mut state = self.shared.lock();
        state.compacted_at = Instant::now();
        (state.operations, state.sizes.total())
    }

    fn end(&self, segment: u64, snapshot_bytes: u64, covered: u64, reason: Reason) -> u64 {
        let mut state = self.shared.lock();
        state.operations -= covered;
        state.compaction_took = state.compacted_at.elapsed();
        state.sizes.compacted(segment, snapshot_bytes);
        state.figures.compactions += 1;
        state.figures.last_compaction = Some((Instant::now(), reason));
        state.sizes.total()
    }

    /// Floors and debts; like the pages of the map, these may be of different moments.
    async fn copy_ledger(
        &self,
        mut writer: SnapshotWriter,
    ) -> Result<SnapshotWriter, StorageError> {
        let mut after = None;
        loop {
            let page = self.shared.lock().ledger.page(after.as_ref(), NOTES_IN_PAGE);
            after = page.last().and_then(Cursor::behind);
            if after.is_none() {
                return Ok(writer);
            }
            writer = behind(move || writer.add_notes(page).map(|()| writer)).await?;
        }
    }

    /// The map, page by page: while some are written, the next are taken.
    async fn copy_map(&self, mut writer: SnapshotWriter) -> Result<SnapshotWriter, StorageError> {
        let (pages, mut taken) = mpsc::channel::<Copied>(PAGES_WAITING_MAX);
        let shared = Arc::clone(&self.shared);
        let writing = behind(move || {
            while let Some(page) = taken.blocking_recv() {
                writer.add(page, |key, held| shared.load_all(key, held))?;
            }
            Ok(writer)
        });
        let mut after = None;
        loop {
            let page = self.page(after.as_deref());
            after.clone_from(&page.last);
            // A writer that takes no more says why when it is asked for below.
            if pages.send(page).await.is_err() || after.is_none() {
                break;
            }
            // Who waits to be served comes first, even if there is room for another page.
            tokio::task::yield_now().await;
        }
        drop(pages);
        writing.await
    }

    fn page(&self, after: Option<&[u8]>) -> Copied {
        self.shared.lock().store.copy(after, COPIED_KEYS_MAX, COPIED_BYTES_MAX)
    }
}

/// Ends when the last compaction is as old as it may get.
async fn old_age(shared: &Shared) {
    let last = shared.lock().compacted_at;
    match shared.options.compaction.every {
        Some(every) => tokio::time::sleep_until((last + every).into()).await,
        None => std::future::pending().await,
    }
}
