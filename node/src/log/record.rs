//! One line of the log.
//!
//! ```text
//! #ringkv 1 node=6f1c… seg=000042 prev=9a7e11c0 s=1040 c=77aa0312
//! PUT user:1 hello%20world k=default v=3.42 x=- s=1041 d=1030 c=5b1f9c02
//! DEL user:1 k=default v=3.43 x=- s=1042 d=1041 c=90aa01ff
//! DRP user:2 k=default v=3.7 s=1043 d=1042 c=0c2e55b1
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
//! | key, value | tokens of [`escape`](super::escape) | key 1 KiB, value 1 MiB, before escaping |
//! | `k=` | keyspace | `default` |
//! | `v=` | version, `epoch.counter` | u32, u64 |
//! | `x=` | expiry, unix milliseconds | `-`: never |
//! | `s=` | sequence number, one more each line across segments; a header repeats the last one before it; a snapshot counts its lines from 1 | u64 |
//! | `d=` | durable horizon: the highest `s` known to be on disk when the line was written; in a snapshot the `s` up to which it covers the log | u64 |
//! | `n=` | how many records the snapshot has | u64 |
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
//! # Caveats
//!
//! A CRC finds accidents, not malice: who can write the file can forge it.

use std::fmt::Display;
use std::io::Write as _;
use std::str::FromStr;

use bytes::Bytes;
use ringkv_shared::Version;
use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::escape::{self, BadToken};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Stores the value.
    Put(Bytes),
    /// Stores a tombstone.
    Del,
    /// Forgets the entry, if it still has the record's version.
    Drop,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The change.
    pub op: Op,
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
pub enum Line {
    /// `PUT`, `DEL` or `DRP`.
    Record(Record),
    /// `END`.
    End(End),
}

/// Why a line is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// The file ends inside the line.
    #[error("the line has no end")]
    NoNewline,
    /// Longer than any line that is ever written.
    #[error("{0} bytes in one line, more than any record has")]
    TooLong(usize),
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

/// Appends a header line; returns its checksum.
pub fn encode_header(header: &Header, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    let Header { uuid, segment, prev, seq } = header;
    put(out, format_args!("#ringkv 1 node={uuid} seg={segment:06} prev={prev:08x} s={seq}"));
    seal(out, start, *prev)
}

/// Appends a record line to the chain that ends with `prev`; returns its checksum.
pub fn encode_record(record: &Record, prev: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    let Record { key, op, version, seq, durable } = record;
    out.extend_from_slice(match op {
        Op::Put(_) => b"PUT ",
        Op::Del => b"DEL ",
        Op::Drop => b"DRP ",
    });
    escape::encode(key, out);
    if let Op::Put(value) = op {
        out.push(b' ');
        escape::encode(value, out);
    }
    put(out, format_args!(" k=default v={version}"));
    if *op != Op::Drop {
        out.extend_from_slice(b" x=-");
    }
    put(out, format_args!(" s={seq} d={durable}"));
    seal(out, start, prev)
}

/// Appends the end line of a snapshot; returns its checksum.
pub fn encode_end(end: &End, prev: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    put(out, format_args!("END n={} s={} d={}", end.count, end.seq, end.durable));
    seal(out, start, prev)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

fn seal(out: &mut Vec<u8>, start: usize, prev: u32) -> u32 {
    let crc = checksum(&out[start..], prev);
    put(out, format_args!(" c={crc:08x}\n"));
    crc
}

/// zlib's CRC-32 of `bytes`, continuing from `prev`.
#[must_use]
pub fn checksum(bytes: &[u8], prev: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(prev);
    hasher.update(bytes);
    hasher.finalize()
}

/// Reads a header line (without its newline); returns it and its checksum.
///
/// # Errors
///
/// [`BadLine`] says what is wrong with it.
pub fn decode_header(line: &[u8]) -> Result<(Header, u32), BadLine> {
    let (body, found) = unseal(line)?;
    let mut fields = Fields::of(body)?;
    fields.word("#ringkv")?;
    fields.word("1")?;
    let uuid = fields.exact("node=")?;
    let segment =
        fields.next().and_then(|f| f.strip_prefix("seg=")).ok_or(BadLine::Field("seg="))?;
    let segment: u64 = segment.parse().map_err(|_| BadLine::Field("seg="))?;
    let prev = fields.next().and_then(|f| f.strip_prefix("prev=")).and_then(hex);
    let prev = prev.ok_or(BadLine::Field("prev="))?;
    let header = Header { uuid, segment, prev, seq: fields.exact("s=")? };
    fields.end()?;
    verify(body, prev, found)?;
    Ok((header, found))
}

/// Reads a line after the header (without its newline), in the chain that ends with `prev`;
/// returns it and its checksum.
///
/// # Errors
///
/// [`BadLine`] says what is wrong with it.
pub fn decode_line(line: &[u8], prev: u32) -> Result<(Line, u32), BadLine> {
    let (body, found) = unseal(line)?;
    verify(body, prev, found)?;
    let mut fields = Fields::of(body)?;
    let line = match fields.next() {
        Some("PUT") => {
            let key = fields.token("key")?;
            let value = fields.token("value")?;
            fields.record(key, Op::Put(value))?
        }
        Some("DEL") => {
            let key = fields.token("key")?;
            fields.record(key, Op::Del)?
        }
        Some("DRP") => {
            let key = fields.token("key")?;
            fields.record(key, Op::Drop)?
        }
        Some("END") => Line::End(End {
            count: fields.exact("n=")?,
            seq: fields.exact("s=")?,
            durable: fields.exact("d=")?,
        }),
        _ => return Err(BadLine::Field("operation (PUT, DEL, DRP, END)")),
    };
    fields.end()?;
    Ok((line, found))
}

/// The checksum a line says it has, for who checks a chain behind a hole.
#[must_use]
pub fn said_checksum(line: &[u8]) -> Option<u32> {
    unseal(line).ok().map(|(_, crc)| crc)
}

fn unseal(line: &[u8]) -> Result<(&[u8], u32), BadLine> {
    let at = line.len().checked_sub(11).ok_or(BadLine::NoChecksum)?;
    let (body, end) = line.split_at(at);
    let crc = std::str::from_utf8(end).ok().and_then(|end| end.strip_prefix(" c=")).and_then(hex);
    Ok((body, crc.ok_or(BadLine::NoChecksum)?))
}

fn verify(body: &[u8], prev: u32, found: u32) -> Result<(), BadLine> {
    let computed = checksum(body, prev);
    if computed == found { Ok(()) } else { Err(BadLine::Checksum { found, computed }) }
}

fn hex(text: &str) -> Option<u32> {
    let canonical = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// The space-separated fields of a line, taken from the left.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn of(body: &'a [u8]) -> Result<Self, BadLine> {
        let text = std::str::from_utf8(body).map_err(|_| BadLine::Field("UTF-8 text"))?;
        Ok(Self(text.split(' ')))
    }

    fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn word(&mut self, word: &'static str) -> Result<(), BadLine> {
        if self.next() == Some(word) { Ok(()) } else { Err(BadLine::Field(word)) }
    }

    /// `name` directly followed by a value whose only spelling is this one.
    fn exact<T: FromStr + Display>(&mut self, name: &'static str) -> Result<T, BadLine> {
        let text = self.next().and_then(|field| field.strip_prefix(name));
        let text = text.ok_or(BadLine::Field(name))?;
        let value: T = text.parse().map_err(|_| BadLine::Field(name))?;
        if value.to_string() == text { Ok(value) } else { Err(BadLine::Field(name)) }
    }

    fn token(&mut self, what: &'static str) -> Result<Bytes, BadLine> {
        let token = self.next().ok_or(BadLine::Field(what))?;
        let bytes = escape::decode(token.as_bytes()).map_err(|why| BadLine::Token { what, why })?;
        Ok(bytes.into())
    }

    fn record(&mut self, key: Bytes, op: Op) -> Result<Line, BadLine> {
        self.word("k=default")?;
        let version = self.exact("v=")?;
        if op != Op::Drop {
            self.word("x=-")?;
        }
        let (seq, durable) = (self.exact("s=")?, self.exact("d=")?);
        Ok(Line::Record(Record { key, op, version, seq, durable }))
    }

    fn end(mut self) -> Result<(), BadLine> {
        if self.next().is_none() { Ok(()) } else { Err(BadLine::Field("end of line")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &'static str, op: Op) -> Record {
        let version = Version::new(3, 42);
        Record { key: Bytes::from_static(key.as_bytes()), op, version, seq: 1041, durable: 1030 }
    }

    fn text(out: Vec<u8>) -> String {
        String::from_utf8(out).unwrap()
    }

    fn encoded(record: &Record) -> String {
        let mut out = Vec::new();
        encode_record(record, 0x1234_5678, &mut out);
        text(out)
    }

    #[test]
    fn golden_header() {
        let header = Header { uuid: uuid::Uuid::nil(), segment: 42, prev: 0x9a7e_11c0, seq: 1040 };
        let mut out = Vec::new();
        let crc = encode_header(&header, &mut out);
        assert_eq!(decode_header(&out[..out.len() - 1]), Ok((header, crc)));
        assert_eq!(
            text(out),
            "#ringkv 1 node=00000000-0000-0000-0000-000000000000 seg=000042 prev=9a7e11c0 s=1040 c=43d0d217\n"
        );
    }

    #[test]
    fn golden_put() {
        let put = record("user:1", Op::Put(Bytes::from_static(b"hello world")));
        assert_eq!(
            encoded(&put),
            "PUT user:1 hello%20world k=default v=3.42 x=- s=1041 d=1030 c=3f38bfe2\n"
        );
    }

    #[test]
    fn golden_del() {
        assert_eq!(
            encoded(&record("user:1", Op::Del)),
            "DEL user:1 k=default v=3.42 x=- s=1041 d=1030 c=a2029530\n"
        );
    }

    #[test]
    fn golden_drop() {
        assert_eq!(
            encoded(&record("user:2", Op::Drop)),
            "DRP user:2 k=default v=3.42 s=1041 d=1030 c=7926299d\n"
        );
    }

    #[test]
    fn golden_end() {
        let mut out = Vec::new();
        encode_end(&End { count: 2, seq: 3, durable: 1040 }, 0x1234_5678, &mut out);
        assert_eq!(text(out), "END n=2 s=3 d=1040 c=e9ea1de8\n");
    }

    #[test]
    fn every_flipped_bit_shows() {
        let put = record("k", Op::Put(Bytes::from_static(b"v")));
        let line = encoded(&put).trim_end().as_bytes().to_vec();
        assert!(decode_line(&line, 0x1234_5678).is_ok());
        for bit in 0..line.len() * 8 {
            let mut flipped = line.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_line(&flipped, 0x1234_5678).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn other_spellings_of_a_line_are_refused() {
        for bad in [
            "PUT a b k=default v=1.1 x=- s=01 d=0",
            "PUT a b k=default v=1.1 x=- s=+1 d=0",
            "PUT a b k=other v=1.1 x=- s=1 d=0",
            "PUT a b k=default v=01.1 x=- s=1 d=0",
            "PUT a b k=default v=1.1 x=5 s=1 d=0",
            "PUT a  b k=default v=1.1 x=- s=1 d=0",
            "PUT a b k=default v=1.1 x=- s=1 d=0 ",
            "put a b k=default v=1.1 x=- s=1 d=0",
            "DEL a b k=default v=1.1 x=- s=1 d=0",
            "DRP a k=default v=1.1 x=- s=1 d=0",
            "END n=1 s=2",
            "",
        ] {
            let mut line = bad.as_bytes().to_vec();
            seal(&mut line, 0, 7);
            assert!(decode_line(&line[..line.len() - 1], 7).is_err(), "{bad}");
        }
    }

    fn any_op() -> impl Strategy<Value = Op> {
        let value = proptest::collection::vec(any::<u8>(), 0..32);
        prop_oneof![value.prop_map(|v| Op::Put(v.into())), Just(Op::Del), Just(Op::Drop)]
    }

    proptest! {
        #[test]
        fn any_record_comes_back(
            key in proptest::collection::vec(any::<u8>(), 0..32), op in any_op(),
            version in any::<(u32, u64)>(), seq in any::<u64>(), durable in any::<u64>(),
            prev in any::<u32>(),
        ) {
            let version = Version::new(version.0, version.1);
            let record = Record { key: key.into(), op, version, seq, durable };
            let mut out = Vec::new();
            let crc = encode_record(&record, prev, &mut out);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert_eq!(decode_line(&out, prev), Ok((Line::Record(record), crc)));
        }
    }
}
