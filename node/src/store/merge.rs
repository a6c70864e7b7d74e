//! A write arrives: what is held for its key afterwards.
//!
//! The rule is that of [`Siblings`]: a write replaces what its writer had seen, and is itself
//! replaced if any write that came before had seen it. So the order in which writes arrive does not
//! matter, nor how often. Of two plain writes of one line the greater version has seen the other, and
//! nothing has to be looked up; that is the fast path:
//!
//! | held | arrives | held then |
//! |---|---|---|
//! | nothing | a write | the write |
//! | plain 1.5 | plain 1.7 | plain 1.7 |
//! | plain 1.5 | plain 1.3, or 1.5 again | plain 1.5 |
//! | plain 1.5 | 1.7 that has seen 1.3 | 1.5 and 1.7 |
//! | plain 1.5 | plain x80000001.9 | 1.5 and x80000001.9 |
//! | 1.5 and 1.7 | plain 1.8 | plain 1.8 |
//! | 1.5 and 1.7 | 1.6 that has seen 1.5 | 1.6 and 1.7 |
//! | a value that expires | `DEL` of its version | the tombstone of that version |
//!
//! *The last one wins* where a write has a stamp: of all writes of the key the one with the greatest stamp,
//! and of those with one stamp the one with the greatest version, whatever had seen what. That is a
//! total order, so replicas agree even when clocks were wrong. What is pushed out that the winner had not seen is told
//! to who wants to know.
//!
//! # Caveats
//!
//! A write that says it has seen itself counts as replaced. One that was replaced, but claims to have seen all
//! that is held, would leave nothing: it is ignored. Neither comes from a writer who is honest.

use ringkv_shared::Version;
use ringkv_shared::causal::{Context, Siblings};
use ringkv_shared::hlc::Stamp;

use super::Store;
use super::digest::Spot;
use super::entry::{Content, Entry};
use super::index::Seat;
use super::more::{Left, More, State};
use super::slot::{Draft, SlotBuf};
use crate::log::place::Place;
use crate::log::record::{Op, Record};

/// What a write would be to what is held for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A value or tombstone that was not there, or the end of one that expires.
    New,
    /// One that is held already.
    Held,
    /// One that was replaced. The greatest version that is held.
    Replaced(Version),
}

/// How a write stands to what is held for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it would be.
    pub arrival: Arrival,
    /// Whether it would change anything: one that is no news may have seen what others had not.
    pub changes: bool,
    /// How many versions would be remembered for the key then; 0 for a plain one.
    pub parts: usize,
    /// How many values and tombstones would stay beside it.
    pub others: usize,
    /// Bytes of these.
    pub others_bytes: usize,
}

impl Standing {
    const NEW: Self = Self::alone(Arrival::New);

    /// Of a write that has nothing beside it, and nothing to remember.
    const fn alone(arrival: Arrival) -> Self {
        let changes = matches!(arrival, Arrival::New);
        Self { arrival, changes, parts: 0, others: 0, others_bytes: 0 }
    }

    /// Of one plain write to another of the same line.
    fn of_plain(version: Version, ends: bool, held: Version) -> Self {
        let arrival = match version.cmp(&held) {
            std::cmp::Ordering::Less => Arrival::Replaced(held),
            std::cmp::Ordering::Equal if !ends => Arrival::Held,
            _ => Arrival::New,
        };
        Self::alone(arrival)
    }
}

/// A value that another has pushed out: the last one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Its version.
    pub version: Version,
    /// The version that won.
    pub by: Version,
}

/// What will be held for a key. Values are named by where they are among those that are held; `None` is
/// the one that arrives.
struct Decision {
    standing: Standing,
    set: Siblings<Option<usize>>,
    /// The arriving tombstone is the end of the value of its version.
    ends: bool,
    discards: Vec<Discard>,
}

impl Store {
    /// How a write stands to what is held.
    #[must_use]
    pub fn standing<B>(&self, record: &Record<B>) -> Standing
    where
        B: AsRef<[u8]>,
    {
        standing(self.state(record.key.as_ref()), record)
    }

    /// The same of a record whose key has this seat, and whether there is a value now.
    #[must_use]
    pub fn standing_at<B: AsRef<[u8]>>(
        &self,
        seat: Seat,
        record: &Record<B>,
        now: impl Fn() -> u64,
    ) -> (Standing, bool) {
        let state = self.entries.at(seat).map(|slot| self.state_of(slot));
        // Few expire: the clock is not looked at for the others.
        let is_value = |entry: Entry<&[u8]>| {
            entry.is_live() && (entry.expires.is_none() || !entry.is_expired(now()))
        };
        let existed = state.is_some_and(|state| state.entries().any(is_value));
        (standing(state, record), existed)
    }

    /// Puts a plain write in, if it wins.
    pub(super) fn write_plain<B: AsRef<[u8]>>(
        &mut self,
        seat: Seat,
        record: &Record<B>,
        place: Option<Place>,
    ) -> bool {
        let (key, entry) = (record.key.as_ref(), entry(record, place));
        let spot = Spot::of(key);
        let mut before = 0;
        if let Some(old) = self.entries.at(seat) {
            let held = old.entry();
            if old.has_more() || !is_comparable(&held, record.version, record.stamp) {
                return self.write_any(record, place);
            }
            let ends = ends(&record.op, &held);
            if !Standing::of_plain(record.version, ends, held.version).changes {
                return false;
            }
            self.tally.remove(&held);
            before = spot.plain(held.version);
            self.freezes.keep(|| Left { slot: old.to_buf(), more: None });
        }
        self.tally.add(&entry);
        spot.change(&mut self.digests, before, spot.plain(record.version));
        self.entries.put(seat, Draft::new(key, &entry, false));
        true
    }

    /// Merges any write into what is held; true if it changed something.
    pub(super) fn write_any<B: AsRef<[u8]>>(
        &mut self,
        record: &Record<B>,
        place: Option<Place>,
    ) -> bool {
        let key = record.key.as_ref();
        let Decision { standing, set, ends, discards } = decide(self.state(key), record);
        self.discards = discards;
        if !standing.changes {
            return false;
        }
        let new = entry(record, place);
        let old: Vec<Entry<&[u8]>> = self.state(key).into_iter().flat_map(State::entries).collect();
        let mut entries: Vec<Entry<&[u8]>> = Vec::with_capacity(set.values().len());
        for (version, from) in set.values() {
            entries.push(match from {
                Some(at) if !(ends && *version == record.version) => old[*at],
                _ => new,
            });
        }
        let last = entries.pop().expect("a decision leaves at least one");
        let plain = entries.is_empty() && set.past().is_before(last.version);
        let (last, more) = if plain {
            // What is told of it depends on this line, even if an older one has the value.
            (Entry { seq: record.seq, ..last }, None)
        } else {
            let others = entries.iter().map(|entry| SlotBuf::new(key, entry)).collect();
            let more = More { past: set.past().clone(), others, seq: record.seq };
            (last, Some(Box::new(more)))
        };
        let slot = SlotBuf::new(key, &last);
        self.exchange_state(key, &slot, more);
        true
    }

    /// What the last write that was applied has pushed out, where the last one wins.
    #[must_use]
    pub fn discards(&self) -> &[Discard] {
        &self.discards
    }

    /// Puts all that is to be held for a key in the place of what was.
    fn exchange_state(&mut self, key: &[u8], slot: &SlotBuf, more: Option<Box<More>>) {
        let (seat, spot) = (self.entries.seek(key), Spot::of(key));
        let new = State { slot: slot.get(), more: more.as_deref() };
        let after = spot.hash(new);
        self.tally.add_state(new);
        let old_more = self.more.remove(key);
        let mut before = 0;
        if let Some(slot) = self.entries.at(seat) {
            let old = State { slot, more: old_more.as_deref() };
            before = spot.hash(old);
            self.tally.remove_state(old);
            self.freezes.keep(|| Left { slot: slot.to_buf(), more: old_more });
        }
        spot.change(&mut self.digests, before, after);
        self.entries.put(seat, Draft::new(key, &slot.get().entry(), more.is_some()));
        self.more.extend(more.map(|more| (key.into(), more)));
    }
}

/// How a write stands to what is held for its key.
fn standing<B>(state: Option<State<'_>>, record: &Record<B>) -> Standing {
    match (state, &record.context) {
        (None, None) => Standing::NEW,
        (Some(State { slot, more: None }), None) => {
            let held = slot.entry();
            if !is_comparable(&held, record.version, record.stamp) {
                return decide(state, record).standing;
            }
            Standing::of_plain(record.version, ends(&record.op, &held), held.version)
        }
        _ => decide(state, record).standing,
    }
}

/// Whether of two plain writes the one with the greater version has seen the other.
fn is_comparable<B>(held: &Entry<B>, version: Version, stamp: Option<Stamp>) -> bool {
    held.version.line() == version.line() && held.stamp.is_none() && stamp.is_none()
}

/// Whether of what is held for a key, which is plain, and a plain write the latter is what is held then; `None`: that
/// takes more to decide.
pub(super) fn replaces(held: &Entry<&[u8]>, new: &Entry<&[u8]>) -> Option<bool> {
    let ends = !new.is_live() && held.expires.is_some();
    let comparable = is_comparable(held, new.version, new.stamp);
    comparable.then(|| Standing::of_plain(new.version, ends, held.version).changes)
}

/// Whether a write is the end of a value that expires, if it has that version.
fn ends<B>(op: &Op<B>, held: &Entry<&[u8]>) -> bool {
    matches!(op, Op::Del) && held.expires.is_some()
}

/// The entry of a write.
pub(super) fn entry<B: AsRef<[u8]>>(record: &Record<B>, place: Option<Place>) -> Entry<&[u8]> {
    let Record { op, version, stamp, seq, .. } = record;
    let (content, place, expires) = match op {
        Op::Put { value, expires } => (Content::Value(value.as_ref()), place, *expires),
        _ => (Content::Tombstone, None, None),
    };
    Entry { content, version: *version, seq: *seq, place, expires, stamp: *stamp }
}

fn decide<B>(state: Option<State<'_>>, record: &Record<B>) -> Decision {
    let version = record.version;
    let old: Vec<Entry<&[u8]>> = state.into_iter().flat_map(State::entries).collect();
    if record.stamp.is_some() || old.iter().any(|entry| entry.stamp.is_some()) {
        return decide_by_clock(&old, record);
    }
    let past = state.map_or_else(Context::empty, State::past);
    let before = Siblings::new(past, old.iter().enumerate().map(|(at, e)| (e.version, Some(at))));
    let (seen, held) = (record.seen(), old.iter().find(|entry| entry.version == version));
    let ends = held.is_some_and(|held| ends(&record.op, held));
    let mut set = before.clone();
    let mut arrival = Arrival::New;
    let mut changes = ends;
    if held.is_none() && !before.past().covers(version) && !seen.covers(version) {
        changes |= set.write(version, &seen, None);
    } else {
        changes |= set.merge(&Siblings::new(seen, []));
        let greatest = old.last().map_or(version, |entry| entry.version);
        arrival = match (ends, held) {
            (true, _) => Arrival::New,
            (false, Some(_)) => Arrival::Held,
            (false, None) => Arrival::Replaced(greatest),
        };
    }
    if set.values().is_empty() {
        (set, changes) = (before, false);
    }
    let parts = set.past().parts() + set.values().len();
    let others = set.values().iter().filter(|(other, _)| *other != version);
    let others_bytes = others.clone().filter_map(|(_, at)| *at).map(|at| old[at].len()).sum();
    let standing = Standing { arrival, changes, parts, others: others.count(), others_bytes };
    Decision { standing, set, ends, discards: Vec::new() }
}

/// Of what is held and what arrives, the last by stamp is all that is held then.
fn decide_by_clock<B>(old: &[Entry<&[u8]>], record: &Record<B>) -> Decision {
    let new = (record.stamp, record.version);
    let last = old.iter().enumerate().max_by_key(|(_, entry)| (entry.stamp, entry.version));
    let held = last.map(|(at, entry)| (at, (entry.stamp, entry.version), ends(&record.op, entry)));
    let (arrival, from, ends) = match held {
        Some((at, held, ends)) if held == new => {
            (if ends { Arrival::New } else { Arrival::Held }, Some(at), ends)
        }
        Some((at, held, _)) if held > new => (Arrival::Replaced(held.1), Some(at), false),
        _ => (Arrival::New, None, false),
    };
    let by = from.map_or(record.version, |at| old[at].version);
    let all = old.iter().map(|entry| entry.version).chain([record.version]);
    let gone = all.filter(|version| *version != by && !Context::before(by).covers(*version));
    let discards = gone.map(|version| Discard { version, by }).collect();
    let set = Siblings::new(Context::before(by), [(by, from)]);
    let standing = Standing::alone(arrival);
    Decision { standing, set, ends, discards }
}
