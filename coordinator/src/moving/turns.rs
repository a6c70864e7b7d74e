//! When a batch may go: the limit of bytes, room for the requests of others, and whether the walk is to be left.

use std::time::Duration;

use ringkv_shared::change::Task;
use ringkv_shared::pace::Limits;
use tokio::time::Instant;

use super::Walked;
use crate::cluster::Cluster;
use crate::job::millis;

/// The longest it waits before it looks whether it is to be left.
const LOOK_UP: Duration = Duration::from_millis(100);

impl Cluster {
    pub(crate) fn limits(&self) -> Limits {
        let settings = self.settings();
        Limits { rate: settings.rebalance_rate(), slow: settings.yield_above() }
    }

    pub(crate) fn has_left(&self, task: Task) -> bool {
        self.lock_job().run.has_left(task)
    }

    /// Waits until a batch of so many bytes may go.
    pub(crate) async fn wait_for_turn(&self, bytes: u64) -> Walked {
        if self.has_left(Task::Copy) {
            return Walked::Left;
        }
        let limits = self.limits();
        let wait = {
            let mut job = self.lock_job();
            let now = job.elapsed();
            job.pace.look(now, &limits, || self.latency.p99(Instant::now()));
            job.pace.take(now, &limits, bytes)
        };
        self.hold_back(wait).await
    }

    /// Waits, and counts that; not on when it is to be left, or when another limit is set.
    pub(crate) async fn hold_back(&self, wait: Duration) -> Walked {
        let (until, limits) = (Instant::now() + wait, self.limits());
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(LOOK_UP);
            if left.is_zero() || self.limits() != limits {
                return Walked::All;
            }
            tokio::time::sleep(left).await;
            let mut job = self.lock_job();
            job.waited += left;
            job.report.waited_ms = millis(job.waited);
            if job.run.has_left(Task::Copy) {
                return Walked::Left;
            }
        }
    }
}
