//! The walk that drops: copies at nodes that are no owners, where all owners have them.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::future::{join, join_all};
use futures::stream;
use ringkv_shared::causal::Context;
use ringkv_shared::pace::BATCHES_MOST;
use ringkv_shared::plan::Found;
use ringkv_shared::protocol::node::{KeyVersion, Record};
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, KeyspaceName, NodeId};

use super::{ROUND_KEYS, judge};
use crate::cluster::{Cluster, View};
use crate::transfer::CALL_RECORDS;
use crate::walk::{Range, Walk};

/// The copies to drop of a round.
pub(crate) type Strays = BTreeMap<NodeId, Vec<KeyVersion>>;

impl Cluster {
    /// Says whether it is worth while to walk once more: copies were passed over, and all nodes answered.
    pub(crate) async fn drop_range(&self, view: &View, range: Range) -> bool {
        let (everybody, space) = (view.everybody(), &range.keyspace.clone());
        let mut walk = Walk::of(self, &everybody, range, None);
        let mut passed_over = false;
        let mut round = self.gather_strays(view, space, &mut walk, &mut passed_over).await;
        while !round.is_empty() {
            let next = self.gather_strays(view, space, &mut walk, &mut passed_over);
            ((), round) = join(self.drop_copies(view, space, round), next).await;
        }
        self.lock_job().settle();
        passed_over && walk.silent.is_empty()
    }

    /// What is to be dropped in the next round; nothing at the end.
    async fn gather_strays(
        &self,
        view: &View,
        space: &KeyspaceName,
        walk: &mut Walk<'_>,
        passed_over: &mut bool,
    ) -> Strays {
        let target = &view.topology.current;
        let (mut wanted, mut gathered) = (Strays::new(), 0);
        while gathered < ROUND_KEYS
            && let Some(found) = walk.next_found().await
        {
            self.lock_job().report.scanned += 1;
            let strays = strays_of(&found, target, space);
            *passed_over |= strays.is_none();
            for (node, forget) in strays.into_iter().flatten() {
                wanted.entry(node).or_default().push(forget);
                gathered += 1;
            }
        }
        wanted
    }

    pub(crate) async fn drop_copies(&self, view: &View, space: &KeyspaceName, wanted: Strays) {
        let nodes = wanted.iter().map(|(node, keys)| self.drop_at(view, space, node, keys));
        join_all(nodes).await;
        self.lock_job().settle();
    }

    async fn drop_at(&self, view: &View, space: &KeyspaceName, node: &NodeId, keys: &[KeyVersion]) {
        let batches =
            keys.chunks(CALL_RECORDS).map(|keys| self.drop_batch(view, space, node, keys));
        let batches: Vec<_> = batches.collect();
        stream::iter(batches).buffer_unordered(BATCHES_MOST).collect::<()>().await;
    }

    async fn drop_batch(
        &self,
        view: &View,
        space: &KeyspaceName,
        node: &NodeId,
        batch: &[KeyVersion],
    ) {
        let Some(at) = view.anybody(node) else { return };
        let dropped = self.forget(at, space, batch.to_vec()).await;
        let mut job = self.lock_job();
        match dropped {
            Ok(removed) if removed == batch.len() as u64 => {
                batch.iter().for_each(|key| job.removed(space, &key.key, node));
            }
            Ok(removed) => {
                job.report.removed += removed;
                // The node says how many, not which: the others were written to meanwhile.
                let of = batch.len();
                job.narrate(format!(
                    "Removed {removed} of {of} keys from {node}, the others changed"
                ));
            }
            Err(error) => {
                job.report.failed += batch.len() as u64;
                job.narrate(format!("Not removed from {node}: {} keys, {error}", batch.len()));
            }
        }
    }
}

/// What may be dropped of a key, and where; `None` if something had to be, but an owner lacks something.
pub(crate) fn strays_of(
    found: &[Found],
    target: &Placement,
    space: &KeyspaceName,
) -> Option<Vec<(NodeId, KeyVersion)>> {
    let (key, decision) = judge(found, target, space);
    if !decision.copies.is_empty() {
        return decision.drop_at.is_empty().then(Vec::new);
    }
    let strays = found.iter().filter(|found| decision.drop_at.contains(&found.node));
    let forget =
        |found: &Found| (found.node.clone(), key_version(&key, &found.record, &decision.seen));
    Some(strays.map(forget).collect())
}

/// What a node may forget of a key: what it was seen with, if `seen` by all owners.
fn key_version(key: &Blob, record: &Record, seen: &Context) -> KeyVersion {
    let context = (!record.is_plain()).then(|| seen.clone());
    KeyVersion { key: key.clone(), version: record.version, context }
}
