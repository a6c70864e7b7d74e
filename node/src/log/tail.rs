//! Where the log ends, and the lines that wait to be written there.
//!
//! The tail gives each line its sequence number, its durable horizon and its place in the
//! checksum chain, and keeps the bytes until the committer takes them. It knows no file.
//!
//! # Caveats
//!
//! The buffer has no bound of its own: it holds at most what all connections may have in flight,
//! because a connection reads no further request before its replies are settled.

use uuid::Uuid;

use super::encode;
use super::note::{self, Note, Noted};
use super::place::FileId;
use super::record::{Header, Record};

/// The end of the log.
#[derive(Debug)]
pub struct Tail {
    /// Identity of the data directory.
    uuid: Uuid,
    /// Number of the active segment. Monotonic.
    segment: u64,
    /// Sequence number of the last line. Monotonic.
    seq: u64,
    /// Checksum of the last line.
    crc: u32,
    /// Highest sequence number known durable. Monotonic, at most `seq`.
    durable: u64,
    /// Lines not yet taken by the committer.
    waiting: Vec<u8>,
}

impl Tail {
    /// A log whose last line is `seq` with checksum `crc`, all of it durable.
    #[must_use]
    pub const fn new(uuid: Uuid, segment: u64, seq: u64, crc: u32) -> Self {
        Self { uuid, segment, seq, crc, durable: seq, waiting: Vec::new() }
    }

    /// Adds a record; returns it as it stands in the log: with its sequence number and horizon.
    pub fn append<B: AsRef<[u8]>>(&mut self, record: Record<B>) -> Record<B> {
        self.seq += 1;
        let record = Record { seq: self.seq, durable: self.durable, ..record };
        self.crc = encode::encode_record(&record, self.crc, &mut self.waiting);
        record
    }

    /// Adds a note; returns its sequence number.
    pub fn note(&mut self, note: Note) -> u64 {
        self.seq += 1;
        let noted = Noted { note, seq: self.seq, durable: self.durable };
        self.crc = note::encode_note(&noted, self.crc, &mut self.waiting);
        self.seq
    }

    /// Adds the line of a stop in good order. All lines before must be durable.
    pub fn bye(&mut self) {
        debug_assert_eq!(self.durable, self.seq, "a BYE says that all before it is durable");
        self.seq += 1;
        self.crc = encode::encode_bye(self.seq, self.crc, &mut self.waiting);
    }

    /// Ends the segment: returns the lines that still belong to it, the header that closes it off
    /// (its `prev` and `s` are the segment's end), and that header's bytes, first line of the next.
    pub fn rotate(&mut self) -> (Vec<u8>, Header, Vec<u8>) {
        let rest = self.take();
        self.segment += 1;
        let header =
            Header { uuid: self.uuid, segment: self.segment, prev: self.crc, seq: self.seq };
        let mut bytes = Vec::new();
        self.crc = encode::encode_header(&header, &mut bytes);
        (rest, header, bytes)
    }

    /// The lines that wait, which now are the caller's to write.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.waiting)
    }

    /// The same; the next gather in the memory of some that are written.
    pub fn exchange(&mut self, written: Vec<u8>) -> Vec<u8> {
        debug_assert!(written.is_empty(), "lines are written once");
        std::mem::replace(&mut self.waiting, written)
    }

    /// Says that all lines up to `seq` are durable.
    pub fn made_durable(&mut self, seq: u64) {
        self.durable = self.durable.max(seq);
    }

    /// The active segment.
    #[must_use]
    pub fn file(&self) -> FileId {
        FileId::segment(self.segment)
    }

    /// Identity of the data directory.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Sequence number of the last line.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The durable horizon.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// How many bytes wait.
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.waiting.len()
    }
}
