//! The loader: one thread, many sockets, requests sent and answers judged.
//!
//! | loop | when a request is sent | its latency begins |
//! |---|---|---|
//! | closed | when the whole batch before it on its connection is answered | with the batch's write |
//! | open | at its planned moment, on the next connection in turn | at the planned moment |
//!
//! A closed loop waits with what waits: when the server stands still for a second, it asks nothing in
//! that second, and one latency of it is counted for each connection. An open loop counts what users
//! would have felt: all requests that were planned in that second, each from its own moment.
//!
//! # Caveats
//!
//! Only requests that were sent (or planned) in the measured part have their latency counted, and only
//! answers in it count for the rate. The loader needs CPU time of its own, which servers on the same machine lack.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ringkv_shared::{ErrorName, Failure};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::book::Book;
use super::connection::Connection;
use super::dialect::Dialect;
use super::phase::{Pace, Phase, Stage};
use super::tally::Tally;

/// The token of the timer of an open loop.
const TIMER: Token = Token(usize::MAX);
/// A request without an answer for so long counts as failed, and its connection is closed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How long after a lost connection the next one is tried.
const RETRY: Duration = Duration::from_millis(50);
/// How often deadlines and Ctrl-C are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Connections to one server.
pub(super) struct Loader {
    dialect: Dialect,
    book: Book,
    connections: Vec<Connection>,
    poll: Poll,
    events: Events,
    timer: OwnedFd,
    clock: Instant,
    /// Set when somebody wants it to end.
    stop: Arc<AtomicBool>,
}

impl Loader {
    /// Connects so many times.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or there are too few file descriptors.
    pub(super) fn connect(
        addr: SocketAddr,
        count: u32,
        dialect: Dialect,
        book: Book,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let unreachable = |error: std::io::Error| {
            Failure::new(ErrorName::Unreachable, format!("cannot connect to {addr}: {error}"))
        };
        let poll = Poll::new().map_err(unreachable)?;
        let open = |n| Connection::open(addr, Token(n as usize), poll.registry());
        let connections = (0..count).map(open).collect::<Result<_, _>>().map_err(unreachable)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags);
        let timer = timer.map_err(|error| unreachable(error.into()))?;
        let registered =
            poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE);
        registered.map_err(unreachable)?;
        let events = Events::with_capacity(1024);
        Ok(Self { dialect, book, connections, poll, events, timer, clock: Instant::now(), stop })
    }

    /// What is known of the keys.
    pub(super) const fn book(&self) -> &Book {
        &self.book
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Runs a phase to its end: all its requests are answered, or lost.
    pub(super) fn run(&mut self, phase: &mut Phase<'_>) -> Tally {
        let mut stage = Stage::begin(phase, self.now());
        let mut sent = 0;
        loop {
            let now = self.now();
            stage.advance(phase, now, || self.clock.elapsed());
            if self.stop.load(Ordering::Relaxed) || self.book.is_full() {
                phase.source.end();
            }
            let wait = match phase.pace {
                Pace::Closed { pipeline } => {
                    for n in 0..self.connections.len() {
                        self.send_batch(n, phase, pipeline, &mut stage);
                    }
                    LOOK
                }
                Pace::Open { rate } => self.send_due(phase, rate, &mut sent, &mut stage),
            };
            let mut next = self.now() + ns(wait.min(stage.time_left(self.now())));
            // Until deadlines and stages are to be looked at, only what happens is heeded.
            loop {
                if phase.source.left() == 0 && self.connections.iter().all(|c| c.under_way() == 0) {
                    return stage.end(phase, self.now());
                }
                let due = self.turn(phase, next, &mut stage);
                if due || self.now() >= next {
                    break;
                }
                if matches!(phase.pace, Pace::Open { .. }) {
                    next = next.min(self.now() + ns(LOOK));
                }
            }
            self.look_after(&mut stage);
        }
    }

    /// Waits for what happens, at most until `until`, and answers it. True when the timer went off.
    fn turn(&mut self, phase: &mut Phase<'_>, until: u64, stage: &mut Stage) -> bool {
        let wait = Duration::from_nanos(until.saturating_sub(self.now()));
        // The poll counts in milliseconds; shorter times are the timer's.
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        // An interrupted poll is one in which nothing happened.
        let _ = self.poll.poll(&mut events, Some(wait));
        let mut due = false;
        for event in &events {
            if event.token() == TIMER {
                due = true;
                continue;
            }
            let n = event.token().0;
            if event.is_writable() && self.connections[n].flush().is_err() {
                self.lose(n, "CONNECTION_LOST", stage);
                continue;
            }
            if event.is_readable() || event.is_error() || event.is_read_closed() {
                self.read(n, stage);
            }
            if let Pace::Closed { pipeline } = phase.pace {
                self.send_batch(n, phase, pipeline, stage);
            }
        }
        self.events = events;
        due
    }

    fn read(&mut self, n: usize, stage: &mut Stage) {
        let now = self.now();
        let book = &mut self.book;
        let mut burst = stage.burst(now);
        let read = self.connections[n].read(&self.dialect, &mut |slot, answer| {
            burst.take(slot, answer, book);
        });
        burst.end();
        if let Err(name) = read {
            self.lose(n, &name, stage);
        }
    }

    /// Writes the next batch of a connection whose last one is answered.
    fn send_batch(&mut self, n: usize, phase: &mut Phase<'_>, pipeline: u32, stage: &mut Stage) {
        let now = self.now();
        let Self { connections, dialect, book, .. } = self;
        let connection = &mut connections[n];
        if connection.under_way() > 0 || !connection.is_up() {
            return;
        }
        for op in phase.source.by_ref().take(pipeline as usize) {
            connection.push(op, now, dialect, book);
        }
        if connection.flush().is_err() {
            self.lose(n, "CONNECTION_LOST", stage);
        }
    }

    /// Sends what is due, and sets the timer for the next; how long to wait at most.
    fn send_due(
        &mut self,
        phase: &mut Phase<'_>,
        rate: u32,
        sent: &mut u64,
        stage: &mut Stage,
    ) -> Duration {
        let (now, count) = (self.now(), self.connections.len());
        let (started, rate) = (stage.started(), u128::from(rate));
        let planned = |n: u64| started + (u128::from(n) * 1_000_000_000 / rate) as u64;
        let first = *sent;
        while phase.source.left() > 0 && planned(*sent) <= now {
            let connection = &mut self.connections[(*sent % count as u64) as usize];
            if connection.is_full() {
                // It is late, and stays so: its latency is counted from its moment all the same.
                break;
            }
            let Some(op) = phase.source.next() else { break };
            let since = planned(*sent);
            *sent += 1;
            if connection.is_up() {
                connection.push(op, since, &self.dialect, &mut self.book);
            } else {
                stage.failed("UNREACHABLE", 1, since, now);
            }
        }
        let due = planned(*sent);
        let touched = (*sent - first).min(count as u64);
        for back in 0..touched {
            let n = ((*sent - 1 - back) % count as u64) as usize;
            if self.connections[n].flush().is_err() {
                self.lose(n, "CONNECTION_LOST", stage);
            }
        }
        if phase.source.left() > 0 {
            self.set_timer(due.saturating_sub(self.now()).max(1));
        }
        LOOK
    }

    fn set_timer(&self, after_ns: u64) {
        let it_value = Timespec {
            tv_sec: (after_ns / 1_000_000_000).cast_signed(),
            tv_nsec: (after_ns % 1_000_000_000).cast_signed(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval, it_value };
        // A valid time is never refused; without it the poll's own timeout holds.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec);
    }

    /// A connection is of no use any more.
    fn lose(&mut self, n: usize, name: &str, stage: &mut Stage) {
        let now = self.now();
        let connection = &mut self.connections[n];
        let was_idle = connection.under_way() == 0;
        connection.close(self.poll.registry(), |slot| stage.failed(name, 1, slot.since, now));
        if was_idle {
            stage.failed("UNREACHABLE", 1, now, now);
        }
        connection.retry_at = now + ns(RETRY);
    }

    /// Gives up what waits too long, and tries again to connect what is not.
    fn look_after(&mut self, stage: &mut Stage) {
        let now = self.now();
        if !stage.is_time_to_look(now, LOOK) {
            return;
        }
        for n in 0..self.connections.len() {
            let connection = &mut self.connections[n];
            if !connection.is_up() {
                if connection.retry_at <= now && connection.reopen(self.poll.registry()).is_err() {
                    connection.retry_at = now + ns(RETRY);
                }
                continue;
            }
            let waits = connection.oldest().map(|since| now.saturating_sub(since));
            if waits.is_some_and(|waits| waits > ns(ANSWER_DEADLINE)) {
                self.lose(n, "TIMEOUT", stage);
            }
        }
    }
}

/// Nanoseconds of a time that is none of centuries.
fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
