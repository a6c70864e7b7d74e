//! The node's methods: limits first, then the engine, then the shape of the answer.
//!
//! All but `compact` and `history` are synchronous: a burst of requests runs in the order in which it came, and
//! its replies leave together once [`Engine::settle`] says that they are safe.
//!
//! On the wire a key stands beside its keyspace; from here on it is one *stored* key, see
//! [`key`].
//!
//! # Caveats
//!
//! An `apply` or `drop` is a batch, not a transaction: a crash may keep the first part of one that
//! was not acknowledged.

use bytes::Bytes;
use jsonrpsee::core::async_trait;
use jsonrpsee::types::ErrorObjectOwned;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use ringkv_shared::merkle::Digest;
use ringkv_shared::net::{NodeApiServer, failure_into_object};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::node::{
    BatchReply, CensusReply, Claim, ClusterMap, Collection, CompactReply, DigestsReply, DoneReply,
    DumpReply, FetchReply, FreezeReply, GetReply, KeyVersion, LogReply, NodeStats, ObeysReply,
    OwedReply, PictureAt, Record, ReplicaWrite, ShedReply, SizeReply, SortCount, SpaceKey, Stretch,
    Via, WriteReply,
};
use ringkv_shared::told::Told;
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId, Version};

use crate::StorageError;
use crate::answer::get_reply;
use crate::checks::{
    check_claim, check_collections, check_count, check_dropped, check_key, check_map, check_meant,
    check_owed, check_records, check_space_keys, check_value, check_version, check_write,
};
use crate::engine::Engine;
use crate::forget::Condition;
use crate::handoff::Owed;
use crate::log::key;
use crate::log::record;
use crate::log::record::Op;
use crate::log::value::Value;
use crate::marks;
use crate::refusals::{no_arcs, no_page, no_picture, no_room, not_done, refused, unreadable};
use crate::replica::{Leaves, Obeys};
use crate::store::{
    CENSUS_KEYS_MAX, Census, FreezeError, FreezeId, PageRequest, Seen, fields_bytes,
};
use crate::write::{Merged, WriteOutcome};

const TAIL_LINES_DEFAULT: usize = 20;
const TAIL_LINES_MAX: usize = 1_000;

/// The methods of an engine.
pub(crate) struct Api(pub(crate) Engine);

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

    fn claim(&self, claim: Claim) -> Answer<ObeysReply> {
        let id = &self.0.options().id;
        check_meant(&claim, id, self.0.uuid()).map_err(failure_into_object)?;
        let (by, after) = check_claim(&claim).map_err(failure_into_object)?;
        let obeys = self.0.claim(by, claim.epoch, &after).map_err(|why| not_done(id, why))?;
        Ok(obeys_reply(&obeys, None))
    }

    fn adopt(&self, map: ClusterMap) -> Answer<ObeysReply> {
        check_map(&map.lines).map_err(failure_into_object)?;
        let obeys = self.0.adopt(map.ring_epoch, &map.lines);
        let obeys = obeys.map_err(|why| not_done(&self.0.options().id, why))?;
        Ok(obeys_reply(&obeys, None))
    }

    fn cluster(&self) -> Answer<ObeysReply> {
        let obeys = self.0.obeys();
        let map =
            obeys.map().map(|map| ClusterMap { ring_epoch: obeys.told().ring, lines: map.clone() });
        Ok(obeys_reply(&obeys, map))
    }

    async fn release(&self) -> Answer<DoneReply> {
        self.0.release().await.map_err(|why| not_done(&self.0.options().id, why))?;
        Ok(DoneReply { status: Status::Ok })
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
        let (figures, obeys) = (self.0.figures(), self.0.obeys());
        Ok(SizeReply {
            status: Status::Ok,
            size: figures.keys,
            tombstones: figures.tombstones,
            id: self.0.options().id.clone(),
            uuid: self.0.uuid().to_string(),
            log_bytes: figures.log_bytes,
            state: figures.state,
            debts: self.0.debts(),
            coordinator: obeys.coordinator().map(|uuid| uuid.to_string()),
            reign: obeys.reign(),
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
        until: Option<Blob>,
        arcs: Option<Told>,
    ) -> Answer<DumpReply> {
        let keyspace = keyspace.as_ref();
        let arcs = arcs.map(|told| self.arcs(told)).transpose()?;
        let page = self.0.page(&PageRequest {
            after: after.map(|after| stored(keyspace, after)),
            prefix: stored(keyspace, prefix.unwrap_or_default()),
            all_keyspaces: false,
            keys_max: limit.unwrap_or(PAGE_KEYS_MAX).clamp(1, PAGE_KEYS_MAX),
            bytes_max: PAGE_BYTES_MAX,
            leaves: leaves.map(Leaves::from_iter),
            arcs,
            until: until.map(|until| stored(keyspace, until)),
            keys_only: keys_only.unwrap_or(false),
            tombstones: tombstones.unwrap_or(false),
            at: at.map(|at| self.picture(at)).transpose().map_err(no_picture)?,
        });
        let page = page.map_err(no_page)?;
        let reached = page.reached.map(|stored| Blob::from(key::split(&stored).1.to_vec()));
        let items: Vec<Record> = page.entries.into_iter().map(|(_, record)| record).collect();
        let last = reached.or_else(|| items.last().map(|record| record.key.clone()));
        let next = last.filter(|_| page.more);
        Ok(DumpReply { status: Status::Ok, items, sizes: page.sizes, next })
    }

    fn census(
        &self,
        stretch: Stretch,
        limit: Option<usize>,
        marks: Option<bool>,
    ) -> Answer<CensusReply> {
        let (request, arcs) = self.request(stretch, limit)?;
        let marks = marks.unwrap_or(false);
        let Census { sorts, marks: held, reached } = self.0.census(&request, &arcs, marks);
        let reached = reached.map(|stored| Blob::from(key::split(&stored).1.to_vec()));
        let marks = marks.then(|| marks::text(&held));
        Ok(CensusReply { status: Status::Ok, sorts, marks, reached })
    }

    fn shed(
        &self,
        stretch: Stretch,
        marks: Option<String>,
        sorts: Option<Vec<SortCount>>,
    ) -> Answer<ShedReply> {
        let (request, arcs) = self.request(stretch, None)?;
        let marks = marks::read(&marks.unwrap_or_default()).map_err(failure_into_object)?;
        let sorts = sorts.unwrap_or_default().into_iter();
        let sorts = sorts.map(|count| (count.sort, (count.keys, count.digest))).collect();
        let (changed, left) =
            self.0.shed(&request, &arcs, &Seen { marks, sorts }).map_err(no_room)?;
        Ok(ShedReply { status: Status::Ok, changed, left })
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
            bytes += fields_bytes(record.context.as_ref(), record.siblings.len());
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

fn obeys_reply(obeys: &Obeys, map: Option<ClusterMap>) -> ObeysReply {
    let coordinator = obeys.coordinator().map(|uuid| uuid.to_string());
    ObeysReply { status: Status::Ok, coordinator, reign: obeys.reign(), told: obeys.told(), map }
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
    /// The arcs that are meant.
    fn arcs(&self, told: Told) -> Answer<Arcs> {
        self.0.0.lock().arcs.meant(told).ok_or_else(no_arcs)
    }

    /// A stretch as the map is asked for it: so many keys of it, all of a census without a number.
    fn request(&self, stretch: Stretch, limit: Option<usize>) -> Answer<(PageRequest, Arcs)> {
        let Stretch { keyspace, after, until, arcs } = stretch;
        let (arcs, place) = (self.arcs(arcs)?, |key: Blob| stored(Some(&keyspace), key));
        let request = PageRequest {
            after: after.map(place),
            until: until.map(place),
            prefix: place(Blob::default()),
            all_keyspaces: false,
            keys_max: limit.unwrap_or(CENSUS_KEYS_MAX).clamp(1, CENSUS_KEYS_MAX),
            ..PageRequest::everything()
        };
        Ok((request, arcs))
    }

    fn picture(&self, at: PictureAt) -> Result<(FreezeId, Version), FreezeError> {
        let name = at.picture.parse().map_err(|_| FreezeError::Gone)?;
        Ok((self.0.picture(name)?, at.version))
    }
}

#[cfg(test)]
mod tests;
