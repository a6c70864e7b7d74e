//! One line of the log.
//!
//! ```text
//! #ringkv 1 node=6f1c… seg=000042 prev=9a7e11c0 s=1040 c=77aa0312
//! PUT user:1 hello%20world k=default v=3.42 x=- s=1041 d=1030 c=5b1f9c02
//! PUT page:7 %zKLUv/WAQBAUB… k=default v=3.44 x=1767225600000 s=1042 d=1041 c=61b0d3aa
//! DEL user:1 k=default v=3.43 x=- s=1043 d=1041 c=90aa01ff
//! DRP user:2 k=default v=3.7 s=1044 d=1043 c=0c2e55b1
//! BYE s=1045 d=1044 c=7710ff02
//! END n=2 s=3 d=1040 c=4e1f0a77
//! ```
//!
//! | field | meaning | bound |
//! |---|---|---|
//! | `#ringkv 1` | format and its version; first line of every file | 1 |
//! | `node=` | identity of the data directory the file belongs to | a UUID |
//! | `seg=` | number of the segment; of a snapshot, the last segment it covers | 6 digits or more |
//! | `prev=` | checksum of the last line of the segment before (for a snapshot: of the last one covered) | 8 hex digits |
//! | `PUT` `DEL` `DRP` | store a value, store a tombstone, forget the entry without a trace | |
//! | `FLR` `OWE` `PAD` `OVF` `CLR` `FGT` | change no key: [`note`](super::note) | |
//! | `BYE` | the node was stopped in good order here, all lines before are durable | `d=` is `s=` less 1 |
//! | `END` | last line of a snapshot | |
//! | key, value | tokens of [`escape`](super::escape); a value may be one of [`value`](super::value) | key 1 KiB, value 1 MiB, before escaping |
//! | `k=` | keyspace | `default` |
//! | `v=` | version, `epoch.counter` | u32, u64 |
//! | `x=` | when the value expires, unix milliseconds; a `DEL` has `-` | u64; `-`: never |
//! | `s=` | sequence number, one more each line across segments; a header repeats the last one before it; a snapshot counts its lines from 1 | u64 |
//! | `d=` | durable horizon: the highest `s` known to be on disk when the line was written; in a snapshot the `s` up to which it covers the log | u64 |
//! | `n=` | how many records the snapshot has, notes too | u64 |
//! | `c=` | checksum; last | 8 hex digits |
//!
//! The checksum is zlib's CRC-32 of everything in the line before ` c=`, seeded with the checksum
//! of the line before (a header: with its `prev`). So lines form a chain: a line that is missing,
//! doubled or moved is as visible as a flipped bit. To check a line by hand:
//!
//! ```python
//! import zlib
//! body, c = line.rstrip(b"\n").rsplit(b" c=", 1)
//! assert zlib.crc32(body, previous_c) == int(c, 16)
//! ```
//!
//! A line has one spelling: numbers without sign or leading zero, one space between fields. So two
//! lines with the same text are the same line, and what is read can be written back bit for bit.
//! [`encode`](super::encode) writes them, [`decode`](super::decode) reads them.
//!
//! # Caveats
//!
//! A CRC finds accidents, not malice: who can write the file can forge it.

use bytes::Bytes;
use ringkv_shared::Version;
use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::escape::BadToken;
use super::note::Noted;
use super::value::Value;

/// The most bytes in a line: every byte escaped, and room for the fields after them.
pub const LINE_BYTES_MAX: usize = 3 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 256;

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Identity of the data directory.
    pub uuid: uuid::Uuid,
    /// Number of the segment, from 1; of a snapshot, the last segment covered.
    pub segment: u64,
    /// Checksum that the chain continues from.
    pub prev: u32,
    /// Sequence number of the last line before.
    pub seq: u64,
}

/// What a record does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<B = Bytes> {
    /// Stores a value.
    Put {
        /// The value.
        value: Value<B>,
        /// When it expires, in unix milliseconds; `None`: never.
        expires: Option<u64>,
    },
    /// Stores a tombstone.
    Del,
    /// Forgets the entry, if it still has the record's version.
    Drop,
}

impl Op {
    /// Stores a value that does not expire (`Some`) or a tombstone.
    #[must_use]
    pub fn write(value: Option<Value>) -> Self {
        value.map_or(Self::Del, |value| Self::Put { value, expires: None })
    }
}

/// A change of one key, in bytes that it owns (`Bytes`) or borrows from its line (`Cow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<B = Bytes> {
    /// The key.
    pub key: B,
    /// The change.
    pub op: Op<B>,
    /// The version stored or forgotten.
    pub version: Version,
    /// Sequence number, from 1.
    pub seq: u64,
    /// Durable horizon.
    pub durable: u64,
}

/// The last line of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How many records are before it.
    pub count: u64,
    /// Sequence number.
    pub seq: u64,
    /// Durable horizon.
    pub durable: u64,
}

/// A line after the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<B = Bytes> {
    /// `PUT`, `DEL` or `DRP`.
    Record(Record<B>),
    /// `FLR`, `OWE` and others that change no key.
    Note(Noted),
    /// `BYE`, with its sequence number; all before it is durable.
    Bye(u64),
    /// `END`.
    End(End),
}

impl<B> Line<B> {
    /// The sequence number.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Record(record) => record.seq,
            Self::Note(noted) => noted.seq,
            Self::Bye(seq) => *seq,
            Self::End(end) => end.seq,
        }
    }

    /// The durable horizon.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        match self {
            Self::Record(record) => record.durable,
            Self::Note(noted) => noted.durable,
            Self::Bye(seq) => *seq - 1,
            Self::End(end) => end.durable,
        }
    }
}

/// Why a line is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// The file ends inside the line.
    #[error("the line has no end")]
    NoNewline,
    /// Longer than any line that is ever written.
    #[error("more than {LINE_BYTES_MAX} bytes in one line, which no record has")]
    TooLong,
    /// No ` c=` and eight hexadecimal digits at the end.
    #[error("no checksum at the end of the line")]
    NoChecksum,
    /// The chain is broken here.
    #[error("checksum mismatch: the line says {found:08x}, its bytes say {computed:08x}")]
    Checksum {
        /// What the line says.
        found: u32,
        /// What its bytes and the line before say.
        computed: u32,
    },
    /// A field is missing or malformed.
    #[error("no valid {0}")]
    Field(&'static str),
    /// A key or value is malformed.
    #[error("bad {what}: {why}")]
    Token {
        /// Key or value.
        what: &'static str,
        /// What is wrong.
        why: BadToken,
    },
    /// The sequence has a gap or a repetition.
    #[error("sequence number {found} where {expected} comes next")]
    Sequence {
        /// What the line says.
        found: u64,
        /// What it should say.
        expected: u64,
    },
    /// A line that cannot stand here: a record after `END`, an `END` in a log, a wrong count.
    #[error("{0}")]
    Misplaced(&'static str),
}

/// zlib's CRC-32 of `bytes`, continuing from `prev`.
#[must_use]
pub fn checksum(bytes: &[u8], prev: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(prev);
    hasher.update(bytes);
    hasher.finalize()
}

impl<B: AsRef<[u8]>> Record<B> {
    /// The same record, borrowed, without a place in the log: a snapshot counts its own lines, and
    /// what stands in one is safe.
    #[must_use]
    pub fn of_snapshot(&self) -> Record<&[u8]> {
        let op = match &self.op {
            Op::Put { value, expires } => Op::Put { value: value.as_ref(), expires: *expires },
            Op::Del => Op::Del,
            Op::Drop => Op::Drop,
        };
        let Self { version, durable, .. } = *self;
        Record { key: self.key.as_ref(), op, version, seq: 0, durable }
    }

    /// The same record with its own copy of all bytes.
    #[must_use]
    pub fn copied(&self) -> Record {
        let op = match &self.op {
            Op::Put { value, expires } => Op::Put { value: value.copied(), expires: *expires },
            Op::Del => Op::Del,
            Op::Drop => Op::Drop,
        };
        let key = Bytes::copy_from_slice(self.key.as_ref());
        Record { key, op, version: self.version, seq: self.seq, durable: self.durable }
    }
}
