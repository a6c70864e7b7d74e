//! jsonrpsee's async client over our transport.
//!
//! Calls are multiplexed on one connection. What they send is collected in an outbox that one
//! writer task empties with one write for all that has gathered, so many concurrent calls cost
//! few system calls.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use jsonrpsee::async_client::ClientBuilder;
use jsonrpsee::core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio_util::codec::FramedRead;

use super::claimant::Claimant;
use super::wire::{JsonLines, Line};
use crate::limits::LINE_BYTES_MAX;

/// A connected client: use it with the `…Client` traits of this module.
pub type Client = jsonrpsee::async_client::Client;

/// Sees each line of a connection as it is on the wire, without its newline, while it passes.
///
/// Both are called on the tasks that carry the lines, so they must be quick and must not block.
pub trait Observer: Send + Sync {
    /// A request leaves.
    fn sent(&self, line: &str);
    /// An answer has come; bytes that are no UTF-8 are replaced.
    fn received(&self, line: &str);
}

/// Nobody, or somebody who looks on.
pub(super) type Onlooker = Option<Arc<dyn Observer>>;

/// When this much waits to be written, callers wait too.
const OUTBOX_BYTES_MAX: usize = LINE_BYTES_MAX;
/// Calls waiting for the client's own task; beyond, callers wait.
const CALLS_QUEUED_MAX: usize = 4096;
/// jsonrpsee's own timeout runs on real time and cannot be simulated, so it is set out of the
/// way: every call is bounded by a deadline of its caller (see `Peer`).
const JSONRPSEE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Connects to `addr` (`host:port`) within `timeout`.
///
/// # Errors
///
/// That of the connection attempt; [`io::ErrorKind::TimedOut`] after `timeout`.
pub async fn connect(addr: &str, timeout: Duration) -> io::Result<Client> {
    connect_as(addr, timeout, None, None).await
}

/// [`connect`], as a coordinator if there is a claimant, and with somebody who looks on.
pub(super) async fn connect_as(
    addr: &str,
    timeout: Duration,
    claimant: Option<Arc<Claimant>>,
    onlooker: Onlooker,
) -> io::Result<Client> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(addr)).await??;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let outbox = Arc::new(Outbox::default());
    tokio::spawn(write_gathered(outbox.clone(), writer));
    let lines = FramedRead::new(reader, JsonLines::new(LINE_BYTES_MAX));
    let receiver = Receiver { lines, onlooker: onlooker.clone() };
    let sender = Sender { outbox, claimant, onlooker };
    Ok(ClientBuilder::new()
        .request_timeout(JSONRPSEE_TIMEOUT)
        .max_concurrent_requests(CALLS_QUEUED_MAX)
        .build_with_tokio(sender, receiver))
}

/// What waits to be written.
#[derive(Default)]
struct Outbox {
    gathered: Mutex<Gathered>,
    /// Told when something was put in or the outbox was closed.
    filled: Notify,
    /// Told when all was taken out.
    emptied: Notify,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    closed: bool,
}

impl Outbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.gathered.lock().expect("no panic while the lock is held")
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.emptied.notify_one();
    }
}

async fn write_gathered(outbox: Arc<Outbox>, mut writer: OwnedWriteHalf) {
    let mut batch = Vec::new();
    loop {
        let closed = {
            let mut gathered = outbox.lock();
            std::mem::swap(&mut batch, &mut gathered.bytes);
            gathered.closed
        };
        outbox.emptied.notify_one();
        if !batch.is_empty() {
            if writer.write_all(&batch).await.is_err() {
                return outbox.close();
            }
            batch.clear();
        } else if closed {
            return;
        } else {
            outbox.filled.notified().await;
        }
    }
}

struct Sender {
    outbox: Arc<Outbox>,
    claimant: Option<Arc<Claimant>>,
    onlooker: Onlooker,
}

impl Sender {
    /// Appends a request as it is to be on the wire, without its newline.
    fn write(&self, request: &str, out: &mut Vec<u8>) -> io::Result<()> {
        let from = out.len();
        match &self.claimant {
            None => out.extend_from_slice(request.as_bytes()),
            Some(claimant) if claimant.sign(request, out) => {}
            Some(_) => return Err(io::Error::other("a batch cannot be sent as a coordinator")),
        }
        if let Some(onlooker) = &self.onlooker {
            onlooker.sent(&String::from_utf8_lossy(&out[from..]));
        }
        Ok(())
    }
}

impl TransportSenderT for Sender {
    type Error = io::Error;

    async fn send(&mut self, message: String) -> io::Result<()> {
        loop {
            {
                let mut gathered = self.outbox.lock();
                if gathered.closed {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                if gathered.bytes.len() < OUTBOX_BYTES_MAX {
                    self.write(&message, &mut gathered.bytes)?;
                    gathered.bytes.push(b'\n');
                    self.outbox.filled.notify_one();
                    return Ok(());
                }
            }
            self.outbox.emptied.notified().await;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

struct Receiver {
    lines: FramedRead<OwnedReadHalf, JsonLines>,
    onlooker: Onlooker,
}

impl TransportReceiverT for Receiver {
    type Error = io::Error;

    async fn receive(&mut self) -> io::Result<ReceivedMessage> {
        match self.lines.next().await {
            Some(Ok(Line::Json(line))) => {
                if let Some(onlooker) = &self.onlooker {
                    onlooker.received(&String::from_utf8_lossy(&line));
                }
                Ok(ReceivedMessage::Bytes(line.into()))
            }
            Some(Ok(Line::TooLong)) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "an answer is over the line limit"))
            }
            Some(Err(error)) => Err(error),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
        }
    }
}
