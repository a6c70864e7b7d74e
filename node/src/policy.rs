//! When to compact: a decision without clock or files.
//!
//! | reason | due when |
//! |---|---|
//! | operations | N since the last compaction, and as many as there are live keys; after a rest of [`REST`] times as long as the last one took |
//! | log | the log is longer than the newest snapshot, and than 256 MiB: what a start replays in about a second |
//! | age | so long ago, if told so, and anything changed |
//!
//! Each keeps the cost of compaction a constant share of the work that made it due, and the first one of the time, so that a
//! start replays about as much as there is live data and a node that is written to all the time is not compacting all the
//! time.
//!
//! # Caveats
//!
//! Whether one is due is asked when something was written: a log that grew while it rested stays so until the next write.
//! With large values and few operations the log may grow to 256 MiB before the second rule holds.

use std::fmt;
use std::time::Duration;

/// Below this the length of the log alone is no reason, in bytes.
pub(crate) const LOG_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// For how many times as long as the last compaction took there is none for operations alone.
pub(crate) const REST: u32 = 9;

/// What makes a compaction due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Operations, if there are at most as many live keys.
    pub after: u64,
    /// The longest time between two; `None`: any.
    pub every: Option<Duration>,
}

/// What happened since the last compaction began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinceCompaction {
    /// Operations.
    pub operations: u64,
    /// Keys with a value now.
    pub live: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: u64,
    /// Time.
    pub elapsed: Duration,
    /// How long the last one took; zero before the first.
    pub took: Duration,
}

/// Why a compaction ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Enough operations.
    Operations,
    /// The log is long.
    Log,
    /// The last one is long ago.
    Age,
    /// Somebody asked.
    Request,
    /// The disk is full.
    Space,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operations => "operations",
            Self::Log => "log",
            Self::Age => "age",
            Self::Request => "request",
            Self::Space => "space",
        })
    }
}

impl CompactionPolicy {
    /// Why a compaction is due; `None`: it is not.
    #[must_use]
    pub fn due(&self, since: &SinceCompaction) -> Option<Reason> {
        if since.operations == 0 {
            None
        } else if since.operations >= self.after.max(since.live)
            && since.elapsed >= since.took * REST
        {
            Some(Reason::Operations)
        } else if since.log_bytes >= LOG_BYTES_MIN.max(since.snapshot_bytes) {
            Some(Reason::Log)
        } else if self.every.is_some_and(|every| since.elapsed >= every) {
            Some(Reason::Age)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_table_of_decisions() {
        use Reason::{Age, Log, Operations};
        let policy = |every| CompactionPolicy { after: 100, every };
        let hour = Some(Duration::from_secs(3600));
        for (every, operations, live, log_mib, snapshot_mib, elapsed_s, took_s, expected) in [
            (None, 99, 10, 0, 0, 0, 0, None),
            (None, 100, 10, 0, 0, 0, 0, Some(Operations)),
            (None, 100, 101, 0, 0, 0, 0, None),
            (None, 101, 101, 0, 0, 0, 0, Some(Operations)),
            (None, 101, 101, 0, 0, 17, 2, None),
            (None, 101, 101, 0, 0, 18, 2, Some(Operations)),
            (None, 101, 101, 256, 0, 17, 2, Some(Log)),
            (None, 1, 10, 255, 0, 0, 0, None),
            (None, 1, 10, 256, 0, 0, 0, Some(Log)),
            (None, 1, 10, 256, 257, 0, 0, None),
            (None, 1, 10, 257, 257, 0, 0, Some(Log)),
            (None, 1, 10, 0, 0, 1_000_000, 0, None),
            (hour, 1, 10, 0, 0, 3599, 0, None),
            (hour, 1, 10, 0, 0, 3600, 0, Some(Age)),
            (hour, 0, 10, 257, 0, 3600, 0, None),
        ] {
            let since = SinceCompaction {
                operations,
                live,
                log_bytes: log_mib * MIB,
                snapshot_bytes: snapshot_mib * MIB,
                elapsed: Duration::from_secs(elapsed_s),
                took: Duration::from_secs(took_s),
            };
            assert_eq!(policy(every).due(&since), expected, "{since:?}");
        }
    }
}
