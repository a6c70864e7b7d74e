//! A batch: a flight for each of its keys, whose outcomes take their seats in one answer.
//!
//! ```text
//!   [a, b, c, …]  ──► a flight each, at most AT_ONCE_MAX under way; what cannot fly goes to the machines
//!                          │ outcomes, in any order
//!                          ▼
//!   seats         c  a  …  b    the last one taken: answered, in the order of the entries
//! ```
//!
//! A key's outcome is spelled when it is known, and kept so: no tree of values is made of it.
//!
//! # Caveats
//!
//! Of an answer that has outgrown its limit nothing is kept, and no more keys are read for it; all writes are done.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt as _;
use ringkv_shared::limits::LINE_BYTES_MAX;
use ringkv_shared::net::{Scan, Spell as _, Ticket, answer_too_big};
use ringkv_shared::protocol::cluster::{BatchWrite, ReadOptions, WriteOptions};
use ringkv_shared::ring::key_position;
use ringkv_shared::{Blob, Failure, KeyspaceName};
use serde::Serialize;

use super::Return;
use super::ask::{BatchAsk, Entry, What};
use super::back::{spell_error, write_json};
use crate::batch::AT_ONCE_MAX;
use crate::cluster::Cluster;

/// The most bytes in an answer.
const ANSWER_BYTES_MAX: usize = LINE_BYTES_MAX;

/// A batch under way.
pub(super) struct Batch {
    cluster: Arc<Cluster>,
    what: What,
    keyspace: KeyspaceName,
    linger_ms: Option<u64>,
    /// The entries as they are spelled in the line.
    list: Box<[u8]>,
    progress: Mutex<Progress>,
}

struct Progress {
    /// How many entries are to be carried out.
    count: usize,
    /// How many have begun, and where in the list the next one is.
    begun: usize,
    at: usize,
    /// How many have ended.
    ended: usize,
    /// Somebody begins more of them.
    is_beginning: bool,
    outcomes: Outcomes,
    /// Who waits for the answer; `None`: it has been given.
    back: Option<(Ticket, u64)>,
}

/// The outcomes of the entries as JSON.
struct Outcomes {
    /// One behind the other, as they came.
    text: Vec<u8>,
    /// Where that of each entry is.
    places: Box<[Range<u32>]>,
    /// They are more than an answer may have: none is kept.
    too_big: bool,
}

/// The place of one key in the answer.
pub(super) struct Seat {
    batch: Arc<Batch>,
    place: usize,
}

impl Batch {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        ask: &BatchAsk<'_>,
        keyspace: KeyspaceName,
        back: (Ticket, u64),
    ) -> Arc<Self> {
        let places = vec![0..0; ask.count].into_boxed_slice();
        let outcomes = Outcomes { text: Vec::new(), places, too_big: false };
        let (begun, at, ended, is_beginning) = (0, 0, 0, true);
        let back = Some(back);
        let progress =
            Progress { count: ask.count, begun, at, ended, is_beginning, outcomes, back };
        Arc::new(Self {
            cluster: Arc::clone(cluster),
            what: ask.what,
            keyspace,
            linger_ms: ask.linger_ms,
            list: ask.entries.into(),
            progress: Mutex::new(progress),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no panic while the lock is held")
    }

    /// Begins as many as may be under way. One at a time does.
    pub(super) fn begin(self: Arc<Self>) {
        loop {
            let (first, room, at) = {
                let mut progress = self.lock();
                let room = progress.room();
                progress.is_beginning = room > 0;
                if room == 0 {
                    return;
                }
                let first = progress.begun;
                progress.begun += room;
                (first, room, progress.at)
            };
            let mut list = Scan::new(&self.list[at..]);
            let entries: Vec<Entry<'_>> = (0..room).map(|_| self.entry(&mut list)).collect();
            // Nobody else looks there while this one begins.
            self.lock().at = self.list.len() - list.rest().len();
            if self.what != What::Get {
                let positions = entries.iter().map(|(key, _)| key_position(key.as_bytes()));
                self.cluster.recent().look_at(positions);
            }
            for (place, entry) in (first..).zip(entries) {
                self.begin_one(place, entry);
            }
        }
    }

    fn entry<'a>(&self, list: &mut Scan<'a>) -> Entry<'a> {
        list.skip_if(",");
        self.what.entry(list).expect("all entries were read when the line was")
    }

    fn begin_one(self: &Arc<Self>, place: usize, entry: Entry<'_>) {
        let seat = || Seat { batch: Arc::clone(self), place };
        let ask = self.what.of_key(entry, self.keyspace.as_str(), self.linger_ms);
        if !self.cluster.express.begin(&self.cluster, &ask, || Return::Seat(seat())) {
            let (key, value) = entry;
            let mut end = seat().by_the_machine(key.into(), value.map(Blob::from)).boxed();
            // It begins now: what comes behind on the connection is later than it.
            if (&mut end).now_or_never().is_none() {
                tokio::spawn(end);
            }
        }
    }
}

impl Progress {
    /// How many may begin.
    fn room(&self) -> usize {
        let under_way = self.begun - self.ended;
        (self.count - self.begun).min(AT_ONCE_MAX.saturating_sub(under_way))
    }

    fn answer(&mut self, what: What) {
        let Some((ticket, id)) = self.back.take() else { return };
        let outcomes = &self.outcomes;
        ticket.answer(|out| {
            let from = out.len();
            if !outcomes.too_big {
                out.answer_to_number(id);
                outcomes.spell(out);
                out.raw("}");
            }
            if outcomes.too_big || out.len() - from > ANSWER_BYTES_MAX {
                out.truncate(from);
                spell_error(id, &answer_too_big(what.method_of_many(), ANSWER_BYTES_MAX), out);
            }
        });
    }
}

impl Outcomes {
    fn add(&mut self, place: usize, spell: impl FnOnce(&mut Vec<u8>)) {
        if self.too_big {
            return;
        }
        let from = self.text.len();
        spell(&mut self.text);
        match (u32::try_from(from), u32::try_from(self.text.len())) {
            (Ok(from), Ok(to)) if self.text.len() <= ANSWER_BYTES_MAX => {
                self.places[place] = from..to;
            }
            _ => (self.text, self.too_big) = (Vec::new(), true),
        }
    }

    fn spell(&self, out: &mut Vec<u8>) {
        out.raw("[");
        for (n, place) in self.places.iter().enumerate() {
            out.raw(if n == 0 { "" } else { "," });
            out.extend_from_slice(&self.text[place.start as usize..place.end as usize]);
        }
        out.raw("]");
    }
}

impl Seat {
    /// Takes it with the result, which `spell` appends.
    pub(super) fn fill(self, spell: impl FnOnce(&mut Vec<u8>)) {
        let Self { batch, place } = self;
        let begins = {
            let mut progress = batch.lock();
            progress.ended += 1;
            progress.outcomes.add(place, spell);
            if progress.outcomes.too_big && batch.what == What::Get {
                progress.count = progress.begun;
            }
            if progress.ended == progress.count {
                progress.answer(batch.what);
            }
            progress.room() > 0 && !std::mem::replace(&mut progress.is_beginning, true)
        };
        if begins {
            // Not here, where a flight has just landed and others are about to.
            tokio::spawn(async move { batch.begin() });
        }
    }

    /// Takes it with what the machine has made of it.
    pub(super) fn end(self, key: Blob, end: Result<impl Serialize, Failure>) {
        self.fill(|out| match end {
            Ok(result) => write_json(&result, out),
            // Of a read it is spelled likewise.
            Err(error) => write_json(&BatchWrite::Failed { key, error }, out),
        });
    }

    /// Has the machine do what is not as usual.
    async fn by_the_machine(self, key: Blob, value: Option<Blob>) {
        let Batch { cluster, what, keyspace, linger_ms, .. } = &*self.batch;
        let (cluster, keyspace, linger_ms) = (Arc::clone(cluster), keyspace.clone(), *linger_ms);
        if *what == What::Get {
            let options = ReadOptions { keyspace, ..ReadOptions::default() };
            let end = cluster.get(key.clone(), options).await;
            return self.end(key, end);
        }
        let options = WriteOptions { keyspace, linger_ms, ..WriteOptions::default() };
        let end = match value {
            Some(value) => cluster.put(key.clone(), value, options).await,
            None => cluster.del(key.clone(), options).await,
        };
        self.end(key, end);
    }
}
