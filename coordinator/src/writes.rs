//! The numbers of writes, and which writes are under way.
//!
//! A write is numbered and joins those under way in one step. So there is a moment, [`Writes::mark`],
//! of which all writes with a number up to the last one are known: they have ended, or they are
//! in the list that the mark returns.
//!
//! # Caveats
//!
//! A write that begins again under its number joins the list of that moment, which may be a later one.

use std::sync::{Mutex, MutexGuard};

use ringkv_shared::Version;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The numbers that this coordinator gives.
pub(crate) struct Writes {
    /// The number of this start.
    epoch: u32,
    state: Mutex<State>,
}

struct State {
    /// The last number given. Monotonic.
    counter: u64,
    /// The writes begun since the last mark.
    under_way: TaskTracker,
    /// Those begun between earlier marks, as long as any of them is under way.
    earlier: Vec<TaskTracker>,
}

/// Writes that were under way at a mark.
pub(crate) struct UnderWay(Vec<TaskTracker>);

impl UnderWay {
    /// Waits until they have ended. Writes have deadlines, so this ends.
    pub(crate) async fn wait(&self) {
        for writes in &self.0 {
            writes.wait().await;
        }
    }
}

impl Writes {
    /// None given so far.
    pub(crate) fn new(epoch: u32) -> Self {
        let state = State { counter: 0, under_way: TaskTracker::new(), earlier: Vec::new() };
        Self { epoch, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the lock is held")
    }

    /// Numbers a write; it is under way until the token is dropped.
    pub(crate) fn begin(&self) -> (Version, TaskTrackerToken) {
        self.begin_group(1)
    }

    /// Numbers so many writes, one after another, and gives the first number; they are under way until the token is
    /// dropped.
    pub(crate) fn begin_group(&self, count: u64) -> (Version, TaskTrackerToken) {
        let mut state = self.lock();
        let first = Version::new(self.epoch, state.counter + 1);
        state.counter += count;
        (first, state.under_way.token())
    }

    /// A write that has its number is under way again.
    pub(crate) fn join(&self) -> TaskTrackerToken {
        self.lock().under_way.token()
    }

    /// The last number given.
    pub(crate) fn last(&self) -> Version {
        Version::new(self.epoch, self.lock().counter)
    }

    /// The next number is above one that a node was found to have in this epoch or before.
    pub(crate) fn skip_to(&self, found: Version) {
        if found.epoch == self.epoch {
            let mut state = self.lock();
            state.counter = state.counter.max(found.counter);
        }
    }

    /// The last number given, and those that are under way with numbers up to it.
    pub(crate) fn mark(&self) -> (Version, UnderWay) {
        let mut state = self.lock();
        let under_way = std::mem::replace(&mut state.under_way, TaskTracker::new());
        under_way.close();
        state.earlier.push(under_way);
        state.earlier.retain(|writes| !writes.is_empty());
        (Version::new(self.epoch, state.counter), UnderWay(state.earlier.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_mark_waits_for_what_was_numbered_before_it() {
        let writes = Writes::new(3);
        let (first, token) = writes.begin();
        let (mark, under_way) = writes.mark();
        let (after, later) = writes.begin();
        assert_eq!((first, mark, after), (Version::new(3, 1), first, Version::new(3, 2)));
        // Those under way at one mark are so at the next one, too.
        let (_, under_way_still) = writes.mark();
        assert_eq!((under_way.0.len(), under_way_still.0.len()), (1, 2));
        drop((token, later));
        under_way.wait().await;
        under_way_still.wait().await;
        writes.skip_to(Version::new(3, 9));
        writes.skip_to(Version::new(2, 99));
        assert_eq!(writes.begin().0, Version::new(3, 10));
        assert_eq!(writes.last(), Version::new(3, 10));
    }
}
