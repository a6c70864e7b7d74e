//! Reading a large file of the log with more than one thread.
//!
//! ```text
//!   this thread    cuts the file into parts of whole lines ─┐            ┌─ takes them in turn
//!   others                                                  └─ read part ┘
//!                                                              put its writes in key order
//! ```
//!
//! A line's checksum goes on from the one that the line before *says* it has, so a part can be checked
//! before those in front of it are, up to the first line that is not a good `PUT`, `DEL` or note: a [`Run`]. When its turn
//! comes the [`Scanner`] takes it, if it fits what came before; whatever it does not take, and the lines behind a run,
//! it reads itself, one by one. So what is found, and which line is the first bad one, is what the scanner
//! says, here as anywhere.
//!
//! The writes of a run are given together, in key order, those of one key in the order of their lines, and what is read line
//! by line record by record, in its turn. What is held for a key depends on its own lines only, so who puts in the writes of
//! several runs at once before the next record has the same map.
//!
//! | file | idea |
//! |---|---|
//! | here | parts in their turn |
//! | `part` | what is read in one, and its order |
//! | `waiting` | writes of several, until they are put in |
//!
//! # Caveats
//!
//! Beside the map there are up to as many parts in memory as there are processors, and one more, each of
//! [`PART_BYTES`] and about as much again for what was read in it; and the writes that wait.

mod part;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use super::decode;
use super::files;
use super::note::Note;
use super::place::{FileId, Place};
use super::scan::{Kind, Run, Scan, Scanned, Scanner};
use crate::StorageError;
use crate::disk::{Disk, DiskFile, Open};
use crate::store::Writes;
use part::Part;

pub use waiting::Waiting;

/// How much of a file is a part: what is read in it stays in a processor's cache while it is put in order.
pub const PART_BYTES: usize = 4 * 1024 * 1024;

/// How many threads read ahead at most: one alone takes what they read.
const THREADS_MAX: usize = 8;

const NO_PANIC: &str = "reading a part does not panic";

/// As what a file is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The rules that it follows. What stands in a snapshot is safe: it depends on no line.
    pub kind: Kind,
    /// Its name in places.
    pub file: FileId,
    /// Whether writes are to know where their lines stand.
    pub places: bool,
}

/// What was read, in its turn.
pub enum Replayed<'p> {
    /// The writes of a run. They may be taken, and others left that are not needed any more.
    Run(&'p mut Writes),
    /// A record, and where it stands.
    Record(&'p Scanned<'p>, Place),
}

/// A part whose turn will come.
enum Turn<'scope> {
    /// Nothing in it was read yet.
    Unread(Part),
    /// Another thread reads it.
    UnderWay(ScopedJoinHandle<'scope, Part>),
    /// It was read.
    Read(Part),
}

/// A file that is being read.
pub struct Ahead<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    reading: Reading,
    scanner: Scanner,
    part_bytes: usize,
    /// Bytes that the file had when it was opened.
    len: u64,
    /// How many parts may be under way; 0: the file is one part, which is read in its turn.
    threads: usize,
    /// Bytes read so far.
    at: u64,
    /// Whether the file has no more.
    ended: bool,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    /// What the last line of the last part says that its checksum is.
    said: u32,
    /// Parts that are being read, the next one first.
    under_way: VecDeque<Turn<'scope>>,
    /// Parts to be used again: new memory would be paid for page by page.
    free: Vec<Part>,
}

impl<'scope, 'env> Ahead<'scope, 'env> {
    /// Opens a file, to be read in parts of so many bytes.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(
        scope: &'scope Scope<'scope, 'env>,
        disk: &dyn Disk,
        path: &Path,
        reading: Reading,
        part_bytes: usize,
    ) -> Result<Self, StorageError> {
        let file = files::open(disk, path, Open::Read)?;
        let len = file.len().map_err(StorageError::io("reading", path))?;
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = if len > part_bytes as u64 { processors().min(THREADS_MAX) } else { 0 };
        Ok(Self {
            scope,
            path: path.to_owned(),
            file,
            reading,
            scanner: Scanner::new(reading.kind, reading.file).with_notes(),
            part_bytes,
            len,
            threads,
            at: 0,
            ended: false,
            rest: Vec::new(),
            said: 0,
            under_way: VecDeque::new(),
            free: Vec::new(),
        })
    }

    /// Takes the next part, giving what is in it to `each`; false at the end of the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    ///
    /// # Panics
    ///
    /// Never: reading a part does not.
    pub fn step(&mut self, mut each: impl FnMut(Replayed<'_>)) -> Result<bool, StorageError> {
        let mut read_on = |scanner: &mut Scanner, bytes: &[u8]| {
            scanner.feed(bytes, |record, place| each(Replayed::Record(record, place)));
        };
        while !self.ended && self.under_way.len() < self.threads.max(1) {
            self.begin_part(&mut read_on)?;
        }
        let mut part = match self.under_way.pop_front() {
            Some(Turn::Unread(mut part)) => {
                part.read(self.reading);
                part
            }
            Some(Turn::UnderWay(part)) => part.join().expect(NO_PANIC),
            Some(Turn::Read(part)) => part,
            None => {
                let rest = std::mem::take(&mut self.rest);
                read_on(&mut self.scanner, &rest);
                return Ok(false);
            }
        };
        let mut read = 0;
        if self.scanner.take_run(&part.run) {
            each(Replayed::Run(&mut part.writes));
            part.notes.drain(..).for_each(|note| self.scanner.keep_note(note));
            read = part.read;
        }
        self.scanner
            .feed(&part.bytes[read..], |record, place| each(Replayed::Record(record, place)));
        self.free.push(part);
        Ok(true)
    }

    /// Waits for the parts that are under way, so that their threads have ended: who is about to begin others, for more
    /// than a part, has their processors and their memory.
    ///
    /// # Panics
    ///
    /// Never: reading a part does not.
    pub fn pause(&mut self) {
        for turn in &mut self.under_way {
            let read = match std::mem::replace(turn, Turn::Read(Part::default())) {
                Turn::UnderWay(part) => Turn::Read(part.join().expect(NO_PANIC)),
                other => other,
            };
            *turn = read;
        }
    }

    /// The good notes that were read since they were last taken.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.scanner.take_notes()
    }

    /// What was found so far.
    #[must_use]
    pub const fn so_far(&self) -> &Scan {
        self.scanner.so_far()
    }

    /// What was found in the whole file.
    #[must_use]
    pub fn finish(self) -> Scan {
        self.scanner.finish()
    }

    /// Reads bytes and has another thread read what they say.
    fn begin_part(
        &mut self,
        read_on: &mut impl FnMut(&mut Scanner, &[u8]),
    ) -> Result<(), StorageError> {
        let mut part = self.free.pop().unwrap_or_default();
        let is_first = self.at == 0;
        part.offset = self.at - self.rest.len() as u64;
        self.fill(&mut part.bytes)?;
        if is_first {
            let header = memchr::memchr(b'\n', &part.bytes).map_or(0, |end| end + 1);
            read_on(&mut self.scanner, &part.bytes[..header]);
            part.bytes.drain(..header);
            part.offset += header as u64;
            self.said = self.scanner.so_far().crc;
        }
        if part.bytes.is_empty() {
            self.free.push(part);
            return Ok(());
        }
        part.run = Run { prev: self.said, ..Run::default() };
        let lines = &part.bytes[..part.bytes.len() - 1];
        let last = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
        // If it says nothing the next part does not fit it, and is read in its turn.
        self.said = decode::said_checksum(&lines[last..]).unwrap_or(0);
        if self.threads == 0 {
            self.under_way.push_back(Turn::Unread(part));
            return Ok(());
        }
        let reading = self.reading;
        let spawned = thread::Builder::new().spawn_scoped(self.scope, move || {
            part.read(reading);
            part
        });
        let spawned = spawned.map_err(StorageError::io("starting a thread to read", &self.path))?;
        self.under_way.push_back(Turn::UnderWay(spawned));
        Ok(())
    }

    /// Takes up the next whole lines; of a line that does not end in so many bytes, a piece.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> Result<(), StorageError> {
        bytes.clear();
        bytes.append(&mut self.rest);
        let begun = bytes.len();
        // One more than there was: a file that ends where it did is known to.
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = self.part_bytes.min(left.saturating_add(1));
        bytes.resize(begun + wanted, 0);
        let read = self.file.read_at(&mut bytes[begun..], self.at);
        let read = read.map_err(StorageError::io("reading", &self.path))?;
        self.at += read as u64;
        self.ended = read < wanted;
        bytes.truncate(begun + read);
        let whole = memchr::memrchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        self.rest.extend_from_slice(&bytes[whole..]);
        bytes.truncate(whole);
        Ok(())
    }
}
