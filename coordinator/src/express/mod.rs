//! The express: puts, gets and dels that go as nearly all do, alone or in batches, without a task, a future or a channel
//! for each.
//!
//! ```text
//!   line ──► spelled as usual, ring at rest, enough owners connected, the others DOWN? ── no ──► the method table
//!     │ yes
//!     ▼
//!   flight: numbered, sent to the owners, their answers counted as they come
//!     │ enough are in, all as usual            │ refused, lost, late, superseded, differing …
//!     ▼                                        ▼
//!   answered                                 handed over, with all that came so far, to the machine that the
//!                                            method table's calls have from the start
//! ```
//!
//! What a request means is decided in one place, [`put`](crate::put), [`sending`](crate::sending) and
//! [`get`](crate::get); here is the part of it in which nothing has to be decided. So an answer is the same, whichever
//! way its request went.
//!
//! | file | idea |
//! |---|---|
//! | `ask` | which lines are taken |
//! | `write`, `read` | a flight from its start to its last answer |
//! | `back` | whom its outcome goes to: a call of its own, or a batch |
//! | `batch` | many flights for one call |
//! | `hand_over` | the way back to the machines |
//!
//! # Caveats
//!
//! Times are looked at every [`TICK`]: a hedge, the end of a linger or of a deadline may be as much later.
//!
//! While an owner is DOWN, a write in a keyspace where others stand in takes the machines' way.

mod ask;
mod back;
mod batch;
mod hand_over;
mod read;
mod write;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ringkv_shared::net::{Mailbox, Router};
use ringkv_shared::protocol::Status;
use ringkv_shared::ring::key_position;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::Cluster;
use ask::{Ask, BatchAsk, KeyAsk};
use back::Return;
use batch::Batch;
pub(crate) use hand_over::Asked;
use read::ReadFlight;
use write::WriteFlight;

/// How often flights are looked at that wait.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// The most replicas of a key that a flight asks.
const REPLICAS_MAX: usize = 16;

/// All flights.
#[derive(Default)]
pub(crate) struct Express {
    table: Mutex<Table>,
    /// Told when there is a flight again.
    begun: Notify,
}

#[derive(Default)]
struct Table {
    flights: Slab<Flight>,
    /// Where what nodes are sent is put together.
    scratch: Vec<u8>,
}

enum Flight {
    Write(WriteFlight),
    Read(Box<ReadFlight>),
    /// Others wait for the answers by now.
    HandedOver(Ears),
}

/// Who hears the answers that are still to come, by the places of the nodes that were asked.
struct Ears(Vec<Option<Ear>>);

type Ear = Box<dyn FnOnce(Option<&[u8]>) + Send>;

/// What is to be done with a flight after it has heard something.
enum Next {
    /// It goes on.
    Fly,
    /// Every answer is in.
    Land,
    /// Something is not as usual.
    HandOver,
}

impl Express {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic while the lock is held")
    }

    /// Takes over the first of these lines, up to one that asks for something unusual; says how many.
    pub(crate) fn take(&self, cluster: &Arc<Cluster>, lines: &[&[u8]], mailbox: &Mailbox) -> usize {
        let mut asks = Vec::with_capacity(lines.len());
        asks.extend(lines.iter().map_while(|line| Ask::read(line)));
        let written = asks.iter().filter_map(|(_, ask)| match ask {
            Ask::One(KeyAsk::Write(ask)) => Some(key_position(ask.key.as_bytes())),
            Ask::One(KeyAsk::Read(_)) | Ask::Many(_) => None,
        });
        cluster.recent().look_at(written);
        let taken = asks.into_iter().take_while(|(id, ask)| {
            cluster.reigns().is_ok()
                && match ask {
                    Ask::One(ask) => self
                        .begin(cluster, ask, || Return::Call { ticket: mailbox.ticket(), id: *id }),
                    Ask::Many(ask) => Self::begin_many(cluster, *id, ask, mailbox),
                }
        });
        taken.count()
    }

    /// Begins a batch; false if it is of a keyspace that is not there.
    fn begin_many(cluster: &Arc<Cluster>, id: u64, ask: &BatchAsk<'_>, mailbox: &Mailbox) -> bool {
        let view = cluster.view();
        let keyspace = view.keyspaces.keys().find(|name| name.as_str() == ask.keyspace);
        let Some(keyspace) = keyspace.cloned() else { return false };
        Batch::new(cluster, ask, keyspace, (mailbox.ticket(), id)).begin();
        true
    }

    /// Begins a flight; false if anything is not as usual: nothing was done then.
    fn begin(
        &self,
        cluster: &Arc<Cluster>,
        ask: &KeyAsk<'_>,
        back: impl FnOnce() -> Return,
    ) -> bool {
        let mut table = self.lock();
        let Table { flights, scratch } = &mut *table;
        let (idle, place) = (flights.is_empty(), flights.vacant_entry());
        let at = place.key();
        let begun = match ask {
            KeyAsk::Write(ask) => {
                WriteFlight::begin(cluster, at, ask, scratch, back).map(Flight::Write)
            }
            KeyAsk::Read(ask) => ReadFlight::begin(cluster, at, ask, back).map(Flight::Read),
        };
        let Some(flight) = begun else { return false };
        let is_whole = flight.is_whole();
        place.insert(flight);
        drop(table);
        if idle {
            self.begun.notify_one();
        }
        if !is_whole {
            self.go_on(at, Next::HandOver);
        }
        true
    }

    fn go_on(&self, at: usize, next: Next) {
        match next {
            Next::Fly => {}
            Next::Land => {
                // Dropped when the lock is released: with it may go a connection, and all that waits there.
                let landed = self.lock().flights.try_remove(at);
                drop(landed);
            }
            Next::HandOver => {
                let flights = &mut self.lock().flights;
                let Some(place) = flights.get_mut(at) else { return };
                // Whoever takes it over must not ask before the flight is known as handed over.
                let flight = std::mem::replace(place, Flight::HandedOver(Ears(Vec::new())));
                let ears = match flight {
                    Flight::Write(flight) => flight.hand_over(),
                    Flight::Read(flight) => flight.hand_over(),
                    Flight::HandedOver(ears) => ears,
                };
                if ears.is_done() {
                    flights.remove(at);
                } else {
                    flights[at] = Flight::HandedOver(ears);
                }
            }
        }
    }

    /// Looks at flights that wait, as long as there are any.
    pub(crate) async fn watch(cluster: Arc<Cluster>) {
        let express = &cluster.express;
        loop {
            while express.lock().flights.is_empty() {
                express.begun.notified().await;
            }
            tokio::time::sleep(TICK).await;
            let (now, times) = (Instant::now(), Times::of(&cluster));
            let due: Vec<(usize, Next)> = {
                let flights = &mut express.lock().flights;
                let look = |(at, flight): (usize, &mut Flight)| (at, flight.looked_at(now, times));
                let news = |(_, next): &(usize, Next)| !matches!(next, Next::Fly);
                flights.iter_mut().map(look).filter(news).collect()
            };
            due.into_iter().for_each(|(at, next)| express.go_on(at, next));
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy)]
struct Times {
    hedge: Duration,
    timeout: Duration,
}

impl Times {
    fn of(cluster: &Cluster) -> Self {
        let settings = cluster.settings();
        Self { hedge: settings.hedge(), timeout: settings.timeout() }
    }
}

impl Router for Express {
    fn answered(&self, token: u64, answer: Option<&[u8]>) {
        let (at, place) = (token as usize / REPLICAS_MAX, token as usize % REPLICAS_MAX);
        let next = {
            let flights = &mut self.lock().flights;
            match flights.get_mut(at) {
                Some(Flight::Write(flight)) => flight.hear(place, answer),
                Some(Flight::Read(flight)) => flight.hear(place, answer),
                Some(Flight::HandedOver(ears)) => ears.hear(place, answer),
                None => Next::Fly,
            }
        };
        self.go_on(at, next);
    }
}

impl Flight {
    /// Whether all were asked that were to be.
    fn is_whole(&self) -> bool {
        match self {
            Self::Write(flight) => flight.is_whole(),
            Self::Read(flight) => flight.is_whole(),
            Self::HandedOver(_) => true,
        }
    }

    fn looked_at(&mut self, now: Instant, times: Times) -> Next {
        match self {
            Self::Write(flight) => flight.looked_at(now, times),
            Self::Read(flight) => flight.looked_at(now, times),
            Self::HandedOver(_) => Next::Fly,
        }
    }
}

impl Ears {
    fn hear(&mut self, place: usize, answer: Option<&[u8]>) -> Next {
        if let Some(ear) = self.0.get_mut(place).and_then(Option::take) {
            ear(answer);
        }
        if self.is_done() { Next::Land } else { Next::Fly }
    }

    fn is_done(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// The token of a call, for the router.
const fn token(at: usize, place: usize) -> u64 {
    (at * REPLICAS_MAX + place) as u64
}

/// The beginning of a result.
const fn spell_status(status: Status) -> &'static str {
    match status {
        Status::Ok => r#"{"status":"ok""#,
        Status::NotFound => r#"{"status":"not_found""#,
    }
}
