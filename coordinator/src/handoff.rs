//! Hinted handoff, carried out: nodes that were away get what they have missed.
//!
//! ```text
//!   keeper: owed     a page of keys that the target has missed
//!   keeper: fetch    what is held of them now      ─┐
//!   target: apply    merged, durable               ─┘
//!   keeper: paid     struck off
//!   keeper: fetch    has one of them changed since? then it is owed again
//!   keeper: drop     its copy, if it is no owner
//! ```
//!
//! Whose turn it is decides [`Handoff`](ringkv_shared::sync::Handoff). It begins when a heartbeat tells that a keeper owes somebody who
//! is up.
//!
//! # Caveats
//!
//! Should the coordinator end between `paid` and `owe`, a write that the target missed in that moment is left to
//! anti-entropy. A stand-in that owes a key to several nodes keeps its copy until anti-entropy has seen it everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::protocol::node::{KeyVersion, Record, SpaceKey, Via};
use ringkv_shared::sync::{Drained, Outcome, Step};
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::cluster::{Cluster, View};
use crate::events::counted;
use crate::transfer::{Way, as_it_is};

/// Hands over until `shutdown`.
pub(crate) async fn deliver(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let (view, user) = cluster.enter();
        for step in cluster.handoff_steps(&view) {
            under_way.push(cluster.carry_out(Arc::clone(&view), user.clone(), step));
        }
        drop((view, user));
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            () = cluster.sync.news.notified() => {}
        }
    }
}

impl Cluster {
    fn handoff_steps(&self, view: &View) -> Vec<Step> {
        let up = view.nodes.values().filter(|node| !node.is_down()).map(|node| node.id.clone());
        let up: BTreeSet<NodeId> = up.collect();
        let members: BTreeSet<NodeId> = view.nodes.keys().cloned().collect();
        self.sync.handoff().next(self.now_ms(), &self.debts(view), &up, &members)
    }

    async fn carry_out(&self, view: Arc<View>, _user: TaskTrackerToken, step: Step) {
        let (keeper, target, done) = match step {
            Step::Deliver { keeper, target } => {
                let done = self.hand_over(&view, &keeper, &target).await;
                (keeper, target, done)
            }
            Step::Forgive { keeper, target } => {
                let done = self.strike_off(&view, &keeper, &target, None).await;
                (keeper, target, done.map(|()| 0))
            }
        };
        let outcome = match done {
            Ok(0) => Outcome::Empty,
            Ok(keys) => Outcome::Delivered(keys),
            Err(failure) => {
                tracing::info!(%keeper, %target, "not handed over: {failure}");
                Outcome::Failed
            }
        };
        let drained = self.sync.handoff().ended(self.now_ms(), &keeper, &target, outcome);
        if let Some(drained) = drained {
            self.events.tell(in_words(&drained));
            let debts = self.debts(&view);
            if debts.values().flatten().any(|debt| debt.to == drained.target && debt.overflow) {
                self.sync.hurry.notify_one();
            }
        }
    }

    /// Hands over one page; says how many keys there were.
    async fn hand_over(
        &self,
        view: &View,
        keeper: &NodeId,
        target: &NodeId,
    ) -> Result<u64, Failure> {
        let to = target.clone();
        let owed = async move |client: &Client| NodeApiClient::owed(client, to, None).await;
        let page = self.batch(&view.nodes[keeper], owed).await?.keys;
        let mut spaces: BTreeMap<&KeyspaceName, Vec<Blob>> = BTreeMap::new();
        for SpaceKey { keyspace, key } in &page {
            spaces.entry(keyspace).or_default().push(key.clone());
        }
        for (space, keys) in spaces {
            self.hand_over_of(view, space, keeper, target, keys).await?;
        }
        self.sync.count_handed_over(page.len() as u64);
        Ok(page.len() as u64)
    }

    async fn hand_over_of(
        &self,
        view: &View,
        space: &KeyspaceName,
        from: &NodeId,
        to: &NodeId,
        keys: Vec<Blob>,
    ) -> Result<(), Failure> {
        // Who is no owner any more needs nothing; what only a stand-in has, anti-entropy finds.
        let owners = |key: &Blob| view.topology.write_set(space, key.as_bytes()).owners;
        // A keeper that was away may have notes of a keyspace that was dropped: it must not bring it back.
        let there = view.keyspaces.contains_key(space);
        let due = keys.iter().filter(|key| there && owners(key).contains(to));
        let due: Vec<Blob> = due.cloned().collect();
        let sent =
            self.transfer(Way { view, space, from, to, via: Via::Hint }, &due).await?.records;
        self.strike_off(view, from, to, Some(space_keys(space, keys))).await?;
        let changed = self.changed_since(view, space, from, &sent).await?;
        if !changed.is_empty() {
            let (to, keys) = (to.clone(), space_keys(space, changed.clone()));
            let owe = async move |client: &Client| NodeApiClient::owe(client, to, keys).await;
            self.batch(&view.nodes[from], owe).await?;
        }
        let owes_others =
            self.debts(view).get(from).is_some_and(|all| all.iter().any(|d| d.to != *to));
        let goes = |record: &&Record| {
            !owners(&record.key).contains(from) && !changed.contains(&record.key) && !owes_others
        };
        let stand_ins: Vec<KeyVersion> = sent.iter().filter(goes).map(as_it_is).collect();
        self.forget(&view.nodes[from], space, stand_ins).await.map(drop)
    }

    /// Strikes keys off what a keeper owes; all of them without any.
    pub(crate) async fn strike_off(
        &self,
        view: &View,
        keeper: &NodeId,
        target: &NodeId,
        keys: Option<Vec<SpaceKey>>,
    ) -> Result<(), Failure> {
        let to = target.clone();
        let paid = async move |client: &Client| NodeApiClient::paid(client, to, keys).await;
        self.batch(&view.nodes[keeper], paid).await.map(drop)
    }

    /// Which of these a node holds otherwise by now.
    async fn changed_since(
        &self,
        view: &View,
        space: &KeyspaceName,
        node: &NodeId,
        sent: &[Record],
    ) -> Result<Vec<Blob>, Failure> {
        let keys: Vec<Blob> = sent.iter().map(|record| record.key.clone()).collect();
        let mut now: BTreeMap<Blob, Record> = BTreeMap::new();
        let mut rest = &keys[..];
        while !rest.is_empty() {
            let page = self.fetch(&view.nodes[node], space, rest.to_vec()).await?;
            let Some(last) = page.last().map(|record| record.key.clone()) else { break };
            rest =
                &rest[rest.iter().position(|key| *key == last).map_or(rest.len(), |at| at + 1)..];
            now.extend(page.into_iter().map(|record| (record.key.clone(), record)));
        }
        let is_same = |record: &&Record| now.get(&record.key).is_none_or(|now| now.is_same(record));
        Ok(sent.iter().filter(|record| !is_same(record)).map(|r| r.key.clone()).collect())
    }
}

fn space_keys(space: &KeyspaceName, keys: Vec<Blob>) -> Vec<SpaceKey> {
    keys.into_iter().map(|key| SpaceKey { keyspace: space.clone(), key }).collect()
}

#[allow(clippy::cast_precision_loss)]
fn in_words(drained: &Drained) -> String {
    let Drained { target, keys, took_ms, was_away } = drained;
    let (hints, seconds) = (counted(*keys, "hint"), *took_ms as f64 / 1000.0);
    let what = if *was_away { "is back" } else { "caught up" };
    format!("{target} {what}: {hints} handed over in {seconds:.1} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let drained = |keys, was_away| {
            in_words(&Drained { target: "n2".parse().unwrap(), keys, took_ms: 420, was_away })
        };
        assert_eq!(drained(1000, true), "n2 is back: 1,000 hints handed over in 0.4 s");
        assert_eq!(drained(1, false), "n2 caught up: 1 hint handed over in 0.4 s");
    }
}
