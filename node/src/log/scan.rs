//! Reading a file of the log from front to back, in chunks.
//!
//! A [`Scanner`] is fed the bytes of one file in pieces of any size and gives each good record,
//! with its place, up to the first bad line. From there on it only counts the lines that still fit
//! the line before them, because they tell how far the log was durable.
//!
//! ```text
//!   chunk ─┬─ lines that are whole in it: read where they are, nothing is copied
//!          └─ the line that it cuts: kept until its rest comes
//! ```
//!
//! # Caveats
//!
//! Memory is bounded by the longest legal line (4 MiB), which is more than most chunks.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::decode::{self, decode_header, decode_line};
use super::note::Note;
use super::place::{FileId, Place};
use super::record::{BadLine, End, Header, LINE_BYTES_MAX, Line, Record};

/// Which rules a file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment: the sequence goes on from the header, there is no end line.
    Segment,
    /// A snapshot: counts from 1 and closes with an end line.
    Snapshot,
}

/// The first bad line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Where it starts.
    pub offset: u64,
    /// What is wrong.
    pub reason: BadLine,
}

/// What is in a file.
#[derive(Debug, Default)]
pub struct Scan {
    /// The first line, if it is good.
    pub header: Option<Header>,
    /// Good lines before the first bad one, header and last line too.
    pub lines: u64,
    /// Good records before the first bad line.
    pub records: u64,
    /// Bytes of all lines before the first bad one.
    pub good_bytes: u64,
    /// Sequence number of the last good line.
    pub seq: u64,
    /// Checksum of the last good line.
    pub crc: u32,
    /// The highest durable horizon that any line tells, those after a hole too.
    pub durable: u64,
    /// Whether the last good line is a `BYE`; the stop was clean if no bad line follows.
    pub bye: bool,
    /// The end line of a snapshot.
    pub end: Option<End>,
    /// The first bad line.
    pub bad: Option<Bad>,
    /// How many lines after the bad one fit their neighbour.
    pub later_fine: u64,
}

/// Good lines one behind the other, `PUT`, `DEL` and notes only, as they are found by who does not know what
/// is before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The checksum that the line before the first is taken to have.
    pub prev: u32,
    /// Checksum of the last line; of no line, `prev`.
    pub crc: u32,
    /// Sequence number of the first line.
    pub first: u64,
    /// Sequence number of the last line.
    pub last: u64,
    /// The highest durable horizon that any line tells.
    pub durable: u64,
    /// How many lines.
    pub lines: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// A record as it is given while its line is in memory.
pub type Scanned<'a> = Record<Cow<'a, [u8]>>;

/// Reads one file.
#[derive(Debug)]
pub struct Scanner {
    kind: Kind,
    file: FileId,
    /// What was found so far.
    scan: Scan,
    /// The beginning of a line whose end did not come yet; of a line that is too long and will not
    /// be read, the last bytes.
    cut: Vec<u8>,
    /// Behind the first bad line: the checksum that the line before says it has.
    said: Option<u32>,
    /// Notes not taken yet, for who wants them.
    notes: Option<Vec<Note>>,
}

impl Scanner {
    /// A scanner of a file that follows the rules of `kind`; places will be in `file`.
    #[must_use]
    pub fn new(kind: Kind, file: FileId) -> Self {
        let (scan, cut, said, notes) = (Scan::default(), Vec::new(), None, None);
        Self { kind, file, scan, cut, said, notes }
    }

    /// The same, which keeps the notes that it reads until they are taken.
    #[must_use]
    pub fn with_notes(self) -> Self {
        Self { notes: Some(Vec::new()), ..self }
    }

    /// The good notes that were read since they were last taken.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What was found so far.
    #[must_use]
    pub const fn so_far(&self) -> &Scan {
        &self.scan
    }

    /// Keeps a note of a run that was taken.
    pub(super) fn keep_note(&mut self, note: Note) {
        self.notes.iter_mut().for_each(|notes| notes.push(note.clone()));
    }

    /// Takes lines as read, if they go on where the last good line ended. If not, nothing is changed, and they
    /// can be fed.
    pub(super) fn take_run(&mut self, run: &Run) -> bool {
        let Scan { header, crc, seq, end, bad, .. } = &self.scan;
        let is_open = header.is_some() && end.is_none() && bad.is_none() && self.cut.is_empty();
        let goes_on = run.lines > 0 && run.prev == *crc && run.first == seq.wrapping_add(1);
        if !(is_open && goes_on) {
            return false;
        }
        (self.scan.crc, self.scan.seq, self.scan.bye) = (run.crc, run.last, false);
        self.scan.durable = self.scan.durable.max(run.durable);
        self.scan.records += run.lines;
        self.scan.lines += run.lines;
        self.scan.good_bytes += run.bytes;
        true
    }

    /// Reads the next bytes of the file, giving each good record to `each`.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(&Scanned<'_>, Place)) {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.cut.is_empty() {
                self.line(line, &mut each);
            } else {
                self.keep(line);
                let line = std::mem::take(&mut self.cut);
                self.line(&line, &mut each);
                self.cut = line;
                self.cut.clear();
            }
            rest = after;
        }
        self.keep(rest);
    }

    /// Ends the file.
    #[must_use]
    pub fn finish(mut self) -> Scan {
        if !self.cut.is_empty() {
            let rest = std::mem::take(&mut self.cut);
            if self.scan.bad.is_none() {
                self.fail(BadLine::NoNewline);
            }
            self.look_further(&rest);
        } else if self.scan.bad.is_some() {
            return self.scan;
        } else if self.scan.header.is_none() {
            self.fail(BadLine::Misplaced("the file is empty"));
        } else if self.kind == Kind::Snapshot && self.scan.end.is_none() {
            self.fail(BadLine::Misplaced("the snapshot ends before its END line"));
        }
        self.scan
    }

    /// Keeps a part of a line; of one that is too long only the end, which may have its checksum.
    fn keep(&mut self, part: &[u8]) {
        self.cut.extend_from_slice(part);
        if self.cut.len() > LINE_BYTES_MAX {
            if self.scan.bad.is_none() {
                self.fail(BadLine::TooLong);
            }
            self.cut.drain(..self.cut.len() - decode::SEAL_BYTES);
        }
    }

    fn line(&mut self, line: &[u8], each: &mut impl FnMut(&Scanned<'_>, Place)) {
        if self.scan.bad.is_some() {
            return self.look_further(line);
        }
        if let Err(reason) = self.accept(line, each) {
            self.fail(reason);
            self.look_further(line);
        }
    }

    fn accept(
        &mut self,
        line: &[u8],
        each: &mut impl FnMut(&Scanned<'_>, Place),
    ) -> Result<(), BadLine> {
        if line.len() > LINE_BYTES_MAX {
            return Err(BadLine::TooLong);
        }
        let bytes = line.len() as u64 + 1;
        if self.scan.header.is_none() {
            self.header(line)?;
        } else {
            let (line, crc) = decode_line(line, self.scan.crc)?;
            self.follows(&line)?;
            (self.scan.crc, self.scan.seq) = (crc, line.seq());
            self.scan.durable = self.scan.durable.max(line.durable());
            self.scan.bye = matches!(line, Line::Bye(_));
            match line {
                Line::Record(record) => {
                    self.scan.records += 1;
                    let len = u32::try_from(bytes).expect("checked above");
                    each(&record, Place { file: self.file, offset: self.scan.good_bytes, len });
                }
                Line::Note(noted) => {
                    self.scan.records += 1;
                    if let Some(notes) = &mut self.notes {
                        notes.push(noted.note);
                    }
                }
                Line::Bye(_) => {}
                Line::End(end) => self.scan.end = Some(end),
            }
        }
        self.scan.lines += 1;
        self.scan.good_bytes += bytes;
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), BadLine> {
        let (header, crc) = decode_header(line)?;
        self.scan.seq = if self.kind == Kind::Segment { header.seq } else { 0 };
        self.scan.crc = crc;
        self.scan.header = Some(header);
        Ok(())
    }

    /// Checks that a good line may stand here.
    fn follows<B>(&self, line: &Line<B>) -> Result<(), BadLine> {
        let Scan { seq, records, end, .. } = &self.scan;
        if end.is_some() {
            return Err(BadLine::Misplaced("a line after END"));
        }
        match (line, self.kind) {
            (Line::End(_), Kind::Segment) => {
                return Err(BadLine::Misplaced("an END line in a segment"));
            }
            (Line::Bye(_), Kind::Snapshot) => {
                return Err(BadLine::Misplaced("a BYE line in a snapshot"));
            }
            (Line::End(end), Kind::Snapshot) if end.count != *records => {
                return Err(BadLine::Misplaced("END counts another number of records"));
            }
            _ => {}
        }
        let (found, expected) = (line.seq(), seq.wrapping_add(1));
        if found == expected { Ok(()) } else { Err(BadLine::Sequence { found, expected }) }
    }

    /// The place behind the last good line as the first bad one.
    fn fail(&mut self, reason: BadLine) {
        let Scan { lines, good_bytes, .. } = self.scan;
        self.scan.bad = Some(Bad { line: lines + 1, offset: good_bytes, reason });
    }

    /// Counts a line behind the bad one, if its checksum fits the line before it.
    fn look_further(&mut self, line: &[u8]) {
        if let Some(Ok((line, _))) = self.said.map(|said| decode_line(line, said)) {
            self.scan.later_fine += 1;
            self.scan.durable = self.scan.durable.max(line.durable());
        }
        self.said = decode::said_checksum(line);
    }
}

/// Reads a file that is in memory, giving each good record to `each`.
pub fn scan_all(
    bytes: &[u8],
    kind: Kind,
    file: FileId,
    each: impl FnMut(&Scanned<'_>, Place),
) -> Scan {
    let mut scanner = Scanner::new(kind, file);
    scanner.feed(bytes, each);
    scanner.finish()
}
