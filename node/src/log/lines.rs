//! Reading one line back from its place.
//!
//! ```text
//!   … c=5b1f9c02\n DEL user:1 k=default … c=90aa01ff\n
//!       └──────┘   └───────── the line ──────────────┘
//!   the checksum that the chain continues from
//! ```
//!
//! A line is checked by itself: its checksum continues from that of the line before, which stands in
//! the nine bytes before it. So what is read back is exactly what was written there, or an error; no
//! other line of the file has to be read.
//!
//! A file stays open once it was read from. So a line can be read while its file gets its
//! closed name, and to the end of the read while the file is deleted.
//!
//! # Caveats
//!
//! One file is open for each segment and snapshot that holds values which are not in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::decode::decode_line;
use super::files::{self, DataDir};
use super::place::{FileId, Place};
use super::record::{BadLine, Line, Record};
use crate::StorageError;
use crate::disk::{DiskFile, Open};

/// The end of the line before: eight digits and a newline.
const BEFORE_BYTES: u64 = 9;

/// The files of the log, to read lines from.
#[derive(Debug)]
pub struct Lines {
    dir: Arc<DataDir>,
    open: Mutex<BTreeMap<FileId, Arc<dyn DiskFile>>>,
}

impl Lines {
    /// The files of a directory. The active segment must be told by [`Self::opened`].
    #[must_use]
    pub const fn new(dir: Arc<DataDir>) -> Self {
        Self { dir, open: Mutex::new(BTreeMap::new()) }
    }

    /// Says that a file is open already, under whatever name.
    pub fn opened(&self, id: FileId, file: Arc<dyn DiskFile>) {
        self.lock().insert(id, file);
    }

    /// Says that no place is in a file any more. Reads that have begun go on.
    pub fn forget(&self, id: FileId) {
        self.lock().remove(&id);
    }

    /// The record whose line stands at a place. May wait for the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or what stands there is not a line that was written there.
    pub fn read(&self, place: Place) -> Result<Record, StorageError> {
        let path = self.path(place.file);
        let file = self.file(place.file, &path)?;
        let mut bytes = vec![0; BEFORE_BYTES as usize + place.len as usize];
        let from = place.offset.saturating_sub(BEFORE_BYTES);
        let read = file.read_at(&mut bytes, from).map_err(StorageError::io("reading", &path))?;
        record(&bytes[..read]).map_err(|reason| self.unreadable(place, reason))
    }

    /// The error of a line that is not what was written there.
    #[must_use]
    pub fn unreadable(&self, place: Place, reason: BadLine) -> StorageError {
        StorageError::Unreadable { file: self.path(place.file), offset: place.offset, reason }
    }

    fn file(&self, id: FileId, path: &Path) -> Result<Arc<dyn DiskFile>, StorageError> {
        // Locked while it is opened: a file that is deleted meanwhile must be there to be forgotten.
        let mut open = self.lock();
        if let Some(file) = open.get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = files::open(self.dir.disk(), path, Open::Read)?;
        open.insert(id, Arc::clone(&file));
        Ok(file)
    }

    fn path(&self, id: FileId) -> PathBuf {
        match id.is_snapshot() {
            true => self.dir.snapshot(id.number()),
            false => self.dir.closed(id.number()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FileId, Arc<dyn DiskFile>>> {
        self.open.lock().expect("nothing panics while it holds the files")
    }
}

/// The record in a line, given with the end of the line before.
fn record(bytes: &[u8]) -> Result<Record, BadLine> {
    let split = bytes.split_at_checked(BEFORE_BYTES as usize).ok_or(BadLine::NoNewline)?;
    let (before, line) = (split.0.strip_suffix(b"\n"), split.1.strip_suffix(b"\n"));
    let line = line.ok_or(BadLine::NoNewline)?;
    let before = before.and_then(|digits| std::str::from_utf8(digits).ok());
    let before = before.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match decode_line(line, before.ok_or(BadLine::NoChecksum)?)? {
        (Line::Record(record), _) => Ok(record.copied()),
        _ => Err(BadLine::Misplaced("no record where one was written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk as _, SimDisk};
    use crate::log::encode::encode_header;
    use crate::log::record::{Header, Op};
    use crate::log::scan::{Kind, scan_all};
    use crate::log::tail::Tail;
    use crate::log::value::Value;
    use bytes::Bytes;
    use ringkv_shared::Version;

    const SEGMENT: FileId = FileId(2);

    /// A closed segment, the records in it and their places.
    fn segment() -> (SimDisk, Lines, Vec<(Record, Place)>) {
        let disk = SimDisk::new(1);
        let id = "n1".parse().unwrap();
        let dir = DataDir::open(Arc::new(disk.clone()), Path::new("/data"), &id).unwrap();
        let mut bytes = Vec::new();
        let header = Header { uuid: dir.uuid(), segment: 1, prev: 7, seq: 0 };
        let mut tail = Tail::new(dir.uuid(), 1, 0, encode_header(&header, &mut bytes));
        for n in 1..20 {
            let value = Value::new(Bytes::from(vec![b'v'; n * 100]));
            let key = Bytes::from(format!("key {n}"));
            let op = Op::write(Some(value));
            tail.append(Record::new(key, op, Version::new(1, n as u64)));
        }
        bytes.extend(tail.take());
        let mut all = Vec::new();
        scan_all(&bytes, Kind::Segment, SEGMENT, |record, place| {
            all.push((record.copied(), place))
        });
        disk.set_contents(&dir.closed(1), bytes);
        (disk, Lines::new(Arc::new(dir)), all)
    }

    #[test]
    fn every_line_is_read_back_from_its_place() {
        let (disk, lines, all) = segment();
        assert_eq!(all.len(), 19);
        for (record, place) in &all {
            assert_eq!(&lines.read(*place).unwrap(), record);
        }
        disk.remove(Path::new("/data/data-000001.log")).unwrap();
        assert_eq!(lines.read(all[3].1).unwrap(), all[3].0, "the file is still open");
        lines.forget(SEGMENT);
        assert!(matches!(lines.read(all[3].1), Err(StorageError::Io { .. })));
    }

    #[test]
    fn a_changed_bit_or_another_place_is_an_error() {
        let (disk, lines, all) = segment();
        let (path, place) = (Path::new("/data/data-000001.log"), all[2].1);
        let bytes = disk.contents(path).unwrap();
        let from = place.offset as usize - BEFORE_BYTES as usize;
        for at in from..from + BEFORE_BYTES as usize + place.len as usize {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            disk.set_contents(path, changed);
            lines.forget(SEGMENT);
            let error = lines.read(place).unwrap_err().to_string();
            assert!(error.contains("data-000001.log") && error.contains("offset"), "{error}");
        }
        disk.set_contents(path, bytes);
        lines.forget(SEGMENT);
        for (offset, len) in [(1, 0), (0, 5), (u64::MAX / 2, 0)] {
            let place = Place { offset: place.offset + offset, len: place.len + len, ..place };
            assert!(matches!(lines.read(place), Err(StorageError::Unreadable { .. })));
        }
    }

    /// A handle that came back after the file was forgotten would hold its room for good.
    #[test]
    fn a_file_that_is_deleted_during_a_read_is_not_held_open() {
        for round in 0..500 {
            let (disk, lines, all) = segment();
            let deleted = disk.contents(Path::new("/data/data-000001.log")).unwrap().len() as u64;
            let used = disk.used();
            let begun = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    begun.wait();
                    lines.read(all[0].1)
                });
                begun.wait();
                (0..round % 100 * 10).for_each(|_| std::hint::spin_loop());
                disk.remove(Path::new("/data/data-000001.log")).unwrap();
                lines.forget(SEGMENT);
            });
            assert_eq!(disk.used(), used - deleted, "round {round}");
        }
    }
}
