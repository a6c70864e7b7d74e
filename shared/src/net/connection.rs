//! One connection of a server.
//!
//! A turn reads what has arrived, starts every whole line of it in order, gathers the answers that are ready, lets
//! the service settle them (a node waits until they are durable) and sends them with one write. A line that the
//! service takes over never sees the method table. Calls that wait for something else are kept beside and answered
//! when they finish, so one slow call does not hold up the next; JSON-RPC matches answers by id. A method that the
//! service calls a *barrier* starts only when all earlier calls of its connection have finished, and holds up the
//! later ones: a change of the ring stands in program order with the writes around it.
//!
//! Whole lines that arrive while nothing else is under way are served with those of other connections, if the service knows
//! how, see [`turn`](super::turn): until that is done, the connection's *seat* is away.
//!
//! Most connections are idle most of the time, so one that is takes little memory: it reads into memory of all, and what
//! few turns need is made for these.
//!
//! # Caveats
//!
//! While answers are being settled and sent, nothing more is read of the same connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jsonrpsee::MethodResponse;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout};

use super::dispatch::{Served, Started, parse, too_long};
use super::mailbox::Mailbox;
use super::seat::{Left, Taken};
use super::server::{Common, Service};
use super::wire::{JsonLines, Line};

/// The most lines that the service is given at once.
const BURST_LINES: usize = 32;

/// Memory for answers that a connection keeps between two bursts, in bytes.
const OUTBOX_KEPT: usize = 64 * 1024;

/// One connection: what was read, what waits, what goes out.
struct Connection<'a, S> {
    reader: OwnedReadHalf,
    seat: Taken,
    common: &'a Common<S>,
    lines: JsonLines,
    /// What has arrived and could not be started yet: half a line, or what must wait.
    inbox: Vec<u8>,
    /// The inbox begins with a line that must wait until the calls before it have finished.
    held: bool,
    /// Calls that wait; made for the first one.
    waiting: Option<Box<FuturesUnordered<BoxFuture<'static, Option<MethodResponse>>>>>,
    /// A barrier runs: nothing else may start.
    alone: bool,
    /// Answers to calls that the service has taken over.
    mailbox: Mailbox,
    outbox: Vec<u8>,
}

/// What a turn of a connection was woken by.
enum Woken {
    /// So many bytes are in the scratch memory; 0: the end.
    Read(usize),
    Finished(Option<MethodResponse>),
    Mail,
    /// A turn has left this to do.
    Left(Box<Left>),
    Shutdown,
}

/// Serves a connection to its end.
pub(super) async fn serve<S: Service>(reader: OwnedReadHalf, seat: Taken, common: Rc<Common<S>>) {
    let mut connection = Connection {
        reader,
        seat,
        lines: JsonLines::new(common.limits.line_bytes_max),
        common: &common,
        inbox: Vec::new(),
        held: false,
        waiting: None,
        alone: false,
        mailbox: Mailbox::default(),
        outbox: Vec::new(),
    };
    if let Err(error) = connection.run().await {
        tracing::debug!(%error, "connection ended");
    }
}

impl<S: Service> Connection<'_, S> {
    /// Serves it to its end.
    async fn run(&mut self) -> io::Result<()> {
        self.reader.as_ref().set_nodelay(true)?;
        loop {
            match poll_fn(|cx| self.poll_wake(cx)).await? {
                Woken::Read(0) | Woken::Shutdown => break,
                // Its answers leave from there.
                Woken::Read(bytes) if self.joins(&self.common.scratch.borrow()[..bytes]) => {
                    continue;
                }
                Woken::Read(bytes) => self.take(&self.common.scratch.borrow()[..bytes])?,
                Woken::Finished(answer) => {
                    self.finish(answer);
                    self.start_rest()?;
                }
                Woken::Mail => self.start_rest()?,
                Woken::Left(left) => self.take_left(*left)?,
            }
            // What has finished meanwhile goes out with the same write, and may let more start.
            while self.gather() {
                self.start_rest()?;
            }
            self.seat.in_line(!self.inbox.is_empty() && !self.is_held_up());
            self.send().await?;
        }
        self.end().await
    }

    /// Lets what is under way end, and answers it.
    async fn end(&mut self) -> io::Result<()> {
        while self.is_busy() {
            let news = poll_fn(|cx| {
                self.seat.wait(true, cx);
                let news = self.poll_finished(cx).map(Some);
                if news.is_pending() && !self.is_busy() { Poll::Ready(None) } else { news }
            });
            match news.await {
                Some(Woken::Finished(answer)) => self.finish(answer),
                Some(Woken::Left(left)) => self.take_left(*left)?,
                _ => {}
            }
        }
        self.send().await
    }

    /// Calls that have begun and not ended.
    fn calls(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.len()) + self.mailbox.due()
    }

    /// Whether something is under way.
    fn is_busy(&self) -> bool {
        self.calls() > 0 || self.seat.is_away()
    }

    /// Whether nothing may start now, whatever arrives.
    fn is_held_up(&self) -> bool {
        self.held || self.alone || self.calls() >= self.common.limits.waiting_max
    }

    /// Waits for a finished call, for bytes or for a limit of time.
    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Woken>> {
        if let Poll::Ready(news) = self.poll_finished(cx) {
            return Poll::Ready(Ok(news));
        }
        let mut expected = false;
        if self.seat.is_away() {
            // What arrives meanwhile is read when it is back.
            expected = self.reader.as_ref().poll_read_ready(cx).is_ready();
        } else if !self.is_held_up() {
            let mut scratch = self.common.scratch.borrow_mut();
            let mut buf = ReadBuf::new(&mut scratch);
            if let Poll::Ready(read) = Pin::new(&mut self.reader).poll_read(cx, &mut buf) {
                return Poll::Ready(read.map(|()| Woken::Read(buf.filled().len())));
            }
        }
        self.seat.wait(expected, cx);
        if self.seat.was_called() { self.called() } else { Poll::Pending }
    }

    /// What it was called for. A peer that waits for us is not late.
    fn called(&self) -> Poll<io::Result<Woken>> {
        if self.seat.is_closing() {
            return Poll::Ready(Ok(Woken::Shutdown));
        }
        if self.is_busy() || self.is_held_up() {
            self.seat.is_active();
        } else if self.seat.late_at(&self.common.limits) <= Instant::now() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        if self.mailbox.poll_news(cx).is_ready() {
            return Poll::Ready(Woken::Mail);
        }
        if let Some(left) = self.seat.take_left() {
            return Poll::Ready(Woken::Left(left));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        match ready!(waiting.poll_next_unpin(cx)) {
            Some(answer) => Poll::Ready(Woken::Finished(answer)),
            None => Poll::Pending,
        }
    }

    /// Takes what was read: starts its whole lines, keeps the rest.
    fn take(&mut self, read: &[u8]) -> io::Result<()> {
        self.seat.is_active();
        self.held = false;
        if self.inbox.is_empty() {
            let done = self.start_lines(read)?;
            self.inbox.extend_from_slice(&read[done..]);
            return Ok(());
        }
        self.inbox.extend_from_slice(read);
        self.start_rest()
    }

    /// Has what was read served with what other connections have read, if that is possible.
    fn joins(&self, read: &[u8]) -> bool {
        let Some(turns) = &self.common.turns else { return false };
        let is_quiet = self.inbox.is_empty() && self.lines.is_at_start() && !self.is_busy();
        let joins = is_quiet && turns.join(&self.seat, read);
        if joins {
            self.seat.is_active();
        }
        joins
    }

    /// Does what a turn has left.
    fn take_left(&mut self, left: Left) -> io::Result<()> {
        let Left { unsent, lines, failed } = left;
        failed.map_or(Ok(()), Err)?;
        self.outbox.extend_from_slice(&unsent);
        self.inbox = lines;
        self.start_rest()
    }

    /// Starts what of the inbox may start now.
    fn start_rest(&mut self) -> io::Result<()> {
        self.held = false;
        let mut inbox = std::mem::take(&mut self.inbox);
        let done = self.start_lines(&inbox)?;
        if done < inbox.len() {
            inbox.drain(..done);
            self.inbox = inbox;
        }
        Ok(())
    }

    /// Starts every whole line that may start now; says how many bytes are done with.
    fn start_lines(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() && !self.is_held_up() {
            let (taken, all) = self.start_quick(&bytes[done..]);
            done += taken;
            if taken > 0 {
                self.seat.line_ended();
            }
            if all {
                continue;
            }
            let (line, used) = self.lines.next(&bytes[done..]);
            match line {
                None => return Ok(done + used),
                Some(Line::TooLong) => {
                    let answer = too_long(&self.common.limits);
                    self.answer(Some(&answer));
                }
                Some(Line::Json(line)) if speaks_http(line) => {
                    return Err(io::Error::other("not JSON-RPC: closed"));
                }
                Some(Line::Json(line)) => {
                    if !self.start_line(line) {
                        self.held = true;
                        return Ok(done);
                    }
                }
            }
            done += used;
            // What comes behind is another line.
            self.seat.line_ended();
        }
        Ok(done)
    }

    /// Gives the service the next whole lines, as many as may start; says how many bytes it has taken over, and whether
    /// there were lines and it has taken all. If not, the next line is not for it.
    fn start_quick(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut lines = [(&[][..], 0); BURST_LINES];
        let most = BURST_LINES.min(self.common.limits.waiting_max - self.calls());
        let (mut count, mut from) = (0, 0);
        while count < most
            && let Some((line, next)) = self.lines.peek(bytes, from)
        {
            from = next;
            lines[count] = (line, next);
            count += 1;
        }
        if count == 0 {
            return (0, false);
        }
        let texts = lines.map(|(line, _)| line);
        let taken = self.common.service.quick(&texts[..count], &mut self.outbox, &self.mailbox);
        let Some(last) = taken.checked_sub(1) else { return (0, false) };
        self.lines.took();
        (lines[last].1, taken == count)
    }

    /// Starts one line by the method table; false if it has to wait for the ones before it.
    fn start_line(&mut self, line: &[u8]) -> bool {
        let message = parse(line, &self.common.limits);
        let barrier = message.any_method(|method| self.common.service.is_barrier(method));
        if barrier && self.calls() > 0 {
            return false;
        }
        let served = Served {
            methods: self.common.service.methods(),
            takes: &|method| self.common.service.takes(method),
            admit: &|method, reign| self.common.service.admit(method, reign),
            answer_bytes_max: self.common.limits.answer_bytes_max,
        };
        match served.start(message) {
            Started::Answered(answer) => self.answer(answer.as_ref()),
            Started::Waiting(answer) => {
                self.alone = barrier;
                self.waiting.get_or_insert_default().push(answer);
            }
        }
        true
    }

    /// Takes the answers of calls that have finished; false if there were none.
    fn gather(&mut self) -> bool {
        let mut any = false;
        while let Some(waiting) = &mut self.waiting
            && let Some(Some(answer)) = waiting.next().now_or_never()
        {
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
        self.common.service.settle().await;
        self.mailbox.empty_into(&mut self.outbox);
        if self.outbox.is_empty() {
            return Ok(());
        }
        // Nearly always it takes all at once, and no clock has to be looked at.
        let sent = self.seat.send(&self.outbox)?;
        if sent < self.outbox.len() {
            let rest = self.send_rest(sent);
            Box::pin(timeout(self.common.limits.write, rest)).await??;
        }
        self.outbox.clear();
        self.outbox.shrink_to(OUTBOX_KEPT);
        Ok(())
    }

    async fn send_rest(&self, mut sent: usize) -> io::Result<()> {
        while sent < self.outbox.len() {
            self.seat.writable().await?;
            sent += self.seat.send(&self.outbox[sent..])?;
        }
        Ok(())
    }
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
    if matches!(line.first(), Some(b'{' | b'[')) {
        return false;
    }
    VERBS.iter().any(|verb| line.starts_with(verb))
        || line.to_ascii_lowercase().starts_with(b"host:")
}
