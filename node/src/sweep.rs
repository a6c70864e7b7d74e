//! The sweep: values that have expired become tombstones, a piece of the map at a time.
//!
//! For every reader they are gone already; the sweep logs it and frees their memory. It deletes at
//! the version that expired, so it is the same change on every replica, and harmless twice.
//!
//! # Caveats
//!
//! A full disk holds the sweep up when even deletes have no room; what has expired stays hidden.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// Between two pieces, while anything expires; with [`VISITS_MAX`], 20,000 keys a second.
const PIECE_INTERVAL: Duration = Duration::from_millis(50);
/// Between two looks whether anything expires.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Keys visited in a piece: well under a millisecond.
const VISITS_MAX: usize = 1000;

impl Engine {
    /// Sweeps one piece; says how many values became tombstones.
    pub fn sweep(&self) -> u64 {
        let now = self.now();
        let expired = self.0.lock().store.sweep(now, VISITS_MAX);
        // Refused for want of room, they are found again in the next round.
        let swept = self.delete_expired(expired).unwrap_or(0);
        self.0.lock().figures.swept += swept;
        swept
    }

    /// Sweeps until `stop`.
    pub async fn run_sweep(&self, stop: CancellationToken) {
        loop {
            let expiring = self.0.lock().store.tally().expiring > 0;
            tokio::select! {
                // First: a delete that comes after the last commit would be left out.
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(if expiring { PIECE_INTERVAL } else { IDLE_INTERVAL }) => {
                    self.sweep();
                    self.end_unread_pictures();
                    self.throw_away_old_notes();
                }
            }
        }
    }
}
