//! Reading a line of the log. What the fields mean stands in [`record`].
//!
//! A line is read in one pass from the left, and only what [`encode`](super::encode) would write is
//! accepted. Nothing is copied but tokens with an escape in them and compressed values.
//!
//! # Caveats
//!
//! A line alone proves little: its checksum is worth what the `prev` is worth that it is given.

use std::borrow::Cow;

use ringkv_shared::causal::Context;
use ringkv_shared::hlc::Stamp;
use ringkv_shared::limits::KEY_BYTES_MAX;
use ringkv_shared::protocol::node::Via;
use ringkv_shared::{KeyspaceName, NODE_EPOCH, Version};

use super::encode::via_name;
use super::escape::{self, BadToken};
use super::key;
use super::record::{self, BadLine, CONTEXT_PARTS_MAX, End, Header, Line, Op, Record};
use super::scan::Scanned;
use super::{note, value};

/// ` c=` and eight digits.
pub(super) const SEAL_BYTES: usize = 11;

/// A line whose bytes are where they were read, but for what had to be unescaped or unpacked.
pub type Borrowed<'a> = Line<Cow<'a, [u8]>>;

/// Reads a header line (without its newline); returns it and its checksum.
///
/// # Errors
///
/// [`BadLine`] says what is wrong with it.
pub fn decode_header(line: &[u8]) -> Result<(Header, u32), BadLine> {
    let (body, found) = unseal(line)?;
    let mut fields = Fields(body);
    fields.literal("#ringkv 1")?;
    fields.literal(" node=")?;
    let uuid = fields.uuid()?;
    fields.literal(" seg=")?;
    let segment = fields.segment()?;
    fields.literal(" prev=")?;
    let prev = fields.take(8).and_then(hex).ok_or(BadLine::Field("prev="))?;
    let seq = fields.number(" s=")?;
    fields.end()?;
    verify(body, prev, found)?;
    Ok((Header { uuid, segment, prev, seq }, found))
}

/// Reads a line after the header (without its newline), in the chain that ends with `prev`;
/// returns it and its checksum.
///
/// # Errors
///
/// [`BadLine`] says what is wrong with it.
pub fn decode_line(line: &[u8], prev: u32) -> Result<(Borrowed<'_>, u32), BadLine> {
    let (body, found) = unseal(line)?;
    verify(body, prev, found)?;
    Ok((parse(body)?, found))
}

/// Reads a line after the header (without its newline), whose checksum nobody can check: the line
/// before it is not known.
///
/// # Errors
///
/// [`BadLine`] says what is wrong with it.
pub fn decode_unchecked(line: &[u8]) -> Result<Borrowed<'_>, BadLine> {
    parse(unseal(line)?.0)
}

fn parse(body: &[u8]) -> Result<Borrowed<'_>, BadLine> {
    let (word, rest) = body.split_at_checked(4).ok_or(NO_OPERATION)?;
    if note::is_note(word) {
        return note::decode_note(body).map(Line::Note);
    }
    let mut fields = Fields(rest);
    let line = match word {
        b"PUT " => fields.put()?,
        b"DEL " => fields.del()?,
        b"DRP " => fields.drop()?,
        b"DRK " => fields.drop_space()?,
        b"BYE " => fields.bye()?,
        b"END " => fields.end_of_snapshot()?,
        _ => return Err(NO_OPERATION),
    };
    fields.end()?;
    Ok(line)
}

const NO_OPERATION: BadLine =
    BadLine::Field("operation (PUT, DEL, DRP, DRK, BYE, END, or one of the notes)");

/// The checksum a line says it has, for who checks a chain behind a hole.
#[must_use]
pub fn said_checksum(line: &[u8]) -> Option<u32> {
    unseal(line).ok().map(|(_, crc)| crc)
}

/// The checksum that the bytes of a line come to in the chain that ends with `prev`, whatever it
/// says itself; `None` if it is too short to say anything.
#[must_use]
pub fn summed(line: &[u8], prev: u32) -> Option<u32> {
    let body = line.len().checked_sub(SEAL_BYTES)?;
    Some(record::checksum(&line[..body], prev))
}

fn unseal(line: &[u8]) -> Result<(&[u8], u32), BadLine> {
    let at = line.len().checked_sub(SEAL_BYTES).ok_or(BadLine::NoChecksum)?;
    let (body, end) = line.split_at(at);
    let crc = end.strip_prefix(b" c=").and_then(hex);
    Ok((body, crc.ok_or(BadLine::NoChecksum)?))
}

fn verify(body: &[u8], prev: u32, found: u32) -> Result<(), BadLine> {
    let computed = record::checksum(body, prev);
    if computed == found { Ok(()) } else { Err(BadLine::Checksum { found, computed }) }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u32::from(digit))
    })
}

fn in_keyspace(key: Cow<'_, [u8]>, keyspace: Option<KeyspaceName>) -> Cow<'_, [u8]> {
    match keyspace {
        None if key.first() != Some(&0) => key,
        keyspace => key::stored_cow(keyspace.as_ref().map_or("default", KeyspaceName::as_str), key),
    }
}

/// What is left of a line.
struct Fields<'a>(&'a [u8]);

type Read<'a> = Result<Borrowed<'a>, BadLine>;

impl<'a> Fields<'a> {
    fn put(&mut self) -> Read<'a> {
        let key = self.key()?;
        self.literal(" ")?;
        let token = self.until_space();
        let value = value::decode(token).map_err(|why| BadLine::Token { what: "value", why })?;
        let (keyspace, version) = (self.keyspace(" k=")?, self.version()?);
        self.literal(" x=")?;
        let expires = if self.literal("-").is_ok() { None } else { Some(self.digits("x=")?) };
        let record = Record::new(in_keyspace(key, keyspace), Op::Put { value, expires }, version);
        self.caused(record)
    }

    fn del(&mut self) -> Read<'a> {
        let (key, keyspace, version) = (self.key()?, self.keyspace(" k=")?, self.version()?);
        self.literal(" x=-")?;
        self.caused(Record::new(in_keyspace(key, keyspace), Op::Del, version))
    }

    fn drop(&mut self) -> Read<'a> {
        let (key, keyspace, version) = (self.key()?, self.keyspace(" k=")?, self.version()?);
        self.sequenced(Record::new(in_keyspace(key, keyspace), Op::Drop, version))
    }

    fn drop_space(&mut self) -> Read<'a> {
        let name = self.keyspace("k=")?.ok_or(BadLine::Field("k= (default is never dropped)"))?;
        let record = Record::new(key::prefix(&name).into(), Op::DropSpace, Version::default());
        self.sequenced(record)
    }

    /// The fields that only few lines have.
    fn caused(&mut self, mut record: Scanned<'a>) -> Read<'a> {
        record.stamp = self.optional(" t=", "t=", |text| text.parse::<Stamp>().ok())?;
        let version = record.version;
        let context = |text: &str| {
            let context = text.parse::<Context>().ok();
            context.filter(|c| !c.is_before(version) && c.parts() <= CONTEXT_PARTS_MAX)
        };
        record.context = self.optional(" ctx=", "ctx=", context)?.map(Box::new);
        let ways = [Via::Hint, Via::Repair, Via::Sync, Via::Move];
        let via = |text: &str| ways.into_iter().find(|way| via_name(*way) == text);
        record.via = self.optional(" via=", "via=", via)?;
        self.sequenced(record)
    }

    fn sequenced(&mut self, record: Scanned<'a>) -> Read<'a> {
        let (seq, durable) = (self.number(" s=")?, self.number(" d=")?);
        Ok(Line::Record(Record { seq, durable, ..record }))
    }

    /// A field that may be absent.
    fn optional<T>(
        &mut self,
        literal: &'static str,
        name: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, BadLine> {
        if self.literal(literal).is_err() {
            return Ok(None);
        }
        let value = std::str::from_utf8(self.until_space()).ok().and_then(read);
        Ok(Some(value.ok_or(BadLine::Field(name))?))
    }

    fn bye(&mut self) -> Read<'a> {
        let (seq, durable) = (self.number("s=")?, self.number(" d=")?);
        if seq.checked_sub(1) == Some(durable) {
            Ok(Line::Bye(seq))
        } else {
            Err(BadLine::Field("d= (before a BYE all is durable)"))
        }
    }

    fn end_of_snapshot(&mut self) -> Read<'a> {
        let (count, seq) = (self.number("n=")?, self.number(" s=")?);
        Ok(Line::End(End { count, seq, durable: self.number(" d=")? }))
    }

    fn key(&mut self) -> Result<Cow<'a, [u8]>, BadLine> {
        let bad = |why| BadLine::Token { what: "key", why };
        let key = escape::decode(self.until_space()).map_err(bad)?;
        if key.len() > KEY_BYTES_MAX {
            return Err(bad(BadToken::TooLong { bytes: key.len(), max: KEY_BYTES_MAX }));
        }
        Ok(key)
    }

    /// The name of a keyspace; `None`: `default`.
    fn keyspace(&mut self, literal: &'static str) -> Result<Option<KeyspaceName>, BadLine> {
        self.literal(literal)?;
        let name = self.until_space();
        if name == b"default" {
            return Ok(None);
        }
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        Ok(Some(name.ok_or(BadLine::Field("k="))?))
    }

    fn version(&mut self) -> Result<Version, BadLine> {
        const BAD: BadLine = BadLine::Field("v=");
        self.literal(" v=")?;
        let of_node = self.literal("x").is_ok();
        let epoch = match of_node {
            true => self.take(8).and_then(hex).ok_or(BAD)?,
            false => u32::try_from(self.digits("v=")?).map_err(|_| BAD)?,
        };
        if (epoch & NODE_EPOCH != 0) != of_node {
            return Err(BAD);
        }
        self.literal(".").map_err(|_| BAD)?;
        Ok(Version::new(epoch, self.digits("v=")?))
    }

    fn uuid(&mut self) -> Result<uuid::Uuid, BadLine> {
        let bad = || BadLine::Field("node=");
        let text = self.take(36).and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(bad)?;
        let uuid: uuid::Uuid = text.parse().map_err(|_| bad())?;
        if uuid.to_string() == text { Ok(uuid) } else { Err(bad()) }
    }

    /// A number with at least six digits, zeros before it only to make six.
    fn segment(&mut self) -> Result<u64, BadLine> {
        let bad = BadLine::Field("seg=");
        let zeros = self.0.iter().take(5).take_while(|byte| **byte == b'0').count();
        self.0 = &self.0[zeros..];
        let before = self.0.len();
        let number = self.digits("seg=")?;
        let digits = zeros + before - self.0.len();
        if digits == 6 || zeros == 0 && digits > 6 { Ok(number) } else { Err(bad) }
    }

    fn literal(&mut self, text: &'static str) -> Result<(), BadLine> {
        let rest = self.0.strip_prefix(text.as_bytes());
        self.0 = rest.ok_or(BadLine::Field(text.trim_ascii()))?;
        Ok(())
    }

    /// A name and the number after it.
    fn number(&mut self, name: &'static str) -> Result<u64, BadLine> {
        self.literal(name)?;
        self.digits(name.trim_ascii())
    }

    /// A number in its only spelling.
    fn digits(&mut self, name: &'static str) -> Result<u64, BadLine> {
        let bad = || BadLine::Field(name);
        let len = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(len);
        if len == 0 || len > 1 && digits[0] == b'0' {
            return Err(bad());
        }
        let number = digits.iter().try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        self.0 = rest;
        number.ok_or_else(bad)
    }

    fn until_space(&mut self) -> &'a [u8] {
        let end = memchr::memchr(b' ', self.0).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn end(&self) -> Result<(), BadLine> {
        if self.0.is_empty() { Ok(()) } else { Err(BadLine::Field("end of line")) }
    }
}

#[cfg(test)]
mod tests;
