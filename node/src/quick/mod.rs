//! The hot methods, in front of the method table: `put`, `get`, `del` and `write` in the spelling of our own writers, and
//! `dump` and `apply` in that of a rebalance.
//!
//! ```text
//!   lines ──► ask ── not spelled just so, or over a limit ──► the table: nothing was done yet
//!              │
//!              ▼  for all lines that have come together
//!            seek: where is each key?
//!              │
//!              ▼  for each line, under one lock
//!            obeyed? ── no ─────────────────────────────────► the table, which says why
//!              │ yes
//!              ▼
//!            engine ──► answer, spelled into what the connection sends
//! ```
//!
//! What a request costs is mostly waiting for memory: a key is in no cache of the processor. So the keys of all lines that
//! have come together are looked up side by side, see [`Store::seek_all`](crate::store::Store::seek_all), before the first is
//! served. Key and value are borrowed from the line until they stand in the log and in the map, and a value that is read is
//! copied once, from the map into what is sent.
//!
//! # Caveats
//!
//! The table is the reference. What is not clear here goes there; the same line has the same answer and effect both
//! ways, which a test holds them to. But a read whose answer is too big for a line counts as two.

mod ask;
mod batch;

use std::slice;
use std::sync::MutexGuard;

use jsonrpsee::types::{ErrorObjectOwned, Id};
use jsonrpsee::{MethodResponse, ResponsePayload};
use ringkv_shared::hlc::Stamp;
use ringkv_shared::limits::LINE_BYTES_MAX;
use ringkv_shared::net::{Burst, QuickCall, Spell};
use ringkv_shared::protocol::node::Reign;

use crate::answer::get_reply;
use crate::engine::{Engine, State};
use crate::log::record::{Op, Record};
use crate::log::value::{PLAIN_BYTES_MAX, Value};
use crate::refusals::{no_room, unreadable};
use crate::room::Refused;
use crate::store::{Content, Entry, Held, Seat};
use crate::write::WriteOutcome;

use ask::{Ask, By, Change};

/// Takes over the first of these lines, up to one that is not for this; says how many. The answers are appended to `out`.
pub(crate) fn answer(engine: &Engine, lines: &[&[u8]], out: &mut Vec<u8>) -> usize {
    let mut burst = Burst::new(lines);
    side_by_side(engine, slice::from_mut(&mut burst), out, &mut |burst, out| {
        answer_rest(engine, burst, out);
    });
    burst.taken
}

/// Does so for each of these bursts, and says what its answers wait for.
pub(crate) fn answer_all(engine: &Engine, bursts: &mut [Burst<'_>], out: &mut Vec<u8>) {
    side_by_side(engine, bursts, out, &mut |burst, out| {
        answer_rest(engine, burst, out);
        burst.end = out.len();
        burst.due = engine.0.lock().due();
    });
}

/// Takes over what comes behind lines that are each of one key.
fn answer_rest(engine: &Engine, burst: &mut Burst<'_>, out: &mut Vec<u8>) {
    // A piece of a rebalance is many requests by itself.
    while let Some(next) = burst.lines.get(burst.taken)
        && batch::answer(engine, next, out)
    {
        burst.taken += 1;
        side_by_side(engine, slice::from_mut(burst), out, &mut |_, _| ());
    }
}

/// Takes over the next lines of each burst that are each of one key, one burst after the other; `served` is told of each.
fn side_by_side(
    engine: &Engine,
    bursts: &mut [Burst<'_>],
    out: &mut Vec<u8>,
    served: &mut dyn FnMut(&mut Burst<'_>, &mut Vec<u8>),
) {
    let mut asks = Vec::with_capacity(bursts.iter().map(|burst| burst.lines.len()).sum());
    let mut ends = Vec::with_capacity(bursts.len());
    for burst in &*bursts {
        asks.extend(burst.lines[burst.taken..].iter().map_while(|line| read(line)));
        ends.push(asks.len());
    }
    let mut stored = Vec::new();
    let keys: Vec<_> = asks.iter().map(|(_, ask)| ask.key().store(&mut stored)).collect();
    let keys = asks.iter().zip(keys).map(|((_, ask), at)| ask.key().stored(at, &stored));
    let keys: Vec<&[u8]> = keys.collect();
    let mut seats = Vec::with_capacity(asks.len());
    let writes = asks.iter().map(|(_, ask)| matches!(ask, Ask::Change(_)));
    engine.0.lock().store.seek_all(keys.iter().copied().zip(writes), &mut seats);
    let mut from = 0;
    for (burst, end) in bursts.iter_mut().zip(ends) {
        let its = asks[from..end].iter().zip(keys[from..end].iter().zip(&seats[from..end]));
        let taken = its.take_while(|(ask, (key, seat))| answer_one(engine, ask, key, **seat, out));
        burst.taken += taken.count();
        from = end;
        served(burst, out);
    }
}

fn read<'a>(line: &'a [u8]) -> Option<(QuickCall<'a>, Ask<'a>)> {
    let call = QuickCall::read(line)?;
    Some((call, Ask::read(call.method, call.params)?))
}

/// Takes over a call, with its stored key and the seat that this had when the burst began.
fn answer_one(
    engine: &Engine,
    (call, ask): &(QuickCall<'_>, Ask<'_>),
    key: &[u8],
    seat: Seat,
    out: &mut Vec<u8>,
) -> bool {
    let state = engine.0.lock();
    if !state.serves(call.reign) {
        return false;
    }
    let seat = state.store.seek_again(seat, key);
    match ask {
        Ask::Get(_) => return get(engine, state, seat, key, call.id, out),
        Ask::Change(change) => match apply(engine, state, seat, key, change) {
            Ok(outcome) => written(outcome, change.value.is_none(), call.id, out),
            Err(why) => refused(no_room(why), call.id, out),
        },
    }
    true
}

impl State {
    /// Whether who asks under this reign is obeyed.
    fn serves(&self, reign: Option<Reign>) -> bool {
        reign.is_none_or(|under| self.obeys.admit(under).is_ok())
    }
}

fn apply(
    engine: &Engine,
    state: MutexGuard<'_, State>,
    seat: Seat,
    key: &[u8],
    change: &Change<'_>,
) -> Result<WriteOutcome, Refused> {
    let Change { value, expires, by, ref owe, .. } = *change;
    let packed;
    let op = match value.map(str::as_bytes) {
        None => Op::Del,
        Some(raw) if raw.len() <= PLAIN_BYTES_MAX => Op::Put { value: Value::Plain(raw), expires },
        Some(raw) => {
            packed = Value::new(raw.to_vec().into());
            Op::Put { value: packed.as_ref(), expires }
        }
    };
    match by {
        By::Node => engine.put_or_del_at(state, seat, key, op, None),
        By::Caller(version) => engine.put_or_del_at(state, seat, key, op, Some(version)),
        By::Coordinator(version, stamp) => {
            engine.take_at(state, seat, Record { stamp, ..Record::new(key, op, version) }, owe)
        }
    }
}

fn written(outcome: WriteOutcome, deletes: bool, id: &str, out: &mut Vec<u8>) {
    let WriteOutcome { version, superseded, existed, siblings } = outcome;
    let status = if deletes && !existed { "not_found" } else { "ok" };
    out.answer_to(id).raw(r#"{"status":""#).raw(status).raw(r#"","version":"#).version(version);
    if superseded {
        out.raw(r#","superseded":true"#);
    }
    if siblings > 0 {
        out.raw(r#","siblings":"#).number(siblings as u64);
    }
    out.raw("}}\n");
}

fn get(
    engine: &Engine,
    mut state: MutexGuard<'_, State>,
    seat: Seat,
    key: &[u8],
    id: &str,
    out: &mut Vec<u8>,
) -> bool {
    let found = state.look(seat, key, engine.now(), |held| match held {
        Some(held) if !tell(held, id, out) => Some(held.copied()),
        Some(_) => None,
        None => {
            out.answer_to(id).raw("{\"status\":\"not_found\"}}\n");
            None
        }
    });
    drop(state);
    let Some(found) = found else { return true };
    match engine.loaded(key, found) {
        Ok(record) => {
            let payload = ResponsePayload::success(get_reply(Some(record)));
            let answer = MethodResponse::response(number(id), payload, LINE_BYTES_MAX);
            // What the table says of one that is too big is its own.
            if answer.is_success() {
                out.raw(answer.as_json().get()).raw("\n");
            }
            answer.is_success()
        }
        Err(error) => {
            refused(unreadable(&error), id, out);
            true
        }
    }
}

/// Answers with what a key has; false if that is more than one value, or the value is not there in plain.
fn tell(held: &Held<&[u8]>, id: &str, out: &mut Vec<u8>) -> bool {
    let Held { entry, more: None } = held else { return false };
    let value = match entry.content {
        Content::Value(Value::Plain(value)) => Some(value),
        Content::Tombstone => None,
        Content::Value(Value::Zstd { .. }) | Content::Evicted { .. } => return false,
    };
    out.answer_to(id);
    match value {
        Some(value) => out.raw(r#"{"status":"ok","value":"#).blob(value),
        None => out.raw(r#"{"status":"not_found""#),
    };
    times(entry, out);
    out.raw("}}\n");
    true
}

/// The version of an entry and what else is told of its time.
fn times(entry: &Entry<&[u8]>, out: &mut Vec<u8>) {
    out.raw(r#","version":"#).version(entry.version);
    if let Some(expires) = entry.expires {
        out.raw(r#","expires":"#).number(expires);
    }
    if let Some(Stamp { ms, count }) = entry.stamp {
        out.raw(r#","stamp":""#).number(ms).raw(".").number(u64::from(count)).raw("\"");
    }
}

fn refused(error: ErrorObjectOwned, id: &str, out: &mut Vec<u8>) {
    out.raw(MethodResponse::error(number(id), error).as_json().get()).raw("\n");
}

fn number(id: &str) -> Id<'static> {
    Id::Number(id.parse().expect("an id here is a number of at most 19 digits"))
}
