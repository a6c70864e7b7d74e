//! `data.mark`: what was durable last, remembered beside the log.
//!
//! Two lines of 38 bytes, written in turn, the higher good one counts:
//!
//! ```text
//! MRK s=00000000000000001041 c=5b1f9c02
//! ```
//!
//! | field | meaning | bound |
//! |---|---|---|
//! | `s=` | sequence number up to which the log is durable | 20 digits |
//! | `c=` | CRC-32 of the line before ` c=` | 8 hex digits |
//!
//! It is written after each sync of the log and not synced itself: the line that it says less
//! than the truth is harmless, more than the truth it never says. Two lines, so that a write
//! that is cut short leaves the other.
//!
//! # Caveats
//!
//! A copy of a data directory taken while the node runs must copy the mark before the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use super::record::checksum;
use crate::StorageError;
use crate::disk::{Disk, DiskFile, Open};

const LINE_BYTES: usize = 38;

/// The open mark file.
#[derive(Debug)]
pub struct Mark {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Which of the two lines is written next.
    slot: u64,
}

impl Mark {
    /// Opens or makes the mark file; returns it and the sequence number it remembers (0: none).
    ///
    /// # Errors
    ///
    /// The file cannot be opened or read.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, u64), StorageError> {
        let file = files::open(disk, path, Open::Keep)?;
        let mut bytes = [0; 2 * LINE_BYTES];
        file.read_at(&mut bytes, 0).map_err(StorageError::io("reading", path))?;
        let marks = [0, 1].map(|slot| bytes.chunks(LINE_BYTES).nth(slot).and_then(decode));
        let slot = u64::from(marks[0] >= marks[1] && marks[0].is_some());
        let durable = marks.into_iter().flatten().max().unwrap_or(0);
        Ok((Self { file, path: path.to_owned(), slot }, durable))
    }

    /// Remembers that the log is durable up to `seq`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn set(&mut self, seq: u64) -> Result<(), StorageError> {
        let written = self.file.write_at(&encode(seq), self.slot * LINE_BYTES as u64);
        written.map_err(StorageError::io("writing", &self.path))?;
        self.slot = 1 - self.slot;
        Ok(())
    }
}

fn encode(seq: u64) -> Vec<u8> {
    let body = format!("MRK s={seq:020}");
    let crc = checksum(body.as_bytes(), 0);
    format!("{body} c={crc:08x}\n").into_bytes()
}

fn decode(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let seq = text.strip_prefix("MRK s=")?.get(..20)?.parse().ok()?;
    (encode(seq) == line).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn golden_line() {
        let line = String::from_utf8(encode(1041)).unwrap();
        assert_eq!(line.len(), LINE_BYTES);
        assert!(line.starts_with("MRK s=00000000000000001041 c="));
        assert_eq!(decode(line.as_bytes()), Some(1041));
    }

    #[test]
    fn the_last_mark_is_remembered() {
        let (disk, path) = (SimDisk::new(1), Path::new("/data.mark"));
        for seq in 0..5 {
            let (mut mark, before) = Mark::open(&disk, path).unwrap();
            assert_eq!(before, seq * 10);
            mark.set(seq * 10 + 5).unwrap();
            mark.set(seq * 10 + 10).unwrap();
        }
    }

    #[test]
    fn a_write_cut_short_leaves_the_line_before() {
        let (disk, path) = (SimDisk::new(1), Path::new("/data.mark"));
        let (mut mark, _) = Mark::open(&disk, path).unwrap();
        mark.set(1).unwrap();
        mark.set(2).unwrap();
        mark.set(3).unwrap();
        let mut bytes = disk.contents(path).unwrap();
        bytes[3..10].fill(0);
        disk.set_contents(path, bytes);
        assert_eq!(Mark::open(&disk, path).unwrap().1, 2);
    }
}
