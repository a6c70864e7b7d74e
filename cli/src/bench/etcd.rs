//! etcd: the same load over gRPC.
//!
//! gRPC is HTTP/2 with a frame around each protobuf message, so an HTTP/2 client and four messages are all
//! that is needed. Each connection is a TCP connection of its own; what is under way on it at once are its
//! streams.
//!
//! ```text
//! POST /etcdserverpb.KV/Put     00 | length (4 bytes) | PutRequest { key = 1, value = 2 }
//! POST /etcdserverpb.KV/Range   00 | length (4 bytes) | RangeRequest { key = 1 }       linearizable
//! ```
//!
//! # Caveats
//!
//! Streams of a connection do not wait for each other, so a closed loop sends one request for each answer, where
//! the other stores are sent a batch when the whole batch before is answered. HTTP/2 costs the loader more
//! than lines do: look at the client's CPU time. There is no open loop here, and a connection that is lost stays so.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::join_all;
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use ringkv_shared::{ErrorName, Failure};
use tokio::runtime::Runtime;

use super::book::Book;
use super::connection::Slot;
use super::dialect::{Answer, KEY_PATTERN};
use super::phase::{Pace, Phase, Stage};
use super::source::Op;
use super::tally::Tally;
use super::values::{Values, write_key};

/// How long etcd may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How often it is looked at whether a stage is over while nothing is answered.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    found: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

/// Connections to an etcd.
pub(super) struct EtcdLoader {
    runtime: Runtime,
    senders: Vec<SendRequest<Bytes>>,
    put: Request<()>,
    get: Request<()>,
    values: Values,
    book: Book,
    clock: Instant,
    stop: Arc<AtomicBool>,
}

/// What all streams share.
struct Shared<'a, 'm> {
    stage: Stage,
    phase: &'a mut Phase<'m>,
    book: &'a mut Book,
}

impl EtcdLoader {
    /// Connects so many times.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or nobody who speaks HTTP/2.
    pub(super) fn connect(
        addr: SocketAddr,
        count: u32,
        values: Values,
        book: Book,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::new(ErrorName::Unreachable, format!("cannot connect to {addr}: {error}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unreachable(&error))?;
        let mut senders = Vec::new();
        for _ in 0..count {
            let sender = runtime.block_on(connect(addr)).map_err(|error| unreachable(&error))?;
            senders.push(sender);
        }
        let request = |method: &str| {
            Request::post(format!("http://{addr}/etcdserverpb.KV/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .map_err(|error| unreachable(&error))
        };
        let (put, get) = (request("Put")?, request("Range")?);
        Ok(Self { runtime, senders, put, get, values, book, clock: Instant::now(), stop })
    }

    /// What is known of the keys.
    pub(super) const fn book(&self) -> &Book {
        &self.book
    }

    /// Runs a phase to its end: all its requests are answered, or lost.
    pub(super) fn run(&mut self, phase: &mut Phase<'_>) -> Tally {
        let Self { runtime, senders, put, get, values, book, clock, stop } = self;
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
        let stream = async |sender: &SendRequest<Bytes>| loop {
            advance();
            let Some((op, slot, message)) = next(&mut shared.borrow_mut(), values, now()) else {
                break;
            };
            let request = if op.read { get.clone() } else { put.clone() };
            let call = tokio::time::timeout(ANSWER_DEADLINE, call(sender, request, message));
            let called = call.await.unwrap_or_else(|_| Err("TIMEOUT".to_owned()));
            let lost = called.as_ref().is_err_and(|name| name == "CONNECTION_LOST");
            finish(&mut shared.borrow_mut(), slot, called, now());
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
        let streams = senders.iter().flat_map(|sender| (0..streams).map(move |_| sender));
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

async fn connect(addr: SocketAddr) -> Result<SendRequest<Bytes>, Box<dyn std::error::Error>> {
    let stream = tokio::net::TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    // Its end is seen by the streams on it.
    tokio::spawn(connection);
    Ok(sender)
}

/// The next request, noted in the book.
fn next(shared: &mut Shared<'_, '_>, values: &Values, now: u64) -> Option<(Op, Slot, Bytes)> {
    if shared.book.is_full() {
        shared.phase.source.end();
    }
    let op = shared.phase.source.next()?;
    let mut key = BytesMut::from(KEY_PATTERN);
    write_key(&mut key[KEY_PATTERN.len() - 12..], op.key);
    let key = key.freeze();
    if op.read {
        let slot = Slot::new(op, shared.book.least(op.key), now);
        return Some((op, slot, framed(&RangeRequest { key })));
    }
    let (put, least) = shared.book.send(op.key);
    let mut value = BytesMut::from(values.pattern());
    Values::patch(&mut value, op.key, put);
    let message = framed(&PutRequest { key, value: value.freeze() });
    Some((op, Slot::new(op, least, now), message))
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode(&mut frame).expect("there is room for all of it");
    frame.freeze()
}

/// One call; the message that it answered, or the name of what went wrong.
async fn call(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<Bytes, String> {
    let lost = |_| "CONNECTION_LOST".to_owned();
    let mut sender = sender.clone().ready().await.map_err(lost)?;
    let (response, mut body) = sender.send_request(request, false).map_err(lost)?;
    body.send_data(message, true).map_err(lost)?;
    let response = response.await.map_err(lost)?;
    if let Some(status) = response.headers().get("grpc-status").filter(|status| *status != "0") {
        return Err(format!("grpc status {}", String::from_utf8_lossy(status.as_bytes())));
    }
    let mut stream = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(lost)?;
        stream.flow_control().release_capacity(piece.len()).map_err(lost)?;
        answer.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await.map_err(lost)?;
    match trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")) {
        Some(status) if status == "0" => Ok(answer.freeze()),
        Some(status) => Err(format!("grpc status {}", String::from_utf8_lossy(status.as_bytes()))),
        None => Err("PROTOCOL".to_owned()),
    }
}

/// Counts what became of a request.
fn finish(shared: &mut Shared<'_, '_>, slot: Slot, called: Result<Bytes, String>, now: u64) {
    let found;
    let answer = match called {
        // Whether a put that failed was applied nobody knows.
        Err(name) => Answer::Refused { name, harmless: false },
        Ok(_) if !slot.read => Answer::Stored,
        Ok(frame) => match frame.get(5..).map(RangeResponse::decode) {
            Some(Ok(response)) => {
                found = response.found;
                found.first().map_or(Answer::Missing, |found| Answer::Value(&found.value))
            }
            _ => Answer::Refused { name: "PROTOCOL".to_owned(), harmless: false },
        },
    };
    let mut burst = shared.stage.burst(now);
    burst.take(slot, answer, shared.book);
    burst.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spelled_as_etcd_reads_them() {
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        assert_eq!(&framed(&put)[..], b"\0\0\0\0\x06\x0a\x01k\x12\x01v");
        let range = RangeRequest { key: Bytes::from_static(b"k") };
        assert_eq!(&framed(&range)[..], b"\0\0\0\0\x03\x0a\x01k");
        // header = 1, kvs = 2 (key = 1, value = 5), count = 4
        let answer = b"\x0a\x02\x10\x01\x12\x06\x0a\x01k\x2a\x01v\x20\x01";
        let answer = RangeResponse::decode(&answer[..]).unwrap();
        assert_eq!(answer.found[0].value, Bytes::from_static(b"v"));
    }
}
