//! From a directory to a map: newest snapshot, closed segments after it, active segment.
//!
//! Each file must follow on from the one before: its number is the next, its `prev` and `s` are
//! the end of the other. Only the end of `data.log` may be torn; everything else was synced before
//! it got its name, so a bad line there is damage. Nothing is changed until all of it was read
//! and found good.
//!
//! # Caveats
//!
//! Replay takes memory beside the map for some parts of a file, and for writes that are put in together, see
//! [`ahead`](super::ahead). Where there is a bound on values in memory, there may be a part's more of them for a moment.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use tracing::warn;

use super::ahead::{Ahead, PART_BYTES, Reading, Replayed, Waiting};
use super::encode;
use super::files::{self, DataDir, Listing};
use super::mark::Mark;
use super::place::FileId;
use super::record::Header;
use super::recover::{self, Verdict};
use super::repair;
use super::scan::{Bad, Kind, Scan};
use super::sizes::Sizes;
use super::snapshot;
use super::tail::Tail;
use super::writer::Writer;
use crate::StorageError;
use crate::disk::{DiskFile, Open};
use crate::replica::Ledger;
use crate::step::StepHook;
use crate::store::{Budget, Store};

/// How much of a file is a part where there is a bound on values in memory.
const BOUNDED_PART_BYTES: usize = 1024 * 1024;

/// A log that is read and ready to be written to.
#[derive(Debug)]
pub struct Opened {
    /// The map.
    pub store: Store,
    /// Floors and debts.
    pub ledger: Ledger,
    /// Where the log ends.
    pub tail: Tail,
    /// The active segment.
    pub writer: Writer,
    /// Records read from snapshot and segments.
    pub replayed: u64,
    /// Of these, records in segments: what the next compaction would save.
    pub since_snapshot: u64,
    /// Bytes in the files.
    pub sizes: Sizes,
}

/// Where the part of the log that is read so far ends.
struct Replay<'a> {
    dir: &'a DataDir,
    store: Store,
    /// What is to be put into it.
    waiting: Waiting,
    ledger: Ledger,
    /// What may be in memory.
    memory: Option<Budget>,
    /// The next segment's number.
    segment: u64,
    /// Last line read, 0 at the start.
    seq: u64,
    /// Its checksum.
    crc: u32,
    /// What the mark says.
    marked: u64,
    /// Highest durable horizon told so far.
    horizon: u64,
    replayed: u64,
    since_snapshot: u64,
    sizes: Sizes,
}

/// Reads the log in `dir`, repairs a torn tail, and opens it for appending.
///
/// # Errors
///
/// Damage (nothing was changed then), or the operating system.
pub fn open(
    dir: &Arc<DataDir>,
    snapshots_kept: usize,
    memory: Option<Budget>,
) -> Result<Opened, StorageError> {
    let listing = dir.list()?;
    let (mark, marked) = Mark::open(dir.disk(), &dir.mark())?;
    // A name that is seen may not be durable: the last stop may have been a sync that failed.
    dir.sync()?;
    let mut replay = Replay::new(dir, marked, memory);
    replay.closed_files(&listing)?;
    let file = if listing.active { replay.active_file()? } else { replay.no_active_file()? };
    replay.waiting.put_into(&mut replay.store);
    dir.delete_unfinished()?;
    if let Some(newest) = listing.snapshots.last() {
        snapshot::delete_covered(dir, *newest, snapshots_kept, &StepHook::default())?;
    }
    let tail = Tail::new(dir.uuid(), replay.segment, replay.seq, replay.crc);
    let mut writer = Writer::new(Arc::clone(dir), file, replay.sizes.active, mark);
    writer.sync(replay.seq)?;
    let Replay { mut store, ledger, seq, replayed, since_snapshot, sizes, .. } = replay;
    store.settle(seq);
    Ok(Opened { store, ledger, tail, writer, replayed, since_snapshot, sizes })
}

impl<'a> Replay<'a> {
    fn new(dir: &'a DataDir, marked: u64, memory: Option<Budget>) -> Self {
        let store = Store::default();
        let (seq, crc, replayed, since_snapshot, sizes) = (0, 0, 0, 0, Sizes::default());
        let horizon = marked;
        Self {
            dir,
            store,
            waiting: Waiting::default(),
            ledger: Ledger::default(),
            memory,
            segment: 1,
            seq,
            crc,
            marked,
            horizon,
            replayed,
            since_snapshot,
            sizes,
        }
    }

    fn closed_files(&mut self, listing: &Listing) -> Result<(), StorageError> {
        let newest = listing.snapshots.last().copied().unwrap_or(0);
        if newest > 0 {
            self.snapshot(newest)?;
        }
        for &segment in listing.closed.iter().filter(|n| **n > newest) {
            self.closed_segment(segment)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, segment: u64) -> Result<(), StorageError> {
        let path = self.dir.snapshot(segment);
        let scan = self.read(&path, Kind::Snapshot, FileId::snapshot(segment))?;
        let header = whole(&path, &scan)?;
        if header.segment != segment || header.uuid != self.dir.uuid() {
            return Err(StorageError::damaged(&path, "the header is another file's"));
        }
        (self.segment, self.seq, self.crc) = (segment + 1, header.seq, header.prev);
        self.sizes.snapshot = scan.good_bytes;
        Ok(())
    }

    fn closed_segment(&mut self, segment: u64) -> Result<(), StorageError> {
        let path = self.dir.closed(segment);
        let scan = self.read(&path, Kind::Segment, FileId::segment(segment))?;
        self.follows(&path, whole(&path, &scan)?)?;
        self.advance(&scan);
        self.sizes.closed(segment, scan.good_bytes);
        self.segment += 1;
        Ok(())
    }

    fn active_file(&mut self) -> Result<Arc<dyn DiskFile>, StorageError> {
        let path = self.dir.active();
        let scan = self.read(&path, Kind::Segment, FileId::segment(self.segment))?;
        let verdict = recover::verdict(&scan, self.horizon);
        if let Verdict::Damaged(bad) = verdict {
            return Err(damaged(&path, &bad, &scan));
        }
        let header = scan.header.as_ref().expect("without a header the verdict is damage");
        self.follows(&path, header)?;
        self.advance(&scan);
        self.sizes.active = scan.good_bytes;
        if let Verdict::Torn { offset } = verdict {
            let (bytes, kept) = repair::keep_torn(self.dir, offset)?;
            let reason = scan.bad.as_ref().map(|bad| bad.reason.to_string()).unwrap_or_default();
            let (log, kept) = (path.display(), kept.display());
            warn!(%log, offset, bytes, %kept, reason, "cut a torn tail: nobody was told it was safe");
        }
        // The mark is set after a sync that went well, so it tells that the BYE is on the disk.
        if scan.bye && scan.bad.is_none() && self.marked >= scan.seq {
            return files::open(self.dir.disk(), &path, Open::Write);
        }
        repair::rewrite(self.dir, scan.good_bytes)
    }

    /// A new directory, or a crash after the last segment was closed and before the next was.
    fn no_active_file(&mut self) -> Result<Arc<dyn DiskFile>, StorageError> {
        let path = self.dir.active();
        if self.seq < self.horizon {
            return Err(StorageError::damaged(&path, "the file with the newest data is missing"));
        }
        let (uuid, segment) = (self.dir.uuid(), self.segment);
        let header = Header { uuid, segment, prev: self.crc, seq: self.seq };
        let mut line = Vec::new();
        self.crc = encode::encode_header(&header, &mut line);
        let tmp = self.dir.active_tmp();
        let file = files::write_new(self.dir.disk(), &tmp, &line)?;
        files::rename(self.dir.disk(), &tmp, &path)?;
        self.dir.sync()?;
        self.sizes.active = line.len() as u64;
        Ok(file)
    }

    /// Replays a file, some parts at a time, with no more values in memory than there may be.
    fn read(&mut self, path: &Path, kind: Kind, id: FileId) -> Result<Scan, StorageError> {
        let scan = thread::scope(|scope| {
            let bounded = self.memory.is_some();
            let part_bytes = if bounded { BOUNDED_PART_BYTES } else { PART_BYTES };
            // Where a line stands is asked for only when its value may leave memory.
            let reading = Reading { kind, file: id, places: bounded };
            let mut file = Ahead::open(scope, self.dir.disk(), path, reading, part_bytes)?;
            let mut more = true;
            while more {
                more = file.step(|replayed| match replayed {
                    Replayed::Run(writes) => self.waiting.add(writes),
                    Replayed::Record(record, place) => {
                        self.waiting.put_into(&mut self.store);
                        let place = bounded.then_some(place);
                        match kind {
                            Kind::Snapshot => self.store.apply(&record.of_snapshot(), place),
                            Kind::Segment => self.store.apply(record, place),
                        };
                    }
                })?;
                if bounded || self.waiting.is_enough_for(&self.store) {
                    file.pause();
                    self.waiting.put_into(&mut self.store);
                }
                file.take_notes().iter().for_each(|note| self.ledger.apply(note));
                if let Some(budget) = &self.memory {
                    if kind == Kind::Segment {
                        self.store.settle(file.so_far().seq);
                    }
                    while self.store.evict(budget).is_to_go_on() {}
                }
            }
            Ok(file.finish())
        })?;
        self.replayed += scan.records;
        if kind == Kind::Segment {
            self.since_snapshot += scan.records;
        }
        Ok(scan)
    }

    /// Checks that a segment goes on where the file before it ended.
    fn follows(&self, path: &Path, header: &Header) -> Result<(), StorageError> {
        let expected =
            Header { uuid: self.dir.uuid(), segment: self.segment, prev: self.crc, seq: self.seq };
        if *header == expected {
            return Ok(());
        }
        let Header { uuid, segment, prev, seq } = expected;
        let reason = format!(
            "the file does not follow on from the one before it: expected node={uuid} seg={segment:06} prev={prev:08x} s={seq}"
        );
        Err(StorageError::damaged(path, reason))
    }

    fn advance(&mut self, scan: &Scan) {
        (self.seq, self.crc) = (scan.seq, scan.crc);
        self.horizon = self.horizon.max(scan.durable);
    }
}

fn whole<'s>(path: &Path, scan: &'s Scan) -> Result<&'s Header, StorageError> {
    if let Some(bad) = &scan.bad {
        return Err(damaged(path, bad, scan));
    }
    Ok(scan.header.as_ref().expect("a file without a header has a bad first line"))
}

fn damaged(path: &Path, bad: &Bad, scan: &Scan) -> StorageError {
    StorageError::Damaged {
        file: path.to_owned(),
        line: bad.line,
        offset: bad.offset,
        reason: bad.reason.to_string(),
        later_fine: scan.later_fine,
    }
}
