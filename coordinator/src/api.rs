//! The methods: each line hands over to the module that does it.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::async_trait;
use jsonrpsee::types::ErrorObjectOwned;
use ringkv_shared::net::{ClusterApiServer, failure_into_object};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    BatchGet, BatchWrite, ChangeReply, ChangesReply, CheckReport, ClusterFreeze, ClusterGet,
    ClusterWrite, ConfigReply, DoctorReply, EventsReply, InfoReply, Item, KeyspaceChange,
    KeyspaceReply, PlanReply, ReadOptions, RebalanceReport, RingReply, ScanReply, ShowReply,
    StatsReply, Supposition, WhatIfReply, WhereReply, WhyDownReply, WhyReply, WriteOptions,
};
use ringkv_shared::protocol::lease::{LeaseReply, NumberAsk, NumberReply, ViewId};
use ringkv_shared::protocol::node::{DoneReply, Record};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId, Zone};

use crate::cluster::Cluster;
use crate::feed::Feed;
use crate::walk::Range;

/// The longest wait of `events`.
const EVENTS_WAIT_MAX: Duration = Duration::from_secs(30);
/// Keys in a page of `scan` when the caller names no limit.
const SCAN_KEYS_DEFAULT: usize = 1000;

type Answer<T> = Result<T, ErrorObjectOwned>;

pub(crate) struct Api(pub(crate) Arc<Cluster>);

impl Api {
    /// The cluster for what reads or writes data or changes something: only while this coordinator is the one.
    fn reigning(&self) -> Answer<&Arc<Cluster>> {
        self.0.reigns().map_err(failure_into_object)?;
        Ok(&self.0)
    }

    /// What came of a change, when the nodes know of it.
    async fn changed<T>(&self, change: impl Future<Output = Result<T, Failure>>) -> Answer<T> {
        let changed = change.await;
        self.0.tell_now().await;
        changed.map_err(failure_into_object)
    }
}

#[async_trait]
impl ClusterApiServer for Api {
    async fn put(
        &self,
        key: Blob,
        value: Blob,
        options: Option<WriteOptions>,
    ) -> Answer<ClusterWrite> {
        let cluster = self.reigning()?;
        let _timed = cluster.latency.of_request();
        cluster.put(key, value, options.unwrap_or_default()).await.map_err(failure_into_object)
    }

    async fn get(&self, key: Blob, options: Option<ReadOptions>) -> Answer<ClusterGet> {
        let cluster = self.reigning()?;
        let _timed = cluster.latency.of_request();
        cluster.get(key, options.unwrap_or_default()).await.map_err(failure_into_object)
    }

    async fn del(&self, key: Blob, options: Option<WriteOptions>) -> Answer<ClusterWrite> {
        let cluster = self.reigning()?;
        let _timed = cluster.latency.of_request();
        cluster.del(key, options.unwrap_or_default()).await.map_err(failure_into_object)
    }

    async fn mput(
        &self,
        items: Vec<Item>,
        options: Option<WriteOptions>,
    ) -> Answer<Vec<BatchWrite>> {
        self.reigning()?
            .mput(items, &options.unwrap_or_default())
            .await
            .map_err(failure_into_object)
    }

    async fn mget(&self, keys: Vec<Blob>, options: Option<ReadOptions>) -> Answer<Vec<BatchGet>> {
        self.reigning()?.mget(keys, &options.unwrap_or_default()).await.map_err(failure_into_object)
    }

    async fn mdel(
        &self,
        keys: Vec<Blob>,
        options: Option<WriteOptions>,
    ) -> Answer<Vec<BatchWrite>> {
        self.reigning()?.mdel(keys, &options.unwrap_or_default()).await.map_err(failure_into_object)
    }

    async fn changes(
        &self,
        after: Option<String>,
        prefix: Option<Blob>,
        keyspace: Option<KeyspaceName>,
        wait_ms: Option<u64>,
    ) -> Answer<ChangesReply> {
        let wait = Duration::from_millis(wait_ms.unwrap_or(0)).min(EVENTS_WAIT_MAX);
        let space = keyspace.unwrap_or_default();
        self.reigning()?.view().keyspace(&space).map_err(failure_into_object)?;
        after.as_deref().map_or(Ok(()), Feed::check).map_err(failure_into_object)?;
        let prefix = prefix.unwrap_or_default();
        Ok(self.0.changes.after(after.as_deref(), &space, prefix.as_bytes(), wait).await)
    }

    async fn why(&self, key: Blob, keyspace: Option<KeyspaceName>) -> Answer<WhyReply> {
        self.reigning()?.why(keyspace.unwrap_or_default(), key).await.map_err(failure_into_object)
    }

    async fn check(
        &self,
        repair: Option<bool>,
        keyspace: Option<KeyspaceName>,
    ) -> Answer<CheckReport> {
        let (space, repair) = (keyspace.unwrap_or_default(), repair.unwrap_or(false));
        self.reigning()?.check(space, repair).await.map_err(failure_into_object)
    }

    async fn addnode(
        &self,
        id: NodeId,
        addr: String,
        weight: Option<u32>,
        zone: Option<Zone>,
    ) -> Answer<ChangeReply> {
        self.changed(self.reigning()?.addnode(id, addr, weight.unwrap_or(1), zone)).await
    }

    async fn replacenode(&self, old: NodeId, id: NodeId, addr: String) -> Answer<ChangeReply> {
        self.changed(self.reigning()?.replacenode(old, id, addr)).await
    }

    async fn setweight(&self, id: NodeId, weight: u32) -> Answer<ChangeReply> {
        self.changed(self.reigning()?.setweight(id, weight)).await
    }

    async fn setzone(&self, id: NodeId, zone: Option<Zone>) -> Answer<ChangeReply> {
        self.changed(self.reigning()?.setzone(id, zone)).await
    }

    async fn plan(&self, clear: Option<bool>) -> Answer<PlanReply> {
        let clear = clear.unwrap_or(false);
        let plan = self.reigning()?.plan(clear);
        if clear { self.changed(plan).await } else { plan.await.map_err(failure_into_object) }
    }

    async fn pause(&self) -> Answer<RebalanceReport> {
        self.reigning()?.pause().map_err(failure_into_object)
    }

    async fn resume(&self) -> Answer<RebalanceReport> {
        self.reigning()?.resume().map_err(failure_into_object)
    }

    async fn cancel(&self) -> Answer<RebalanceReport> {
        self.reigning()?.cancel().map_err(failure_into_object)
    }

    async fn what_if(&self, suppose: Vec<Supposition>) -> Answer<WhatIfReply> {
        self.0.what_if(&suppose).await.map_err(failure_into_object)
    }

    async fn doctor(&self) -> Answer<DoctorReply> {
        Ok(self.0.doctor().await)
    }

    async fn why_down(&self, id: NodeId) -> Answer<WhyDownReply> {
        self.0.why_down(&id).map_err(failure_into_object)
    }

    async fn removenode(&self, id: NodeId, force: Option<bool>) -> Answer<ChangeReply> {
        self.changed(self.reigning()?.removenode(id, force.unwrap_or(false))).await
    }

    async fn setreplica(&self, n: usize, keyspace: Option<KeyspaceName>) -> Answer<ChangeReply> {
        self.changed(self.reigning()?.setreplica(&keyspace.unwrap_or_default(), n)).await
    }

    async fn rebalance(
        &self,
        dry_run: Option<bool>,
        epoch: Option<u64>,
    ) -> Answer<RebalanceReport> {
        self.reigning()?.rebalance(dry_run.unwrap_or(false), epoch).map_err(failure_into_object)
    }

    async fn progress(&self, after: Option<u64>) -> Answer<RebalanceReport> {
        Ok(self.0.progress(after.unwrap_or(0)))
    }

    async fn show(&self) -> Answer<ShowReply> {
        Ok(self.0.show().await)
    }

    async fn stats(&self) -> Answer<StatsReply> {
        Ok(self.0.stats().await)
    }

    async fn locate(
        &self,
        key: Blob,
        values: Option<bool>,
        keyspace: Option<KeyspaceName>,
    ) -> Answer<WhereReply> {
        let space = keyspace.unwrap_or_default();
        self.reigning()?
            .locate(&space, key, values.unwrap_or(false))
            .await
            .map_err(failure_into_object)
    }

    async fn ring(&self, tokens: Option<bool>) -> Answer<RingReply> {
        Ok(self.0.ring(tokens.unwrap_or(false)))
    }

    async fn scan(
        &self,
        prefix: Option<Blob>,
        after: Option<Blob>,
        limit: Option<usize>,
        keys_only: Option<bool>,
        picture: Option<String>,
        keyspace: Option<KeyspaceName>,
    ) -> Answer<ScanReply> {
        let picture = picture.map(|name| self.0.picture(&name)).transpose();
        let picture = picture.map_err(failure_into_object)?;
        let range = Range {
            keyspace: keyspace.unwrap_or_default(),
            prefix,
            after,
            keys_only: keys_only.unwrap_or(false),
            tombstones: true,
            page_keys: limit.unwrap_or(SCAN_KEYS_DEFAULT),
            ..Range::default()
        };
        self.reigning()?.scan(range, picture.as_deref()).await.map_err(failure_into_object)
    }

    async fn freeze(&self) -> Answer<ClusterFreeze> {
        self.reigning()?.freeze().await.map_err(failure_into_object)
    }

    async fn thaw(&self, picture: String) -> Answer<DoneReply> {
        Ok(self.0.thaw(&picture).await)
    }

    async fn events(&self, after: Option<u64>, wait_ms: Option<u64>) -> Answer<EventsReply> {
        let wait = Duration::from_millis(wait_ms.unwrap_or(0)).min(EVENTS_WAIT_MAX);
        Ok(self.0.events.after(after.unwrap_or(0), wait).await)
    }

    async fn config(&self, name: Option<String>, value: Option<String>) -> Answer<ConfigReply> {
        let cluster = if value.is_some() { self.reigning()? } else { &self.0 };
        cluster.config(name.as_deref(), value.as_deref()).map_err(failure_into_object)
    }

    async fn keyspace(
        &self,
        name: Option<KeyspaceName>,
        change: Option<KeyspaceChange>,
    ) -> Answer<KeyspaceReply> {
        let cluster = if change.is_some() { self.reigning()? } else { &self.0 };
        let keyspace = cluster.keyspace(name.as_ref(), change.as_ref());
        if change.is_some() {
            return self.changed(keyspace).await;
        }
        keyspace.await.map_err(failure_into_object)
    }

    async fn lease(&self, known: Option<ViewId>) -> Answer<LeaseReply> {
        self.reigning()?.lease(known).map_err(failure_into_object)
    }

    async fn number(&self, ask: NumberAsk) -> Answer<NumberReply> {
        self.reigning()?.number_for_client(ask).map_err(failure_into_object)
    }

    async fn finish(&self, record: Record, keyspace: Option<KeyspaceName>) -> Answer<ClusterWrite> {
        let keyspace = keyspace.unwrap_or_default();
        self.reigning()?.finish_for_client(record, keyspace).await.map_err(failure_into_object)
    }

    async fn info(&self) -> Answer<InfoReply> {
        Ok(InfoReply {
            status: Status::Ok,
            role: "coordinator".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            data: self.0.data.display().to_string(),
            supervisor: self.0.supervisor.clone(),
        })
    }
}

impl Cluster {
    fn config(&self, name: Option<&str>, value: Option<&str>) -> Result<ConfigReply, Failure> {
        let mut settings = self.settings();
        match (name, value) {
            (Some(name), Some(value)) => {
                settings.set(name, value)?;
                self.sync.pause_changed.notify_one();
            }
            (None, Some(_)) => {
                return Err(Failure::new(
                    ErrorName::BadArgument,
                    "a value without the name of a setting",
                ));
            }
            _ => {}
        }
        Ok(ConfigReply { status: Status::Ok, settings: settings.list(name)? })
    }
}
