//! Torn or damaged? The verdict on one file, from what a [`scan`](super::scan) of it found.
//!
//! After a power cut the end of a log may be missing or half written. Nobody was told that those
//! lines are safe, so they may go. The same bytes in the middle of the log mean that the disk lost
//! what *was* promised, and starting without them would lose it silently. The file alone cannot tell
//! the two apart, so the log says which lines were durable: each line repeats the horizon known
//! when it was written (`d=`), and the side file [`mark`](super::mark) has the latest. With D the
//! highest of these and p the sequence number of the first bad line:
//!
//! | | verdict |
//! |---|---|
//! | no bad line, last line ≥ D | whole |
//! | p > D | torn tail: cut it off |
//! | p ≤ D, or the file ends before D | damaged: refuse to start, change nothing |
//!
//! Lines after a hole whose checksum fits the line before them still count for D, and
//! go with the torn tail when the hole is behind D: they belong to the same unsynced group.
//!
//! # Caveats
//!
//! With a mark file that is missing or old, damage to the last group before the crash looks like
//! a torn tail.

use super::record::BadLine;
use super::scan::{Bad, Scan};

/// What to do with a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is there.
    Whole,
    /// Cut the file to this length.
    Torn {
        /// The first byte to go.
        offset: u64,
    },
    /// Refuse to start.
    Damaged(Bad),
}

/// The verdict on the active segment, given the highest horizon known from elsewhere.
#[must_use]
pub fn verdict(scan: &Scan, horizon: u64) -> Verdict {
    let horizon = horizon.max(scan.durable);
    match &scan.bad {
        Some(bad) if scan.header.is_none() || scan.seq < horizon => Verdict::Damaged(bad.clone()),
        Some(bad) => Verdict::Torn { offset: bad.offset },
        None if scan.seq < horizon => Verdict::Damaged(short(scan)),
        None => Verdict::Whole,
    }
}

fn short(scan: &Scan) -> Bad {
    let reason = BadLine::Misplaced("the file ends before lines that were durable");
    Bad { line: scan.lines + 1, offset: scan.good_bytes, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::encode::encode_header;
    use crate::log::place::FileId;
    use crate::log::record::{Header, Op, Record};
    use crate::log::scan::{Kind, Scan, scan_all};
    use crate::log::tail::Tail;
    use bytes::Bytes;
    use ringkv_shared::Version;

    /// A log of `lines` records of which the first `durable` were synced before the others.
    fn log(lines: u64, durable: u64) -> Vec<u8> {
        let uuid = uuid::Uuid::nil();
        let mut bytes = Vec::new();
        let header = Header { uuid, segment: 1, prev: 0, seq: 0 };
        let crc = encode_header(&header, &mut bytes);
        let mut tail = Tail::new(uuid, 1, 0, crc);
        for n in 1..=lines {
            let key = Bytes::from(format!("key{n}"));
            tail.append(Record::new(key, Op::Del, Version::new(1, n)));
            if n == durable {
                tail.made_durable(n);
            }
        }
        bytes.extend(tail.take());
        bytes
    }

    fn scan(bytes: &[u8]) -> Scan {
        scan_all(bytes, Kind::Segment, FileId(0), |_, _| ())
    }

    fn line_starts(bytes: &[u8]) -> Vec<usize> {
        let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        std::iter::once(0).chain(ends).collect()
    }

    fn judge(bytes: &[u8], horizon: u64) -> Verdict {
        verdict(&scan(bytes), horizon)
    }

    #[test]
    fn a_good_log_is_whole() {
        let scan = scan(&log(5, 3));
        assert_eq!((scan.records, scan.seq, scan.durable, &scan.bad), (5, 5, 3, &None));
        assert_eq!(verdict(&scan, 5), Verdict::Whole);
        assert!(matches!(verdict(&scan, 6), Verdict::Damaged(_)));
    }

    #[test]
    fn a_hole_behind_the_horizon_is_torn_and_before_it_damage() {
        let whole = log(6, 3);
        let starts = line_starts(&whole);
        for bad_line in 1..=6_usize {
            let mut bytes = whole.clone();
            bytes[starts[bad_line] + 5] ^= 1;
            let scan = scan(&bytes);
            let bad = scan.bad.clone().unwrap();
            assert_eq!((bad.line, bad.offset), (bad_line as u64 + 1, starts[bad_line] as u64));
            assert_eq!(scan.later_fine, 6 - bad_line as u64);
            match verdict(&scan, 0) {
                Verdict::Damaged(_) => assert!(bad_line <= 3, "line {bad_line}"),
                Verdict::Torn { offset } => assert!(bad_line > 3 && offset == bad.offset),
                Verdict::Whole => panic!("line {bad_line} went unnoticed"),
            }
            assert!(matches!(verdict(&scan, 6), Verdict::Damaged(_)));
        }
    }

    #[test]
    fn missing_doubled_and_moved_lines_show() {
        let whole = log(4, 4);
        let starts = line_starts(&whole);
        let line = |n: usize| &whole[starts[n]..starts[n + 1]];
        for order in [vec![0, 1, 3, 4], vec![0, 1, 1, 2, 3, 4], vec![0, 2, 1, 3, 4]] {
            let bytes: Vec<u8> = order.iter().flat_map(|&n| line(n)).copied().collect();
            assert!(matches!(judge(&bytes, 4), Verdict::Damaged(_)), "{order:?}");
        }
    }

    #[test]
    fn without_a_header_nothing_is_trusted() {
        assert!(matches!(judge(b"", 0), Verdict::Damaged(_)));
        assert!(matches!(judge(b"PUT a b\n", 0), Verdict::Damaged(_)));
    }
}
