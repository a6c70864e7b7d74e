//! Writes: admitted, numbered, merged and appended in one step.
//!
//! ```text
//!   standing ── changes nothing ───────► nothing to do, nothing to refuse
//!      │ changes something
//!      ▼
//!   room ────── no ────────────────────► refused, nothing was applied
//!      │ yes
//!      ▼
//!   map and log, at once
//! ```
//!
//! Who gives no version lets the node number the write, in a line of its own: its epoch is made from the
//! identity of the data directory, the counter is the sequence number of the write's line in the log, which
//! is never given twice. Such a write replaces all that the node holds for the key.
//!
//! # Caveats
//!
//! A batch asks for room for all that it would change, before any of it is changed; but it is no
//! transaction: a crash may keep its first part. Where lines are acknowledged before they are synced, a
//! power cut may take some, and their numbers, which others may have seen, are given again.

use std::sync::MutexGuard;

use bytes::Bytes;
use ringkv_shared::causal::Context;
use ringkv_shared::hlc::Hlc;
use ringkv_shared::protocol::node::{Record as Copied, Sibling, Via};
use ringkv_shared::{Blob, NODE_EPOCH, NodeId, Version};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use crate::checks::{SIBLINGS_BYTES_MAX, SIBLINGS_MAX, WRITTEN_PARTS_MAX};
use crate::engine::{Engine, State};
use crate::handoff::debt_bytes;
use crate::log::place::Place;
use crate::log::record::{CONTEXT_PARTS_MAX, Op, Record};
use crate::log::value::Value;
use crate::log::{escape, key};
use crate::room::{Kind, Refused, line_room};
use crate::store::{Arrival, Discard, Entry, Seat, Standing};

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The version of the write; if it was superseded, the greatest that is stored.
    pub version: Version,
    /// True if it was replaced before it came, or another value has its version: its value is not stored.
    pub superseded: bool,
    /// Whether there was a value before. A write that comes again counts as the first one did.
    pub existed: bool,
    /// How many other values are stored now.
    pub siblings: usize,
}

impl WriteOutcome {
    /// A write of a key of which nothing is held, replaced by what was collected up to a version.
    const fn covered(version: Version) -> Self {
        Self { version, superseded: true, existed: false, siblings: 0 }
    }
}

/// What became of copies from another replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Of how many keys something was new.
    pub changed: u64,
    /// Stored keys of which nothing is held: all that came counts as deleted.
    pub deleted: Vec<Bytes>,
}

impl Engine {
    /// Stores a value (`Some`) or a tombstone under a stored key, as the given version or one of the
    /// node's own.
    ///
    /// # Errors
    ///
    /// There is no room; nothing was applied.
    pub fn write(
        &self,
        key: Bytes,
        value: Option<Bytes>,
        version: Option<Version>,
    ) -> Result<WriteOutcome, Refused> {
        self.put_or_del(self.0.lock(), key, Op::write(value.map(Value::new)), version)
    }

    /// Stores a value that expires, at a time in unix milliseconds.
    ///
    /// # Errors
    ///
    /// There is no room; nothing was applied.
    pub fn put_until(
        &self,
        key: Bytes,
        value: Bytes,
        expires: u64,
        version: Option<Version>,
    ) -> Result<WriteOutcome, Refused> {
        let op = Op::Put { value: Value::new(value), expires: Some(expires) };
        self.put_or_del(self.0.lock(), key, op, version)
    }

    pub(crate) fn put_or_del<B: AsRef<[u8]> + Clone>(
        &self,
        state: MutexGuard<'_, State>,
        key: B,
        op: Op<B>,
        version: Option<Version>,
    ) -> Result<WriteOutcome, Refused> {
        let seat = state.store.seek(key.as_ref());
        self.put_or_del_at(state, seat, key, op, version)
    }

    /// The same of a key that has this seat.
    pub(crate) fn put_or_del_at<B: AsRef<[u8]> + Clone>(
        &self,
        state: MutexGuard<'_, State>,
        seat: Seat,
        key: B,
        op: Op<B>,
        version: Option<Version>,
    ) -> Result<WriteOutcome, Refused> {
        let record = match version {
            Some(version) => Record::new(key, op, version),
            None => self.numbered(&state, seat, key, op),
        };
        self.change(state, seat, record, &[], CONTEXT_PARTS_MAX)
    }

    /// Takes a write with its version, stamp and what its writer had seen, and notes in the same step that these
    /// nodes have missed it. They are owed what is held, so the notes are made even if it brings nothing new.
    ///
    /// # Errors
    ///
    /// There is no room, too many versions would have to be remembered, or too many values would be beside each
    /// other; nothing was applied.
    pub fn take(&self, record: Record, owe: &[NodeId]) -> Result<WriteOutcome, Refused> {
        let state = self.0.lock();
        let seat = state.store.seek(&record.key);
        self.take_at(state, seat, record, owe)
    }

    /// The same of a record whose key has this seat.
    pub(crate) fn take_at<B: AsRef<[u8]> + Clone>(
        &self,
        state: MutexGuard<'_, State>,
        seat: Seat,
        record: Record<B>,
        owe: &[NodeId],
    ) -> Result<WriteOutcome, Refused> {
        self.change(state, seat, record, owe, WRITTEN_PARTS_MAX)
    }

    /// A write of the node's own, which has seen all that is held.
    fn numbered<B: AsRef<[u8]>>(&self, state: &State, seat: Seat, key: B, op: Op<B>) -> Record<B> {
        let version = Version::new(self.own_epoch(), state.tail.seq() + 1);
        let held = state.store.get_at(seat, 0);
        if let Some(stamp) = held.as_ref().and_then(|held| held.entry.stamp) {
            // The last write wins there, and this is the last.
            let stamp = Some(Hlc::after(stamp).tick(self.now()));
            return Record { stamp, ..Record::new(key, op, version) };
        }
        let others = held.filter(|h| h.more.is_some() || h.entry.version.line() != version.line());
        let record = Record::new(key, op, version);
        let Some(others) = others else { return record };
        let mut seen = others.seen();
        seen.join(&Context::before(version));
        record.with_seen(&seen)
    }

    /// The epoch of the node's own line of versions.
    pub(crate) fn own_epoch(&self) -> u32 {
        NODE_EPOCH | xxh3_64(self.uuid().as_bytes()) as u32
    }

    fn change<B: AsRef<[u8]> + Clone>(
        &self,
        mut state: MutexGuard<'_, State>,
        seat: Seat,
        record: Record<B>,
        owe: &[NodeId],
        parts_max: usize,
    ) -> Result<WriteOutcome, Refused> {
        let key = record.key.clone();
        let record = match state.above_floor(record) {
            Ok(record) => record,
            Err(version) => {
                // On the floor, and on the tombstone being gone.
                state.depend_on_notes();
                state.depend_on(key.as_ref());
                return Ok(WriteOutcome::covered(version));
            }
        };
        let key = key.as_ref();
        let (now, version) = (|| self.now(), record.version);
        let stamp = record.stamp;
        let (standing, existed) = state.store.standing_at(seat, &record, now);
        // Only of a version that is there already it matters which value it brings.
        let again = (standing.arrival == Arrival::Held).then(|| record.op.clone());
        if standing.changes {
            state.bounds(&record, &standing, parts_max)?;
            self.admit(&mut state, [(&record, standing)], debt_bytes(owe.len(), key.len()))?;
            self.append_at(&mut state, seat, record);
        } else {
            if !owe.is_empty() {
                self.admit_bytes(&mut state, debt_bytes(owe.len(), key.len()), Kind::Delete)?;
            }
            if let (Some(_), Arrival::Replaced(by)) = (stamp, standing.arrival)
                && !Context::before(by).covers(version)
            {
                tell_discards(&mut state, key, &[Discard { version, by }]);
            }
            state.depend_on(key);
        }
        if !owe.is_empty() {
            self.note_debts(&mut state, owe, key, now());
        }
        let (version, superseded) = match standing.arrival {
            Arrival::Replaced(held) => {
                (state.store.get(key, 0).map_or(held, |h| h.entry.version), true)
            }
            Arrival::New | Arrival::Held => (version, false),
        };
        let siblings = if standing.parts == 0 { 0 } else { others(&state, key, version, now()) };
        let held = again.is_some().then(|| state.store.find(key, version).map(|e| e.copied()));
        drop(state);
        // Another value under the same number is another write.
        let same =
            again.zip(held.flatten()).is_some_and(|(op, held)| self.is_held_as(key, &op, held));
        let differs = standing.arrival == Arrival::Held && !same;
        let (superseded, existed) = (superseded || differs, existed || same);
        Ok(WriteOutcome { version, superseded, existed, siblings })
    }

    fn is_held_as<B: AsRef<[u8]>>(&self, key: &[u8], op: &Op<B>, held: Entry) -> bool {
        self.0.load(key, held).is_ok_and(|held| held.is_of(op))
    }

    /// Merges what another replica holds for stored keys into what is held here.
    ///
    /// # Errors
    ///
    /// There is no room for all that do, or too many versions would have to be remembered; nothing
    /// was applied.
    pub fn merge(
        &self,
        copies: impl IntoIterator<Item = (Bytes, Copied)>,
        via: Option<Via>,
    ) -> Result<Merged, Refused> {
        self.change_all(copies.into_iter().map(|(key, copy)| lines(&key, &copy, via)).collect())
    }

    /// Makes values that have expired tombstones of the same version; says how many.
    pub(crate) fn delete_expired(&self, expired: Vec<Record>) -> Result<u64, Refused> {
        let merged = self.change_all(expired.into_iter().map(|end| vec![end]).collect())?;
        Ok(merged.changed)
    }

    /// Applies of each group, which is of one key, the lines that change something.
    fn change_all(&self, groups: Vec<Vec<Record>>) -> Result<Merged, Refused> {
        let mut state = self.0.lock();
        let (groups, covered) = state.above_floors(groups);
        let standings =
            groups.iter().flatten().map(|record| (record, state.store.standing(record)));
        let due: Vec<(&Record, Standing)> = standings.filter(|(_, s)| s.changes).collect();
        self.admit(&mut state, due, 0)?;
        let mut changed = 0;
        for group in groups {
            let mut changes = false;
            for record in group {
                state.depend_on(&record.key);
                // Asked again: the same key may come twice, and too often for what can be remembered.
                let standing = state.store.standing(&record);
                if standing.changes && standing.parts <= CONTEXT_PARTS_MAX {
                    self.append(&mut state, record);
                    changes = true;
                }
            }
            changed += u64::from(changes);
        }
        // What was sent twice may have been stored by now.
        let deleted = covered.into_iter().filter(|key| state.store.get(key, 0).is_none()).collect();
        Ok(Merged { changed, deleted })
    }

    /// Merges copies of different keys, of which nothing counts as deleted; of how many something was new.
    pub(crate) fn merge_plain<B: AsRef<[u8]>>(
        &self,
        mut state: MutexGuard<'_, State>,
        records: Vec<Record<B>>,
    ) -> Result<u64, Refused> {
        let mut seats = Vec::with_capacity(records.len());
        let keys = records.iter().map(|record| (record.key.as_ref(), true));
        state.store.seek_all(keys, &mut seats);
        let standing = |(record, seat): (&Record<B>, &Seat)| {
            let (standing, _) = state.store.standing_at(*seat, record, || 0);
            standing
        };
        let standings: Vec<Standing> = records.iter().zip(&seats).map(standing).collect();
        let due = records.iter().zip(standings.iter().copied());
        self.admit(&mut state, due.filter(|(_, standing)| standing.changes), 0)?;
        let mut changed = 0;
        for ((record, seat), standing) in records.into_iter().zip(seats).zip(standings) {
            if standing.changes {
                let seat = state.store.seek_again(seat, record.key.as_ref());
                self.append_at(&mut state, seat, record);
                changed += 1;
            } else {
                state.depend_on(record.key.as_ref());
            }
        }
        Ok(changed)
    }

    /// Asks for room for all of these lines, and for so many bytes of notes.
    fn admit<'a, B: AsRef<[u8]> + 'a>(
        &self,
        state: &mut State,
        changes: impl IntoIterator<Item = (&'a Record<B>, Standing)>,
        notes: u64,
    ) -> Result<(), Refused> {
        let (mut kind, mut bytes) = (Kind::Delete, notes);
        for (record, standing) in changes {
            if standing.parts > CONTEXT_PARTS_MAX {
                return Err(Refused::Crowded);
            }
            let (its_kind, its_bytes) = room(record);
            bytes += its_bytes;
            if its_kind == Kind::Put {
                kind = Kind::Put;
            }
        }
        self.admit_bytes(state, bytes, kind)
    }

    pub(crate) fn admit_bytes(
        &self,
        state: &mut State,
        bytes: u64,
        kind: Kind,
    ) -> Result<(), Refused> {
        let end = state.sizes.active;
        state.room.admit(end, bytes, kind, || self.0.space_short.notify_one())
    }

    pub(crate) fn append<B: AsRef<[u8]>>(&self, state: &mut State, record: Record<B>) {
        let seat = state.store.seek(record.key.as_ref());
        self.append_at(state, seat, record);
    }

    /// The same of a record whose key has this seat.
    fn append_at<B: AsRef<[u8]>>(&self, state: &mut State, seat: Seat, record: Record<B>) {
        let before = state.tail.waiting_bytes();
        let record = state.tail.append(record);
        let len = u32::try_from(state.tail.waiting_bytes() - before);
        let len = len.expect("a line is a few MiB at most");
        let place = Place { file: state.tail.file(), offset: state.sizes.active, len };
        let place = self.0.options.memory.is_some().then_some(place);
        state.store.apply_at(seat, &record, place);
        if !state.store.discards().is_empty() {
            let discards = state.store.discards().to_vec();
            tell_discards(state, record.key.as_ref(), &discards);
        }
        self.0.evict(state);
        self.appended(state, record.seq, before);
    }

    /// What follows from a line that was appended, behind so many bytes that wait.
    pub(crate) fn appended(&self, state: &mut State, seq: u64, before: usize) {
        state.sizes.active += (state.tail.waiting_bytes() - before) as u64;
        state.barrier = seq;
        state.figures.appends += 1;
        state.operations += 1;
        if before == 0 {
            // Who takes lines takes all of them.
            self.0.work.notify_one();
        }
    }
}

impl State {
    /// Whether a write, which is refused when need be, leaves no more than can be told of its key. What others
    /// hold is merged all the same.
    fn bounds<B: AsRef<[u8]>>(
        &self,
        record: &Record<B>,
        standing: &Standing,
        parts_max: usize,
    ) -> Result<(), Refused> {
        if standing.parts > parts_max {
            return Err(Refused::Crowded);
        }
        if standing.others == 0 || standing.arrival != Arrival::New {
            return Ok(());
        }
        let value = if let Op::Put { value, .. } = &record.op { value.len() } else { 0 };
        let (values, bytes) = (standing.others + 1, standing.others_bytes + value);
        let held = self.store.get(record.key.as_ref(), 0);
        let (was, were) = held.map_or((0, 0), |h| (h.entries().count(), h.value_bytes()));
        // One that leaves less than there was is a step to the better.
        let grows = values > SIBLINGS_MAX && values > was;
        if grows || bytes > SIBLINGS_BYTES_MAX && bytes > were {
            return Err(Refused::Siblings);
        }
        Ok(())
    }
}

/// What kind of write it is, and the most bytes that its line has.
fn room<B: AsRef<[u8]>>(record: &Record<B>) -> (Kind, u64) {
    let key = record.key.as_ref().len();
    let parts = record.context.as_ref().map_or(0, |seen| seen.parts());
    match &record.op {
        Op::Put { value, .. } => (Kind::Put, line_room(key, Some(value.len()), parts)),
        Op::Del | Op::Drop | Op::DropSpace => (Kind::Delete, line_room(key, None, parts)),
    }
}

/// How many values a key has beside the one of this version; none, if that was pushed out.
fn others(state: &State, key: &[u8], version: Version, now: u64) -> usize {
    let Some(held) = state.store.get(key, now) else { return 0 };
    let stored = held.entries().any(|entry| entry.version == version);
    let live = |entry: &&Entry<&[u8]>| entry.is_live() && entry.version != version;
    if stored { held.entries().filter(live).count() } else { 0 }
}

/// The lines that what a replica holds comes to: one a value. Only the last says what was replaced, so that a crash
/// in between takes nothing of what is held before all that replaced it is there.
fn lines(key: &Bytes, copy: &Copied, via: Option<Via>) -> Vec<Record> {
    let (past, nothing) = (copy.past(), Context::empty());
    let line = |sibling: Sibling| {
        let Sibling { value, version, expires, stamp, .. } = sibling;
        let put = |value: Blob| Op::Put { value: Value::new(value.into_bytes()), expires };
        let record = Record::new(key.clone(), value.map_or(Op::Del, put), version);
        let seen = if version == copy.version { &past } else { &nothing };
        Record { stamp, via, ..record.with_seen(seen) }
    };
    copy.values().map(line).collect()
}

/// Where the last write wins, the others are gone, acknowledged or not: who looks for one finds it here.
fn tell_discards(state: &mut State, key: &[u8], discards: &[Discard]) {
    state.figures.discarded += discards.len() as u64;
    for discard in discards {
        let (keyspace, key) = key::split(key);
        let mut token = Vec::new();
        escape::encode(key, &mut token);
        let (keyspace, key) = (keyspace.unwrap_or("default"), String::from_utf8_lossy(&token));
        warn!(keyspace, %key, version = %discard.version, by = %discard.by, "the last write wins: discarded a value");
    }
}
