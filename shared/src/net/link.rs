//! A connection to a server, shared by all that call there.
//!
//! What calls send is collected in an outbox that one task empties with one write for all that has gathered, so many
//! calls at once cost few system calls. Another task reads what has arrived and hands each answer to whoever waits
//! for it: to a future, or straight to a [`Router`], which has no task, channel or allocation a call.
//!
//! # Caveats
//!
//! An answer is handed over on the task that reads: a router must be quick and must not block.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::calls::{CALLS_MAX, Calls};
use super::claimant::Claimant;
use super::client::Onlooker;
use super::quick::{Scan, Spell as _};
use super::wire::{JsonLines, Line};
use crate::limits::LINE_BYTES_MAX;

/// When this much waits to be written, callers wait, too.
const OUTBOX_BYTES_MAX: usize = LINE_BYTES_MAX;
/// The most bytes in a read.
const READ_BYTES: usize = 64 * 1024;

/// Whoever takes answers without waiting for each.
pub trait Router: Send + Sync {
    /// The whole line of the answer to the call with this token, or nothing: the connection was lost, and the call
    /// may have been carried out.
    fn answered(&self, token: u64, answer: Option<&[u8]>);
}

/// Who waits for an answer.
pub(super) enum Waiting {
    /// A future: gets the line.
    Future(oneshot::Sender<Box<[u8]>>),
    /// The router of the connection, which knows the call by this.
    Router(u64),
}

/// What those who call and the two tasks share.
pub(super) struct Link {
    state: Mutex<State>,
    /// Told when something was put in the outbox, or the link was closed.
    filled: Notify,
    /// Told when the outbox was emptied.
    emptied: Notify,
    claimant: Option<Arc<Claimant>>,
    onlooker: Onlooker,
    router: Option<Arc<dyn Router>>,
}

#[derive(Default)]
struct State {
    outbox: Vec<u8>,
    calls: Calls<Waiting>,
    /// Why nothing can be sent any more.
    closed: Option<(io::ErrorKind, String)>,
}

/// Why a call was not sent.
pub(super) enum Unsent {
    /// It never will be.
    Closed(io::Error),
    /// Too much waits to be written: try again when some of it is.
    Full,
}

impl Link {
    pub(super) fn new(
        claimant: Option<Arc<Claimant>>,
        onlooker: Onlooker,
        router: Option<Arc<dyn Router>>,
    ) -> Self {
        let (filled, emptied) = (Notify::new(), Notify::new());
        Self { state: Mutex::default(), filled, emptied, claimant, onlooker, router }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the lock is held")
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().closed.is_none()
    }

    /// Sends a call whose answer somebody waits for, or one that gets none. `rest` writes the members behind the
    /// method: the parameters, with a comma in front, or nothing.
    pub(super) fn call(
        &self,
        method: &str,
        waiting: Option<Waiting>,
        rest: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Unsent> {
        let mut state = self.lock();
        let State { outbox, calls, closed } = &mut *state;
        if let Some((kind, why)) = closed {
            return Err(Unsent::Closed(io::Error::new(*kind, why.clone())));
        }
        if outbox.len() >= OUTBOX_BYTES_MAX {
            return Err(Unsent::Full);
        }
        let id = waiting.map(|waiting| {
            let many = || format!("{CALLS_MAX} calls wait for an answer already");
            calls.begin(waiting).ok_or_else(|| Unsent::Closed(io::Error::other(many())))
        });
        self.write(outbox, id.transpose()?, method, rest);
        Ok(())
    }

    fn write(
        &self,
        outbox: &mut Vec<u8>,
        id: Option<u64>,
        method: &str,
        rest: impl FnOnce(&mut Vec<u8>),
    ) {
        let from = outbox.len();
        outbox.raw(r#"{"jsonrpc":"2.0","#);
        if let Some(claimant) = &self.claimant {
            let reign = claimant.reign();
            outbox.raw(r#""epoch":""#).number(u64::from(reign.coordinator)).raw(".");
            outbox.number(reign.ring).raw("\",");
        }
        if let Some(id) = id {
            outbox.raw(r#""id":"#).number(id).raw(",");
        }
        outbox.raw(r#""method":""#).raw(method).raw("\"");
        rest(outbox);
        outbox.push(b'}');
        if let Some(onlooker) = &self.onlooker {
            onlooker.sent(&String::from_utf8_lossy(&outbox[from..]));
        }
        outbox.push(b'\n');
        if from == 0 {
            self.filled.notify_one();
        }
    }

    /// Ends when, from now on, what was to be written is taken up.
    pub(super) fn emptied(&self) -> Notified<'_> {
        self.emptied.notified()
    }

    /// Nothing can be sent any more; nobody who waits gets an answer.
    pub(super) fn close(&self, kind: io::ErrorKind, why: &str) {
        let lost = {
            let mut state = self.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some((kind, why.to_owned()));
            state.calls.end_all()
        };
        self.filled.notify_one();
        self.emptied.notify_waiters();
        for waiting in lost {
            self.hand_over(waiting, None);
        }
    }

    fn hand_over(&self, waiting: Waiting, answer: Option<&[u8]>) {
        match (waiting, answer) {
            // One that has given up does not want it; one that gets none sees that.
            (Waiting::Future(future), Some(line)) => drop(future.send(line.into())),
            (Waiting::Future(_), None) => {}
            (Waiting::Router(token), answer) => {
                if let Some(router) = &self.router {
                    router.answered(token, answer);
                }
            }
        }
    }

    fn take(&self, line: &[u8]) {
        if let Some(onlooker) = &self.onlooker {
            onlooker.received(&String::from_utf8_lossy(line));
        }
        let Some(id) = id_of(line) else {
            tracing::debug!("an answer without an id of ours");
            return;
        };
        let waiting = self.lock().calls.end(id);
        if let Some(waiting) = waiting {
            self.hand_over(waiting, Some(line));
        }
    }
}

/// The id of an answer.
fn id_of(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Answer {
        id: u64,
    }
    let mut scan = Scan::new(line);
    if scan.skip_if(r#"{"jsonrpc":"2.0","id":"#)
        && let Some(id) = scan.number()
        && scan.skip_if(",")
    {
        return Some(id);
    }
    serde_json::from_slice::<Answer>(line).ok().map(|answer| answer.id)
}

/// Writes what gathers, until the link is closed and all is written.
pub(super) async fn write_gathered(link: Arc<Link>, mut writer: OwnedWriteHalf) {
    let mut batch = Vec::new();
    loop {
        let closed = {
            let mut state = link.lock();
            std::mem::swap(&mut batch, &mut state.outbox);
            state.closed.is_some()
        };
        if !batch.is_empty() {
            if batch.len() >= OUTBOX_BYTES_MAX {
                // All who wait: what one of them sends may not fill it again.
                link.emptied.notify_waiters();
            }
            if let Err(error) = writer.write_all(&batch).await {
                return link.close(error.kind(), &error.to_string());
            }
            batch.clear();
        } else if closed {
            return;
        } else {
            link.filled.notified().await;
        }
    }
}

/// Hands over what arrives, until the other side closes.
pub(super) async fn read_answers(link: Arc<Link>, reader: OwnedReadHalf) {
    let error = match read_to_end(&link, reader).await {
        Err(error) => error,
        Ok(()) => io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"),
    };
    link.close(error.kind(), &error.to_string());
}

async fn read_to_end(link: &Link, mut reader: OwnedReadHalf) -> io::Result<()> {
    let (mut lines, mut inbox) = (JsonLines::new(LINE_BYTES_MAX), Vec::with_capacity(READ_BYTES));
    loop {
        inbox.reserve(READ_BYTES - inbox.len().min(READ_BYTES / 2));
        if reader.read_buf(&mut inbox).await? == 0 {
            return Ok(());
        }
        let mut done = 0;
        loop {
            let (line, used) = lines.next(&inbox[done..]);
            done += used;
            match line {
                Some(Line::Json(line)) => link.take(line),
                Some(Line::TooLong) => {
                    let why = "an answer is over the line limit";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                None => break,
            }
        }
        inbox.drain(..done);
    }
}
