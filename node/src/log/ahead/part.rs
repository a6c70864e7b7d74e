//! Whole lines of a log, and what another thread reads in them.

use crate::log::decode;
use crate::log::note::Note;
use crate::log::place::Place;
use crate::log::record::{LINE_BYTES_MAX, Line, Op, Record};
use crate::log::scan::{Kind, Run};
use crate::store::{Unsorted, Writes};

use super::Reading;

/// Whole lines, and what was read in them.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Its good lines from the first one on.
    pub(super) run: Run,
    /// Bytes of these.
    pub(super) read: usize,
    /// In the order of their lines.
    pub(super) notes: Vec<Note>,
    /// What is written in them, in key order.
    pub(super) writes: Writes,
    /// The same while it is read.
    unsorted: Unsorted,
}

impl Part {
    /// Reads lines until one that is not for a run.
    pub(super) fn read(&mut self, reading: Reading) {
        let bytes = std::mem::take(&mut self.bytes);
        (self.read, self.run.crc) = (0, self.run.prev);
        self.notes.clear();
        while let Some(end) = memchr::memchr(b'\n', &bytes[self.read..]) {
            if !self.line(&bytes[self.read..self.read + end], reading) {
                break;
            }
            self.read += end + 1;
        }
        self.run.bytes = self.read as u64;
        self.bytes = bytes;
        self.unsorted.sort_into(&mut self.writes);
    }

    /// Takes a line into the run, if it goes on with it.
    fn line(&mut self, text: &[u8], Reading { kind, file, places }: Reading) -> bool {
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
                let (offset, len) = (self.offset + self.read as u64, text.len() as u32 + 1);
                let place = places.then_some(Place { file, offset, len });
                let seq = if kind == Kind::Snapshot { 0 } else { record.seq };
                self.unsorted.push(&Record { seq, ..record }, place);
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
}
