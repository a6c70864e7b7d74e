//! One line after another, as they stand in the file, and what each is worth.
//!
//! Recovery stops at the first bad line. Who looks, or rescues, wants the good ones behind it too. A
//! line is good when its checksum fits the line before it. Behind a bad line there are two ways to know what
//! that one's checksum was: the eight digits at its end, if only the rest of it is damaged, or the
//! sum of its bytes, if only the digits are. When neither fits, the next line cannot be
//! proved either, but its own digits are where the chain goes on.
//!
//! ```text
//!   PUT a 1 … c=11111111    good
//!   PUX b 2 … c=22222222    bad: its bytes have another sum
//!   PUT c 3 … c=33333333    good: fits 22222222
//! ```
//!
//! # Caveats
//!
//! Behind a hole a sequence number may only grow; how many lines are missing is told by that
//! number, not by counting.

use super::files::{CHUNK_BYTES, LogFile};
use crate::StorageError;
use crate::log::decode::{Borrowed, decode_header, decode_line, said_checksum, summed};
use crate::log::record::{BadLine, Header, LINE_BYTES_MAX};

/// A line as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawLine {
    /// Its number in the file, from 1.
    pub number: u64,
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its bytes without the newline; of one that is longer than any, the first ones.
    pub bytes: Vec<u8>,
    /// How many bytes it takes in the file, its newline too.
    pub len: u64,
    /// Whether it has a newline.
    pub whole: bool,
}

/// The lines of a file, read in pieces.
#[derive(Debug)]
pub struct Lines<'a> {
    file: &'a LogFile,
    /// What was read and not given yet.
    buffer: Vec<u8>,
    /// How much of the buffer was given.
    given: usize,
    /// Where the next piece of the file begins.
    at: u64,
    /// The last line given.
    number: u64,
}

impl<'a> Lines<'a> {
    /// The lines of a file.
    #[must_use]
    pub const fn new(file: &'a LogFile) -> Self {
        Self { file, buffer: Vec::new(), given: 0, at: 0, number: 0 }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn next_line(&mut self) -> Result<Option<RawLine>, StorageError> {
        let offset = self.at - (self.buffer.len() - self.given) as u64;
        let (mut bytes, mut len) = (Vec::new(), 0);
        loop {
            let rest = &self.buffer[self.given..];
            let end = memchr::memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            let kept = part.len().min(LINE_BYTES_MAX + 1 - bytes.len());
            bytes.extend_from_slice(&part[..kept]);
            len += part.len() as u64;
            let whole = end.is_some();
            self.given += part.len() + usize::from(whole);
            if !whole && self.fill()? {
                continue;
            }
            if !whole && len == 0 {
                return Ok(None);
            }
            self.number += 1;
            let len = len + u64::from(whole);
            return Ok(Some(RawLine { number: self.number, offset, bytes, len, whole }));
        }
    }

    /// Reads the next piece, when all was given; false at the end.
    fn fill(&mut self) -> Result<bool, StorageError> {
        self.buffer = self.file.read(self.at, CHUNK_BYTES)?;
        self.given = 0;
        self.at += self.buffer.len() as u64;
        Ok(!self.buffer.is_empty())
    }
}

/// What a line is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged<'a> {
    /// The first line.
    Header(Header),
    /// A good line after it.
    Good(Borrowed<'a>),
    /// Not what was written there.
    Bad(BadLine),
}

/// Judges the lines of one file, in order.
#[derive(Debug, Default)]
pub struct Judge {
    begun: bool,
    /// The checksums that the line before may have.
    before: Vec<u32>,
    /// The last good line's sequence number.
    seq: u64,
}

impl Judge {
    /// Judges the next line.
    pub fn judge<'l>(&mut self, line: &'l RawLine) -> Judged<'l> {
        let judged = match (line.whole, std::mem::replace(&mut self.begun, true)) {
            (false, _) => Judged::Bad(BadLine::NoNewline),
            (true, false) => match decode_header(&line.bytes) {
                Ok((header, crc)) => {
                    self.before = vec![crc];
                    return Judged::Header(header);
                }
                Err(reason) => {
                    self.before.extend(prev_of(&line.bytes));
                    Judged::Bad(reason)
                }
            },
            (true, true) => match self.follows(&line.bytes) {
                Ok((good, crc)) => {
                    (self.before, self.seq) = (vec![crc], good.seq());
                    return Judged::Good(good);
                }
                Err(reason) => Judged::Bad(reason),
            },
        };
        let summed = self.before.iter().filter_map(|before| summed(&line.bytes, *before));
        self.before = said_checksum(&line.bytes).into_iter().chain(summed).collect();
        self.before.truncate(BEFORE_MAX);
        judged
    }

    fn follows<'l>(&self, line: &'l [u8]) -> Result<(Borrowed<'l>, u32), BadLine> {
        if line.len() > LINE_BYTES_MAX {
            return Err(BadLine::TooLong);
        }
        let mut first = None;
        for before in &self.before {
            match decode_line(line, *before) {
                Ok((good, _)) if good.seq() <= self.seq => {
                    let (found, expected) = (good.seq(), self.seq + 1);
                    return Err(BadLine::Sequence { found, expected });
                }
                Ok(good) => return Ok(good),
                Err(why) => first = first.or(Some(why)),
            }
        }
        Err(first.unwrap_or(BadLine::Misplaced("nothing in the line before proves this one")))
    }
}

/// The checksum that a header says its chain continues from.
fn prev_of(header: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b" prev=";
    let at = memchr::memmem::find(header, NAME)? + NAME.len();
    let digits = std::str::from_utf8(header.get(at..at + 8)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// How many ways a bad line's checksum may be known.
const BEFORE_MAX: usize = 2;
