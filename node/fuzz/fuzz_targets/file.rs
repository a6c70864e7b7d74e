//! A scan of any bytes ends without a panic, in chunks as at once, and its places are right.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringkv_node::log::place::FileId;
use ringkv_node::log::recover::verdict;
use ringkv_node::log::scan::{Kind, Scanner, scan_all};
use ringkv_node_fuzz::sealed_file;

// The first byte says what kind of file, the second how it is cut, the rest are lines.
fuzz_target!(|input: &[u8]| {
    let [kind, chunk, bodies @ ..] = input else { return };
    let kind = if *kind == b'S' { Kind::Snapshot } else { Kind::Segment };
    let file = sealed_file(bodies);
    let mut places = Vec::new();
    let whole = scan_all(&file, kind, FileId(0), |_, place| places.push(place));
    for place in &places {
        let (from, len) = (place.offset as usize, place.len as usize);
        assert_eq!((file[from - 1], file[from + len - 1]), (b'\n', b'\n'));
        assert!(!file[from..from + len - 1].contains(&b'\n'));
    }
    assert_eq!(places.len() as u64, whole.records);
    let mut scanner = Scanner::new(kind, FileId(0));
    let mut places = places.into_iter();
    for piece in file.chunks(usize::from(*chunk) + 1) {
        scanner.feed(piece, |_, place| assert_eq!(Some(place), places.next()));
    }
    let pieces = scanner.finish();
    assert_eq!(format!("{pieces:?}"), format!("{whole:?}"));
    let _ = verdict(&whole, u64::from(*chunk));
});
