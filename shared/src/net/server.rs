//! The server side: one task a connection, none a request.
//!
//! What a turn of a connection does is told in [`connection`]. Here is what is served, within
//! which bounds, and who accepts.
//!
//! # Caveats
//!
//! No subscriptions: what happens is polled with `events`.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use jsonrpsee::Methods;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::connection;
use super::dispatch::too_many;
use super::mailbox::Mailbox;
use super::seat::Seats;
use super::turn::{Burst, Turns};
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
    /// Takes over the first of these lines that it can serve without the method table, which is the reference: the same
    /// line through both has the same answer. It admits by itself. The answers are appended to `out`, with the ends of their
    /// lines, or come through tickets of `mailbox`. Says how many lines it has taken; nothing was done about the next, which
    /// goes to the table. Never for a barrier.
    fn quick(&self, _lines: &[&[u8]], _out: &mut Vec<u8>, _mailbox: &Mailbox) -> usize {
        0
    }
    /// Waits until the answers that were just made may be told.
    fn settle(&self) -> impl Future<Output = ()>;
    /// Whether what has arrived on many connections is to be served [side by side](Self::side_by_side).
    const SIDE_BY_SIDE: bool = false;
    /// The same as [`quick`](Self::quick) for many connections at once: takes over the first lines of each, one burst after
    /// the other, and says of each what its answers wait for.
    fn side_by_side(&self, _bursts: &mut [Burst<'_>], _out: &mut Vec<u8>) {}
    /// Up to where it has settled what answers wait for.
    fn settled(&self) -> u64 {
        u64::MAX
    }
    /// Waits until it has settled so far.
    fn settle_up_to(&self, _due: u64) -> impl Future<Output = ()> {
        std::future::ready(())
    }
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
            connections_max: limits::CONNECTIONS_MAX_DEFAULT,
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
/// The most bytes in a read. All connections read into the same memory: one that is idle has none.
const READ_BYTES: usize = 64 * 1024;

/// What all connections of a server share.
pub(super) struct Common<S> {
    pub(super) service: S,
    pub(super) limits: ServerLimits,
    pub(super) seats: Rc<Seats>,
    pub(super) turns: Option<Turns<S>>,
    /// Memory that all read into.
    pub(super) scratch: RefCell<Box<[u8]>>,
}

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
    let turns = Turns::of(&service, limits.line_bytes_max);
    let scratch = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    let common = Rc::new(Common { service, limits, seats: Rc::default(), turns, scratch });
    let _until_all_have_ended = AbortOnDropHandle::new(spawn_local(look_after(Rc::clone(&common))));
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
        if common.seats.len() < common.limits.connections_max {
            let (reader, writer) = stream.into_split();
            let seat = common.seats.take(writer);
            connections.spawn_local(connection::serve(reader, seat, Rc::clone(&common)));
        } else {
            connections.spawn_local(turn_away(stream));
        }
    }
    connections.close();
    common.seats.close();
    let _ = timeout(common.limits.drain, connections.wait()).await;
}

/// Serves turns, and calls who is late.
async fn look_after<S: Service>(common: Rc<Common<S>>) {
    let turns = async {
        match &common.turns {
            Some(turns) => turns.run().await,
            None => std::future::pending().await,
        }
    };
    let clock = async {
        let mut clock = tokio::time::interval(Seats::interval(&common.limits));
        loop {
            common.seats.call_late(clock.tick().await, &common.limits);
        }
    };
    tokio::join!(turns, clock);
}

async fn turn_away(mut stream: TcpStream) {
    let line = format!("{}\n", too_many().as_json().get());
    let _ = timeout(Duration::from_secs(1), stream.write_all(line.as_bytes())).await;
}
