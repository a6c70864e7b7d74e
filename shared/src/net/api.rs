//! The methods as jsonrpsee traits: one definition makes the server's table and the client's
//! typed calls. Parameters may be given by position or by name.

use jsonrpsee::proc_macros::rpc;
use jsonrpsee::types::ErrorObjectOwned;

use crate::protocol::cluster::{
    ChangeReply, ClusterFreeze, ClusterGet, ClusterWrite, ConfigReply, EventsReply, InfoReply,
    KeyspaceReply, RebalanceReport, RingReply, ScanReply, ShowReply, StatsReply, WhereReply,
};
use crate::protocol::node::{
    BatchReply, CompactReply, DoneReply, DumpReply, FetchReply, FreezeReply, GetReply, KeyVersion,
    LogReply, NodeStats, PictureAt, Record, SizeReply, WriteReply,
};
use crate::{Blob, NodeId, Version};

/// A storage node. All methods are synchronous: they change the map and append to the log in one
/// step, in the order in which requests arrive; the connection holds the reply until it is durable.
#[rpc(server, client)]
pub trait NodeApi {
    /// Stores `value` under `key`. Without a version the node gives the next one it has not seen;
    /// with `expires`, unix milliseconds, the value is gone from then on.
    #[method(name = "put")]
    fn put(
        &self,
        key: Blob,
        value: Blob,
        version: Option<Version>,
        expires: Option<u64>,
    ) -> Result<WriteReply, ErrorObjectOwned>;
    /// Reads a key.
    #[method(name = "get")]
    fn get(&self, key: Blob) -> Result<GetReply, ErrorObjectOwned>;
    /// Deletes a key: stores a tombstone.
    #[method(name = "del")]
    fn del(&self, key: Blob, version: Option<Version>) -> Result<WriteReply, ErrorObjectOwned>;
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
    ) -> Result<DumpReply, ErrorObjectOwned>;
    /// Writes records by version: each wins only over an older one.
    #[method(name = "apply")]
    fn apply(&self, records: Vec<Record>) -> Result<BatchReply, ErrorObjectOwned>;
    /// Reads records, tombstones too.
    #[method(name = "fetch")]
    fn fetch(&self, keys: Vec<Blob>) -> Result<FetchReply, ErrorObjectOwned>;
    /// Forgets keys without a trace, each only if exactly that version is stored.
    #[method(name = "drop")]
    fn drop_keys(&self, keys: Vec<KeyVersion>) -> Result<BatchReply, ErrorObjectOwned>;
    /// Begins a picture: what is overwritten from now on is kept for it. It ends when it is ended,
    /// when it is not read for a minute, or when too much would have to be kept.
    #[method(name = "freeze")]
    fn freeze(&self) -> Result<FreezeReply, ErrorObjectOwned>;
    /// Ends a picture.
    #[method(name = "thaw")]
    fn thaw(&self, picture: String) -> Result<DoneReply, ErrorObjectOwned>;
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
    /// Writes to all owners, acknowledged at W. The value lives for `ttl_ms`, 0 for ever, and
    /// without it as long as the keyspace says.
    #[method(name = "put")]
    async fn put(
        &self,
        key: Blob,
        value: Blob,
        ttl_ms: Option<u64>,
    ) -> Result<ClusterWrite, ErrorObjectOwned>;
    /// Reads from the first owner that answers, in preference order.
    #[method(name = "get")]
    async fn get(&self, key: Blob) -> Result<ClusterGet, ErrorObjectOwned>;
    /// Deletes at all owners, acknowledged at W.
    #[method(name = "del")]
    async fn del(&self, key: Blob) -> Result<ClusterWrite, ErrorObjectOwned>;
    /// Registers a node and puts it on the ring.
    #[method(name = "addnode", param_kind = map)]
    async fn addnode(
        &self,
        id: NodeId,
        addr: String,
        weight: Option<u32>,
    ) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Takes a node off the ring; it keeps its data until `rebalance` has copied it.
    #[method(name = "removenode", param_kind = map)]
    async fn removenode(
        &self,
        id: NodeId,
        force: Option<bool>,
    ) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Sets N.
    #[method(name = "setreplica")]
    async fn setreplica(&self, n: usize) -> Result<ChangeReply, ErrorObjectOwned>;
    /// Starts moving keys to where the ring says, and answers at once; see `progress`.
    #[method(name = "rebalance", param_kind = map)]
    async fn rebalance(&self, dry_run: Option<bool>) -> Result<RebalanceReport, ErrorObjectOwned>;
    /// How far the rebalance is; narration after line number `after`.
    #[method(name = "progress")]
    async fn progress(&self, after: Option<u64>) -> Result<RebalanceReport, ErrorObjectOwned>;
    /// The nodes.
    #[method(name = "show")]
    async fn show(&self) -> Result<ShowReply, ErrorObjectOwned>;
    /// Totals.
    #[method(name = "stats")]
    async fn stats(&self) -> Result<StatsReply, ErrorObjectOwned>;
    /// Where a key belongs and where it is; with its values on request.
    #[method(name = "where", param_kind = map)]
    async fn locate(&self, key: Blob, values: Option<bool>)
    -> Result<WhereReply, ErrorObjectOwned>;
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
    /// Lists the keyspaces, or changes what one says of all writes into it: with `ttl_ms`, how long
    /// values live that are put without a time of their own, 0 for ever.
    #[method(name = "keyspace", param_kind = map)]
    async fn keyspace(
        &self,
        name: Option<String>,
        ttl_ms: Option<u64>,
    ) -> Result<KeyspaceReply, ErrorObjectOwned>;
    /// Who answers here.
    #[method(name = "info")]
    async fn info(&self) -> Result<InfoReply, ErrorObjectOwned>;
}

/// What each method of a node takes, in order; `?` marks what may be left out.
pub const NODE_METHODS: [(&str, &str); 13] = [
    ("apply", "records"),
    ("compact", ""),
    ("del", "key, version?"),
    ("drop", "keys"),
    ("dump", "after?, limit?, prefix?, keys_only?, tombstones?, at?"),
    ("fetch", "keys"),
    ("freeze", ""),
    ("get", "key"),
    ("log", "tail?"),
    ("put", "key, value, version?, expires?"),
    ("size", ""),
    ("stats", ""),
    ("thaw", "picture"),
];

/// What each method of the coordinator takes, in order; `?` marks what may be left out.
pub const CLUSTER_METHODS: [(&str, &str); 19] = [
    ("addnode", "id, addr, weight?"),
    ("config", "name?, value?"),
    ("del", "key"),
    ("events", "after?, wait_ms?"),
    ("freeze", ""),
    ("get", "key"),
    ("info", ""),
    ("keyspace", "name?, ttl_ms?"),
    ("progress", "after?"),
    ("put", "key, value, ttl_ms?"),
    ("rebalance", "dry_run?"),
    ("removenode", "id, force?"),
    ("ring", "tokens?"),
    ("scan", "prefix?, after?, limit?, keys_only?, picture?"),
    ("setreplica", "n"),
    ("show", ""),
    ("stats", ""),
    ("thaw", "picture"),
    ("where", "key, values?"),
];

/// The entry of `method` in such a table.
#[must_use]
pub fn takes(table: &[(&str, &'static str)], method: &str) -> Option<&'static str> {
    table.iter().find(|(name, _)| *name == method).map(|(_, takes)| *takes)
}
