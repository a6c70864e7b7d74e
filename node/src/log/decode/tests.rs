use super::*;
use crate::log::encode::{encode_bye, encode_end, encode_header, encode_record, seal};
use crate::log::key::tests::any_stored;
use crate::log::value::Value;
use bytes::Bytes;
use proptest::prelude::*;

#[test]
fn a_dropped_keyspace_comes_back() {
    let record = Record::new(Bytes::from_static(b"\0carts\0"), Op::DropSpace, Version::default());
    let mut out = Vec::new();
    let crc = encode_record(&Record { seq: 9, durable: 8, ..record.clone() }, 7, &mut out);
    let (line, found) = decode_line(out.trim_ascii_end(), 7).unwrap();
    let Line::Record(read) = line else { panic!("{line:?}") };
    assert_eq!((read.copied(), found), (Record { seq: 9, durable: 8, ..record }, crc));
}

#[test]
fn headers_come_back() {
    for segment in [1, 42, 999_999, 1_000_000, u64::MAX] {
        let uuid = uuid::Uuid::from_u128(0x1234_5678_9abc);
        let header = Header { uuid, segment, prev: 0x9a7e_11c0, seq: 1040 };
        let mut out = Vec::new();
        let crc = encode_header(&header, &mut out);
        assert_eq!(decode_header(&out[..out.len() - 1]), Ok((header, crc)));
    }
}

#[test]
fn other_spellings_of_a_header_are_refused() {
    const NODE: &str = "00000000-0000-0000-0000-0000000000ab";
    let header = |node: &str, rest: &str| format!("#ringkv 1 node={node} {rest}");
    let good = header(NODE, "seg=000042 prev=00000007 s=1");
    let sealed = |text: &str| {
        let mut line = text.as_bytes().to_vec();
        seal(&mut line, 0, 7);
        line.pop();
        line
    };
    assert!(decode_header(&sealed(&good)).is_ok());
    for bad in [
        header(&NODE.to_uppercase(), "seg=000042 prev=00000007 s=1"),
        header(&NODE.replace('-', ""), "seg=000042 prev=00000007 s=1"),
        header(NODE, "seg=42 prev=00000007 s=1"),
        header(NODE, "seg=0000042 prev=00000007 s=1"),
        header(NODE, "seg=00000a prev=00000007 s=1"),
        header(NODE, "seg=000042 prev=7 s=1"),
        header(NODE, "seg=000042 prev=00000007 s=01"),
        header(NODE, "seg=000042 prev=00000007 s=1 "),
        good.replace("#ringkv 1", "#ringkv 2"),
    ] {
        assert!(decode_header(&sealed(&bad)).is_err(), "{bad}");
    }
}

#[test]
fn every_flipped_bit_shows() {
    let op = Op::Put { value: Value::Plain(&b"v"[..]), expires: Some(5) };
    let stamp = Some(Stamp { ms: 5, count: 0 });
    let context = Some(Box::new("3.39,+3.41".parse().unwrap()));
    let record = Record::new(&b"\0s\0k"[..], op, Version::new(3, 42));
    let record = Record { stamp, context, via: Some(Via::Hint), seq: 9, durable: 8, ..record };
    let mut line = Vec::new();
    encode_record(&record, 0x1234_5678, &mut line);
    line.pop();
    assert!(decode_line(&line, 0x1234_5678).is_ok());
    for bit in 0..line.len() * 8 {
        let mut flipped = line.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_line(&flipped, 0x1234_5678).is_err(), "bit {bit}");
    }
}

#[test]
fn other_spellings_of_a_line_are_refused() {
    for bad in [
        "PUT a b k=default v=1.1 x=- s=01 d=0",
        "PUT a b k=default v=1.1 x=- s=+1 d=0",
        "PUT a b k=default v=1.1 x=- s= d=0",
        "PUT a b k=default v=1.1 x=- s=18446744073709551616 d=0",
        "PUT a b k= v=1.1 x=- s=1 d=0",
        "PUT a b k=Other v=1.1 x=- s=1 d=0",
        "PUT a b k=default v=1.1 x=- t=5 s=1 d=0",
        "PUT a b k=default v=1.1 x=- t=05.1 s=1 d=0",
        "PUT a b k=default v=1.1 x=- ctx=1.0 s=1 d=0",
        "PUT a b k=default v=1.1 x=- ctx= s=1 d=0",
        "PUT a b k=default v=1.1 x=- ctx=+1.5,2.1 s=1 d=0",
        "PUT a b k=default v=1.1 x=- ctx=- t=5.0 s=1 d=0",
        "PUT a b k=default v=1.1 x=- via=mail s=1 d=0",
        "PUT a b k=default v=1.1 x=- via=sync ctx=- s=1 d=0",
        "PUT a b k=default v=2147483648.1 x=- s=1 d=0",
        "PUT a b k=default v=x00000001.1 x=- s=1 d=0",
        "PUT a b k=default v=x9F00c001.1 x=- s=1 d=0",
        "DRP a k=default v=1.1 ctx=- s=1 d=0",
        "DRK k=default s=1 d=0",
        "DRK a k=carts s=1 d=0",
        "DRK  k=carts s=1 d=0",
        "PUT a b k=default v=01.1 x=- s=1 d=0",
        "PUT a b k=default v=4294967296.1 x=- s=1 d=0",
        "PUT a b k=default v=1.1 x=05 s=1 d=0",
        "PUT a b k=default v=1.1 x= s=1 d=0",
        "PUT a b k=default v=1.1 s=1 d=0",
        "PUT a  b k=default v=1.1 x=- s=1 d=0",
        "PUT a b k=default v=1.1 x=- s=1 d=0 ",
        "PUT a %z k=default v=1.1 x=- s=1 d=0",
        "PUT a %zAAAA k=default v=1.1 x=- s=1 d=0",
        "put a b k=default v=1.1 x=- s=1 d=0",
        "DEL a b k=default v=1.1 x=- s=1 d=0",
        "DEL a k=default v=1.1 x=5 s=1 d=0",
        "DEL %zAAAA k=default v=1.1 x=- s=1 d=0",
        "DRP a k=default v=1.1 x=- s=1 d=0",
        "BYE s=2 d=0",
        "BYE s=0 d=0",
        "END n=1 s=2",
        "PUT",
        "",
    ] {
        let mut line = bad.as_bytes().to_vec();
        seal(&mut line, 0, 7);
        assert!(decode_line(&line[..line.len() - 1], 7).is_err(), "{bad}");
    }
}

#[test]
fn a_key_has_a_bound() {
    for (bytes, fits) in [(KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
        let key = vec![b'k'; bytes];
        let version = Version::new(1, 1);
        let mut line = Vec::new();
        let record = Record { seq: 1, ..Record::new(&key[..], Op::Del, version) };
        encode_record(&record, 7, &mut line);
        assert_eq!(decode_line(&line[..line.len() - 1], 7).is_ok(), fits);
    }
}

#[test]
fn lines_without_a_key_come_back() {
    let end = End { count: 2, seq: 3, durable: u64::MAX };
    let (mut bye_line, mut end_line) = (Vec::new(), Vec::new());
    let (bye_crc, end_crc) = (encode_bye(3, 7, &mut bye_line), encode_end(&end, 7, &mut end_line));
    assert_eq!(decode_line(bye_line.trim_ascii_end(), 7), Ok((Line::Bye(3), bye_crc)));
    assert_eq!(decode_line(end_line.trim_ascii_end(), 7), Ok((Line::End(end), end_crc)));
}

fn any_op() -> impl Strategy<Value = Op> {
    let value = proptest::collection::vec(any::<u8>(), 0..32);
    let value = (value, 1..80_usize).prop_map(|(piece, times)| piece.repeat(times));
    let value = value.prop_map(|raw| Value::new(Bytes::from(raw)));
    let put = (value, any::<Option<u64>>()).prop_map(|(value, expires)| Op::Put { value, expires });
    prop_oneof![3 => put, 1 => Just(Op::Del), 1 => Just(Op::Drop)]
}

fn any_version() -> impl Strategy<Value = Version> {
    any::<(u32, u64)>().prop_map(|(epoch, counter)| Version::new(epoch, counter))
}

fn any_context() -> impl Strategy<Value = Context> {
    let parts = proptest::collection::vec((any_version(), any::<bool>()), 0..5);
    parts.prop_map(|parts| {
        let mut context = Context::empty();
        for (version, all) in parts {
            context.join(&Context::up_to(if all { version } else { Version::default() }));
            context.add(version);
        }
        context
    })
}

proptest! {
    #[test]
    fn any_record_comes_back(
        key in any_stored(), op in any_op(), version in any_version(),
        stamp in any::<Option<(u64, u32)>>(), seen in proptest::option::of(any_context()),
        via in proptest::option::of(prop::sample::select(vec![Via::Hint, Via::Repair, Via::Sync, Via::Move])),
        seq in any::<u64>(), durable in any::<u64>(), prev in any::<u32>(),
    ) {
        let mut record = Record { seq, durable, ..Record::new(key, op, version) };
        if matches!(record.op, Op::Put { .. } | Op::Del) {
            record = seen.map_or(record.clone(), |seen| record.with_seen(&seen));
            (record.stamp, record.via) = (stamp.map(|(ms, count)| Stamp { ms, count }), via);
        }
        let mut out = Vec::new();
        let crc = encode_record(&record, prev, &mut out);
        prop_assert_eq!(out.pop(), Some(b'\n'));
        let (line, found) = decode_line(&out, prev).unwrap();
        let Line::Record(read) = line else { panic!("{line:?}") };
        prop_assert_eq!(found, crc);
        prop_assert_eq!(read.copied(), record);
    }
}
