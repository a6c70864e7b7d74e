//! What a scanner finds, in whatever pieces the file comes.

use super::*;
use crate::log::encode::{encode_bye, encode_end, encode_header, encode_record};
use crate::log::record::Op;
use crate::log::value::Value;
use bytes::Bytes;
use proptest::prelude::*;
use ringkv_shared::Version;

/// A file under construction.
struct Builder {
    bytes: Vec<u8>,
    crc: u32,
    seq: u64,
}

impl Builder {
    fn new() -> Self {
        let header = Header { uuid: uuid::Uuid::nil(), segment: 1, prev: 0, seq: 0 };
        let mut bytes = Vec::new();
        let crc = encode_header(&header, &mut bytes);
        Self { bytes, crc, seq: 0 }
    }

    fn put(mut self, value_bytes: usize) -> Self {
        self.seq += 1;
        let value = Value::new(Bytes::from(vec![b'v'; value_bytes]));
        let op = Op::Put { value, expires: None };
        let (version, seq) = (Version::new(1, self.seq), self.seq);
        let key = Bytes::from(format!("k{seq}"));
        let record = Record { seq, ..Record::new(key, op, version) };
        self.crc = encode_record(&record, self.crc, &mut self.bytes);
        self
    }

    fn bye(mut self) -> Self {
        self.seq += 1;
        self.crc = encode_bye(self.seq, self.crc, &mut self.bytes);
        self
    }

    fn end(mut self, count: u64) -> Self {
        self.seq += 1;
        let end = End { count, seq: self.seq, durable: 0 };
        self.crc = encode_end(&end, self.crc, &mut self.bytes);
        self
    }

    fn scan(&self, kind: Kind) -> Scan {
        scan_all(&self.bytes, kind, FileId(0), |_, _| ())
    }
}

#[test]
fn each_record_comes_with_its_place() {
    let file = Builder::new().put(5).put(5000).bye().put(0);
    let mut keys = Vec::new();
    let scan = scan_all(&file.bytes, Kind::Segment, FileId(7), |record, place| {
        let from = place.offset as usize;
        let line = &file.bytes[from..from + place.len as usize];
        assert!(line.starts_with(b"PUT k") && line.ends_with(b"\n"));
        assert_eq!((place.file, file.bytes[from - 1]), (FileId(7), b'\n'));
        keys.push(record.key.to_vec());
    });
    assert_eq!(keys, [b"k1", b"k2", b"k4"]);
    assert_eq!((scan.records, scan.lines, scan.seq, scan.bad), (3, 5, 4, None));
}

#[test]
fn a_stop_is_clean_only_if_bye_is_the_last_line() {
    let file = Builder::new().put(1).bye();
    let scan = file.scan(Kind::Segment);
    assert!(scan.bye && scan.bad.is_none());
    assert_eq!((scan.seq, scan.durable, scan.records), (2, 1, 1));
    assert!(!file.put(1).scan(Kind::Segment).bye);
}

#[test]
fn lines_that_cannot_stand_where_they_are_are_bad() {
    for (file, kind) in [
        (Builder::new().put(1).end(1), Kind::Segment),
        (Builder::new().put(1).bye().end(1), Kind::Snapshot),
        (Builder::new().put(1).end(2), Kind::Snapshot),
        (Builder::new().put(1).end(1).put(1), Kind::Snapshot),
        (Builder::new().put(1), Kind::Snapshot),
    ] {
        let bad = file.scan(kind).bad.unwrap();
        assert!(matches!(bad.reason, BadLine::Misplaced(_)), "{bad:?}");
    }
    assert_eq!(Builder::new().put(1).end(1).scan(Kind::Snapshot).bad, None);
}

#[test]
fn a_line_longer_than_any_is_not_kept() {
    let mut file = Builder::new().put(1);
    let good = file.bytes.len() as u64;
    let piece = vec![b'x'; 100_000];
    let mut scanner = Scanner::new(Kind::Segment, FileId(0));
    scanner.feed(&file.bytes, |_, _| ());
    for _ in 0..50 {
        scanner.feed(&piece, |_, _| ());
        assert!(scanner.cut.len() <= LINE_BYTES_MAX);
    }
    // The end of that line and good ones after it: they tell how far the log was durable.
    file.bytes.clear();
    let file = file.put(1).bye().put(1);
    scanner.feed(&file.bytes, |_, _| panic!("nothing behind a bad line is given"));
    let scan = scanner.finish();
    let bad = scan.bad.unwrap();
    assert_eq!((bad.reason, bad.line, bad.offset), (BadLine::TooLong, 3, good));
    assert_eq!((scan.later_fine, scan.durable), (2, 2));
}

proptest! {
    #[test]
    fn the_chunks_do_not_matter(
        sizes in proptest::collection::vec(0..3000_usize, 1..12),
        flip in any::<Option<prop::sample::Index>>(),
        chunk in 1..4000_usize,
    ) {
        let mut bytes = sizes.iter().fold(Builder::new(), |file, n| file.put(*n)).bye().bytes;
        if let Some(at) = flip {
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
        }
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let expected = scan_all(&bytes, Kind::Segment, FileId(0), |record, place| {
            whole.push((record.copied(), place));
        });
        let mut scanner = Scanner::new(Kind::Segment, FileId(0));
        for chunk in bytes.chunks(chunk) {
            scanner.feed(chunk, |record, place| pieces.push((record.copied(), place)));
        }
        prop_assert_eq!(pieces, whole);
        prop_assert_eq!(format!("{:?}", scanner.finish()), format!("{expected:?}"));
    }
}
