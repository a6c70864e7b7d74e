//! The node's methods: limits first, then the engine, then the shape of the answer.
//!
//! All but `compact` and `history` are synchronous: a burst of requests runs in the order in which it came, and
//! its replies leave together once [`Engine::settle`] says that they are safe.
//!
//! On the wire a key stands beside its keyspace; from here on it is one *stored* key, see
//! [`key`](crate::log::key).
//!
//! # Caveats
//!
//! An `apply` or `drop` is a batch, not a transaction: a crash may keep the first part of one that
//! was not acknowledged.

use std::rc::Rc;

use bytes::Bytes;
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{Methods, core::async_trait};
use ringkv_shared::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use ringkv_shared::merkle::Digest;
use ringkv_shared::net::{NODE_METHODS, NodeApiServer, Service, failure_into_object, takes};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::node::{
    BatchReply, Collection, CompactReply, DigestsReply, DoneReply, DumpReply, FetchReply,
    FreezeReply, GetReply, KeyVersion, LogReply, NodeStats, OwedReply, PictureAt, Record,
    ReplicaWrite, SizeReply, SpaceKey, Via, WriteReply,
};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId, Version};

use crate::StorageError;
use crate::answer::get_reply;
use crate::checks::{
    check_collections, check_count, check_dropped, check_key, check_owed, check_records,
    check_space_keys, check_value, check_version, check_write,
};
use crate::engine::Engine;
use crate::handoff::Owed;
use crate::log::key;
use crate::log::record;
use crate::log::record::Op;
use crate::log::value::Value;
use crate::refusals::{no_page, no_picture, no_room, refused, unreadable};
use crate::replica::Leaves;
use crate::store::{FreezeError, FreezeId, PageRequest};
use crate::write::{Condition, Merged, WriteOutcome};

const TAIL_LINES_DEFAULT: usize = 20;
const TAIL_LINES_MAX: usize = 1_000;

/// An engine behind the methods on the wire.
#[derive(Clone)]
pub struct NodeService {
    engine: Engine,
    methods: Rc<Methods>,
}

impl NodeService {
    /// The methods of this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let methods = Rc::new(Api(engine.clone()).into_rpc().into());
        Self { engine, methods }
    }
}

impl Service for NodeService {
    fn methods(&self) -> &Methods {
        &self.methods
    }

    fn settle(&self) -> impl Future<Output = ()> {
        self.engine.settle()
    }

    fn takes(&self, method: &str) -> Option<&'static str> {
        takes(&NODE_METHODS, method)
    }

    fn is_barrier(&self, method: &str) -> bool {
        matches!(method, "compact" | "history")
    }
}

struct Api(Engine);

type Answer<T> = Result<T, ErrorObjectOwned>;

#[async_trait]
impl NodeApiServer for Api {
    fn put(
        &self,
        key: Blob,
        value: Blob,
        version: Option<Version>,
        expires: Option<u64>,
        keyspace: Option<KeyspaceName>,
    ) -> Answer<WriteReply> {
        check_key(&key).and_then(|()| check_value(&value)).map_err(failure_into_object)?;
        check_version(version).map_err(failure_into_object)?;
        let (key, value) = (stored(keyspace.as_ref(), key), value.into_bytes());
        let outcome = match expires {
            Some(expires) => self.0.put_until(key, value, expires, version),
            None => self.0.write(key, Some(value), version),
        };
        Ok(put_reply(outcome.map_err(no_room)?))
    }

    fn get(&self, key: Blob, keyspace: Option<KeyspaceName>) -> Answer<GetReply> {
        check_key(&key).map_err(failure_into_object)?;
        let held = self.0.get(&stored(keyspace.as_ref(), key));
        Ok(get_reply(held.map_err(|error| unreadable(&error))?))
    }

    fn del(
        &self,
        key: Blob,
        version: Option<Version>,
        keyspace: Option<KeyspaceName>,
    ) -> Answer<WriteReply> {
        check_key(&key).map_err(failure_into_object)?;
        check_version(version).map_err(failure_into_object)?;
        let outcome = self.0.write(stored(keyspace.as_ref(), key), None, version);
        Ok(del_reply(outcome.map_err(no_room)?))
    }

    fn write(&self, write: ReplicaWrite) -> Answer<WriteReply> {
        check_write(&write.record).map_err(failure_into_object)?;
        check_owed(&write.owe).map_err(failure_into_object)?;
        let Record { key, value, version, expires, stamp, context, .. } = write.record;
        let (key, deletes) = (stored(Some(&write.keyspace), key), value.is_none());
        let put = |value: Blob| Op::Put { value: Value::new(value.into_bytes()), expires };
        let record = record::Record::new(key, value.map_or(Op::Del, put), version);
        let record = context.iter().fold(record, record::Record::with_seen);
        let outcome = self.0.take(record::Record { stamp, ..record }, &write.owe);
        let outcome = outcome.map_err(no_room)?;
        Ok(if deletes { del_reply(outcome) } else { put_reply(outcome) })
    }

    fn drop_keyspace(&self, keyspace: KeyspaceName) -> Answer<BatchReply> {
        check_dropped(&keyspace).map_err(failure_into_object)?;
        let changed = self.0.forget_keyspace(&keyspace).map_err(no_room)?;
        Ok(BatchReply { status: Status::Ok, changed, deleted: Vec::new() })
    }

    fn digests(&self, keyspace: Option<KeyspaceName>, part: Option<u8>) -> Answer<DigestsReply> {
        let digests = self.0.digests(&keyspace.unwrap_or_default(), part);
        let digests = digests.iter().map(Digest::to_string).collect();
        Ok(DigestsReply { status: Status::Ok, digests })
    }

    fn collect(
        &self,
        leaves: Vec<Collection>,
        keyspace: Option<KeyspaceName>,
    ) -> Answer<BatchReply> {
        check_collections(&leaves).map_err(failure_into_object)?;
        let changed = self.0.collect(&keyspace.unwrap_or_default(), &leaves).map_err(no_room)?;
        Ok(BatchReply { status: Status::Ok, changed, deleted: Vec::new() })
    }

    fn owe(&self, to: NodeId, keys: Vec<SpaceKey>) -> Answer<DoneReply> {
        check_space_keys(&keys).map_err(failure_into_object)?;
        self.0.owe(&to, &keys).map_err(no_room)?;
        Ok(DoneReply { status: Status::Ok })
    }

    fn owed(&self, to: NodeId, after: Option<SpaceKey>) -> Answer<OwedReply> {
        let Owed { keys, more } = self.0.owed(&to, after.as_ref());
        let next = keys.last().filter(|_| more).cloned();
        Ok(OwedReply { status: Status::Ok, keys, next })
    }

    fn paid(&self, to: NodeId, keys: Option<Vec<SpaceKey>>) -> Answer<DoneReply> {
        let paid = match keys {
            Some(keys) => {
                check_space_keys(&keys).map_err(failure_into_object)?;
                self.0.paid(&to, &keys)
            }
            None => self.0.all_paid(&to),
        };
        paid.map_err(no_room)?;
        Ok(DoneReply { status: Status::Ok })
    }

    async fn history(&self, key: Blob, keyspace: Option<KeyspaceName>) -> Answer<LogReply> {
        check_key(&key).map_err(failure_into_object)?;
        let lines = self.0.history(stored(keyspace.as_ref(), key)).await;
        let lines = lines.map_err(unreadable_log)?;
        Ok(LogReply {
            status: Status::Ok,
            file: self.0.options().data.display().to_string(),
            lines,
        })
    }

    fn size(&self) -> Answer<SizeReply> {
        let figures = self.0.figures();
        Ok(SizeReply {
            status: Status::Ok,
            size: figures.keys,
            tombstones: figures.tombstones,
            id: self.0.options().id.clone(),
            uuid: self.0.uuid().to_string(),
            log_bytes: figures.log_bytes,
            state: figures.state,
            debts: self.0.debts(),
        })
    }

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
    ) -> Answer<DumpReply> {
        let keyspace = keyspace.as_ref();
        let page = self.0.page(&PageRequest {
            after: after.map(|after| stored(keyspace, after)),
            prefix: stored(keyspace, prefix.unwrap_or_default()),
            all_keyspaces: false,
            keys_max: limit.unwrap_or(PAGE_KEYS_MAX).clamp(1, PAGE_KEYS_MAX),
            bytes_max: PAGE_BYTES_MAX,
            leaves: leaves.map(Leaves::from_iter),
            keys_only: keys_only.unwrap_or(false),
            tombstones: tombstones.unwrap_or(false),
            at: at.map(|at| self.picture(at)).transpose().map_err(no_picture)?,
        });
        let page = page.map_err(no_page)?;
        let reached = page.reached.map(|stored| Blob::from(key::split(&stored).1.to_vec()));
        let items: Vec<Record> = page.entries.into_iter().map(|(_, record)| record).collect();
        let last = reached.or_else(|| items.last().map(|record| record.key.clone()));
        let next = last.filter(|_| page.more);
        Ok(DumpReply { status: Status::Ok, items, next })
    }

    fn apply(
        &self,
        records: Vec<Record>,
        keyspace: Option<KeyspaceName>,
        via: Option<Via>,
    ) -> Answer<BatchReply> {
        check_records(&records).map_err(failure_into_object)?;
        let copies = records.into_iter().map(|record| {
            let key = stored(keyspace.as_ref(), record.key.clone());
            (key, record)
        });
        let Merged { changed, deleted } = self.0.merge(copies, via).map_err(no_room)?;
        let deleted = deleted.iter().map(|key| Blob::from(key::split(key).1.to_vec())).collect();
        Ok(BatchReply { status: Status::Ok, changed, deleted })
    }

    fn fetch(&self, keys: Vec<Blob>, keyspace: Option<KeyspaceName>) -> Answer<FetchReply> {
        check_count(keys.len()).map_err(failure_into_object)?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        for key in keys {
            let held = self.0.peek(&stored(keyspace.as_ref(), key));
            let Some(record) = held.map_err(|error| unreadable(&error))? else { continue };
            let values = record.values().filter_map(|sibling| sibling.value);
            bytes += record.key.len() + values.map(|value| value.len()).sum::<usize>();
            if bytes > PAGE_BYTES_MAX && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        Ok(FetchReply { status: Status::Ok, records })
    }

    fn drop_keys(
        &self,
        keys: Vec<KeyVersion>,
        keyspace: Option<KeyspaceName>,
    ) -> Answer<BatchReply> {
        check_count(keys.len()).map_err(failure_into_object)?;
        let keys = keys.into_iter().map(|KeyVersion { key, version, context }| {
            let condition = context.map_or(Condition::Only(version), Condition::Within);
            (stored(keyspace.as_ref(), key), condition)
        });
        let changed = self.0.forget(keys).map_err(no_room)?;
        Ok(BatchReply { status: Status::Ok, changed, deleted: Vec::new() })
    }

    fn freeze(&self) -> Answer<FreezeReply> {
        let picture = self.0.begin_picture().map_err(no_picture)?;
        Ok(FreezeReply { status: Status::Ok, picture: picture.to_string() })
    }

    fn thaw(&self, picture: String) -> Answer<DoneReply> {
        if let Ok(name) = picture.parse() {
            self.0.end_picture(name);
        }
        Ok(DoneReply { status: Status::Ok })
    }

    fn stats(&self) -> Answer<NodeStats> {
        let (figures, options) = (self.0.figures(), self.0.options());
        Ok(NodeStats {
            status: Status::Ok,
            id: options.id.clone(),
            uuid: self.0.uuid().to_string(),
            data: options.data.display().to_string(),
            pid: std::process::id(),
            durability: options.durability.to_string(),
            keys: figures.keys,
            tombstones: figures.tombstones,
            log_bytes: figures.log_bytes,
            state: figures.state,
            sequence: figures.sequence,
            durable: figures.durable,
            replayed: figures.replayed,
            replay_us: figures.replay_us,
            syncs: figures.syncs,
            appends: figures.appends,
            compactions: figures.compactions,
            expiring: figures.tally.expiring,
            swept: figures.swept,
            conflicts: figures.tally.conflicts,
            discarded: figures.discarded,
            collected: figures.collected,
            last_sync_us: figures.last_sync_us,
            value_bytes: figures.tally.raw_bytes,
            stored_bytes: figures.tally.stored_bytes,
            resident_values: figures.tally.resident_values,
            resident_bytes: figures.tally.resident_bytes,
            hits: figures.reads.hits,
            misses: figures.reads.misses,
            evictions: figures.reads.evictions,
            last_compaction_s: figures.last_compaction.map(|(at, _)| at.elapsed().as_secs()),
            last_compaction_reason: figures.last_compaction.map(|(_, why)| why.to_string()),
        })
    }

    async fn compact(&self) -> Answer<CompactReply> {
        let done = self.0.compact().await.map_err(|why| failure_into_object(refused(why)))?;
        Ok(CompactReply {
            status: Status::Ok,
            records: done.records,
            bytes_before: done.bytes_before,
            bytes_after: done.bytes_after,
        })
    }

    fn log(&self, tail: Option<usize>) -> Answer<LogReply> {
        let path = self.0.active_path();
        let lines_max = tail.unwrap_or(TAIL_LINES_DEFAULT).min(TAIL_LINES_MAX);
        let lines = self.0.last_lines(lines_max).map_err(unreadable_log)?;
        Ok(LogReply { status: Status::Ok, file: path.display().to_string(), lines })
    }
}

fn stored(keyspace: Option<&KeyspaceName>, key: Blob) -> Bytes {
    match keyspace {
        Some(keyspace) => key::stored(keyspace, key.into_bytes()),
        None => key::stored(&KeyspaceName::default(), key.into_bytes()),
    }
}

fn put_reply(outcome: WriteOutcome) -> WriteReply {
    let WriteOutcome { version, superseded, siblings, .. } = outcome;
    WriteReply { status: Status::Ok, version, superseded, siblings }
}

fn del_reply(outcome: WriteOutcome) -> WriteReply {
    let status = if outcome.existed { Status::Ok } else { Status::NotFound };
    WriteReply { status, ..put_reply(outcome) }
}

fn unreadable_log(error: StorageError) -> ErrorObjectOwned {
    let failure = Failure::new(ErrorName::NotReady, error.to_string());
    failure_into_object(failure.hint("try again"))
}

impl Api {
    fn picture(&self, at: PictureAt) -> Result<(FreezeId, Version), FreezeError> {
        let name = at.picture.parse().map_err(|_| FreezeError::Gone)?;
        Ok((self.0.picture(name)?, at.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::COUNTER_MAX;
    use crate::options::EngineOptions;
    use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
    use serde_json::{Value, json};

    fn service(dir: &std::path::Path) -> NodeService {
        let options = EngineOptions::new("n1".parse().unwrap(), dir.to_owned());
        NodeService::new(Engine::open(options).unwrap().0)
    }

    async fn call(service: &NodeService, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (reply, _) = service.methods().raw_json_request(&request.to_string(), 1).await.unwrap();
        let reply: Value = serde_json::from_str(reply.get()).unwrap();
        let object = reply.as_object().unwrap();
        object.get("result").or_else(|| object.get("error")).unwrap().clone()
    }

    /// Calls one after another; `OWN` stands for the epoch of the node's own line.
    async fn play(service: &NodeService, calls: Vec<(&str, Value, Value)>) {
        let own = format!("x{:08x}", service.engine.own_epoch());
        let real = |value: Value| -> Value {
            serde_json::from_str(&value.to_string().replace("OWN", &own)).unwrap()
        };
        for (number, (method, params, expected)) in calls.into_iter().enumerate() {
            let shown = format!("call {number}: {method} {params}");
            assert_eq!(call(service, method, real(params)).await, real(expected), "{shown}");
        }
    }

    fn ok(mut fields: Value) -> Value {
        fields["status"] = json!("ok");
        fields
    }

    #[tokio::test]
    async fn results_have_the_shapes_of_the_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let far = 4_102_444_800_000_u64;
        play(&service, vec![
            ("get", json!(["a"]), json!({"status": "not_found"})),
            ("put", json!(["a", "1"]), ok(json!({"version": "OWN.1"}))),
            ("get", json!({"key": "a"}), ok(json!({"value": "1", "version": "OWN.1"}))),
            ("put", json!(["b", "2", "3.5"]), ok(json!({"version": "3.5"}))),
            ("put", json!(["b", "2", "3.5"]), ok(json!({"version": "3.5"}))),
            ("put", json!(["b", "9", "3.5"]), ok(json!({"version": "3.5", "superseded": true}))),
            ("put", json!(["b", "0", "1.1"]), ok(json!({"version": "3.5", "superseded": true}))),
            ("get", json!(["b"]), ok(json!({"value": "2", "version": "3.5"}))),
            ("put", json!(["t", "1", "3.4", far]), ok(json!({"version": "3.4"}))),
            ("get", json!(["t"]), ok(json!({"value": "1", "version": "3.4", "expires": far}))),
            ("put", json!(["t", "1", "3.5", 1]), ok(json!({"version": "3.5"}))),
            ("get", json!(["t"]), json!({"status": "not_found", "version": "3.5"})),
            ("del", json!(["t", "3.5"]), json!({"status": "not_found", "version": "3.5"})),
            ("drop", json!([[{"key": "t", "version": "3.5"}]]), ok(json!({"changed": 1}))),
            ("del", json!(["a"]), ok(json!({"version": "OWN.7"}))),
            ("del", json!(["a"]), json!({"status": "not_found", "version": "OWN.8"})),
            ("get", json!(["a"]), json!({"status": "not_found", "version": "OWN.8"})),
            (
                "fetch",
                json!([["a", "c"]]),
                ok(json!({"records": [{"key": "a", "deleted": true, "version": "OWN.8"}]})),
            ),
            (
                "apply",
                json!([[{"key": "b", "value": "x", "version": "4.1"}]]),
                ok(json!({"changed": 1})),
            ),
            (
                "apply",
                json!([[{"key": "b", "value": "x", "version": "4.1"}]]),
                ok(json!({"changed": 0})),
            ),
            ("dump", json!({}), ok(json!({"items": [{"key": "b", "value": "x", "version": "4.1"}]}))),
            (
                "dump",
                json!({"limit": 1, "keys_only": true, "tombstones": true}),
                ok(json!({"items": [{"key": "a", "deleted": true, "version": "OWN.8"}], "next": "a"})),
            ),
            ("drop", json!([[{"key": "b", "version": "4.2"}]]), ok(json!({"changed": 0}))),
            ("drop", json!([[{"key": "b", "version": "4.1"}]]), ok(json!({"changed": 1}))),
        ])
        .await;
        let size = call(&service, "size", json!([])).await;
        assert_eq!(
            (&size["size"], &size["tombstones"], &size["id"]),
            (&json!(0), &json!(1), &json!("n1"))
        );
        assert_eq!(call(&service, "stats", json!([])).await["sequence"], json!(10));
    }

    fn write(value: Option<&str>, version: &str, context: Option<&str>) -> Value {
        let mut record = json!({"key": "k", "version": version});
        match value {
            Some(value) => record["value"] = json!(value),
            None => record["deleted"] = json!(true),
        }
        if let Some(context) = context {
            record["context"] = json!(context);
        }
        json!({"write": {"record": record}})
    }

    #[tokio::test]
    async fn writes_that_knew_nothing_of_each_other_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let three = json!({"value": "c", "version": "1.4", "context": "1.2", "siblings": [
            {"value": "b", "version": "1.3"}
        ]});
        play(&service, vec![
            ("write", write(Some("a"), "1.2", None), ok(json!({"version": "1.2"}))),
            ("write", write(Some("b"), "1.3", Some("1.2")), ok(json!({"version": "1.3"}))),
            ("get", json!(["k"]), ok(json!({"value": "b", "version": "1.3"}))),
            ("write", write(Some("c"), "1.4", Some("1.2")), ok(json!({"version": "1.4", "siblings": 1}))),
            ("write", write(Some("c"), "1.4", Some("1.2")), ok(json!({"version": "1.4", "siblings": 1}))),
            (
                "write",
                write(Some("x"), "1.4", Some("1.2")),
                ok(json!({"version": "1.4", "superseded": true, "siblings": 1})),
            ),
            (
                "write",
                write(Some("a"), "1.2", None),
                ok(json!({"version": "1.4", "superseded": true, "siblings": 1})),
            ),
            ("get", json!(["k"]), ok(three)),
            // A tombstone may be one of them: the value that is there comes first.
            (
                "write",
                write(None, "1.5", Some("1.3")),
                ok(json!({"version": "1.5", "siblings": 1})),
            ),
            (
                "get",
                json!(["k"]),
                ok(json!({"value": "c", "version": "1.4", "siblings": [
                    {"deleted": true, "version": "1.5"}
                ]})),
            ),
            (
                "fetch",
                json!([["k"]]),
                ok(json!({"records": [{"key": "k", "deleted": true, "version": "1.5",
                    "context": "1.3", "siblings": [{"value": "c", "version": "1.4"}]}]})),
            ),
            // Who talks to the node itself replaces all.
            ("put", json!(["k", "d"]), ok(json!({"version": "OWN.5"}))),
            (
                "get",
                json!(["k"]),
                ok(json!({"value": "d", "version": "OWN.5", "context": "1.5,OWN.4"})),
            ),
            (
                "write",
                write(Some("e"), "1.6", None),
                ok(json!({"version": "1.6", "siblings": 1})),
            ),
            ("drop", json!([[{"key": "k", "version": "OWN.5"}]]), ok(json!({"changed": 0}))),
            (
                "drop",
                json!([[{"key": "k", "version": "OWN.5", "context": "1.6,OWN.4"}]]),
                ok(json!({"changed": 0})),
            ),
            (
                "drop",
                json!([[{"key": "k", "version": "OWN.5", "context": "1.9,OWN.5"}]]),
                ok(json!({"changed": 1})),
            ),
            ("get", json!(["k"]), json!({"status": "not_found"})),
        ])
        .await;
        let several = json!({"key": "k", "value": "c", "version": "1.9", "context": "1.2",
            "siblings": [{"deleted": true, "version": "1.8"}, {"value": "a", "version": "1.5"}]});
        play(&service, vec![
            ("apply", json!([[several], null, "sync"]), ok(json!({"changed": 1}))),
            ("apply", json!([[several], null, "sync"]), ok(json!({"changed": 0}))),
        ])
        .await;
        let stats = call(&service, "stats", json!([])).await;
        assert_eq!((&stats["conflicts"], &stats["keys"]), (&json!(1), &json!(1)));
    }

    #[tokio::test]
    async fn where_the_last_wins_the_others_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let lww = |value: &str, version: &str, stamp: &str| {
            json!({"write": {"keyspace": "recent", "record": {
                "key": "k", "value": value, "version": version, "stamp": stamp, "context": "-"}}})
        };
        play(&service, vec![
            ("write", lww("a", "1.2", "100.0"), ok(json!({"version": "1.2"}))),
            ("write", lww("b", "1.3", "90.5"), ok(json!({"version": "1.3"}))),
            (
                "get",
                json!(["k", "recent"]),
                ok(json!({"value": "a", "version": "1.2", "stamp": "100.0", "context": "+1.3"})),
            ),
            ("write", lww("c", "1.4", "100.1"), ok(json!({"version": "1.4"}))),
            (
                "get",
                json!(["k", "recent"]),
                ok(json!({"value": "c", "version": "1.4", "stamp": "100.1", "context": "+1.2,+1.3"})),
            ),
            (
                "write",
                lww("b", "1.3", "90.5"),
                ok(json!({"version": "1.4", "superseded": true})),
            ),
        ])
        .await;
        let stats = call(&service, "stats", json!([])).await;
        assert_eq!((&stats["conflicts"], &stats["discarded"]), (&json!(0), &json!(2)));
    }

    #[tokio::test]
    async fn keyspaces_do_not_show_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        play(&service, vec![
            ("put", json!(["a", "1"]), ok(json!({"version": "OWN.1"}))),
            ("put", json!(["a", "2", null, null, "carts"]), ok(json!({"version": "OWN.2"}))),
            ("put", json!(["\0", "3"]), ok(json!({"version": "OWN.3"}))),
            ("put", json!(["\0", "4", null, null, "carts"]), ok(json!({"version": "OWN.4"}))),
            ("put", json!(["b", "5", null, null, "cart"]), ok(json!({"version": "OWN.5"}))),
            ("get", json!(["a", "carts"]), ok(json!({"value": "2", "version": "OWN.2"}))),
            ("get", json!(["a", "default"]), ok(json!({"value": "1", "version": "OWN.1"}))),
            ("del", json!(["a", null, "cart"]), json!({"status": "not_found", "version": "OWN.6"})),
            (
                "dump",
                json!({}),
                ok(json!({"items": [
                    {"key": "\0", "value": "3", "version": "OWN.3"},
                    {"key": "a", "value": "1", "version": "OWN.1"},
                ]})),
            ),
            (
                "dump",
                json!({"keyspace": "carts"}),
                ok(json!({"items": [
                    {"key": "\0", "value": "4", "version": "OWN.4"},
                    {"key": "a", "value": "2", "version": "OWN.2"},
                ]})),
            ),
            (
                "dump",
                json!({"limit": 1}),
                ok(json!({"items": [{"key": "\0", "value": "3", "version": "OWN.3"}],
                    "next": "\0"})),
            ),
            (
                "dump",
                json!({"after": "\0"}),
                ok(json!({"items": [{"key": "a", "value": "1", "version": "OWN.1"}]})),
            ),
            (
                "dump",
                json!({"keyspace": "carts", "prefix": "a", "keys_only": true}),
                ok(json!({"items": [{"key": "a", "version": "OWN.2"}]})),
            ),
            ("drop_keyspace", json!(["carts"]), ok(json!({"changed": 2}))),
            ("drop_keyspace", json!(["carts"]), ok(json!({"changed": 0}))),
            ("dump", json!({"keyspace": "carts"}), ok(json!({"items": []}))),
            ("get", json!(["a"]), ok(json!({"value": "1", "version": "OWN.1"}))),
        ])
        .await;
        let size = call(&service, "size", json!([])).await;
        assert_eq!((&size["size"], &size["tombstones"]), (&json!(3), &json!(1)));
        let refused = call(&service, "drop_keyspace", json!(["default"])).await;
        assert_eq!(refused["data"]["name"], json!("BAD_ARGUMENT"));
    }

    #[tokio::test]
    async fn every_method_says_what_it_takes() {
        let dir = tempfile::tempdir().unwrap();
        let mut names: Vec<_> = service(dir.path()).methods().method_names().collect();
        names.sort_unstable();
        assert_eq!(names, NODE_METHODS.map(|(name, _)| name));
    }

    #[tokio::test]
    async fn what_is_over_a_limit_is_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let service = service(dir.path());
        let big = "v".repeat(VALUE_BYTES_MAX + 1);
        let half = "v".repeat(PAGE_BYTES_MAX / 2 + 1);
        let record = |key: &str, value: &str| json!({"key": key, "value": value, "version": "1.1"});
        let several = json!({"key": "k", "value": "v", "version": "1.9", "context": "-",
            "siblings": [{"value": "w", "version": "1.8"}]});
        let dots: Vec<String> = (1..=1001).map(|n| format!("+1.{}", 2 * n)).collect();
        let dots = dots.join(",");
        for (method, params, name) in [
            ("put", json!(["k".repeat(KEY_BYTES_MAX + 1), "v"]), "TOO_LARGE"),
            ("put", json!(["k", big]), "TOO_LARGE"),
            ("apply", json!([[record("a", "1"), record("b", &big)]]), "TOO_LARGE"),
            ("apply", json!([[record("a", &half), record("b", &half)]]), "TOO_LARGE"),
            ("apply", json!([[record("a", "1"), {"key": "b", "version": "1.1"}]]), "BAD_ARGUMENT"),
            ("put", json!(["k", "v", format!("1.{}", COUNTER_MAX + 1)]), "BAD_ARGUMENT"),
            ("write", write(Some("v"), "1.5", Some("1.5")), "BAD_ARGUMENT"),
            ("write", write(Some("v"), "1.5", Some(&format!("1.{}", COUNTER_MAX + 1))), "BAD_ARGUMENT"),
            ("write", write(Some("v"), "1.9999", Some(&dots)), "TOO_LARGE"),
            ("write", json!([{"record": several}]), "BAD_ARGUMENT"),
            ("apply", json!([[{"key": "k", "deleted": true, "version": "1.9", "siblings": [
                {"value": "v", "version": "1.3"}]}]]), "BAD_ARGUMENT"),
        ] {
            assert_eq!(call(&service, method, params).await["data"]["name"], json!(name));
        }
        assert_eq!(call(&service, "stats", json!([])).await["sequence"], json!(0));
    }
}
