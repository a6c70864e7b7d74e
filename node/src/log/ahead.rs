//! Reading a large file of the log with more than one thread.
//!
//! ```text
//!   this thread    cuts the file into parts of whole lines ─┐            ┌─ takes them in turn
//!   others                                                  └─ read part ┘
//!                                                              put its records in key order
//! ```
//!
//! A line's checksum goes on from the one that the line before *says* it has, so a part can be checked
//! before those in front of it are, up to the first line that is not a good `PUT`, `DEL` or note: a [`Run`]. When its turn
//! comes the [`Scanner`] takes it, if it fits what came before; whatever it does not take, and the lines behind a run,
//! it reads itself, one by one. So what is found, and which line is the first bad one, is what the scanner
//! says, here as anywhere.
//!
//! The records of a run are given in key order, those of one key in the order of their lines. What is held for
//! a key depends on its own lines only, so the map is the same; and neighbours in it are at hand.
//!
//! # Caveats
//!
//! Beside the map there are up to as many parts in memory as there are processors, and one more, each of
//! [`PART_BYTES`] and about as much again for what was read in it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use super::decode;
use super::files;
use super::note::Note;
use super::place::{FileId, Place};
use super::record::{LINE_BYTES_MAX, Line, Op, Record};
use super::scan::{Kind, Run, Scan, Scanned, Scanner};
use super::value::Value;
use crate::StorageError;
use crate::disk::{Disk, DiskFile, Open};

/// How much of a file is a part. Larger ones have more neighbours in them.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

/// How many threads read ahead at most: one alone takes what they read.
const THREADS_MAX: usize = 8;

/// A part whose turn will come.
enum Turn<'scope> {
    /// Nothing in it was read yet.
    Unread(Part),
    /// Another thread reads it.
    UnderWay(ScopedJoinHandle<'scope, Part>),
}

/// A file that is being read.
pub struct Ahead<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
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
        (kind, id): (Kind, FileId),
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
            scanner: Scanner::new(kind, id).with_notes(),
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

    /// Takes the next part, giving each good record in it to `each`; false at the end of the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    ///
    /// # Panics
    ///
    /// Never: reading a part does not.
    pub fn step(
        &mut self,
        mut each: impl FnMut(&Scanned<'_>, Place),
    ) -> Result<bool, StorageError> {
        while !self.ended && self.under_way.len() < self.threads.max(1) {
            self.begin_part(&mut each)?;
        }
        let mut part = match self.under_way.pop_front() {
            Some(Turn::Unread(part)) => part,
            Some(Turn::UnderWay(part)) => part.join().expect("reading a part does not panic"),
            None => {
                let rest = std::mem::take(&mut self.rest);
                self.scanner.feed(&rest, each);
                return Ok(false);
            }
        };
        let mut read = 0;
        if let Some(offset) = self.scanner.take_run(&part.run) {
            let file = self.scanner.file();
            part.give(|record, line| {
                let place = Place { file, offset: offset + u64::from(line.at), len: line.len };
                each(record, place);
            });
            part.notes.drain(..).for_each(|note| self.scanner.keep_note(note));
            read = part.read;
        }
        self.scanner.feed(&part.bytes[read..], each);
        self.free.push(part);
        Ok(true)
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
        each: &mut impl FnMut(&Scanned<'_>, Place),
    ) -> Result<(), StorageError> {
        let mut part = self.free.pop().unwrap_or_default();
        let is_first = self.at == 0;
        self.fill(&mut part.bytes)?;
        if is_first {
            let header = memchr::memchr(b'\n', &part.bytes).map_or(0, |end| end + 1);
            self.scanner.feed(&part.bytes[..header], each);
            part.bytes.drain(..header);
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
        let spawned = thread::Builder::new().spawn_scoped(self.scope, move || {
            part.read();
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

/// Some bytes of a part: of its lines or, behind all of them, of what was unescaped or unpacked.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    at: u32,
    len: u32,
}

/// Whole lines, and what was read in them.
#[derive(Debug, Default)]
struct Part {
    bytes: Vec<u8>,
    /// Its good lines from the first one on.
    run: Run,
    /// Bytes of these.
    read: usize,
    /// Each with its line.
    records: Vec<(Record<Span>, Span)>,
    /// In the order of their lines.
    notes: Vec<Note>,
    /// Keys and values that stand in the lines in another way.
    decoded: Vec<u8>,
    /// The records in key order: of each a piece of its key as a number, and which it is.
    order: Vec<(u64, u32)>,
}

impl Part {
    /// Reads lines until one that is not for a run.
    fn read(&mut self) {
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
    fn give(&self, mut each: impl FnMut(&Scanned<'_>, Span)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use crate::log::encode::{encode_bye, encode_end, encode_header, encode_record};
    use crate::log::note::{Noted, encode_note};
    use crate::log::record::{End, Header};
    use crate::replica::Ledger;
    use crate::store::{PageRequest, Store};
    use bytes::Bytes;
    use proptest::prelude::*;
    use ringkv_shared::Version;
    use ringkv_shared::hlc::Stamp;

    #[derive(Clone, Debug)]
    enum Write {
        /// A key, the pieces of its value, how the line is special.
        Put(u8, u16, u8),
        Del(u8),
        Drop(u8),
        DropSpace,
        Note(u8),
        Bye,
        /// A line that cannot stand where it does.
        End,
    }

    fn write() -> impl Strategy<Value = Write> {
        let key = 0..24_u8;
        prop_oneof![
            40 => (key.clone(), 0..60_u16, 0..8_u8).prop_map(|(key, len, how)| Write::Put(key, len, how)),
            1 => (key.clone(), 300..2000_u16).prop_map(|(key, len)| Write::Put(key, len, 0)),
            8 => key.clone().prop_map(Write::Del),
            2 => key.clone().prop_map(Write::Drop),
            1 => Just(Write::DropSpace),
            4 => key.prop_map(Write::Note),
            1 => Just(Write::Bye),
        ]
    }

    /// Keys of two keyspaces; some are spelled in another way than they are.
    fn key(n: u8) -> Bytes {
        let space = if n.is_multiple_of(3) { "\0carts\0" } else { "" };
        let odd = if n.is_multiple_of(4) { " %" } else { "" };
        Bytes::from(format!("{space}user:{}{n}{odd}", "x".repeat(usize::from(n % 7))))
    }

    fn record(write: &Write, seq: u64, version: u64) -> Record {
        let version = Version::new(1, version);
        let (n, op) = match *write {
            Write::Put(n, len, how) => {
                let raw = Bytes::from(format!("{seq} ").repeat(usize::from(len)));
                (n, Op::Put { value: Value::new(raw), expires: (how == 1).then_some(seq) })
            }
            Write::Del(n) => (n, Op::Del),
            Write::Drop(n) => (n, Op::Drop),
            _ => (0, Op::DropSpace),
        };
        let key = if op == Op::DropSpace { Bytes::from_static(b"\0carts\0") } else { key(n) };
        let record = Record { seq, durable: seq / 2, ..Record::new(key, op, version) };
        match write {
            Write::Put(.., 2) => record.with_seen(&"1.1".parse().unwrap()),
            Write::Put(.., 3) => Record { stamp: Some(Stamp { ms: seq % 5, count: 1 }), ..record },
            _ => record,
        }
    }

    fn log(writes: &[Write], kind: Kind) -> Vec<u8> {
        let header = Header { uuid: uuid::Uuid::nil(), segment: 1, prev: 0, seq: 0 };
        let mut out = Vec::new();
        let mut crc = encode_header(&header, &mut out);
        for (seq, write) in (1..).zip(writes) {
            crc = match write {
                Write::Note(n) => {
                    let (keyspace, key) = (ringkv_shared::KeyspaceName::default(), key(1 + n % 2));
                    let to = "n2".parse().unwrap();
                    let note = Note::Owed { to, keyspace, key, at_ms: seq };
                    encode_note(&Noted { note, seq, durable: 0 }, crc, &mut out)
                }
                Write::Bye => encode_bye(seq, crc, &mut out),
                Write::End => encode_end(&End { count: 1, seq, durable: 0 }, crc, &mut out),
                // Not in the order of their versions, and some twice.
                write => encode_record(&record(write, seq, 1 + seq * 7 % 61), crc, &mut out),
            };
        }
        if kind == Kind::Snapshot {
            let count = writes.len() as u64;
            encode_end(&End { count, seq: count + 1, durable: 0 }, crc, &mut out);
        }
        out
    }

    /// The log is damaged there.
    #[derive(Clone, Debug)]
    enum Damage {
        Flip(prop::sample::Index),
        Cut(prop::sample::Index),
        /// Bytes that are none of its own.
        Insert(prop::sample::Index, Vec<u8>),
        /// A piece is gone.
        Hole(prop::sample::Index, usize),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            at().prop_map(Damage::Flip),
            at().prop_map(Damage::Cut),
            (at(), proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 1..20))
                .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
            (at(), 1..500_usize).prop_map(|(at, len)| Damage::Hole(at, len)),
        ]
    }

    fn spoil(bytes: &mut Vec<u8>, damage: &Damage) {
        match damage {
            _ if bytes.is_empty() => {}
            Damage::Flip(at) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1;
            }
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Insert(at, other) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, other.iter().copied());
            }
            Damage::Hole(at, len) => {
                let at = at.index(bytes.len());
                bytes.drain(at..bytes.len().min(at + len));
            }
        }
    }

    /// All that comes of a log.
    fn outcome(store: &Store, notes: &[Note], scan: &Scan) -> String {
        let mut ledger = Ledger::default();
        notes.iter().for_each(|note| ledger.apply(note));
        let request = PageRequest {
            keys_max: usize::MAX,
            bytes_max: usize::MAX,
            ..PageRequest::everything()
        };
        let page = store.page(&request, 0).unwrap();
        let depends: Vec<u64> = (0..24).map(|n| store.depends_on(&key(n))).collect();
        let digests =
            ["default", "carts"].map(|name| store.digests().parts(name).collect::<Vec<_>>());
        format!(
            "{:?} {:?} {depends:?} {digests:?} {ledger:?} {scan:?}",
            page.entries,
            store.tally()
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_ahead_is_what_is_read_line_by_line(
            writes in proptest::collection::vec(write(), 0..120), end in any::<Option<prop::sample::Index>>(),
            damages in proptest::collection::vec(damage(), 0..3), is_snapshot in any::<bool>(),
            part_bytes in prop_oneof![1..400_usize, 400..6000_usize], many in 1..4_usize,
        ) {
            let kind = if is_snapshot { Kind::Snapshot } else { Kind::Segment };
            let mut writes = writes;
            if let Some(at) = end.filter(|_| many == 1 && !writes.is_empty()) {
                let at = at.index(writes.len());
                writes[at] = Write::End;
            }
            let mut bytes = log(&writes, kind);
            damages.iter().for_each(|damage| spoil(&mut bytes, damage));
            let (mut expected, mut expected_notes) = (Store::default(), Vec::new());
            let mut scanner = Scanner::new(kind, FileId(2)).with_notes();
            scanner.feed(&bytes, |record, place| { expected.apply(record, Some(place)); });
            expected_notes.extend(scanner.take_notes());
            let expected = outcome(&expected, &expected_notes, &scanner.finish());

            let (disk, path) = (SimDisk::new(1), Path::new("/data.log"));
            disk.open(path, Open::New).unwrap().write_at(&bytes, 0).unwrap();
            let (mut store, mut notes) = (Store::default(), Vec::new());
            let scan = thread::scope(|scope| {
                let mut ahead = Ahead::open(scope, &disk, path, (kind, FileId(2)), part_bytes).unwrap();
                while ahead.step(|record, place| { store.apply(record, Some(place)); }).unwrap() {
                    notes.extend(ahead.take_notes());
                }
                notes.extend(ahead.take_notes());
                ahead.finish()
            });
            prop_assert_eq!(outcome(&store, &notes, &scan), expected);
        }
    }
}
