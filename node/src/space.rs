//! What a node does about a full disk, besides refusing writes: it compacts once with the room of
//! its ballast, and looks each 100 ms whether there is room again.
//!
//! # Caveats
//!
//! When nothing was deleted or overwritten, compaction gains nothing, and the node waits for others
//! to free room. While a picture is taken it waits for its end: no file may be deleted before.

use std::time::Duration;

use ringkv_shared::protocol::node::DiskState;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::StorageError;
use crate::ballast::Ballast;
use crate::compact::Compactor;
use crate::policy::Reason;

/// How often a node without room looks for some.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long after a compaction for want of room the next may come.
const COMPACT_INTERVAL: Duration = Duration::from_secs(10);

/// The care for room on the disk.
#[derive(Debug)]
pub(crate) struct Space {
    ballast: Ballast,
    /// The state last told in the log.
    told: DiskState,
    /// When the next compaction for want of room may come.
    compact_from: Instant,
}

impl Space {
    pub(crate) fn new(ballast: Ballast) -> Self {
        Self { ballast, told: DiskState::Ok, compact_from: Instant::now() }
    }

    /// Whether enough time has passed since a compaction for which there was no room.
    pub(crate) fn may_compact(&self) -> bool {
        Instant::now() >= self.compact_from
    }

    /// There was no room for a compaction.
    pub(crate) fn compact_later(&mut self) {
        self.compact_from = Instant::now() + COMPACT_INTERVAL;
    }
}

impl Compactor {
    /// Looks for room if there is none; true if all is well.
    pub(crate) async fn look_for_room(&mut self) -> Result<bool, StorageError> {
        let state = self.try_room();
        self.tell(state);
        if state != DiskState::DiskFull || !self.space.may_compact() {
            return Ok(state == DiskState::Ok);
        }
        let gains = {
            let state = self.shared.lock();
            // The log, which began to take room before there was none, must not get the ballast's.
            let waits = state.room.is_taking() || state.store.is_frozen();
            !waits && (state.operations > 0 || self.held_up)
        };
        if gains {
            self.space.compact_later();
            if let Err(error) = self.space.ballast.free() {
                warn!(%error, "cannot delete the ballast");
            }
            // Whether it found room shows when it is looked for next.
            let _ = self.compact_if_possible(Reason::Space).await?;
        }
        Ok(false)
    }

    /// The state is left once there is room for the log and for the ballast.
    fn try_room(&mut self) -> DiskState {
        let ballast = self.space.ballast.make();
        let mut state = self.shared.lock();
        let end = state.sizes.active;
        match ballast {
            Ok(()) => drop(state.room.recover(end)),
            Err(error) => state.room.lacks(&error),
        }
        state.room.state()
    }

    fn tell(&mut self, state: DiskState) {
        if std::mem::replace(&mut self.space.told, state) == state {
            return;
        }
        match state {
            DiskState::Ok => info!("the disk takes writes again"),
            DiskState::DiskFull => {
                warn!(
                    "the disk is full: puts are refused until there is room, reads and deletes go on"
                );
            }
            DiskState::ReadOnly => {
                warn!("the file system is read-only: writes are refused, reads go on");
            }
        }
    }
}
