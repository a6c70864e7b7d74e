//! One connection of the loader: what it has asked, what it has still to write, what it has read.
//!
//! A *slot* is a request under way. Its number travels as the request's id where answers name their
//! request; elsewhere answers come in order.
//!
//! # Caveats
//!
//! Requests that were under way when a connection broke have an unknown outcome.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::book::Book;
use super::dialect::{Answer, Dialect, SLOTS_MAX};
use super::source::Op;

/// What is read at once.
const READ_BYTES: usize = 64 * 1024;

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Its key.
    pub(super) key: u32,
    /// The least put whose value may be read: of a put, once it is acknowledged; of a get, by it.
    pub(super) least: u32,
    /// Nanoseconds of the loader's clock when it was sent, or was to be sent.
    pub(super) since: u64,
    /// A get rather than a put.
    pub(super) read: bool,
    under_way: bool,
}

impl Slot {
    /// A request that is sent now.
    pub(super) const fn new(op: Op, least: u32, since: u64) -> Self {
        Self { key: op.key, least, since, read: op.read, under_way: true }
    }
}

/// One connection.
pub(super) struct Connection {
    addr: SocketAddr,
    token: Token,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// Where in `input` the bytes are that were read and not yet understood.
    unread: std::ops::Range<usize>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots in the order they were sent, where answers name none.
    order: VecDeque<u32>,
    /// When to try again, by the loader's clock, while there is no stream.
    pub(super) retry_at: u64,
}

impl Connection {
    /// Connects, waiting for it.
    pub(super) fn open(
        addr: SocketAddr,
        token: Token,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        let stream = std::net::TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        let mut connection = Self {
            addr,
            token,
            stream: None,
            out: Vec::new(),
            written: 0,
            input: vec![0; READ_BYTES],
            unread: 0..0,
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            retry_at: 0,
        };
        connection.adopt(TcpStream::from_std(stream), registry)?;
        Ok(connection)
    }

    /// Begins to connect again.
    pub(super) fn reopen(&mut self, registry: &Registry) -> std::io::Result<()> {
        let stream = TcpStream::connect(self.addr)?;
        self.adopt(stream, registry)
    }

    fn adopt(&mut self, mut stream: TcpStream, registry: &Registry) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Whether there is a stream.
    pub(super) const fn is_up(&self) -> bool {
        self.stream.is_some()
    }

    /// Requests under way.
    pub(super) const fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no more requests can be told apart.
    pub(super) fn is_full(&self) -> bool {
        self.under_way() >= SLOTS_MAX as usize
    }

    /// When the oldest request under way was sent.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.slots.iter().filter(|slot| slot.under_way).map(|slot| slot.since).min()
    }

    /// Puts a request where the next [`Self::flush`] writes from.
    pub(super) fn push(&mut self, op: Op, since: u64, dialect: &Dialect, book: &mut Book) {
        let number = self.free.pop().unwrap_or(self.slots.len() as u32);
        let (put, least) = if op.read {
            (None, book.least(op.key))
        } else {
            let (put, least) = book.send(op.key);
            (Some(put), least)
        };
        dialect.write(&mut self.out, number, op.key, put);
        let slot = Slot::new(op, least, since);
        match self.slots.get_mut(number as usize) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        if !dialect.names_requests() {
            self.order.push_back(number);
        }
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what is there and gives each answer with its request to `take`.
    pub(super) fn read(
        &mut self,
        dialect: &Dialect,
        take: &mut dyn FnMut(Slot, Answer<'_>),
    ) -> Result<(), String> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let room = self.input.len() - self.unread.end;
            match stream.read(&mut self.input[self.unread.end..]) {
                Ok(0) => return Err("CONNECTION_LOST".to_owned()),
                Ok(count) => {
                    self.unread.end += count;
                    self.understand(dialect, take)?;
                    // All that was there fitted: what comes later is a new event.
                    if count < room {
                        return Ok(());
                    }
                }
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err("CONNECTION_LOST".to_owned()),
            }
        }
    }

    fn understand(
        &mut self,
        dialect: &Dialect,
        take: &mut dyn FnMut(Slot, Answer<'_>),
    ) -> Result<(), String> {
        let Self { input, unread, slots, free, order, .. } = self;
        loop {
            let oldest = || order.front().map(|slot| slots[*slot as usize].read);
            let parsed = dialect.parse(&input[unread.clone()], oldest);
            let Some(parsed) = parsed.map_err(|_| "PROTOCOL".to_owned())? else { break };
            unread.start += parsed.bytes;
            let number = parsed.slot.or_else(|| order.pop_front());
            let slot = number.and_then(|number| slots.get_mut(number as usize));
            match (number, slot) {
                (Some(number), Some(slot)) if slot.under_way => {
                    slot.under_way = false;
                    free.push(number);
                    take(*slot, parsed.answer);
                }
                // An answer to nothing.
                _ => return Err("PROTOCOL".to_owned()),
            }
        }
        if unread.start == unread.end {
            *unread = 0..0;
        } else if unread.end == input.len() {
            input.copy_within(unread.clone(), 0);
            *unread = 0..unread.len();
            if unread.end == input.len() {
                input.resize(2 * input.len(), 0);
            }
        }
        Ok(())
    }

    /// Closes it, and gives the requests whose answers will never come to `lose`.
    pub(super) fn close(&mut self, registry: &Registry, mut lose: impl FnMut(Slot)) {
        if let Some(mut stream) = self.stream.take() {
            // A socket that is closed leaves the poll by itself.
            let _ = registry.deregister(&mut stream);
        }
        self.slots.iter().filter(|slot| slot.under_way).for_each(|slot| lose(*slot));
        self.slots.clear();
        self.free.clear();
        self.order.clear();
        self.out.clear();
        self.written = 0;
        self.unread = 0..0;
    }
}

/// Whether the socket has nothing now, or is not connected yet.
fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
