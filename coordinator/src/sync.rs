//! What hand-off and anti-entropy remember, and who may work when.
//!
//! One round or check at a time. A round works in pieces, and holds `piece` for each; a rebalance holds it
//! from its start to its end. So neither waits long for the other, and none meets the other half-way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ringkv_shared::protocol::node::Debt;
use ringkv_shared::sync::{Audit, Handoff, Leaves};
use ringkv_shared::{KeyspaceName, NodeId};
use tokio::sync::Notify;

use crate::cluster::{Cluster, View};

/// What is remembered from one round to the next.
#[derive(Default)]
pub(crate) struct Sync {
    /// Held by a round or a check.
    pub(crate) round: tokio::sync::Mutex<()>,
    /// Held by a piece of a round, or by a rebalance.
    pub(crate) piece: Arc<tokio::sync::Mutex<()>>,
    audits: Mutex<Audits>,
    handoff: Mutex<Handoff>,
    /// Heartbeats were answered, or a page was handed over: there may be something to do.
    pub(crate) news: Notify,
    /// A round is wanted before its time.
    pub(crate) hurry: Notify,
    /// A setting was set: the pause between rounds may be another.
    pub(crate) pause_changed: Notify,
    /// Keys handed over since the start.
    pub(crate) handed_over: AtomicU64,
    /// Keeper and target of notes that were thrown away, as was told.
    overflown: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

#[derive(Default)]
struct Audits {
    /// Of the ring with this number.
    epoch: u64,
    of: BTreeMap<KeyspaceName, Audit>,
}

impl Sync {
    /// Works on the comparison of a keyspace, a new one when the ring is another than last time.
    pub(crate) fn audit<T>(
        &self,
        view: &View,
        space: &KeyspaceName,
        work: impl FnOnce(&mut Audit) -> T,
    ) -> T {
        let mut audits = self.audits.lock().expect("no panic while the lock is held");
        let topology = &view.topology;
        if audits.epoch != topology.epoch {
            *audits = Audits { epoch: topology.epoch, of: BTreeMap::new() };
        }
        audits.of.retain(|name, _| topology.current.copies.contains_key(name));
        let audit = audits.of.entry(space.clone()).or_insert_with(|| {
            let leaves = Leaves::new(&topology.current.ring, topology.current.n(space));
            Audit::new(view.nodes.keys().cloned(), leaves, topology.pending.is_some())
        });
        work(audit)
    }

    /// When the part of any keyspace was verified whose turn is longest ago, by the clock of rounds.
    pub(crate) fn verified_ms(&self, view: &View) -> Option<u64> {
        let audits = self.audits.lock().expect("no panic while the lock is held");
        let of = |space| audits.of.get(space).and_then(Audit::verified_ms);
        let current = audits.epoch == view.topology.epoch;
        let mut all = view.topology.current.copies.keys().map(of).filter(|_| current);
        all.try_fold(u64::MAX, |least, verified| Some(least.min(verified?)))
            .filter(|least| *least < u64::MAX)
    }

    pub(crate) fn handoff(&self) -> MutexGuard<'_, Handoff> {
        self.handoff.lock().expect("no panic while the lock is held")
    }

    pub(crate) fn count_handed_over(&self, keys: u64) {
        self.handed_over.fetch_add(keys, Ordering::Relaxed);
    }

    /// Of these debts of a keeper, whom it has newly thrown notes away of.
    pub(crate) fn newly_overflown(&self, keeper: &NodeId, debts: &[Debt]) -> Vec<NodeId> {
        let mut told = self.overflown.lock().expect("no panic while the lock is held");
        let over: BTreeSet<&NodeId> =
            debts.iter().filter(|debt| debt.overflow).map(|debt| &debt.to).collect();
        told.retain(|(who, target)| who != keeper || over.contains(target));
        let new = over.into_iter().filter(|to| told.insert((keeper.clone(), (*to).clone())));
        new.cloned().collect()
    }
}

impl Cluster {
    /// What members that are up owe, when they last told.
    pub(crate) fn debts(&self, view: &View) -> BTreeMap<NodeId, Vec<Debt>> {
        let up = view.nodes.values().filter(|node| !node.is_down());
        let told = up.filter_map(|node| Some((node.id.clone(), node.opinion(0).last?.debts)));
        told.filter(|(_, debts)| !debts.is_empty()).collect()
    }
}
