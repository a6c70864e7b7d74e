//! The methods as jsonrpsee traits: one definition makes the server's table and the client's
//! typed calls. Parameters may be given by position or by name.

#![allow(clippy::too_many_arguments, reason = "each is a parameter of the wire")]

use jsonrpsee::proc_macros::rpc;
use jsonrpsee::types::ErrorObjectOwned;

use crate::protocol::cluster::{
    BatchGet, BatchWrite, ChangeReply, ChangesReply, CheckReport, ClusterFreeze, ClusterGet,
    ClusterWrite, ConfigReply, DoctorReply, EventsReply, InfoReply, Item, KeyspaceChange,
    KeyspaceReply, PlanReply, ReadOptions, RebalanceReport, RingReply, ScanReply, ShowReply,
    StatsReply, Supposition, WhatIfReply, WhereReply, WhyDownReply, WhyReply, WriteOptions,
};
use crate::protocol::lease::{LeaseReply, NumberAsk, NumberReply, ViewId};
use crate::protocol::node::{
    BatchReply, CensusReply, Claim, ClusterMap, Collection, CompactReply, DigestsReply, DoneReply,
    DumpReply, FetchReply, FreezeReply, GetReply, KeyVersion, LogReply, NodeStats, ObeysReply,
    OwedReply, PictureAt, Record, ReplicaWrite, ShedReply, SizeReply, SortCount, SpaceKey, Stretch,
    Via, WriteReply,
};
use crate::told::Told;
use crate::{Blob, KeyspaceName, NodeId, Version, Zone};

/// A storage node. All methods are synchronous: they change the map and append to the log in one
/// step, in the order in which requests arrive; the connection holds the reply until it is durable.
#[rpc(server, client)]
pub trait NodeApi {
    /// Stores `value` under `key`. Without a version the node numbers the write itself, and the write
    /// replaces all that the node holds for the key; with one it replaces all that the version's line
    /// had before. With `expires`, unix milliseconds, the value is gone from then on.
    #[method(name = "put")]
    fn put(
        &self,
        key: Blob,
        value: Blob,
        version: Option<Version>,
        expires: Option<u64>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<WriteReply, ErrorObjectOwned>;
    /// Reads a key.
    #[method(name = "get")]
    fn get(&self, key: Blob, keyspace: Option<KeyspaceName>) -> Result<GetReply, ErrorObjectOwned>;
    /// Deletes a key: stores a tombstone, numbered as a put.
    #[method(name = "del")]
    fn del(
        &self,
        key: Blob,
        version: Option<Version>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<WriteReply, ErrorObjectOwned>;
    /// Takes a write that was numbered by who routes it: replaces what its context says.
    #[method(name = "write")]
    fn write(&self, write: ReplicaWrite) -> Result<WriteReply, ErrorObjectOwned>;
    /// How many keys, and who this is.
    #[method(name = "size")]
    fn size(&self) -> Result<SizeReply, ErrorObjectOwned>;
    /// A page of records in key order, as they are or, `at` a version, as a picture has them.
    #[method(name = "dump", param_kind = map)]
    fn dump(
        &self,
        after: Option<Blob>,
        limit: Option<usize>,
        prefix: Option<Blob>,
        keys_only: Option<bool>,
        tombstones: Option<bool>,
        at: Option<PictureAt>,
        keyspace: Option<KeyspaceName>,
        leaves: Option<Vec<u16>>,
        until: Option<Blob>,
        arcs: Option<Told>,
    ) -> Result<DumpReply, ErrorObjectOwned>;
    /// Counts keys by the arcs on which they lie, looking at so many at the most (65,536 without a number, which is
    /// also the most), and with `marks` says of each what is held.
    #[method(name = "census")]
    fn census(
        &self,
        stretch: Stretch,
        limit: Option<usize>,
        marks: Option<bool>,
    ) -> Result<CensusReply, ErrorObjectOwned>;
    /// Forgets the keys of a stretch of which exactly that is held which one of the marks says, or, of all keys of a
    /// sort together, what is said of that sort: both as `census` gives them elsewhere. Not more than `census` looks at.
    #[method(name = "shed")]
    fn shed(
        &self,
        stretch: Stretch,
        marks: Option<String>,
        sorts: Option<Vec<SortCount>>,
    ) -> Result<ShedReply, ErrorObjectOwned>;
    /// Merges what other replicas hold into what is held here.
    #[method(name = "apply")]
    fn apply(
        &self,
        records: Vec<Record>,
        keyspace: Option<KeyspaceName>,
        via: Option<Via>,
    ) -> Result<BatchReply, ErrorObjectOwned>;
    /// Reads records, tombstones too.
    #[method(name = "fetch")]
    fn fetch(
        &self,
        keys: Vec<Blob>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<FetchReply, ErrorObjectOwned>;
    /// Forgets keys without a trace, each only if no more is stored than is named.
    #[method(name = "drop")]
    fn drop_keys(
        &self,
        keys: Vec<KeyVersion>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<BatchReply, ErrorObjectOwned>;
    /// Forgets a whole keyspace, with all that was owed of it.
    #[method(name = "drop_keyspace")]
    fn drop_keyspace(&self, keyspace: KeyspaceName) -> Result<BatchReply, ErrorObjectOwned>;
    /// Digests of what is held: of 256 parts of the ring (`part` absent) or of the 256 leaves of one.
    #[method(name = "digests")]
    fn digests(
        &self,
        keyspace: Option<KeyspaceName>,
        part: Option<u8>,
    ) -> Result<DigestsReply, ErrorObjectOwned>;
    /// Forgets tombstones that all replicas have, leaf by leaf; says how many.
    #[method(name = "collect")]
    fn collect(
        &self,
        leaves: Vec<Collection>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<BatchReply, ErrorObjectOwned>;
    /// Notes that a node has missed what is held here for these keys.
    #[method(name = "owe")]
    fn owe(&self, to: NodeId, keys: Vec<SpaceKey>) -> Result<DoneReply, ErrorObjectOwned>;
    /// A page of the keys owed to a node; as many as fit one `fetch`.
    #[method(name = "owed")]
    fn owed(&self, to: NodeId, after: Option<SpaceKey>) -> Result<OwedReply, ErrorObjectOwned>;
    /// Strikes off keys that were handed over; without keys, all that is owed to the node.
    #[method(name = "paid")]
    fn paid(&self, to: NodeId, keys: Option<Vec<SpaceKey>>) -> Result<DoneReply, ErrorObjectOwned>;
    /// The log's lines about a key, oldest first: at most the last 100.
    #[method(name = "history")]
    async fn history(
        &self,
        key: Blob,
        keyspace: Option<KeyspaceName>,
    ) -> Result<LogReply, ErrorObjectOwned>;
    /// Begins a picture: what is overwritten from now on is kept for it. It ends when it is ended,
    /// when it is not read for a minute, or when too much would have to be kept.
    #[method(name = "freeze")]
    fn freeze(&self) -> Result<FreezeReply, ErrorObjectOwned>;
    /// Ends a picture.
    #[method(name = "thaw")]
    fn thaw(&self, picture: String) -> Result<DoneReply, ErrorObjectOwned>;
    /// A coordinator wants to be obeyed; asked on every new connection of one.
    #[method(name = "claim")]
    fn claim(&self, claim: Claim) -> Result<ObeysReply, ErrorObjectOwned>;
    /// What the cluster is from now on: requests under an older ring are refused. Only with an epoch.
    #[method(name = "adopt")]
    fn adopt(&self, map: ClusterMap) -> Result<ObeysReply, ErrorObjectOwned>;
    /// Whom the node obeys, and what it was told of its cluster.
    #[method(name = "cluster")]
    fn cluster(&self) -> Result<ObeysReply, ErrorObjectOwned>;
    /// The node is in no cluster any more: it obeys nobody, and forgets floors and hints. Only when it holds
    /// nothing.
    #[method(name = "release")]
    async fn release(&self) -> Result<DoneReply, ErrorObjectOwned>;
    /// The engine's figures.
    #[method(name = "stats")]
    fn stats(&self) -> Result<NodeStats, ErrorObjectOwned>;
    /// Compacts now, and answers when it is done.
    #[method(name = "compact")]
    async fn compact(&self) -> Result<CompactReply, ErrorObjectOwned>;
    /// The last lines of the log (20 without a number, at most 1,000).
    #[method(name = "log")]
    fn log(&self, tail: Option<usize>) -> Result<LogReply, ErrorObjectOwned>;
}

/// The coordinator. Methods are named as the commands of the `kv` shell.
#[rpc(server, client)]
pub trait ClusterApi {
    /// Writes to all owners, acknowledged at W.
    #[method(name = "put")]
    async fn put(
        &self,
        key: Blob,
        value: Blob,
        options: Option<WriteOptions>,
    ) -> Result<ClusterWrite, ErrorObjectOwned>;
    /// Reads from R owners, in preference order.
    #[method(name = "get")]
    async fn get(
        &self,
        key: Blob,
        options: Option<ReadOptions>,
    ) -> Result<ClusterGet, ErrorObjectOwned>;
    /// Deletes at all owners, acknowledged at W.
    #[method(name = "del")]
    async fn del(
        &self,
        key: Blob,
        options: Option<WriteOptions>,
    ) -> Result<ClusterWrite, ErrorObjectOwned>;
    /// Many puts, each with its own outcome, in the order of the items: at most 1,024.
    #[method(name = "mput")]
    async fn mput(
        &self,
        items: Vec<Item>,
        options: Option<WriteOptions>,
    ) -> Result<Vec<BatchWrite>, ErrorObjectOwned>;
    /// Many gets, likewise.
    #[method(name = "mget")]
    async fn mget(
        &self,
        keys: Vec<Blob>,
        options: Option<ReadOptions>,
    ) -> Result<Vec<BatchGet>, ErrorObjectOwned>;
    /// Many dels, likewise.
    #[method(name = "mdel")]
    async fn mdel(
        &self,
        keys: Vec<Blob>,
        options: Option<WriteOptions>,
    ) -> Result<Vec<BatchWrite>, ErrorObjectOwned>;
    /// Writes acknowledged after a position, of keys that begin so; waits up to `wait_ms` (at most
    /// 30,000) for the first. Without a position: from now on.
    #[method(name = "changes", param_kind = map)]
    async fn changes(
        &self,
        after: Option<String>,
        prefix: Option<Blob>,
        keyspace: Option<KeyspaceName>,
        wait_ms: Option<u64>,
    ) -> Result<ChangesReply, ErrorObjectOwned>;
    /// The lineage of a key.
    #[method(name = "why")]
    async fn why(
        &self,
        key: Blob,
        keyspace: Option<KeyspaceName>,
    ) -> Result<WhyReply, ErrorObjectOwned>;
    /// Compares the replicas of a keyspace now, and mends what differs if asked to.
    #[method(name = "check", param_kind = map)]
    async fn check(
        &self,
        repair: Option<bool>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<CheckReport, ErrorObjectOwned>;
    /// Registers a node and puts it on the ring.
    #[method(name = "addnode", param_kind = map)]
    async fn addnode(
        &self,
        id: NodeId,
        addr: String,
        weight: Option<u32>,
        zone: Option<Zone>,
    ) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Takes a node off the ring and puts another in its seat, so that nobody else's keys move.
    #[method(name = "replacenode", param_kind = map)]
    async fn replacenode(
        &self,
        old: NodeId,
        id: NodeId,
        addr: String,
    ) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Gives a node another share of the ring.
    #[method(name = "setweight")]
    async fn setweight(&self, id: NodeId, weight: u32) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Says in which zone a node stands; absent: in none.
    #[method(name = "setzone")]
    async fn setzone(
        &self,
        id: NodeId,
        zone: Option<Zone>,
    ) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Takes a node off the ring; it keeps its data until `rebalance` has copied it.
    #[method(name = "removenode", param_kind = map)]
    async fn removenode(
        &self,
        id: NodeId,
        force: Option<bool>,
    ) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Sets N of a keyspace.
    #[method(name = "setreplica")]
    async fn setreplica(
        &self,
        n: usize,
        keyspace: Option<KeyspaceName>,
    ) -> Result<ChangeReply, ErrorObjectOwned>;
    /// What `rebalance` would do now, after taking back what is staged if asked to.
    #[method(name = "plan", param_kind = map)]
    async fn plan(&self, clear: Option<bool>) -> Result<PlanReply, ErrorObjectOwned>;
    /// Commits what is staged and starts moving keys to where the ring says, and answers at once; see `progress`.
    /// With an epoch only if the ring is still of that: the plan that was seen is the one that is carried out.
    #[method(name = "rebalance", param_kind = map)]
    async fn rebalance(
        &self,
        dry_run: Option<bool>,
        epoch: Option<u64>,
    ) -> Result<RebalanceReport, ErrorObjectOwned>;
    /// Lets the rebalance rest.
    #[method(name = "pause")]
    async fn pause(&self) -> Result<RebalanceReport, ErrorObjectOwned>;
    /// Lets it go on.
    #[method(name = "resume")]
    async fn resume(&self) -> Result<RebalanceReport, ErrorObjectOwned>;
    /// Takes the change back that is being carried out: the ring is as it was, and new copies are removed.
    #[method(name = "cancel")]
    async fn cancel(&self) -> Result<RebalanceReport, ErrorObjectOwned>;
    /// How far the rebalance is; narration after line number `after`.
    #[method(name = "progress")]
    async fn progress(&self, after: Option<u64>) -> Result<RebalanceReport, ErrorObjectOwned>;
    /// What would be if; changes nothing.
    #[method(name = "what_if")]
    async fn what_if(&self, suppose: Vec<Supposition>) -> Result<WhatIfReply, ErrorObjectOwned>;
    /// What is wrong now, and what would be if one more node died.
    #[method(name = "doctor")]
    async fn doctor(&self) -> Result<DoctorReply, ErrorObjectOwned>;
    /// What is thought of a node, with the probes that led to it.
    #[method(name = "why_down")]
    async fn why_down(&self, id: NodeId) -> Result<WhyDownReply, ErrorObjectOwned>;
    /// The nodes.
    #[method(name = "show")]
    async fn show(&self) -> Result<ShowReply, ErrorObjectOwned>;
    /// Totals.
    #[method(name = "stats")]
    async fn stats(&self) -> Result<StatsReply, ErrorObjectOwned>;
    /// Where a key belongs and where it is; with its values on request.
    #[method(name = "where", param_kind = map)]
    async fn locate(
        &self,
        key: Blob,
        values: Option<bool>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<WhereReply, ErrorObjectOwned>;
    /// The ring, drawn; with all tokens on request.
    #[method(name = "ring", param_kind = map)]
    async fn ring(&self, tokens: Option<bool>) -> Result<RingReply, ErrorObjectOwned>;
    /// Begins a picture of the whole cluster at one moment, to be read with `scan`. It ends when it
    /// is ended, when it is not read for a minute, or when too much is written meanwhile.
    #[method(name = "freeze")]
    async fn freeze(&self) -> Result<ClusterFreeze, ErrorObjectOwned>;
    /// Ends a picture.
    #[method(name = "thaw")]
    async fn thaw(&self, picture: String) -> Result<DoneReply, ErrorObjectOwned>;
    /// A page of the cluster's keys, as they are or as a picture has them.
    #[method(name = "scan", param_kind = map)]
    async fn scan(
        &self,
        prefix: Option<Blob>,
        after: Option<Blob>,
        limit: Option<usize>,
        keys_only: Option<bool>,
        picture: Option<String>,
        keyspace: Option<KeyspaceName>,
    ) -> Result<ScanReply, ErrorObjectOwned>;
    /// Events after number `after`; waits up to `wait_ms` (at most 30,000) for the first.
    #[method(name = "events", param_kind = map)]
    async fn events(
        &self,
        after: Option<u64>,
        wait_ms: Option<u64>,
    ) -> Result<EventsReply, ErrorObjectOwned>;
    /// Lists settings, or sets one.
    #[method(name = "config", param_kind = map)]
    async fn config(
        &self,
        name: Option<String>,
        value: Option<String>,
    ) -> Result<ConfigReply, ErrorObjectOwned>;
    /// Lists the keyspaces, or the one that is named, after changing it if asked to.
    #[method(name = "keyspace", param_kind = map)]
    async fn keyspace(
        &self,
        name: Option<KeyspaceName>,
        change: Option<KeyspaceChange>,
    ) -> Result<KeyspaceReply, ErrorObjectOwned>;
    /// Lends a client the picture of the cluster that is in force, so that it can go straight to the owners; the
    /// one that it has is not sent again.
    #[method(name = "lease")]
    async fn lease(&self, known: Option<ViewId>) -> Result<LeaseReply, ErrorObjectOwned>;
    /// Numbers writes that a client is about to send to the owners, and hears what became of earlier ones.
    #[method(name = "number")]
    async fn number(&self, ask: NumberAsk) -> Result<NumberReply, ErrorObjectOwned>;
    /// Carries out to its end a write that was numbered by this coordinator: it may be at some replicas already.
    #[method(name = "finish")]
    async fn finish(
        &self,
        record: Record,
        keyspace: Option<KeyspaceName>,
    ) -> Result<ClusterWrite, ErrorObjectOwned>;
    /// Who answers here.
    #[method(name = "info")]
    async fn info(&self) -> Result<InfoReply, ErrorObjectOwned>;
}
