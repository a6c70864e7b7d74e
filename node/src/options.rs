//! How an engine is to work.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ringkv_shared::NodeId;

use crate::clock::{Clock, SystemClock};
use crate::disk::{Disk, RealDisk};
use crate::policy::CompactionPolicy;
use crate::step::StepHook;
use crate::store::Budget;

/// Operations between compactions, if there are at most as many live keys.
pub(crate) const COMPACT_AFTER_DEFAULT: u64 = 100;
/// Snapshots that stay.
pub(crate) const SNAPSHOTS_KEPT_DEFAULT: usize = 3;
/// Where a segment is closed: copied in about a second by a slow disk.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// When a write counts as safe. See the table in the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Synced before it is acknowledged: a power cut loses nothing.
    #[default]
    Always,
    /// Synced each second: a power cut loses the last second.
    Interval,
    /// Synced when the operating system likes: a power cut loses what it had not.
    Os,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Os => "os",
        })
    }
}

/// How to open an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The node's id; its data directory remembers it.
    pub id: NodeId,
    /// The data directory.
    pub data: PathBuf,
    /// Where that directory is.
    pub disk: Arc<dyn Disk>,
    /// When a write counts as safe.
    pub durability: Durability,
    /// When to compact.
    pub compaction: CompactionPolicy,
    /// How much of the values may be in memory; `None`: all of them are. What is beyond is read
    /// back from the log.
    pub memory: Option<Budget>,
    /// The clock by which values expire.
    pub clock: Arc<dyn Clock>,
    /// How many snapshots stay: the newest for recovery, the others for people to go back to.
    /// At least 1. On a full disk only the newest stays.
    pub snapshots_kept: usize,
    /// The active segment is closed when it has this many bytes. Bounds what a start after an
    /// unclean stop copies.
    pub segment_bytes: u64,
    /// Called at each step of a compaction.
    pub hook: StepHook,
}

impl EngineOptions {
    /// The defaults, on the real disk.
    #[must_use]
    pub fn new(id: NodeId, data: PathBuf) -> Self {
        Self {
            id,
            data,
            disk: Arc::new(RealDisk),
            durability: Durability::default(),
            compaction: CompactionPolicy { after: COMPACT_AFTER_DEFAULT, every: None },
            memory: None,
            clock: Arc::new(SystemClock),
            snapshots_kept: SNAPSHOTS_KEPT_DEFAULT,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            hook: StepHook::default(),
        }
    }
}
