//! Writing a line of the log. What the fields mean stands in [`record`].
//!
//! Each function appends one line to a buffer, in the chain that ends with `prev`, and returns the
//! line's own checksum: the `prev` of the next.
//!
//! # Caveats
//!
//! Sizes are not checked here: who accepts a key or value does.

use std::io::Write as _;

use ringkv_shared::protocol::node::Via;
use ringkv_shared::{Line, Version};

use super::escape;
use super::key;
use super::record::{self, End, Header, Op, Record};

/// Appends a header line; returns its checksum.
pub fn encode_header(header: &Header, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    let Header { uuid, segment, prev, seq } = header;
    let line = write!(out, "#ringkv 1 node={uuid} seg={segment:06} prev={prev:08x} s={seq}");
    line.expect("a Vec takes every byte");
    seal(out, start, *prev)
}

/// Appends a record line; returns its checksum.
pub fn encode_record<B: AsRef<[u8]>>(record: &Record<B>, prev: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    let Record { op, seq, durable, .. } = record;
    let (keyspace, key) = key::split(record.key.as_ref());
    let keyspace = keyspace.unwrap_or("default").as_bytes();
    out.extend_from_slice(match op {
        Op::Put { .. } => b"PUT ",
        Op::Del => b"DEL ",
        Op::Drop => b"DRP ",
        Op::DropSpace => b"DRK",
    });
    if !matches!(op, Op::DropSpace) {
        escape::encode(key, out);
    }
    if let Op::Put { value, .. } = op {
        out.push(b' ');
        value.encode(out);
    }
    out.extend_from_slice(b" k=");
    out.extend_from_slice(keyspace);
    if !matches!(op, Op::DropSpace) {
        version(record.version, out);
    }
    match op {
        Op::Put { expires: Some(expires), .. } => field(b" x=", *expires, out),
        Op::Put { expires: None, .. } | Op::Del => out.extend_from_slice(b" x=-"),
        Op::Drop | Op::DropSpace => {}
    }
    if matches!(op, Op::Put { .. } | Op::Del) {
        cause(record, out);
    }
    sequence(*seq, *durable, out);
    seal(out, start, prev)
}

fn version(version: Version, out: &mut Vec<u8>) {
    let Version { epoch, counter } = version;
    match version.line() {
        Line::Coordinators => {
            field(b" v=", u64::from(epoch), out);
            field(b".", counter, out);
        }
        Line::Node(epoch) => {
            out.extend_from_slice(b" v=x");
            hex(epoch, out);
            field(b".", counter, out);
        }
    }
}

/// What only few lines have: stamp, context, and how it came here.
fn cause<B>(record: &Record<B>, out: &mut Vec<u8>) {
    let Record { stamp, context, via, .. } = record;
    if let Some(stamp) = stamp {
        field(b" t=", stamp.ms, out);
        field(b".", u64::from(stamp.count), out);
    }
    if let Some(context) = context {
        write!(out, " ctx={context}").expect("a Vec takes every byte");
    }
    if let Some(via) = via {
        out.extend_from_slice(b" via=");
        out.extend_from_slice(via_name(*via).as_bytes());
    }
}

/// How a line names a way.
pub(super) const fn via_name(via: Via) -> &'static str {
    match via {
        Via::Hint => "hint",
        Via::Repair => "repair",
        Via::Sync => "sync",
        Via::Move => "move",
    }
}

/// Appends the line of a stop in good order, with its own sequence number; returns its checksum.
pub fn encode_bye(seq: u64, prev: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    out.extend_from_slice(b"BYE");
    sequence(seq, seq - 1, out);
    seal(out, start, prev)
}

/// Appends the end line of a snapshot; returns its checksum.
pub fn encode_end(end: &End, prev: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    field(b"END n=", end.count, out);
    sequence(end.seq, end.durable, out);
    seal(out, start, prev)
}

fn sequence(seq: u64, durable: u64, out: &mut Vec<u8>) {
    field(b" s=", seq, out);
    field(b" d=", durable, out);
}

fn field(name: &[u8], number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Closes the line that begins at `start`.
pub(super) fn seal(out: &mut Vec<u8>, start: usize, prev: u32) -> u32 {
    let crc = record::checksum(&out[start..], prev);
    out.extend_from_slice(b" c=");
    hex(crc, out);
    out.push(b'\n');
    crc
}

/// Eight digits.
fn hex(number: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 8];
    for (at, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * at) & 15) as usize];
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::value::Value;
    use bytes::Bytes;

    fn record(key: &'static str, op: Op) -> Record {
        let record = Record::new(Bytes::from_static(key.as_bytes()), op, Version::new(3, 42));
        Record { seq: 1041, durable: 1030, ..record }
    }

    fn put(value: &[u8], expires: Option<u64>) -> Op {
        Op::Put { value: Value::new(Bytes::copy_from_slice(value)), expires }
    }

    fn encoded(record: &Record) -> String {
        let mut out = Vec::new();
        encode_record(record, 0x1234_5678, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn golden_header() {
        let header = Header { uuid: uuid::Uuid::nil(), segment: 42, prev: 0x9a7e_11c0, seq: 1040 };
        let mut out = Vec::new();
        assert_eq!(encode_header(&header, &mut out), 0x43d0_d217);
        assert_eq!(
            out,
            b"#ringkv 1 node=00000000-0000-0000-0000-000000000000 seg=000042 prev=9a7e11c0 s=1040 c=43d0d217\n"
        );
    }

    #[test]
    fn golden_put() {
        assert_eq!(
            encoded(&record("user:1", put(b"hello world", None))),
            "PUT user:1 hello%20world k=default v=3.42 x=- s=1041 d=1030 c=3f38bfe2\n"
        );
    }

    #[test]
    fn golden_put_that_expires() {
        assert_eq!(
            encoded(&record("user:1", put(b"hello", Some(1_767_225_600_000)))),
            "PUT user:1 hello k=default v=3.42 x=1767225600000 s=1041 d=1030 c=5d7f4145\n"
        );
    }

    #[test]
    fn golden_put_of_a_frame() {
        // 5000 times the letter a, as some zstd packed it.
        let packed = b"(\xb5/\xfd`\x88\x12M\0\0\x10aa\x01\0\x83\xd3\x03,";
        let value = Value::Zstd { packed: Bytes::from_static(packed), len: 5000 };
        assert_eq!(value.to_bytes(), vec![b'a'; 5000]);
        assert_eq!(
            encoded(&record("user:1", Op::Put { value, expires: None })),
            "PUT user:1 %zKLUv/WCIEk0AABBhYQEAg9MDLA== k=default v=3.42 x=- s=1041 d=1030 c=576e42b3\n"
        );
    }

    #[test]
    fn golden_del() {
        assert_eq!(
            encoded(&record("user:1", Op::Del)),
            "DEL user:1 k=default v=3.42 x=- s=1041 d=1030 c=a2029530\n"
        );
    }

    #[test]
    fn golden_drop() {
        assert_eq!(
            encoded(&record("user:2", Op::Drop)),
            "DRP user:2 k=default v=3.42 s=1041 d=1030 c=7926299d\n"
        );
    }

    #[test]
    fn golden_put_with_a_context() {
        let context = Some(Box::new("3.39,xafd0a001.7,+3.41".parse().unwrap()));
        let record = record("\0carts\0cart:7", put(b"milk", None));
        assert_eq!(
            encoded(&Record { context, via: Some(Via::Sync), ..record }),
            "PUT cart:7 milk k=carts v=3.42 x=- ctx=3.39,xafd0a001.7,+3.41 via=sync s=1041 d=1030 c=fa1ecace\n"
        );
    }

    #[test]
    fn golden_del_with_a_stamp_of_a_node() {
        let version = "x9f00c001.1041".parse().unwrap();
        let stamp = Some("1763721600123.4".parse().unwrap());
        assert_eq!(
            encoded(&Record { stamp, version, ..record("\0\0user", Op::Del) }),
            "DEL %00user k=default v=x9f00c001.1041 x=- t=1763721600123.4 s=1041 d=1030 c=a94dacd7\n"
        );
    }

    #[test]
    fn golden_drop_of_a_keyspace() {
        assert_eq!(
            encoded(&record("\0carts\0", Op::DropSpace)),
            "DRK k=carts s=1041 d=1030 c=9d66b82a\n"
        );
    }

    #[test]
    fn golden_bye() {
        let mut out = Vec::new();
        encode_bye(1045, 0x1234_5678, &mut out);
        assert_eq!(out, b"BYE s=1045 d=1044 c=f890eb76\n");
    }

    #[test]
    fn golden_end() {
        let mut out = Vec::new();
        encode_end(&End { count: 2, seq: 3, durable: 1040 }, 0x1234_5678, &mut out);
        assert_eq!(out, b"END n=2 s=3 d=1040 c=e9ea1de8\n");
    }
}
