//! When something may be staged, and when what is staged is in force at once.
//!
//! One change at a time: while one is carried out, or its old copies are dropped, nothing is staged. In a cluster
//! that holds nothing there is nothing to copy, and a change is in force at once. What is staged takes no writes, so
//! that is done only in a moment in which nobody writes: a write that was under way would go to the old owners
//! alone.
//!
//! # Caveats
//!
//! In a cluster that holds nothing and is asked all the time no such moment may be found: then the change
//! waits for `rebalance`, as any other.

use futures::future::join_all;
use ringkv_shared::net::NodeApiClient;
use ringkv_shared::protocol::cluster::Stage;
use ringkv_shared::{ErrorName, Failure};
use tokio::sync::OwnedMutexGuard;

use crate::cluster::{Cluster, View};
use crate::state::Event;

/// How often it tries to find a moment in which nobody asks anything.
const QUIET_TRIES: usize = 5;

impl Cluster {
    /// One change at a time, and none while a rebalance runs.
    pub(crate) fn alone(&self) -> Result<OwnedMutexGuard<()>, Failure> {
        self.reigns()?;
        self.changing.clone().try_lock_owned().map_err(|_| {
            let job = self.lock_job();
            let (message, hint) = match (job.is_under_way(), job.run.rests()) {
                (true, true) => (
                    "a rebalance is paused half-way",
                    "to go on: resume; to go back to the ring as it was: cancel",
                ),
                (true, false) => (
                    "a rebalance is under way",
                    "progress tells how far it is; pause lets it rest, cancel takes it back",
                ),
                _ => ("another change of the ring is under way", "wait until it has finished"),
            };
            Failure::new(ErrorName::Busy, message).hint(hint)
        })
    }

    /// Alone, and the last change is done: what is staged together is one change.
    pub(crate) fn may_stage(&self) -> Result<OwnedMutexGuard<()>, Failure> {
        let alone = self.alone()?;
        self.may_stage_with(&alone)?;
        Ok(alone)
    }

    pub(crate) fn may_stage_with(&self, _alone: &OwnedMutexGuard<()>) -> Result<(), Failure> {
        let (message, hint) = match self.stage() {
            (Stage::Idle | Stage::Staged, _) => return Ok(()),
            (Stage::Copying, true) => (
                "a change of the ring is paused half-way; nothing was staged",
                "to go on with it: resume; to go back to the ring as it was: cancel",
            ),
            (Stage::Copying, false) => (
                "a change of the ring was begun and is not done; nothing was staged",
                "to go on with it: rebalance; to go back to the ring as it was: cancel",
            ),
            (Stage::Clearing, _) => (
                "old copies of the last change are not dropped yet; nothing was staged",
                "to go on with it: rebalance",
            ),
        };
        Err(Failure::new(ErrorName::Busy, message).hint(hint))
    }

    /// Puts a staged placement in force when no node holds anything that would have to be copied, and nobody is
    /// writing. Else it waits for `rebalance`.
    pub(crate) async fn finalise_if_empty(&self) {
        for _ in 0..QUIET_TRIES {
            let last = self.writes.last();
            // From here on no write up to that number is under way.
            self.publish_again();
            self.older_views_unused().await;
            let view = self.view();
            let nobody = view.topology.current.ring.members().is_empty();
            if view.topology.staged.is_none() || !(nobody || self.all_empty(&view).await) {
                return;
            }
            match self.commit_if_quiet(&Event::Final, last) {
                Ok(false) => {}
                done => return self.end_at_once(done.map(drop)).await,
            }
        }
    }

    async fn all_empty(&self, view: &View) -> bool {
        let sizes = join_all(view.nodes.values().map(|node| async {
            let size =
                node.peer.call(self.timeout(), async |client| NodeApiClient::size(client).await);
            size.await.is_ok_and(|size| size.size == 0 && size.tombstones == 0)
        }));
        sizes.await.into_iter().all(|empty| empty)
    }

    /// What was put in force without copying is done. The staging was done whether the log takes the rest or
    /// not: then that waits for `rebalance`.
    pub(crate) async fn end_at_once(&self, finalised: Result<(), Failure>) {
        let view = self.view();
        if let Err(failure) = finalised {
            tracing::warn!("the change stays staged: {failure}");
        } else if view.stage == Stage::Clearing {
            self.older_views_unused().await;
            self.release_left(&view).await;
            if let Err(failure) = self.commit(&Event::Done) {
                tracing::warn!("nodes that left are not forgotten yet: {failure}");
            }
        }
    }
}
