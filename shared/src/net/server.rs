//! The server side: one task a connection, none a request.
//!
//! A turn of a connection reads what has arrived, starts every whole line of it in order,
//! gathers the answers that are ready, lets the service settle them (a node waits until they are
//! durable) and sends them with one write. Calls that wait for something else are kept beside
//! and answered when they finish, so one slow call does not hold up the next; JSON-RPC matches
//! answers by id. A method that the service calls a *barrier* starts only when all earlier calls
//! of its connection have finished, and holds up the later ones: a change of the ring stands in
//! program order with the writes around it.
//!
//! # Caveats
//!
//! No subscriptions: what happens is polled with `events`.

use std::future::{Future, pending};
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jsonrpsee::{MethodResponse, Methods};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::Decoder as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dispatch::{Served, Started, parse, too_long, too_many};
use super::wire::{JsonLines, Line};
use crate::protocol::claim::Reign;
use crate::{Failure, limits};

/// What a server serves.
pub trait Service: Clone + 'static {
    /// The methods.
    fn methods(&self) -> &Methods;
    /// The parameters of a method in words, for whoever got them wrong.
    fn takes(&self, _method: &str) -> Option<&'static str> {
        None
    }
    /// Whether a method may start that a coordinator asks for under these epochs, or somebody without one. Asked
    /// right before it starts, also for each entry of a batch and for notifications.
    ///
    /// # Errors
    ///
    /// It may not; this is the answer.
    fn admit(&self, _method: &str, _reign: Option<Reign>) -> Result<(), Failure> {
        Ok(())
    }
    /// Waits until the answers that were just made may be told.
    fn settle(&self) -> impl Future<Output = ()>;
    /// Whether a method must run alone on its connection.
    fn is_barrier(&self, method: &str) -> bool;
}

/// The bounds of a server. Each is there so that a stranger cannot use us up.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at a time; one more is told `Server is busy` and closed.
    pub connections_max: usize,
    /// Bytes in a request line; a longer one is answered with an error and thrown away.
    pub line_bytes_max: usize,
    /// Bytes in an answer; a larger one becomes an error.
    pub answer_bytes_max: usize,
    /// Entries in a batch.
    pub batch_entries_max: usize,
    /// Nesting of a message.
    pub json_depth_max: usize,
    /// Calls of one connection that wait at a time; beyond, the socket is not read.
    pub waiting_max: usize,
    /// A connection that asks nothing for so long is closed.
    pub idle: Duration,
    /// A line that was begun must be whole within this time.
    pub line: Duration,
    /// A peer that takes no bytes for so long is dropped.
    pub write: Duration,
    /// When the server stops, calls that wait get so long to finish.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            line_bytes_max: limits::LINE_BYTES_MAX,
            answer_bytes_max: limits::LINE_BYTES_MAX,
            batch_entries_max: limits::BATCH_ENTRIES_MAX,
            json_depth_max: limits::JSON_DEPTH_MAX,
            waiting_max: 1024,
            idle: Duration::from_secs(300),
            line: Duration::from_secs(10),
            write: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// After a failed accept (out of file descriptors, mostly) the listener rests so long.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How much room a read gets at least.
const READ_BYTES: usize = 16 * 1024;

/// Serves `listener` until `shutdown`, then lets calls in flight finish for `limits.drain`.
///
/// Must run in a [`tokio::task::LocalSet`] of a current-thread runtime: one thread owns the
/// service's state.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: S,
    limits: ServerLimits,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let slots = std::rc::Rc::new(Semaphore::new(limits.connections_max));
    let limits = std::rc::Rc::new(limits);
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            },
        };
        let slot = slots.clone();
        let (service, limits, shutdown) = (service.clone(), limits.clone(), shutdown.clone());
        connections.spawn_local(async move {
            let Ok(_slot) = slot.try_acquire() else { return turn_away(stream).await };
            if let Err(error) = Connection::new(stream, service, &limits).run(&shutdown).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    connections.close();
    let _ = timeout(limits.drain, connections.wait()).await;
}

async fn turn_away(mut stream: TcpStream) {
    let line = format!("{}\n", too_many().as_json().get());
    let _ = timeout(Duration::from_secs(1), stream.write_all(line.as_bytes())).await;
}

/// One connection: what was read, what waits, what goes out.
struct Connection<'a, S> {
    stream: TcpStream,
    service: S,
    limits: &'a ServerLimits,
    codec: JsonLines,
    inbox: BytesMut,
    /// A whole line that must wait until the calls before it have finished.
    held: Option<bytes::Bytes>,
    waiting: FuturesUnordered<BoxFuture<'static, Option<MethodResponse>>>,
    /// A barrier runs: nothing else may start.
    alone: bool,
    outbox: Vec<u8>,
    /// When the line in the inbox was begun.
    line_began: Option<Instant>,
}

/// What a turn of a connection was woken by.
enum Woken {
    Read(io::Result<usize>),
    Finished(Option<MethodResponse>),
    Late,
    Shutdown,
}

impl<'a, S: Service> Connection<'a, S> {
    fn new(stream: TcpStream, service: S, limits: &'a ServerLimits) -> Self {
        Self {
            stream,
            service,
            limits,
            codec: JsonLines::new(limits.line_bytes_max),
            inbox: BytesMut::new(),
            held: None,
            waiting: FuturesUnordered::new(),
            alone: false,
            outbox: Vec::new(),
            line_began: None,
        }
    }

    async fn run(mut self, shutdown: &CancellationToken) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        loop {
            match self.wake(shutdown).await {
                Woken::Read(Ok(0)) | Woken::Shutdown => break,
                Woken::Read(read) => drop(read?),
                Woken::Finished(answer) => self.finish(answer),
                Woken::Late => return Err(io::ErrorKind::TimedOut.into()),
            }
            loop {
                if self.start_lines() == Verdict::Hostile {
                    return Err(io::Error::other("not JSON-RPC: closed"));
                }
                // What has finished meanwhile goes out with the same write, and may let more start.
                if !self.gather() {
                    break;
                }
            }
            self.send().await?;
        }
        while let Some(answer) = self.waiting.next().await {
            self.finish(answer);
        }
        self.send().await?;
        self.stream.shutdown().await
    }

    /// Waits for bytes, for a finished call, for a limit of time or for the end.
    async fn wake(&mut self, shutdown: &CancellationToken) -> Woken {
        let may_read =
            self.held.is_none() && !self.alone && self.waiting.len() < self.limits.waiting_max;
        let late_at = match self.line_began {
            Some(began) => began + self.limits.line,
            None => Instant::now() + self.limits.idle,
        };
        let waiting = !self.waiting.is_empty();
        let may_be_late = may_read && !waiting;
        self.inbox.reserve(READ_BYTES);
        tokio::select! {
            biased;
            Some(answer) = self.waiting.next(), if waiting => Woken::Finished(answer),
            read = self.stream.read_buf(&mut self.inbox), if may_read => Woken::Read(read),
            () = shutdown.cancelled() => Woken::Shutdown,
            () = async { if may_be_late { sleep_until(late_at).await } else { pending().await } } => Woken::Late,
        }
    }

    /// Starts every whole line that may start now.
    fn start_lines(&mut self) -> Verdict {
        while !self.alone && self.waiting.len() < self.limits.waiting_max {
            let line = match self.held.take() {
                Some(line) => Line::Json(line),
                None => match self.codec.decode(&mut self.inbox) {
                    Ok(Some(line)) => {
                        // What is left in the inbox is another line.
                        self.line_began = None;
                        line
                    }
                    Ok(None) | Err(_) => break,
                },
            };
            match line {
                Line::TooLong => {
                    let answer = too_long(self.limits);
                    self.answer(Some(&answer));
                }
                Line::Json(line) if speaks_http(&line) => return Verdict::Hostile,
                Line::Json(line) => {
                    if !self.start_line(line) {
                        break;
                    }
                }
            }
        }
        self.line_began = match (self.inbox.is_empty(), self.line_began) {
            (true, _) => None,
            (false, began) => began.or_else(|| Some(Instant::now())),
        };
        Verdict::Welcome
    }

    /// Starts one line; false if it has to wait for the ones before it.
    fn start_line(&mut self, line: bytes::Bytes) -> bool {
        let message = parse(&line, self.limits);
        let barrier = message.any_method(|method| self.service.is_barrier(method));
        if barrier && !self.waiting.is_empty() {
            drop(message);
            self.held = Some(line);
            return false;
        }
        let served = Served {
            methods: self.service.methods(),
            takes: &|method| self.service.takes(method),
            admit: &|method, reign| self.service.admit(method, reign),
            answer_bytes_max: self.limits.answer_bytes_max,
        };
        match served.start(message) {
            Started::Answered(answer) => self.answer(answer.as_ref()),
            Started::Waiting(answer) => {
                self.alone = barrier;
                self.waiting.push(answer);
            }
        }
        true
    }

    /// Takes the answers of calls that have finished; false if there were none.
    fn gather(&mut self) -> bool {
        let mut any = false;
        while let Some(Some(answer)) = self.waiting.next().now_or_never() {
            self.finish(answer);
            any = true;
        }
        any
    }

    fn finish(&mut self, answer: Option<MethodResponse>) {
        self.alone = false;
        self.answer(answer.as_ref());
    }

    fn answer(&mut self, answer: Option<&MethodResponse>) {
        if let Some(answer) = answer {
            self.outbox.extend_from_slice(answer.as_json().get().as_bytes());
            self.outbox.push(b'\n');
        }
    }

    /// Sends what has gathered, with one write, once it may be told.
    async fn send(&mut self) -> io::Result<()> {
        self.service.settle().await;
        if self.outbox.is_empty() {
            return Ok(());
        }
        timeout(self.limits.write, self.stream.write_all(&self.outbox)).await??;
        self.outbox.clear();
        Ok(())
    }
}

#[derive(PartialEq)]
enum Verdict {
    Welcome,
    Hostile,
}

/// A browser can be made to send HTTP to any local port: such a connection is closed before the
/// body of its request could be read as commands.
fn speaks_http(line: &[u8]) -> bool {
    const VERBS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
    ];
    VERBS.iter().any(|verb| line.starts_with(verb))
        || line.to_ascii_lowercase().starts_with(b"host:")
}
