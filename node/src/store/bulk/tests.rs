//! Writes that are put in together are what they would be one by one.

use bytes::Bytes;
use proptest::prelude::*;
use ringkv_shared::Version;
use ringkv_shared::hlc::Stamp;

use super::*;
use crate::log::place::{FileId, Place};
use crate::log::record::{Op, Record};
use crate::log::value::Value;
use crate::store::PageRequest;

/// A write: its key, its version, what it writes, and what is special about it.
type Write = (u16, u64, u16, u8);

/// Few keys or many, with more or less in common, in any order or in that of the keys.
fn writes() -> impl Strategy<Value = Vec<Write>> {
    let keys = prop_oneof![1..30_u16, 1..3000_u16];
    let write = keys.prop_flat_map(|keys| (0..keys, 1..60_u64, 0..700_u16, 0..40_u8));
    (proptest::collection::vec(write, 0..1200), any::<bool>()).prop_map(|(mut writes, ordered)| {
        if ordered {
            writes.sort_by_key(|(key, ..)| *key);
        }
        writes
    })
}

fn record((key, counter, len, how): Write, seq: u64) -> Record {
    let space = if key.is_multiple_of(5) { "\0carts\0" } else { "" };
    let tail = "x".repeat(usize::from(key % 4) * 3);
    let key = Bytes::from(format!("{space}user:{tail}{:05}", key.wrapping_mul(40_503)));
    let value = Value::Plain(Bytes::from(vec![b'v'; usize::from(len)]));
    let op = match how {
        0..5 => Op::Del,
        5 => Op::Put { value, expires: Some(counter) },
        _ => Op::Put { value, expires: None },
    };
    let epoch = if how == 6 { 0x8000_0001 } else { 1 };
    let record = Record { seq, ..Record::new(key, op, Version::new(epoch, counter)) };
    match how {
        7 => record.with_seen(&"1.7".parse().unwrap()),
        8 => Record { stamp: Some(Stamp { ms: counter % 7, count: 1 }), ..record },
        _ => record,
    }
}

/// All that a map tells.
fn outcome(store: &Store) -> String {
    let request =
        PageRequest { keys_max: usize::MAX, bytes_max: usize::MAX, ..PageRequest::everything() };
    let page = store.page(&request, 0).unwrap();
    let digests = ["default", "carts"].map(|name| store.digests().parts(name).collect::<Vec<_>>());
    let keys = page.entries.iter().map(|(key, _)| store.depends_on(key)).collect::<Vec<_>>();
    format!("{:?} {:?} {digests:?} {keys:?} {}", page.entries, store.tally(), store.applied_seq)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn together_is_as_one_by_one(
        rounds in proptest::collection::vec(proptest::collection::vec(writes(), 1..5), 1..4), threads in 1..4_usize,
    ) {
        let (mut one_by_one, mut together) = (Store::default(), Store::default());
        let (mut seq, mut unsorted) = (0, Unsorted::default());
        for round in rounds {
            let mut all = Vec::new();
            for part in round {
                for write in part {
                    seq += 1;
                    let place = Place { file: FileId(2), offset: seq * 100, len: 90 };
                    let place = (!seq.is_multiple_of(3)).then_some(place);
                    let record = record(write, seq);
                    one_by_one.apply(&record, place);
                    unsorted.push(&record, place);
                }
                let mut writes = Writes::default();
                unsorted.sort_into(&mut writes);
                all.push(writes);
            }
            together.apply_all(&all, threads);
            together.entries.check();
            prop_assert_eq!(together.entries.len(), one_by_one.entries.len());
            prop_assert_eq!(outcome(&together), outcome(&one_by_one));
        }
    }
}
