//! What a connection's task shares with others of its server: where answers go, and when it is late.
//!
//! One clock looks after all connections, and calls the task of one that seems to be late. So a task has no timer of its
//! own to look at, and none is told that a server stops but once, when it does.
//!
//! # Caveats
//!
//! Who is late is called up to a quarter of the shortest limit later.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

use super::server::ServerLimits;

/// The seats of one server.
#[derive(Default)]
pub(super) struct Seats {
    all: RefCell<Slab<Rc<Seat>>>,
}

/// A connection, as others see it.
pub(super) struct Seat {
    stream: OwnedWriteHalf,
    /// When something was last read.
    active: Cell<Instant>,
    /// When the line that is not whole yet was begun.
    line_began: Cell<Option<Instant>>,
    /// It may be late, or the server stops.
    called: Cell<bool>,
    /// The server stops.
    closing: Cell<bool>,
    /// Its lines are in a turn, or were and their answers have not left, or the task has not taken what is left to it.
    away: Cell<bool>,
    /// The task waits for it to be back.
    expected: Cell<bool>,
    left: RefCell<Option<Box<Left>>>,
    waker: RefCell<Option<Waker>>,
}

/// What a turn leaves to the task.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Answers that the socket did not take.
    pub(super) unsent: Vec<u8>,
    /// Lines, the first of which is for the method table.
    pub(super) lines: Vec<u8>,
    /// The socket failed.
    pub(super) failed: Option<io::Error>,
}

/// A seat that is given back when this is dropped.
pub(super) struct Taken {
    seats: Rc<Seats>,
    number: usize,
    seat: Rc<Seat>,
}

impl Seats {
    /// One more, whose answers go there.
    pub(super) fn take(self: &Rc<Self>, stream: OwnedWriteHalf) -> Taken {
        let seat = Rc::new(Seat::new(stream));
        let number = self.all.borrow_mut().insert(Rc::clone(&seat));
        Taken { seats: Rc::clone(self), number, seat }
    }

    /// How many are taken.
    pub(super) fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Calls those that may be late at `now`.
    pub(super) fn call_late(&self, now: Instant, limits: &ServerLimits) {
        let all = self.all.borrow();
        all.iter()
            .filter(|(_, seat)| seat.late_at(limits) <= now)
            .for_each(|(_, seat)| seat.call());
    }

    /// Calls all: the server stops.
    pub(super) fn close(&self) {
        for (_, seat) in &*self.all.borrow() {
            seat.closing.set(true);
            seat.call();
        }
    }

    /// How often to look who is late.
    pub(super) fn interval(limits: &ServerLimits) -> Duration {
        limits.idle.min(limits.line) / 4
    }
}

impl Deref for Taken {
    type Target = Rc<Seat>;

    fn deref(&self) -> &Rc<Seat> {
        &self.seat
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.all.borrow_mut().remove(self.number);
    }
}

impl Seat {
    fn new(stream: OwnedWriteHalf) -> Self {
        Self {
            stream,
            active: Cell::new(Instant::now()),
            line_began: Cell::default(),
            called: Cell::default(),
            closing: Cell::default(),
            away: Cell::default(),
            expected: Cell::default(),
            left: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    /// Sends what the socket takes now; says how many bytes.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        }
    }

    /// Waits until the socket takes more.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Something was read, or is still under way.
    pub(super) fn is_active(&self) {
        self.active.set(Instant::now());
    }

    /// Whether what was read ends in the middle of a line that is waited for.
    pub(super) fn in_line(&self, is: bool) {
        let began = self.line_began.get().unwrap_or_else(|| self.active.get());
        self.line_began.set(is.then_some(began));
    }

    /// What comes next is another line.
    pub(super) fn line_ended(&self) {
        self.line_began.set(None);
    }

    /// From when on its peer is late: it does not end its line, or has asked nothing for too long.
    pub(super) fn late_at(&self, limits: &ServerLimits) -> Instant {
        match self.line_began.get() {
            Some(began) => began + limits.line,
            None => self.active.get() + limits.idle,
        }
    }

    fn call(&self) {
        self.called.set(true);
        self.wake();
    }

    /// Whether it was called since the last time.
    pub(super) fn was_called(&self) -> bool {
        self.called.take()
    }

    /// Whether the server stops.
    pub(super) const fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// The task of `cx` is woken when it is called, or is back with something, and with `expected` when it is back at all.
    pub(super) fn wait(&self, expected: bool, cx: &Context<'_>) {
        self.expected.set(expected || self.expected.get());
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// A turn has its lines.
    pub(super) fn goes_away(&self) {
        self.away.set(true);
    }

    /// Whether a turn has it.
    pub(super) const fn is_away(&self) -> bool {
        self.away.get()
    }

    /// Sends its answers, and is back; the task is to look after the lines.
    pub(super) fn comes_back(&self, answers: &[u8], lines: Vec<u8>) {
        let sent = if answers.is_empty() { Ok(0) } else { self.send(answers) };
        let is_done = lines.is_empty() && sent.as_ref().is_ok_and(|sent| *sent == answers.len());
        if is_done {
            self.away.set(false);
        } else {
            let unsent = sent.as_ref().map_or(&[][..], |sent| &answers[*sent..]).to_vec();
            let left = Left { unsent, lines, failed: sent.err() };
            *self.left.borrow_mut() = Some(Box::new(left));
        }
        if self.expected.take() || !is_done {
            self.wake();
        }
    }

    /// What it has come back with.
    pub(super) fn take_left(&self) -> Option<Box<Left>> {
        let left = self.left.borrow_mut().take();
        if left.is_some() {
            self.away.set(false);
        }
        left
    }
}
