//! Writes: admitted, numbered, applied and appended in one step.
//!
//! ```text
//!   standing ── not newer ─────────────► nothing to do, nothing to refuse
//!      │ newer
//!      ▼
//!   room ────── no ────────────────────► refused, nothing was applied
//!      │ yes
//!      ▼
//!   map and log, at once
//! ```
//!
//! # Caveats
//!
//! A batch asks for room for all that it would change, before any of it is changed; but it is no
//! transaction: a crash may keep its first part.

use bytes::Bytes;
use ringkv_shared::Version;

use crate::answer::Entry;
use crate::engine::{Engine, State};
use crate::log::place::Place;
use crate::log::record::Op;
use crate::log::value::Value;
use crate::room::{Kind, Refused, line_bytes};
use crate::store::{self, Standing};

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The version that is stored now.
    pub version: Version,
    /// True if that is a newer one, and this write changed nothing.
    pub superseded: bool,
    /// Whether there was a value before. A write that comes again counts as the first one did.
    pub existed: bool,
}

/// A change of one key, not numbered yet.
struct Change {
    key: Bytes,
    op: Op,
    version: Version,
}

impl Change {
    fn standing(&self, state: &State) -> Standing {
        state.store.standing(&self.key, self.version, &self.op)
    }

    /// What kind of write it is, and the most bytes that its line has.
    fn room(&self) -> (Kind, u64) {
        match &self.op {
            Op::Put { value, .. } => (Kind::Put, line_bytes(self.key.len(), Some(value.len()))),
            Op::Del | Op::Drop => (Kind::Delete, line_bytes(self.key.len(), None)),
        }
    }
}

impl Engine {
    /// Stores a value (`Some`) or a tombstone, under the given or the next version.
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
        self.change(key, Op::write(value.map(Value::new)), version)
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
        self.change(key, op, version)
    }

    fn change(
        &self,
        key: Bytes,
        op: Op,
        version: Option<Version>,
    ) -> Result<WriteOutcome, Refused> {
        let now = self.now();
        let mut state = self.0.lock();
        let version = version.unwrap_or_else(|| state.store.next_version());
        let existed = state.store.get(&key, now).is_some_and(|entry| entry.is_live());
        let change = Change { key, op, version };
        let outcome = |version, superseded, existed| WriteOutcome { version, superseded, existed };
        Ok(match change.standing(&state) {
            Standing::Newer => {
                self.admit(&mut state, [&change])?;
                self.append(&mut state, change);
                outcome(version, false, existed)
            }
            Standing::Same => {
                state.depend_on(&change.key);
                // At time 0 nothing has expired: this asks for what was written, not for an answer.
                let held = state.store.get(&change.key, 0).map(|held| held.copied());
                drop(state);
                let again = held.is_some_and(|held| self.is_held_as(&change, held));
                outcome(version, !again, existed || again)
            }
            Standing::Older(stored) => {
                state.depend_on(&change.key);
                outcome(stored, true, existed)
            }
        })
    }

    /// Whether a change is what is held already. Another value under the same number is another write.
    fn is_held_as(&self, change: &Change, held: store::Entry) -> bool {
        self.0.load(&change.key, held).is_ok_and(|held| held.is_of(&change.op))
    }

    /// Stores what another replica has, each if it is newer; says how many were.
    ///
    /// # Errors
    ///
    /// There is no room for all that are newer; nothing was applied.
    pub fn merge(&self, entries: impl IntoIterator<Item = (Bytes, Entry)>) -> Result<u64, Refused> {
        let changes = entries.into_iter().map(|(key, Entry { value, version, expires })| {
            let op = value.map_or(Op::Del, |value| Op::Put { value: Value::new(value), expires });
            Change { key, op, version }
        });
        self.change_all(changes.collect(), Standing::Newer)
    }

    /// Makes values that have expired tombstones of the same version; says how many.
    pub(crate) fn delete_expired(&self, expired: Vec<(Bytes, Version)>) -> Result<u64, Refused> {
        let changes =
            expired.into_iter().map(|(key, version)| Change { key, op: Op::Del, version });
        self.change_all(changes.collect(), Standing::Newer)
    }

    /// Forgets keys, each if it has exactly this version; says how many had.
    ///
    /// # Errors
    ///
    /// There is no room to log it; nothing was forgotten.
    pub fn forget(&self, keys: impl IntoIterator<Item = (Bytes, Version)>) -> Result<u64, Refused> {
        let changes = keys.into_iter().map(|(key, version)| Change { key, op: Op::Drop, version });
        self.change_all(changes.collect(), Standing::Same)
    }

    /// Applies the changes that stand so to what is held.
    fn change_all(&self, changes: Vec<Change>, standing: Standing) -> Result<u64, Refused> {
        let mut state = self.0.lock();
        let due = changes.iter().filter(|change| change.standing(&state) == standing);
        let due: Vec<&Change> = due.collect();
        self.admit(&mut state, due)?;
        let mut changed = 0;
        for change in changes {
            state.depend_on(&change.key);
            // Asked again: the same key may come twice.
            if change.standing(&state) == standing {
                self.append(&mut state, change);
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// Asks for room for all of these lines.
    fn admit<'a>(
        &self,
        state: &mut State,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<(), Refused> {
        let (mut kind, mut bytes) = (Kind::Delete, 0);
        for (its_kind, its_bytes) in changes.into_iter().map(Change::room) {
            bytes += its_bytes;
            if its_kind == Kind::Put {
                kind = Kind::Put;
            }
        }
        self.reserve(state, bytes, kind)
    }

    /// Asks for room for lines of so many bytes.
    pub(crate) fn reserve(&self, state: &mut State, bytes: u64, kind: Kind) -> Result<(), Refused> {
        let end = state.sizes.active;
        state.room.admit(end, bytes, kind, || self.0.space_short.notify_one())
    }

    fn append(&self, state: &mut State, change: Change) {
        let before = state.tail.waiting_bytes();
        let record = state.tail.append(change.key, change.op, change.version);
        let bytes = state.tail.waiting_bytes() - before;
        let len = u32::try_from(bytes).expect("a line is a few MiB at most");
        let place = Place { file: state.tail.file(), offset: state.sizes.active, len };
        state.sizes.active += u64::from(len);
        state.store.apply(&record, Some(place));
        self.0.evict(state);
        self.appended(state, record.seq);
    }

    /// What follows from a line that was appended.
    pub(crate) fn appended(&self, state: &mut State, seq: u64) {
        state.barrier = seq;
        state.figures.appends += 1;
        state.operations += 1;
        self.0.work.notify_one();
        if self.0.options.compaction.due(&state.since_compaction()).is_some() {
            self.0.compaction_due.notify_one();
        }
    }
}
