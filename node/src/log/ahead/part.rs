//! Whole lines of a log, and what another thread reads in them.

use std::borrow::Cow;
use std::iter;

use crate::log::decode;
use crate::log::note::Note;
use crate::log::record::{LINE_BYTES_MAX, Line, Op, Record};
use crate::log::scan::{Run, Scanned};
use crate::log::value::Value;

/// Some bytes of a part: of its lines or, behind all of them, of what was unescaped or unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) at: u32,
    pub(super) len: u32,
}

/// Whole lines, and what was read in them.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// Its good lines from the first one on.
    pub(super) run: Run,
    /// Bytes of these.
    pub(super) read: usize,
    /// Each with its line.
    records: Vec<(Record<Span>, Span)>,
    /// In the order of their lines.
    pub(super) notes: Vec<Note>,
    /// Keys and values that stand in the lines in another way.
    decoded: Vec<u8>,
    /// The records in key order: of each a piece of its key as a number, and which it is.
    order: Vec<(u64, u32)>,
}

impl Part {
    /// Reads lines until one that is not for a run.
    pub(super) fn read(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        (self.read, self.run.crc) = (0, self.run.prev);
        self.records.clear();
        self.notes.clear();
        self.decoded.clear();
        while let Some(end) = memchr::memchr(b'\n', &bytes[self.read..]) {
            if !self.line(&bytes, &bytes[self.read..self.read + end]) {
                break;
            }
            self.read += end + 1;
        }
        self.run.bytes = self.read as u64;
        self.bytes = bytes;
        self.sort();
    }

    /// Takes a line into the run, if it goes on with it.
    fn line(&mut self, bytes: &[u8], text: &[u8]) -> bool {
        if text.len() > LINE_BYTES_MAX {
            return false;
        }
        let Ok((line, crc)) = decode::decode_line(text, self.run.crc) else { return false };
        let (seq, durable) = (line.seq(), line.durable());
        if self.run.lines > 0 && seq != self.run.last.wrapping_add(1) {
            return false;
        }
        match line {
            Line::Record(record) if matches!(record.op, Op::Put { .. } | Op::Del) => {
                let span = span(self.read, text.len() + 1);
                let record = self.noted(bytes, record);
                self.records.push((record, span));
            }
            Line::Note(noted) => self.notes.push(noted.note),
            _ => return false,
        }
        let run = &mut self.run;
        if run.lines == 0 {
            run.first = seq;
        }
        (run.last, run.crc, run.durable) = (seq, crc, run.durable.max(durable));
        run.lines += 1;
        true
    }

    /// The record with its bytes named by where they are.
    fn noted(&mut self, bytes: &[u8], record: Scanned<'_>) -> Record<Span> {
        let decoded = &mut self.decoded;
        let mut place = |piece: Cow<'_, [u8]>| match piece {
            // What is borrowed is a piece of the line.
            Cow::Borrowed([]) => Span::default(),
            Cow::Borrowed(piece) => {
                span(piece.as_ptr() as usize - bytes.as_ptr() as usize, piece.len())
            }
            Cow::Owned(piece) => {
                let at = bytes.len() + decoded.len();
                decoded.extend_from_slice(&piece);
                span(at, piece.len())
            }
        };
        let key = place(record.key);
        let op = match record.op {
            Op::Put { value, expires } => {
                let value = match value {
                    Value::Plain(value) => Value::Plain(place(value)),
                    Value::Zstd { packed, len } => Value::Zstd { packed: place(packed), len },
                };
                Op::Put { value, expires }
            }
            Op::Del => Op::Del,
            Op::Drop | Op::DropSpace => unreachable!("no run has them"),
        };
        let Record { version, stamp, context, via, seq, durable, .. } = record;
        Record { key, op, version, stamp, context, via, seq, durable }
    }

    fn get(&self, span: Span) -> &[u8] {
        let (at, len) = (span.at as usize, span.len as usize);
        match at.checked_sub(self.bytes.len()) {
            Some(at) => &self.decoded[at..at + len],
            None => &self.bytes[at..at + len],
        }
    }

    fn key(&self, which: u32) -> &[u8] {
        self.get(self.records[which as usize].0.key)
    }

    /// Puts the records in the order of their keys, then of their lines. Keys of a part mostly begin alike, and differ in
    /// the eight bytes behind that: these are compared as numbers.
    fn sort(&mut self) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        let count = self.records.len() as u32;
        let first = if count > 0 { self.key(0) } else { &[] };
        let alike = (0..count).fold(first.len(), |alike, which| {
            iter::zip(&first[..alike], self.key(which)).take_while(|(a, b)| a == b).count()
        });
        order.extend((0..count).map(|which| (head(&self.key(which)[alike..]), which)));
        order.sort_unstable();
        for same in order.chunk_by_mut(|one, other| one.0 == other.0) {
            if same.len() > 1 {
                same.sort_by_key(|(_, which)| self.key(*which));
            }
        }
        self.order = order;
    }

    /// Gives the records in key order.
    pub(super) fn give(&self, mut each: impl FnMut(&Scanned<'_>, Span)) {
        for (_, which) in &self.order {
            let (record, line) = &self.records[*which as usize];
            let bytes = |span: Span| Cow::Borrowed(self.get(span));
            let op = match &record.op {
                Op::Put { value, expires } => {
                    let value = match *value {
                        Value::Plain(value) => Value::Plain(bytes(value)),
                        Value::Zstd { packed, len } => Value::Zstd { packed: bytes(packed), len },
                    };
                    Op::Put { value, expires: *expires }
                }
                _ => Op::Del,
            };
            let Record { version, stamp, via, seq, durable, .. } = *record;
            let (key, context) = (bytes(record.key), record.context.clone());
            each(&Record { key, op, version, stamp, context, via, seq, durable }, *line);
        }
    }
}

fn span(at: usize, len: usize) -> Span {
    let fits = "a part is much smaller than 4 GiB";
    Span { at: u32::try_from(at).expect(fits), len: u32::try_from(len).expect(fits) }
}

/// The first bytes as a number of the same order; what is missing counts as zeros.
fn head(rest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    iter::zip(&mut bytes, rest).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(bytes)
}
