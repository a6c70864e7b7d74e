//! The two walks of a rebalance, key by key: one that copies what owners lack, one that drops what lies where it does
//! not belong. Most keys have neither, or go many at a time: see `bulk`, which leaves to these walks what is not alike.
//!
//! An owner that has forgotten the tombstone of a key, since all owners had it, says so when an older copy
//! comes: then that copy is dropped where it came from. So a key that no owner of now knows is offered to them
//! first: somebody who was away for long may have brought it along.
//!
//! A walk goes in *rounds*: while the keys of one are copied, or dropped, those of the next are gathered. Within a
//! round each link has several batches under way.
//!
//! | file | idea |
//! |---|---|
//! | here | all keyspaces in turn, and what is to become of a key |
//! | `copying` | what owners lack is copied |
//! | `dropping` | what lies elsewhere is dropped |
//! | `turns` | when a batch may go: the limit, room for others, a change of plans |
//!
//! # Caveats
//!
//! A walk that is left, since somebody paused, begins from the first key when it goes on:
//! what was copied by then is not copied again. A node that is DOWN is not waited for: what it holds and should
//! drop stays there. So does an old copy of a key that was written in each of the walks that drop.

mod copying;
mod dropping;
mod turns;

use ringkv_shared::plan::{Decision, Found, Holding, decide};
use ringkv_shared::ring::key_position;
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, Failure, KeyspaceName};

use crate::cluster::{Cluster, View};

pub(crate) use dropping::{Strays, strays_of};

/// Copies of a round: a few megabytes of keys.
const ROUND_KEYS: usize = 20_000;
/// How often it walks to drop copies. A key that is written while a walk comes by seems to differ and is passed over:
/// a node that leaves under load would hardly ever be empty in the end.
const DROP_WALKS: usize = 3;

/// What a walk has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// To its end.
    All,
    /// It was left: something else is to be done.
    Left,
}

impl Cluster {
    /// Copies what owners of the newest placement lack.
    pub(crate) async fn copy_all(&self, view: &View) -> Result<Walked, Failure> {
        for space in view.keyspaces.keys() {
            if self.copy_space(view, space).await? == Walked::Left {
                return Ok(Walked::Left);
            }
        }
        let mut job = self.lock_job();
        if !job.run.is_cancelled() {
            job.close_ledger();
        }
        Ok(Walked::All)
    }

    /// Drops copies at nodes that are no owners, where all owners have them.
    pub(crate) async fn drop_all(&self, view: &View) {
        for space in view.keyspaces.keys() {
            for _ in 0..DROP_WALKS {
                if !self.drop_space(view, space).await {
                    break;
                }
            }
        }
    }
}

fn judge(found: &[Found], target: &Placement, space: &KeyspaceName) -> (Blob, Decision) {
    let key = found[0].record.key.clone();
    let owners = target.preferred(space, key_position(key.as_bytes()));
    let alike = found.iter().all(|other| other.record.is_same(&found[0].record));
    if alike && found.len() == owners.len() && found.iter().all(|f| owners.contains(&f.node)) {
        // Nearly all keys are like this: nothing is to be done.
        return (key, Decision::default());
    }
    let decision = decide(&holdings(found), &owners.to_vec());
    (key, decision)
}

fn holdings(found: &[Found]) -> Vec<Holding> {
    let holding = |found: &Found| Holding { node: found.node.clone(), held: found.record.clone() };
    found.iter().map(holding).collect()
}
