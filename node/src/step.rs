//! The points of a rotation or compaction at which tests look at what is on the disk.

use std::fmt;
use std::sync::Arc;

/// A point on the way of a rotation or compaction at which a crash is worth a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `data.tmp` has the next segment's header.
    NextSegmentPrepared,
    /// `data.log` has its closed name; there is no active segment.
    SegmentClosed,
    /// The next segment is `data.log`.
    NextSegmentOpen,
    /// The snapshot has all its records and no `END`.
    SnapshotWithoutEnd,
    /// The snapshot is synced under its temporary name.
    SnapshotSynced,
    /// The snapshot has its name; the files it stands for are there too.
    SnapshotNamed,
    /// One of these files is deleted.
    OldFileDeleted,
}

/// Called at each [`Step`]; does nothing unless it is told to.
#[derive(Clone, Default)]
pub struct StepHook(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl StepHook {
    /// Calls `f` at each step.
    pub fn new(f: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(f)))
    }

    pub(crate) fn at(&self, step: Step) {
        if let Some(hook) = &self.0 {
            hook(step);
        }
    }
}

impl fmt::Debug for StepHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepHook")
    }
}
