//! How an engine is to work.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ringkv_shared::NodeId;

use crate::disk::{Disk, RealDisk};
use crate::step::StepHook;

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
    /// Compact after this many operations, if there are at most as many live keys.
    pub compact_after: u64,
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
            compact_after: 100,
            hook: StepHook::default(),
        }
    }
}
