//! A load through a library rather than over our own sockets: many streams, each with one request at a time.
//!
//! # Caveats
//!
//! Streams do not wait for each other, so a closed loop sends one request for each answer, where over sockets
//! a batch is sent when the whole batch before is answered. What the library costs is the loader's: look at the client's CPU
//! time. There is no open loop here.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use tokio::runtime::Runtime;

use super::book::Book;
use super::connection::Slot;
use super::dialect::{Answer, KEY_PATTERN};
use super::phase::{Pace, Phase, Stage};
use super::source::Op;
use super::tally::Tally;
use super::values::{Values, write_key};

/// How often it is looked at whether a stage is over while nothing is answered.
const LOOK: Duration = Duration::from_millis(20);

/// What is measured through a library.
pub(super) trait Store {
    /// Stores a value, on this connection.
    async fn put(&self, connection: usize, key: Bytes, value: Bytes) -> Result<(), Refused>;
    /// Reads a key.
    async fn get(&self, connection: usize, key: Bytes) -> Result<Option<Bytes>, Refused>;
}

/// Why a request was not done.
pub(super) struct Refused {
    /// The kind of error.
    pub(super) name: String,
    /// Whether nothing was applied for certain.
    pub(super) harmless: bool,
    /// Whether nothing more can be asked on that connection.
    pub(super) is_lost: bool,
}

/// Streams over so many connections.
pub(super) struct StreamLoader<S> {
    pub(super) runtime: Runtime,
    pub(super) store: S,
    pub(super) connections: usize,
    pub(super) values: Values,
    pub(super) book: Book,
    pub(super) clock: Instant,
    pub(super) stop: Arc<AtomicBool>,
}

/// What all streams share.
struct Shared<'a, 'm> {
    stage: Stage,
    phase: &'a mut Phase<'m>,
    book: &'a mut Book,
}

impl<S: Store> StreamLoader<S> {
    /// Runs a phase to its end: all its requests are answered, or lost.
    pub(super) fn run(&mut self, phase: &mut Phase<'_>) -> Tally {
        let Self { runtime, store, connections, values, book, clock, stop } = self;
        let now = || clock.elapsed().as_nanos() as u64;
        let streams = match phase.pace {
            Pace::Closed { pipeline } => pipeline,
            // Refused before it comes to that.
            Pace::Open { .. } => 1,
        };
        let stage = Stage::begin(phase, now());
        let shared = RefCell::new(Shared { stage, phase, book });
        let advance = || {
            let Shared { stage, phase, .. } = &mut *shared.borrow_mut();
            if stop.load(Ordering::Relaxed) {
                phase.source.end();
            }
            stage.advance(phase, now(), || clock.elapsed());
        };
        let stream = async |connection: usize| loop {
            advance();
            let Some((op, slot, key, value)) = next(&mut shared.borrow_mut(), values, now()) else {
                break;
            };
            let answer = if op.read {
                store.get(connection, key).await
            } else {
                store.put(connection, key, value).await.map(|()| None)
            };
            let lost = answer.as_ref().is_err_and(|refused| refused.is_lost);
            finish(&mut shared.borrow_mut(), slot, answer, now());
            if lost {
                break;
            }
        };
        let look = async {
            loop {
                tokio::time::sleep(LOOK).await;
                advance();
            }
        };
        let streams =
            (0..*connections).flat_map(|connection| (0..streams).map(move |_| connection));
        runtime.block_on(async {
            tokio::select! {
                _ = join_all(streams.map(stream)) => {}
                () = look => {}
            }
        });
        let Shared { stage, phase, .. } = shared.into_inner();
        stage.end(phase, now())
    }
}

/// The next request, noted in the book: its key, and its value if it is a put.
fn next(
    shared: &mut Shared<'_, '_>,
    values: &Values,
    now: u64,
) -> Option<(Op, Slot, Bytes, Bytes)> {
    if shared.book.is_full() {
        shared.phase.source.end();
    }
    let op = shared.phase.source.next()?;
    let mut key = BytesMut::from(KEY_PATTERN);
    write_key(&mut key[KEY_PATTERN.len() - 12..], op.key);
    let key = key.freeze();
    if op.read {
        let slot = Slot::new(op, shared.book.least(op.key), now);
        return Some((op, slot, key, Bytes::new()));
    }
    let (put, least) = shared.book.send(op.key);
    let mut value = BytesMut::from(values.pattern());
    Values::patch(&mut value, op.key, put);
    Some((op, Slot::new(op, least, now), key, value.freeze()))
}

/// Counts what became of a request.
fn finish(
    shared: &mut Shared<'_, '_>,
    slot: Slot,
    answer: Result<Option<Bytes>, Refused>,
    now: u64,
) {
    let answer = match &answer {
        Err(refused) => Answer::Refused { name: refused.name.clone(), harmless: refused.harmless },
        Ok(_) if !slot.read => Answer::Stored,
        Ok(None) => Answer::Missing,
        Ok(Some(value)) => Answer::Value(value),
    };
    let mut burst = shared.stage.burst(now);
    burst.take(slot, answer, shared.book);
    burst.end();
}
