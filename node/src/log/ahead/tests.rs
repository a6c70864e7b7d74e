//! What is read ahead is what is read line by line, whatever the log has become.

use super::*;
use crate::disk::SimDisk;
use crate::log::encode::{encode_bye, encode_end, encode_header, encode_record};
use crate::log::note::{Noted, encode_note};
use crate::log::record::{End, Header, Op, Record};
use crate::log::value::Value;
use crate::replica::Ledger;
use crate::store::{PageRequest, Store};
use bytes::Bytes;
use proptest::prelude::*;
use ringkv_shared::Version;
use ringkv_shared::hlc::Stamp;

#[derive(Clone, Debug)]
enum Write {
    /// A key, the pieces of its value, how the line is special.
    Put(u8, u16, u8),
    Del(u8),
    Drop(u8),
    DropSpace,
    Note(u8),
    Bye,
    /// A line that cannot stand where it does.
    End,
}

fn write() -> impl Strategy<Value = Write> {
    let key = 0..24_u8;
    prop_oneof![
        40 => (key.clone(), 0..60_u16, 0..8_u8).prop_map(|(key, len, how)| Write::Put(key, len, how)),
        1 => (key.clone(), 300..2000_u16).prop_map(|(key, len)| Write::Put(key, len, 0)),
        8 => key.clone().prop_map(Write::Del),
        2 => key.clone().prop_map(Write::Drop),
        1 => Just(Write::DropSpace),
        4 => key.prop_map(Write::Note),
        1 => Just(Write::Bye),
    ]
}

/// Keys of two keyspaces; some are spelled in another way than they are.
fn key(n: u8) -> Bytes {
    let space = if n.is_multiple_of(3) { "\0carts\0" } else { "" };
    let odd = if n.is_multiple_of(4) { " %" } else { "" };
    Bytes::from(format!("{space}user:{}{n}{odd}", "x".repeat(usize::from(n % 7))))
}

fn record(write: &Write, seq: u64, version: u64) -> Record {
    let version = Version::new(1, version);
    let (n, op) = match *write {
        Write::Put(n, len, how) => {
            let raw = Bytes::from(format!("{seq} ").repeat(usize::from(len)));
            (n, Op::Put { value: Value::new(raw), expires: (how == 1).then_some(seq) })
        }
        Write::Del(n) => (n, Op::Del),
        Write::Drop(n) => (n, Op::Drop),
        _ => (0, Op::DropSpace),
    };
    let key = if op == Op::DropSpace { Bytes::from_static(b"\0carts\0") } else { key(n) };
    let record = Record { seq, durable: seq / 2, ..Record::new(key, op, version) };
    match write {
        Write::Put(.., 2) => record.with_seen(&"1.1".parse().unwrap()),
        Write::Put(.., 3) => Record { stamp: Some(Stamp { ms: seq % 5, count: 1 }), ..record },
        _ => record,
    }
}

fn log(writes: &[Write], kind: Kind) -> Vec<u8> {
    let header = Header { uuid: uuid::Uuid::nil(), segment: 1, prev: 0, seq: 0 };
    let mut out = Vec::new();
    let mut crc = encode_header(&header, &mut out);
    for (seq, write) in (1..).zip(writes) {
        crc = match write {
            Write::Note(n) => {
                let (keyspace, key) = (ringkv_shared::KeyspaceName::default(), key(1 + n % 2));
                let to = "n2".parse().unwrap();
                let note = Note::Owed { to, keyspace, key, at_ms: seq };
                encode_note(&Noted { note, seq, durable: 0 }, crc, &mut out)
            }
            Write::Bye => encode_bye(seq, crc, &mut out),
            Write::End => encode_end(&End { count: 1, seq, durable: 0 }, crc, &mut out),
            // Not in the order of their versions, and some twice.
            write => encode_record(&record(write, seq, 1 + seq * 7 % 61), crc, &mut out),
        };
    }
    if kind == Kind::Snapshot {
        let count = writes.len() as u64;
        encode_end(&End { count, seq: count + 1, durable: 0 }, crc, &mut out);
    }
    out
}

/// The log is damaged there.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index),
    Cut(prop::sample::Index),
    /// Bytes that are none of its own.
    Insert(prop::sample::Index, Vec<u8>),
    /// A piece is gone.
    Hole(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        at().prop_map(Damage::Flip),
        at().prop_map(Damage::Cut),
        (at(), proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 1..20))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at(), 1..500_usize).prop_map(|(at, len)| Damage::Hole(at, len)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, damage: &Damage) {
    match damage {
        _ if bytes.is_empty() => {}
        Damage::Flip(at) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Insert(at, other) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, other.iter().copied());
        }
        Damage::Hole(at, len) => {
            let at = at.index(bytes.len());
            bytes.drain(at..bytes.len().min(at + len));
        }
    }
}

fn apply(store: &mut Store, kind: Kind, record: &Scanned<'_>, place: Place) {
    match kind {
        Kind::Snapshot => store.apply(&record.of_snapshot(), Some(place)),
        Kind::Segment => store.apply(record, Some(place)),
    };
}

/// All that comes of a log.
fn outcome(store: &Store, notes: &[Note], scan: &Scan) -> String {
    let mut ledger = Ledger::default();
    notes.iter().for_each(|note| ledger.apply(note));
    let request =
        PageRequest { keys_max: usize::MAX, bytes_max: usize::MAX, ..PageRequest::everything() };
    let page = store.page(&request, 0).unwrap();
    let depends: Vec<u64> = (0..24).map(|n| store.depends_on(&key(n))).collect();
    let digests = ["default", "carts"].map(|name| store.digests().parts(name).collect::<Vec<_>>());
    format!("{:?} {:?} {depends:?} {digests:?} {ledger:?} {scan:?}", page.entries, store.tally())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_ahead_is_what_is_read_line_by_line(
        writes in proptest::collection::vec(write(), 0..120), end in any::<Option<prop::sample::Index>>(),
        damages in proptest::collection::vec(damage(), 0..3), is_snapshot in any::<bool>(),
        part_bytes in prop_oneof![1..400_usize, 400..6000_usize], many in 1..4_usize,
        together in 1..20_usize,
    ) {
        let kind = if is_snapshot { Kind::Snapshot } else { Kind::Segment };
        let mut writes = writes;
        if let Some(at) = end.filter(|_| many == 1 && !writes.is_empty()) {
            let at = at.index(writes.len());
            writes[at] = Write::End;
        }
        let mut bytes = log(&writes, kind);
        damages.iter().for_each(|damage| spoil(&mut bytes, damage));
        let (mut expected, mut expected_notes) = (Store::default(), Vec::new());
        let mut scanner = Scanner::new(kind, FileId(2)).with_notes();
        scanner.feed(&bytes, |record, place| apply(&mut expected, kind, record, place));
        expected_notes.extend(scanner.take_notes());
        let expected = outcome(&expected, &expected_notes, &scanner.finish());

        let (disk, path) = (SimDisk::new(1), Path::new("/data.log"));
        disk.open(path, Open::New).unwrap().write_at(&bytes, 0).unwrap();
        let (mut store, mut notes) = (Store::default(), Vec::new());
        let scan = thread::scope(|scope| {
            let reading = Reading { kind, file: FileId(2), places: true };
            let mut ahead = Ahead::open(scope, &disk, path, reading, part_bytes).unwrap();
            let (mut waiting, mut more, mut steps) = (Waiting::default(), true, 0);
            while more {
                more = ahead.step(|replayed| match replayed {
                    Replayed::Run(writes) => waiting.add(writes),
                    Replayed::Record(record, place) => {
                        waiting.put_into(&mut store);
                        apply(&mut store, kind, record, place);
                    }
                }).unwrap();
                notes.extend(ahead.take_notes());
                steps += 1;
                if steps % together == 0 || !more {
                    waiting.put_into(&mut store);
                }
            }
            notes.extend(ahead.take_notes());
            ahead.finish()
        });
        prop_assert_eq!(outcome(&store, &notes, &scan), expected);
    }
}
