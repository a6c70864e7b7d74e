//! What the benches work on: a log of a million records, in key order or not.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each bench uses its part")]

use bytes::Bytes;
use ringkv_node::Store;
use ringkv_node::log::encode::{encode_header, encode_record};
use ringkv_node::log::place::FileId;
use ringkv_node::log::record::{Header, Op, Record};
use ringkv_node::log::scan::{Kind, Scanner};
use ringkv_node::log::value::Value;
use ringkv_shared::Version;

pub const RECORDS: u64 = 1_000_000;

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

#[derive(Clone, Copy)]
pub enum Order {
    /// As in a snapshot.
    Sorted,
    /// As writes of many clients come.
    Random,
}

/// Sixteen bytes.
pub fn key(n: u64) -> Bytes {
    Bytes::from(format!("user:{n:011}"))
}

pub fn value(n: u64, bytes: usize) -> Bytes {
    Bytes::from(format!("{n:0>bytes$}"))
}

/// All numbers below [`RECORDS`], mixed: the multiplier shares no factor with it.
pub fn nth(n: u64, order: Order) -> u64 {
    match order {
        Order::Sorted => n,
        Order::Random => n.wrapping_mul(7_368_787) % RECORDS,
    }
}

pub fn record(seq: u64, n: u64, value_bytes: usize) -> Record {
    let op = Op::write(Some(Value::new(value(n, value_bytes))));
    Record { seq, durable: seq - 1, ..Record::new(key(n), op, Version::new(1, seq)) }
}

pub fn log(order: Order, value_bytes: usize) -> Vec<u8> {
    let header = Header { uuid: uuid::Uuid::nil(), segment: 1, prev: 0, seq: 0 };
    let mut bytes = Vec::new();
    let mut crc = encode_header(&header, &mut bytes);
    for seq in 1..=RECORDS {
        crc = encode_record(&record(seq, nth(seq - 1, order), value_bytes), crc, &mut bytes);
    }
    bytes
}

pub fn replay(log: &[u8]) -> Store {
    let mut store = Store::default();
    let mut scanner = Scanner::new(Kind::Segment, FileId(2));
    for chunk in log.chunks(CHUNK_BYTES) {
        scanner.feed(chunk, |record, place| {
            store.apply(record, Some(place));
        });
    }
    assert_eq!(scanner.finish().records, RECORDS);
    store
}
