//! How a put and a get are written and their answers read, for each kind of server.
//!
//! A request is a [`Template`]: its bytes are made once, and for each request only the id, the key and the
//! head of the value are patched in a copy, so that a request costs little more than a memcpy. Answers are
//! read just as far as needed to know which request, whether it worked, and the value.
//!
//! # Caveats
//!
//! An answer that is spelled differently from what the fast look expects is parsed in full; nothing is
//! taken for a success that was not recognised.

mod jsonrpc;
mod memcached;
mod redis;

pub(super) use jsonrpc::is_harmless;

use super::peer::{Peer, PeerKind};
use super::values::{Values, write_key};

/// The key of requests and answers, before its number is filled in.
pub(super) const KEY_PATTERN: &str = "key:000000000000";
/// Where its digits begin.
const KEY_DIGITS_AT: usize = 4;
const KEY_DIGITS: usize = 12;

/// Ids have six digits: from here on, so that they need no leading zero.
const ID_FIRST: u32 = 100_000;
const ID_DIGITS: usize = 6;
/// How many requests of one connection can be told apart.
pub(super) const SLOTS_MAX: u32 = 1_000_000 - ID_FIRST;

/// A request with places to fill in.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    id_at: Option<usize>,
    key_at: usize,
    value_at: Option<usize>,
}

impl Template {
    /// Of a text with [`KEY_PATTERN`] in it, and with the id [`ID_FIRST`] and the value's pattern if it has them.
    fn new(bytes: Vec<u8>, values: Option<&Values>) -> Self {
        let find = |needle: &[u8]| memchr::memmem::find(&bytes, needle);
        let key_at = find(KEY_PATTERN.as_bytes()).expect("a request has a key") + KEY_DIGITS_AT;
        let value_at = values.and_then(|values| find(values.pattern()));
        let id_at = find(format!("\"id\":{ID_FIRST}").as_bytes()).map(|at| at + "\"id\":".len());
        Self { bytes, id_at, key_at, value_at }
    }

    /// Writes the request to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>, slot: u32, key: u32, put: u32) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let bytes = &mut out[start..];
        if let Some(at) = self.id_at {
            let mut id = ID_FIRST + slot;
            for digit in bytes[at..at + ID_DIGITS].iter_mut().rev() {
                *digit = b'0' + (id % 10) as u8;
                id /= 10;
            }
        }
        write_key(&mut bytes[self.key_at..self.key_at + KEY_DIGITS], key);
        if let Some(at) = self.value_at {
            Values::patch(&mut bytes[at..], key, put);
        }
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// The put is acknowledged.
    Stored,
    /// The get found this.
    Value(&'a [u8]),
    /// The get found several values, which no write has seen together: at least one may be read.
    Several(Vec<String>),
    /// The get found nothing.
    Missing,
    /// It did not work.
    Refused {
        /// The stable name of the error.
        name: String,
        /// Whether certainly nothing was applied.
        harmless: bool,
    },
}

/// An answer in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    /// How many bytes it has.
    pub(super) bytes: usize,
    /// Which request it answers; `None`: the oldest.
    pub(super) slot: Option<u32>,
    /// What it says.
    pub(super) answer: Answer<'a>,
}

/// Reads the first answer of a buffer, to a put or (`true`) a get; `None`: it is not whole yet. An error
/// says that the server speaks something else.
type Parse = fn(&[u8], Option<bool>) -> Result<Option<Parsed<'_>>, String>;

/// A way to speak.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    put: Template,
    get: Template,
    parse: Parse,
    /// Whether answers name their request; else they come in order.
    names: bool,
}

impl Dialect {
    /// The coordinator's.
    pub(super) fn coordinator(values: &Values, keyspace: Option<&str>) -> Self {
        jsonrpc::coordinator(values, keyspace)
    }

    /// A node's.
    pub(super) fn node(values: &Values, keyspace: Option<&str>) -> Self {
        jsonrpc::node(values, keyspace)
    }

    /// A peer's, if it speaks over a plain socket.
    pub(super) fn peer(peer: &Peer, values: &Values) -> Option<Self> {
        match peer.kind {
            PeerKind::Redis { wait } => Some(redis::dialect(values, wait)),
            PeerKind::Memcached => Some(memcached::dialect(values)),
            PeerKind::Etcd => None,
        }
    }

    /// Writes a request.
    pub(super) fn write(&self, out: &mut Vec<u8>, slot: u32, key: u32, put: Option<u32>) {
        match put {
            Some(number) => self.put.write(out, slot, key, number),
            None => self.get.write(out, slot, key, 0),
        }
    }

    /// Reads the first answer of `bytes`; `read`: whether the oldest request is a get, where answers come
    /// in order.
    pub(super) fn parse<'a>(
        &self,
        bytes: &'a [u8],
        read: impl FnOnce() -> Option<bool>,
    ) -> Result<Option<Parsed<'a>>, String> {
        (self.parse)(bytes, if self.names { None } else { read() })
    }

    /// Whether answers name their request.
    pub(super) const fn names_requests(&self) -> bool {
        self.names
    }
}

/// The start of a line without its newline, and how many bytes it has with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))
}

fn unexpected(line: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
    format!("it answered {shown:?}")
}
