//! Torn or damaged? The verdict on the bytes of one file.
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

use super::record::{self, BadLine, End, Header, LINE_BYTES_MAX, Line, Record};

/// Which rules a file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment: the sequence goes on from the header, there is no end line.
    Segment,
    /// A snapshot: counts from 1 and closes with an end line.
    Snapshot,
}

/// The first bad line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Where it starts.
    pub offset: u64,
    /// What is wrong.
    pub reason: BadLine,
}

/// What is in a file.
#[derive(Debug, Default)]
pub struct Scan {
    /// The first line, if it is good.
    pub header: Option<Header>,
    /// Good records.
    pub records: u64,
    /// Bytes of all lines before the first bad one.
    pub good_bytes: u64,
    /// Sequence number of the last good line.
    pub seq: u64,
    /// Checksum of the last good line.
    pub crc: u32,
    /// The highest durable horizon that any line tells, those after a hole too.
    pub durable: u64,
    /// The end line of a snapshot.
    pub end: Option<End>,
    /// The first bad line.
    pub bad: Option<Bad>,
    /// How many lines after the bad one fit their neighbour.
    pub later_fine: u64,
}

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

/// Reads a file, giving each good record to `each` up to the first bad line.
pub fn scan(bytes: &[u8], kind: Kind, mut each: impl FnMut(Record)) -> Scan {
    let mut scan = Scan::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let step = split(rest).and_then(|line| scan.accept(line, kind, &mut each).map(|()| line));
        match step {
            Ok(line) => {
                scan.good_bytes += line.len() as u64 + 1;
                rest = &rest[line.len() + 1..];
            }
            Err(reason) => {
                scan.fail(reason);
                scan.look_further(rest);
                return scan;
            }
        }
    }
    if scan.header.is_none() || kind == Kind::Snapshot && scan.end.is_none() {
        scan.fail(BadLine::NoNewline);
    }
    scan
}

fn split(bytes: &[u8]) -> Result<&[u8], BadLine> {
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX + 1)];
    match within.iter().position(|&byte| byte == b'\n') {
        Some(end) => Ok(&bytes[..end]),
        None if bytes.len() > LINE_BYTES_MAX => Err(BadLine::TooLong(bytes.len())),
        None => Err(BadLine::NoNewline),
    }
}

impl Scan {
    fn accept(
        &mut self,
        line: &[u8],
        kind: Kind,
        each: &mut impl FnMut(Record),
    ) -> Result<(), BadLine> {
        if self.header.is_none() {
            let (header, crc) = record::decode_header(line)?;
            self.seq = if kind == Kind::Segment { header.seq } else { 0 };
            (self.header, self.crc) = (Some(header), crc);
            return Ok(());
        }
        let (line, crc) = record::decode_line(line, self.crc)?;
        self.place(&line, kind)?;
        self.crc = crc;
        self.durable = self.durable.max(horizon(&line));
        match line {
            Line::Record(record) => {
                self.records += 1;
                each(record);
            }
            Line::End(end) => self.end = Some(end),
        }
        Ok(())
    }

    /// Checks that this line may follow, and counts it.
    fn place(&mut self, line: &Line, kind: Kind) -> Result<(), BadLine> {
        if self.end.is_some() {
            return Err(BadLine::Misplaced("a line after END"));
        }
        let found = match line {
            Line::Record(record) => record.seq,
            Line::End(_) if kind == Kind::Segment => {
                return Err(BadLine::Misplaced("END in a log segment"));
            }
            Line::End(end) if end.count != self.records => {
                return Err(BadLine::Misplaced("END counts another number of records"));
            }
            Line::End(end) => end.seq,
        };
        let expected = self.seq + 1;
        if found != expected {
            return Err(BadLine::Sequence { found, expected });
        }
        self.seq = found;
        Ok(())
    }

    /// The place behind the last good line as the first bad one.
    fn fail(&mut self, reason: BadLine) {
        let lines = u64::from(self.header.is_some()) + self.records + u64::from(self.end.is_some());
        self.bad = Some(Bad { line: lines + 1, offset: self.good_bytes, reason });
    }

    /// Counts the lines behind the bad one whose checksum fits the line before them.
    fn look_further(&mut self, rest: &[u8]) {
        let mut prev = None;
        for line in rest.split(|&byte| byte == b'\n') {
            if let Some(Ok((line, _))) = prev.map(|prev| record::decode_line(line, prev)) {
                self.later_fine += 1;
                self.durable = self.durable.max(horizon(&line));
            }
            prev = record::said_checksum(line);
        }
    }
}

const fn horizon(line: &Line) -> u64 {
    match line {
        Line::Record(record) => record.durable,
        Line::End(end) => end.durable,
    }
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
    Bad { line: scan.records + 2, offset: scan.good_bytes, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::{Op, encode_header};
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
            tail.append(Bytes::from(format!("key{n}")), Op::Del, Version::new(1, n));
            if n == durable {
                tail.made_durable(n);
            }
        }
        bytes.extend(tail.take());
        bytes
    }

    fn line_starts(bytes: &[u8]) -> Vec<usize> {
        let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        std::iter::once(0).chain(ends).collect()
    }

    fn judge(bytes: &[u8], horizon: u64) -> Verdict {
        verdict(&scan(bytes, Kind::Segment, |_| ()), horizon)
    }

    #[test]
    fn a_good_log_is_whole() {
        let scan = scan(&log(5, 3), Kind::Segment, |_| ());
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
            let scan = scan(&bytes, Kind::Segment, |_| ());
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

    #[test]
    fn a_line_longer_than_any_is_not_searched_to_its_end() {
        let mut bytes = log(1, 0);
        bytes.extend(std::iter::repeat_n(b'x', LINE_BYTES_MAX + 1));
        let scan = scan(&bytes, Kind::Segment, |_| ());
        assert!(matches!(scan.bad.unwrap().reason, BadLine::TooLong(_)));
    }
}
