//! show, stats, where, ring, scan: looking without touching. All of it works with nodes down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use ringkv_shared::limits::check_key;
use ringkv_shared::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    Health, Membership, NodeRow, ReplicaCopy, RingReply, ScanReply, ShowReply, StatsReply,
    TokenRow, WhereReply,
};
use ringkv_shared::protocol::node::{DiskState, NodeStats, Record, SizeReply};
use ringkv_shared::ring::{draw, key_position};
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};

use crate::cluster::{Cluster, Node, Opinion, View};
use crate::picture::Picture;
use crate::walk::{Range, Walk, merged, shown};

/// Records, tombstones among them, that `stats` walks over to count keys: a page a node.
const COUNTED_MAX: u64 = PAGE_KEYS_MAX as u64;

impl Cluster {
    pub(crate) async fn show(&self) -> ShowReply {
        let view = self.view();
        let sizes = self.sizes(&view).await;
        let now_ms = self.now_ms();
        let rows = view.nodes.values().zip(&sizes);
        let (topology, space) = (&view.topology, KeyspaceName::default());
        let begun = topology.staged.is_some() || topology.pending.is_some();
        // With `default` alone the head line says all.
        let keyspaces = view.keyspaces.values().filter(|_| view.keyspaces.len() > 1);
        ShowReply {
            status: Status::Ok,
            nodes: rows.map(|(node, size)| self.row(&view, node, size.as_ref(), now_ms)).collect(),
            epoch: topology.epoch,
            replication: topology.current.n(&space),
            pending_replication: begun.then(|| topology.newest().n(&space)),
            pending: begun,
            stage: view.stage,
            keyspaces: keyspaces.map(|keyspace| view.row(keyspace.clone())).collect(),
            replaced: self.deposed().map(|deposed| deposed.sentence()),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) async fn stats(&self) -> StatsReply {
        let view = self.view();
        let sizes = self.sizes(&view).await;
        let (keys, keys_exact) = self.distinct(&view, &sizes).await;
        let answered: Vec<u64> = sizes.iter().flatten().map(|size| size.size).collect();
        let silent = view.nodes.keys().zip(&sizes).filter(|(_, size)| size.is_none());
        let copies: u64 = answered.iter().sum();
        let avg = copies as f64 / answered.len().max(1) as f64;
        let most = answered.iter().max().copied().unwrap_or(0) as f64;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let us = |lag: std::time::Duration| u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        let lag = self.lag.figures();
        let engines = self.engines(&view).await;
        let debts = || sizes.iter().flatten().flat_map(|size| &size.debts);
        let lost: BTreeSet<NodeId> =
            debts().filter(|debt| debt.overflow).map(|debt| debt.to.clone()).collect();
        let verified = self.sync.verified_ms(&view);
        StatsReply {
            status: Status::Ok,
            nodes: view.nodes.len(),
            up: answered.len(),
            keys,
            keys_exact,
            copies,
            avg_keys_per_node: avg,
            max_over_avg: if copies == 0 { 1.0 } else { most / avg },
            replication: view.topology.newest().n(&KeyspaceName::default()),
            epoch: view.topology.epoch,
            coordinator_epoch: self.boot_epoch(),
            puts: count(&self.counters.puts),
            gets: count(&self.counters.gets),
            dels: count(&self.counters.dels),
            partial_writes: count(&self.counters.partial_writes),
            lag_p99_us: lag.map(|(p99, _)| us(p99)),
            lag_max_us: lag.map(|(_, max)| us(max)),
            hints: debts().map(|debt| debt.keys).sum(),
            hints_lost: lost.into_iter().collect(),
            handed_over: count(&self.sync.handed_over),
            hedged: count(&self.counters.hedged),
            divergences: count(&self.counters.divergences),
            repairs: count(&self.counters.repairs),
            conflicts: engines.iter().map(|engine| engine.conflicts).sum(),
            discarded: engines.iter().map(|engine| engine.discarded).sum(),
            tombstones: sizes.iter().flatten().map(|size| size.tombstones).sum(),
            collected: engines.iter().map(|engine| engine.collected).sum(),
            unverified_ms: verified.map(|verified| self.now_ms().saturating_sub(verified)),
            silent: silent.map(|(id, _)| id.clone()).collect(),
        }
    }

    /// What the engines of nodes that are up tell of themselves.
    async fn engines(&self, view: &View) -> Vec<NodeStats> {
        let ask = async |node: &Arc<Node>| {
            let stats = async |client: &Client| NodeApiClient::stats(client).await;
            self.batch(node, stats).await.ok()
        };
        join_all(view.nodes.values().map(ask)).await.into_iter().flatten().collect()
    }

    /// How many keys there are in all keyspaces, each once, and whether that was counted: by a walk over
    /// all nodes while it is short, else from the copies as if each key had N, of several keyspaces the
    /// mean.
    async fn distinct(&self, view: &View, sizes: &[Option<SizeReply>]) -> (u64, bool) {
        let answered: Vec<&SizeReply> = sizes.iter().flatten().collect();
        let records: u64 = answered.iter().map(|size| size.size + size.tombstones).sum();
        if records > COUNTED_MAX {
            let copies: u64 = answered.iter().map(|size| size.size).sum();
            let (all, answered) = (sizes.len(), answered.len() as u64);
            let kept = |space| view.topology.current.n(space).min(all).max(1) as u64;
            let kept: u64 = view.keyspaces.keys().map(kept).sum();
            return (copies * all as u64 * view.keyspaces.len() as u64 / answered / kept, false);
        }
        let (mut keys, mut exact) = (0, true);
        let in_force = view.in_force();
        for space in view.keyspaces.keys() {
            let range = Range { keyspace: space.clone(), keys_only: true, ..Range::default() };
            let range = Range { tombstones: true, page_keys: PAGE_KEYS_MAX, ..range };
            let mut walk = Walk::of(self, &in_force, range, None);
            while let Some(group) = walk.next().await {
                keys += u64::from(merged(&group).and_then(shown).is_some());
            }
            exact &= walk.silent.is_empty();
        }
        (keys, exact)
    }

    /// Asks all nodes for their size, just now; those that are down are not waited for.
    pub(crate) async fn sizes(&self, view: &View) -> Vec<Option<SizeReply>> {
        let deadline = {
            let settings = self.settings();
            settings.heartbeat().min(settings.timeout())
        };
        join_all(view.nodes.values().map(|node| async move {
            if node.is_down() {
                return None;
            }
            let size =
                node.pulse.call(deadline, async |client| NodeApiClient::size(client).await).await;
            let size = size.ok().filter(|size| size.uuid == node.member.uuid)?;
            node.answered(size.clone(), self.now_ms());
            Some(size)
        }))
        .await
    }

    pub(crate) async fn locate(
        &self,
        space: &KeyspaceName,
        key: Blob,
        values: bool,
    ) -> Result<WhereReply, Failure> {
        check_key(&key)?;
        let view = self.view();
        view.keyspace(space)?;
        let position = key_position(key.as_bytes());
        let owners = view.topology.current.owners(space, key.as_bytes());
        // Those of a staged change too: it is what the next rebalance is for.
        let then = view.topology.newest().owners(space, key.as_bytes());
        let copies = self.copies(&view, space, &key, &owners, values).await;
        let token = view.topology.current.ring.token_at(position);
        Ok(WhereReply {
            status: Status::Ok,
            hash: format!("{position:016x}"),
            token: token.map_or_else(String::new, |(token, _)| format!("{token:016x}")),
            pending_owners: if then == owners { Vec::new() } else { then },
            key,
            owners,
            copies,
        })
    }

    /// What every node has of a key: owners first, then strays; owners without one are named too.
    async fn copies(
        &self,
        view: &View,
        space: &KeyspaceName,
        key: &Blob,
        owners: &[NodeId],
        values: bool,
    ) -> Vec<ReplicaCopy> {
        let others = view.nodes.keys().filter(|id| !owners.contains(id));
        let ordered: Vec<&NodeId> = owners.iter().chain(others).collect();
        let copies =
            join_all(ordered.iter().map(|id| self.copy_at(&view.nodes[*id], space, key, values)))
                .await;
        let told = |copy: &ReplicaCopy| copy.record.is_some() || owners.contains(&copy.node);
        copies.into_iter().filter(told).collect()
    }

    async fn copy_at(
        &self,
        node: &Node,
        space: &KeyspaceName,
        key: &Blob,
        values: bool,
    ) -> ReplicaCopy {
        let id = node.id.clone();
        if node.is_down() {
            return ReplicaCopy { why: Some(format!("{id} is DOWN")), node: id, record: None };
        }
        let (keys, space) = (vec![key.clone()], Some(space.clone()));
        let answer = node
            .peer
            .call(self.timeout(), async move |client| {
                NodeApiClient::fetch(client, keys, space).await
            })
            .await;
        match answer {
            Ok(reply) => {
                let without_value = |record: Record| Record { value: None, ..record };
                let record = reply.records.into_iter().next();
                let record = if values { record } else { record.map(without_value) };
                ReplicaCopy { node: id, record, why: None }
            }
            Err(error) => {
                ReplicaCopy { why: Some(format!("{id} {error}")), node: id, record: None }
            }
        }
    }

    pub(crate) fn ring(&self, tokens: bool) -> RingReply {
        let topology = self.view().topology.clone();
        let placement = topology.newest();
        let row = |(token, node): (u64, &NodeId)| TokenRow {
            token: format!("{token:016x}"),
            node: node.clone(),
        };
        RingReply {
            status: Status::Ok,
            epoch: topology.epoch,
            replication: placement.n(&KeyspaceName::default()),
            drawing: draw(&placement.ring),
            tokens: if tokens { placement.ring.tokens().map(row).collect() } else { Vec::new() },
        }
    }

    /// A page of the keys of a keyspace.
    ///
    /// The cursor is a key, so it outlives every change of the ring. And no key is lost while it moves
    /// from one node to another: the page is a user of its view, and before old copies are dropped a
    /// rebalance waits for those (see [`crate::rebalance`]).
    pub(crate) async fn scan(
        &self,
        range: Range,
        picture: Option<&Picture>,
    ) -> Result<ScanReply, Failure> {
        let limit = range.page_keys.clamp(1, PAGE_KEYS_MAX);
        let range = Range { page_keys: limit, ..range };
        let (now, _user) = self.enter();
        let view = picture.map_or(now, |picture| Arc::clone(&picture.view));
        view.keyspace(&range.keyspace)?;
        let in_force = view.in_force();
        let mut walk = Walk::of(self, &in_force, range, picture);
        let (mut items, mut bytes, mut next) = (Vec::<Record>::new(), 0, None);
        let mut last = None;
        while let Some(group) = walk.next().await {
            if items.len() == limit || bytes >= PAGE_BYTES_MAX {
                next = last;
                break;
            }
            last = group.first().map(|(_, record)| record.key.clone());
            if let Some(record) = merged(&group).and_then(shown) {
                let values = record.values().filter_map(|sibling| sibling.value);
                bytes += record.key.len() + values.map(|value| value.len()).sum::<usize>();
                items.push(record);
            }
        }
        if let Some(failure) = walk.refused {
            return Err(failure);
        }
        let silent: BTreeSet<NodeId> = walk.silent;
        Ok(ScanReply { status: Status::Ok, items, next, silent: silent.into_iter().collect() })
    }

    fn row(&self, view: &View, node: &Node, size: Option<&SizeReply>, now_ms: u64) -> NodeRow {
        let Opinion { health, last_seen_ms, last, error, stranger, .. } = node.opinion(now_ms);
        let (topology, id) = (&view.topology, &node.id);
        let membership = match (topology.current.has(id), topology.newest().has(id)) {
            (true, true) => Membership::Member,
            (false, _) => Membership::Joining,
            (true, false) => Membership::Leaving,
        };
        let (current, newest) = (topology.current.ring.members(), topology.newest().ring.members());
        let seat = newest.get(id).or(current.get(id));
        let told = size.or(last.as_ref());
        NodeRow {
            id: id.clone(),
            addr: node.member.addr.clone(),
            health,
            membership,
            weight: newest.get(id).map_or(0, |seat| seat.weight),
            zone: seat.and_then(|seat| seat.zone.clone()),
            ring_epoch: size.and_then(|size| self.behind(size)),
            share: topology.newest().ring.share(id),
            keys: told.map(|size| size.size),
            log_bytes: told.map(|size| size.log_bytes),
            last_seen_ms,
            disk: told.map_or(DiskState::Ok, |size| size.state),
            error: error.filter(|_| health != Health::Up),
            stranger,
        }
    }

    /// The ring epoch that a node knows, when it should have learnt of a later one by now.
    pub(crate) fn behind(&self, size: &SizeReply) -> Option<u64> {
        let theirs = size.reign.ring;
        (size.coordinator.is_some() && theirs < self.due.ring()).then_some(theirs)
    }
}
