//! One line of the log.
//!
//! ```text
//! #ringkv 1 node=6f1c… seg=000042 prev=9a7e11c0 s=1040 c=77aa0312
//! PUT user:1 hello%20world k=default v=3.42 x=- s=1041 d=1030 c=5b1f9c02
//! PUT page:7 %zKLUv/WAQBAUB… k=default v=3.44 x=1767225600000 s=1042 d=1041 c=61b0d3aa
//! DEL user:1 k=default v=3.43 x=- s=1043 d=1041 c=90aa01ff
//! PUT cart:7 milk k=carts v=3.45 x=- ctx=3.40,+3.44 via=sync s=1044 d=1043 c=51f08a3e
//! PUT seen:9 now k=recent v=3.46 x=- t=1763721600123.4 s=1045 d=1043 c=0d4471c9
//! DRP user:2 k=default v=3.7 s=1046 d=1043 c=0c2e55b1
//! DRK k=carts s=1047 d=1046 c=33ab9c10
//! BYE s=1048 d=1047 c=7710ff02
//! END n=2 s=3 d=1040 c=4e1f0a77
//! ```
//!
//! | field | meaning | bound |
//! |---|---|---|
//! | `#ringkv 1` | format and its version; first line of every file | 1 |
//! | `node=` | identity of the data directory the file belongs to | a UUID |
//! | `seg=` | number of the segment; of a snapshot, the last segment it covers | 6 digits or more |
//! | `prev=` | checksum of the last line of the segment before (for a snapshot: of the last one covered) | 8 hex digits |
//! | `PUT` `DEL` | a value, a tombstone: merged into what is held for the key | |
//! | `DRP` `DRK` | forget all that is held for the key, for all keys of the keyspace, without a trace | |
//! | `FLR` `OWE` `PAD` `OVF` `CLR` `FGT` | change no key: [`note`](super::note) | |
//! | `BYE` | the node was stopped in good order here, all lines before are durable | `d=` is `s=` less 1 |
//! | `END` | last line of a snapshot | |
//! | key, value | tokens of [`escape`](super::escape); a value may be one of [`value`](super::value) | key 1 KiB, value 1 MiB, before escaping |
//! | `k=` | keyspace; a `DRK` has no other than `default` | 32 characters |
//! | `v=` | version, `epoch.counter`, or of a node's own line `x9f00c001.7` | u31, u64 |
//! | `x=` | when the value expires, unix milliseconds; a `DEL` has `-` | u64; `-`: never |
//! | `t=` | stamp of a write of a keyspace where the last one wins; absent elsewhere | u64.u32 |
//! | `ctx=` | what the writer had seen; absent: all of the version's line before it, and nothing else | [`CONTEXT_PARTS_MAX`] versions |
//! | `via=` | how a copy came here: `hint`, `repair`, `sync`, `move`; absent: as a write | |
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
//! What is held for a key is the merge of its lines, so their order does not matter but for `DRP` and
//! `DRK`, which take away all that came before. A state with several values is several lines: each has
//! one of the values, and the last (of a snapshot, all) in `ctx=` all that was replaced.
//!
//! `DRP` and `DRK` ask for nothing when they are replayed: they were only written when they did
//! what they say. The `v=` of a `DRP` is the greatest version that was held. A `DRK` is one line, not one
//! a key: as many keys as there are would not fit in the room that deletes have on a full disk, and a crash
//! in between would leave half a keyspace.
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
use ringkv_shared::causal::Context;
use ringkv_shared::hlc::Stamp;
use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::protocol::node::Via;

use super::escape::BadToken;
use super::note::Noted;
use super::value::Value;

/// The most versions in a context of a line. What a writer may bring is less; what merges come to is
/// kept below this, too, so that it can be written.
pub const CONTEXT_PARTS_MAX: usize = 32 * 1024;

/// The most bytes of one version in a context: `,+x9f00c001.18446744073709551615`.
pub const CONTEXT_PART_BYTES_MAX: usize = 32;

/// The most bytes in a line: every byte escaped, and room for the fields after them.
pub const LINE_BYTES_MAX: usize =
    3 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + CONTEXT_PARTS_MAX * CONTEXT_PART_BYTES_MAX + 256;

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
    /// Forgets all that is held for the key.
    Drop,
    /// Forgets all keys that begin with this one: a keyspace, whose prefix it is.
    DropSpace,
}

impl Op {
    /// Stores a value that does not expire (`Some`) or a tombstone.
    #[must_use]
    pub fn write(value: Option<Value>) -> Self {
        value.map_or(Self::Del, |value| Self::Put { value, expires: None })
    }
}

/// A change of one key, in bytes that it owns (`Bytes`) or borrows from its line (`Cow`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<B = Bytes> {
    /// The stored key, see [`key`](super::key).
    pub key: B,
    /// The change.
    pub op: Op<B>,
    /// The version stored or forgotten.
    pub version: Version,
    /// When it was written, where the last write wins.
    pub stamp: Option<Stamp>,
    /// What its writer had seen; `None`: all of its line before it. Boxed: nearly no write has one.
    pub context: Option<Box<Context>>,
    /// How it came here; `None`: as a write.
    pub via: Option<Via>,
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
    /// `PUT`, `DEL`, `DRP` or `DRK`.
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

impl<B> Record<B> {
    /// A change that has no place in a log yet, of a writer who says nothing about what it had seen.
    pub const fn new(key: B, op: Op<B>, version: Version) -> Self {
        let (stamp, context, via, seq, durable) = (None, None, None, 0, 0);
        Self { key, op, version, stamp, context, via, seq, durable }
    }

    /// What its writer had seen.
    #[must_use]
    pub fn seen(&self) -> Context {
        self.context.as_deref().cloned().unwrap_or_else(|| Context::before(self.version))
    }

    /// The same change by a writer who had seen this.
    #[must_use]
    pub fn with_seen(self, seen: &Context) -> Self {
        let context = (!seen.is_before(self.version)).then(|| Box::new(seen.clone()));
        Self { context, ..self }
    }
}

impl<B: AsRef<[u8]>> Record<B> {
    /// Whether it is about this stored key.
    #[must_use]
    pub fn touches(&self, key: &[u8]) -> bool {
        match self.op {
            Op::DropSpace => key.starts_with(self.key.as_ref()),
            _ => key == self.key.as_ref(),
        }
    }

    /// The same record, borrowed, without a place in the log: a snapshot counts its own lines, and
    /// what stands in one is safe.
    #[must_use]
    pub fn of_snapshot(&self) -> Record<&[u8]> {
        let op = match &self.op {
            Op::Put { value, expires } => Op::Put { value: value.as_ref(), expires: *expires },
            Op::Del => Op::Del,
            Op::Drop => Op::Drop,
            Op::DropSpace => Op::DropSpace,
        };
        let Self { version, stamp, via, durable, .. } = *self;
        let (key, context) = (self.key.as_ref(), self.context.clone());
        Record { key, op, version, stamp, context, via, seq: 0, durable }
    }

    /// The same record with its own copy of all bytes.
    #[must_use]
    pub fn copied(&self) -> Record {
        let op = match &self.op {
            Op::Put { value, expires } => Op::Put { value: value.copied(), expires: *expires },
            Op::Del => Op::Del,
            Op::Drop => Op::Drop,
            Op::DropSpace => Op::DropSpace,
        };
        let Self { version, stamp, via, seq, durable, .. } = *self;
        let (key, context) = (Bytes::copy_from_slice(self.key.as_ref()), self.context.clone());
        Record { key, op, version, stamp, context, via, seq, durable }
    }
}
