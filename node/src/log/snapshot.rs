//! Writing a snapshot: the whole map as one file of records, the notes first.
//!
//! `snap-000041.log` stands for segments 1 to 41. Its header carries the end of segment 41
//! (`prev`, `s`), so recovery can check that segment 42 follows on; its lines count from 1 and its
//! `END` says how many there are. It is written as `.tmp`, synced, and only then renamed, so a
//! snapshot that has its name is complete: a bad line in one is damage, never a torn tail.
//!
//! # Caveats
//!
//! The old files stay until the new snapshot is durable: compaction needs room for both. A snapshot
//! that is kept beside a newer one is a whole map, but the segments after it are gone: who goes back
//! to it gets the moment it was made, or nothing.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ringkv_shared::causal::Context;

use super::encode;
use super::files::{self, DataDir};
use super::note::{self, Note, Noted};
use super::place::FileId;
use super::record::{End, Header, Op, Record};
use crate::StorageError;
use crate::disk::DiskFile;
use crate::step::{Step, StepHook};
use crate::store::{Content, Copied, CopiedKey, Entry, Held};

/// A snapshot being written.
#[derive(Debug)]
pub struct SnapshotWriter {
    dir: Arc<DataDir>,
    file: Arc<dyn DiskFile>,
    tmp: PathBuf,
    /// The last segment covered.
    segment: u64,
    /// The last line of the log covered.
    covered: u64,
    /// Checksum of the last line.
    crc: u32,
    /// Records so far.
    count: u64,
    /// Bytes so far.
    bytes: u64,
    /// Memory for lines.
    lines: Vec<u8>,
}

impl SnapshotWriter {
    /// Starts the snapshot of all segments before the one that `next` is the header of.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn start(dir: Arc<DataDir>, next: &Header) -> Result<Self, StorageError> {
        let header = Header { segment: next.segment - 1, ..next.clone() };
        let tmp = dir.snapshot_tmp(header.segment);
        let mut line = Vec::new();
        let crc = encode::encode_header(&header, &mut line);
        let file = files::write_new(dir.disk(), &tmp, &line)?;
        let (segment, covered, bytes) = (header.segment, header.seq, line.len() as u64);
        Ok(Self { dir, file, tmp, segment, covered, crc, count: 0, bytes, lines: Vec::new() })
    }

    /// Adds notes.
    ///
    /// # Errors
    ///
    /// The write failed.
    pub fn add_notes(&mut self, notes: Vec<Note>) -> Result<(), StorageError> {
        let mut lines = Vec::new();
        for note in notes {
            self.count += 1;
            let noted = Noted { note, seq: self.count, durable: self.covered };
            self.crc = note::encode_note(&noted, self.crc, &mut lines);
        }
        self.write(&lines)
    }

    /// Adds all that is held for some keys, a line for each value and tombstone. Values that are not in memory
    /// are asked for.
    ///
    /// # Errors
    ///
    /// The write failed, or what `load` says.
    pub fn add(
        &mut self,
        keys: Copied,
        mut load: impl FnMut(&Bytes, Held) -> Result<Held, StorageError>,
    ) -> Result<(), StorageError> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let encoded = keys.each(|key| {
            match key {
                CopiedKey::Plain(key, entry) => self.line(key, entry, None, &mut lines),
                CopiedKey::Held(key, held) => {
                    let held = load(&key, held)?;
                    let past = held.more.as_ref().map(|more| &more.past);
                    for entry in held.entries() {
                        self.line(&key, entry.as_ref(), past, &mut lines);
                    }
                }
            }
            Ok(())
        });
        encoded.and_then(|()| self.write(&lines))?;
        self.lines = lines;
        Ok(())
    }

    fn line(
        &mut self,
        key: &[u8],
        entry: Entry<&[u8]>,
        past: Option<&Context>,
        lines: &mut Vec<u8>,
    ) {
        self.count += 1;
        let Entry { content, version, expires, stamp, .. } = entry;
        let op = match content {
            Content::Value(value) => Op::Put { value, expires },
            Content::Tombstone => Op::Del,
            Content::Evicted { .. } => unreachable!("it was loaded"),
        };
        let mut record = Record::new(key, op, version);
        if let Some(past) = past {
            record = record.with_seen(past);
        }
        let record = Record { stamp, seq: self.count, durable: self.covered, ..record };
        self.crc = encode::encode_record(&record, self.crc, lines);
    }

    /// Closes the file, gives it its name and makes both durable. Returns records and bytes.
    ///
    /// # Errors
    ///
    /// A step failed.
    pub fn finish(mut self, hook: &StepHook) -> Result<(u64, u64), StorageError> {
        let mut line = Vec::new();
        let end = End { count: self.count, seq: self.count + 1, durable: self.covered };
        encode::encode_end(&end, self.crc, &mut line);
        hook.at(Step::SnapshotWithoutEnd);
        self.write(&line)?;
        self.file.sync().map_err(StorageError::io("syncing", &self.tmp))?;
        hook.at(Step::SnapshotSynced);
        files::rename(self.dir.disk(), &self.tmp, &self.dir.snapshot(self.segment))?;
        self.dir.sync()?;
        hook.at(Step::SnapshotNamed);
        Ok((self.count, self.bytes))
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), StorageError> {
        let written = self.file.write_at(lines, self.bytes);
        written.map_err(StorageError::io("writing", &self.tmp))?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

/// Deletes what the snapshot of `segment` stands for: segments up to it, and all but the newest
/// `kept` snapshots. Says which files they were.
///
/// # Errors
///
/// A file cannot be deleted.
pub fn delete_covered(
    dir: &DataDir,
    segment: u64,
    kept: usize,
    hook: &StepHook,
) -> Result<Vec<FileId>, StorageError> {
    let listing = dir.list()?;
    let segments = listing.closed.iter().filter(|n| **n <= segment);
    let segments = segments.map(|n| (FileId::segment(*n), dir.closed(*n)));
    let old = listing.snapshots.len().saturating_sub(kept.max(1));
    let snapshots = listing.snapshots[..old].iter();
    let snapshots = snapshots.map(|n| (FileId::snapshot(*n), dir.snapshot(*n)));
    let mut deleted = Vec::new();
    for (id, path) in segments.chain(snapshots) {
        files::remove(dir.disk(), &path)?;
        hook.at(Step::OldFileDeleted);
        deleted.push(id);
    }
    dir.sync()?;
    Ok(deleted)
}
