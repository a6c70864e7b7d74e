//! What has arrived on many connections, served side by side.
//!
//! ```text
//!   connection a ── reads, joins ─┐                        ┌─► answers of a ──► its socket
//!   connection b ── reads, joins ─┼─► the turn: all lines ─┼─► answers of b ──► its socket
//!   connection c ── reads, joins ─┘   served at once       └─► answers of c ──► its socket
//! ```
//!
//! The turn is a task behind those of the connections that were ready with the one that joined first. So the service is
//! given the lines of all of them, and can wait for memory once for all. The answers leave from here, each as soon as
//! it may be told; the task of a connection is woken again only by what arrives next, or by what is left to it: a line
//! for the method table, or answers that the socket did not take.
//!
//! # Caveats
//!
//! A connection reads nothing more while its lines are here.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use tokio::sync::Notify;

use super::seat::Seat;
use super::server::Service;
use super::wire::JsonLines;

/// The most bytes that a connection brings to a turn. More than these are enough to be served by themselves.
const JOIN_BYTES_MAX: usize = 16 * 1024;
/// The most bytes in a turn.
const TURN_BYTES_MAX: usize = 256 * 1024;
/// The service is given no more connections once it has so many lines.
const LINES_AT_ONCE: usize = 64;
/// About what an answer takes, in bytes.
const ANSWER_BYTES: usize = 96;

/// Lines of one connection, to be served in their order.
#[derive(Debug)]
pub struct Burst<'a> {
    /// The lines.
    pub lines: &'a [&'a [u8]],
    /// How many of them were taken over; about the next, nothing was done.
    pub taken: usize,
    /// Where the answers to them end. They begin where those to the burst before end.
    pub end: usize,
    /// They may be told when the service has settled so far; 0: at once.
    pub due: u64,
}

/// The turns of one server.
pub(super) struct Turns<S> {
    service: S,
    line_bytes_max: usize,
    joined: RefCell<Joined>,
    /// Told when the first has joined.
    called: Notify,
}

/// Who is served next.
#[derive(Default)]
struct Joined {
    /// Whole lines of all.
    bytes: Vec<u8>,
    /// Whose is what of these.
    parts: Vec<(Rc<Seat>, Range<usize>)>,
}

/// Answers that may not be told yet.
#[derive(Default)]
struct Waiting(Vec<Answers>);

/// The answers to one connection.
struct Answers {
    due: u64,
    seat: Rc<Seat>,
    /// What was answered to it and others, and which part of it is its own.
    out: Rc<Vec<u8>>,
    part: Range<usize>,
    /// Lines that were not for the service.
    rest: Vec<u8>,
}

impl<'a> Burst<'a> {
    /// Lines of which none is taken over.
    #[must_use]
    pub const fn new(lines: &'a [&'a [u8]]) -> Self {
        Self { lines, taken: 0, end: 0, due: 0 }
    }
}

impl<S: Service> Turns<S> {
    /// The turns of a server, if its service knows them.
    pub(super) fn of(service: &S, line_bytes_max: usize) -> Option<Self> {
        S::SIDE_BY_SIDE.then(|| {
            let (service, joined) = (service.clone(), RefCell::default());
            Self { service, line_bytes_max, joined, called: Notify::new() }
        })
    }

    /// A connection that has nothing under way joins the next turn with what it has read; false if that is not for a turn.
    pub(super) fn join(&self, seat: &Rc<Seat>, read: &[u8]) -> bool {
        let mut joined = self.joined.borrow_mut();
        let from = joined.bytes.len();
        if read.len() > JOIN_BYTES_MAX.min(TURN_BYTES_MAX - from) || !read.ends_with(b"\n") {
            return false;
        }
        if joined.parts.is_empty() {
            self.called.notify_one();
        }
        seat.goes_away();
        joined.bytes.extend_from_slice(read);
        joined.parts.push((Rc::clone(seat), from..from + read.len()));
        true
    }

    /// Serves one turn after the other. Never ends.
    pub(super) async fn run(&self) {
        let mut waiting = Waiting::default();
        let mut settling = None;
        loop {
            // What is waited for is asked for once, however many turns there are meanwhile.
            let due = waiting.next_due();
            if settling.as_ref().map(|(due, _)| *due) != due {
                settling = due.map(|due| (due, Box::pin(self.service.settle_up_to(due))));
            }
            let settled = async {
                match &mut settling {
                    Some((_, settled)) => settled.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = settled => {
                    settling = None;
                    waiting.leave(self.service.settled());
                }
                () = self.called.notified() => self.serve(&mut waiting),
            }
        }
    }

    fn serve(&self, waiting: &mut Waiting) {
        let Joined { mut bytes, mut parts } = self.joined.take();
        let mut from = 0;
        while from < parts.len() {
            from += self.serve_some(&bytes, &parts[from..], waiting);
        }
        bytes.clear();
        parts.clear();
        *self.joined.borrow_mut() = Joined { bytes, parts };
    }

    /// Serves the first of these connections; says how many.
    fn serve_some(
        &self,
        bytes: &[u8],
        parts: &[(Rc<Seat>, Range<usize>)],
        waiting: &mut Waiting,
    ) -> usize {
        let mut lines = Vec::with_capacity(2 * LINES_AT_ONCE);
        let mut nexts = Vec::with_capacity(2 * LINES_AT_ONCE);
        let mut ends = Vec::with_capacity(LINES_AT_ONCE);
        for (_, part) in parts {
            if lines.len() >= LINES_AT_ONCE {
                break;
            }
            self.cut(bytes, part, &mut lines, &mut nexts);
            ends.push(lines.len());
        }
        let begins = || [0].into_iter().chain(ends.iter().copied());
        let cuts = begins().zip(&ends);
        let mut bursts: Vec<_> = cuts.map(|(from, to)| Burst::new(&lines[from..*to])).collect();
        let mut out = Vec::with_capacity(lines.len() * ANSWER_BYTES);
        self.service.side_by_side(&mut bursts, &mut out);
        let (out, mut told) = (Rc::new(out), 0);
        for ((burst, (seat, part)), first) in bursts.iter().zip(parts).zip(begins()) {
            let rest = if burst.taken == 0 { part.start } else { nexts[first + burst.taken - 1] };
            waiting.0.push(Answers {
                due: burst.due,
                seat: Rc::clone(seat),
                out: Rc::clone(&out),
                part: told..burst.end,
                rest: bytes[rest..part.end].to_vec(),
            });
            told = burst.end;
        }
        waiting.leave(self.service.settled());
        ends.len()
    }

    /// The lines of a part up to one that is unusual, and where the next one of each begins.
    fn cut<'a>(
        &self,
        bytes: &'a [u8],
        part: &Range<usize>,
        lines: &mut Vec<&'a [u8]>,
        nexts: &mut Vec<usize>,
    ) {
        let (codec, mut from) = (JsonLines::new(self.line_bytes_max), part.start);
        while let Some((line, next)) = codec.peek(&bytes[..part.end], from) {
            lines.push(line);
            nexts.push(next);
            from = next;
        }
    }
}

impl Waiting {
    fn next_due(&self) -> Option<u64> {
        self.0.iter().map(|answers| answers.due).min()
    }

    /// Sends what may be told.
    fn leave(&mut self, settled: u64) {
        for answers in self.0.extract_if(.., |answers| answers.due <= settled) {
            let Answers { seat, out, part, rest, .. } = answers;
            seat.comes_back(&out[part], rest);
        }
    }
}
