//! A line that is read is written back bit for bit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringkv_node::log::decode::{decode_header, decode_line};
use ringkv_node::log::encode::{encode_bye, encode_end, encode_header, encode_record};
use ringkv_node::log::note::encode_note;
use ringkv_node::log::record::Line;
use ringkv_node_fuzz::sealed;

const PREV: u32 = 7;

fuzz_target!(|body: &[u8]| {
    // A header is sealed with its own prev; give it the one that most inputs have.
    let (line, _) = sealed(body, PREV);
    let mut again = Vec::new();
    if let Ok((header, crc)) = decode_header(&line) {
        assert_eq!(encode_header(&header, &mut again), crc);
        assert_eq!(again.trim_ascii_end(), line);
        return;
    }
    let Ok((read, crc)) = decode_line(&line, PREV) else { return };
    let written = match &read {
        Line::Record(record) => encode_record(record, PREV, &mut again),
        Line::Note(noted) => encode_note(noted, PREV, &mut again),
        Line::Bye(seq) => encode_bye(*seq, PREV, &mut again),
        Line::End(end) => encode_end(end, PREV, &mut again),
    };
    assert_eq!(again.pop(), Some(b'\n'));
    assert_eq!((again, written), (line, crc));
});
