//! How much memory a key takes: what the process grows by with a million keys, on Linux.
//!
//! ```sh
//! cargo run --release -p ringkv-node --example bytes_per_key
//! ```
//!
//! # Caveats
//!
//! Each case runs in a process of its own, because an allocator gives little back: the example
//! starts itself with the case as its arguments.

#![allow(clippy::print_stdout, reason = "an example tells what it found")]

use std::process::Command;

use bytes::Bytes;
use ringkv_node::Store;
use ringkv_node::log::place::{FileId, Place};
use ringkv_node::log::record::{Op, Record};
use ringkv_node::log::value::Value;
use ringkv_shared::Version;

const KEYS: u64 = 1_000_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match &args[1..] {
        [] => all(&args[0]),
        [value_bytes, order] => one(value_bytes.parse().expect("a number"), order),
        _ => panic!("no arguments, or the bytes of a value and an order"),
    }
}

fn all(myself: &str) {
    for value_bytes in ["8", "100"] {
        for order in ["sorted", "random"] {
            let status = Command::new(myself).args([value_bytes, order]).status();
            assert!(status.expect("it can start itself").success());
        }
    }
}

fn one(value_bytes: usize, order: &str) {
    let before = resident_bytes();
    let mut store = Store::default();
    for seq in 1..=KEYS {
        let n = if order == "sorted" { seq } else { seq.wrapping_mul(7_368_787) % KEYS };
        let key = Bytes::from(format!("user:{n:011}"));
        let value = Value::new(Bytes::from(format!("{n:0>value_bytes$}")));
        let op = Op::Put { value, expires: None };
        let record = Record::new(key, op, Version::new(1, seq));
        let record = Record { seq, durable: seq - 1, ..record };
        store.apply(&record, Some(Place { file: FileId(2), offset: seq * 170, len: 170 }));
    }
    let grown = resident_bytes() - before;
    assert_eq!(store.tally().live, KEYS);
    println!("16+{value_bytes} bytes, {order}: {:.1} bytes a key", grown as f64 / KEYS as f64);
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("Linux tells it in KiB") * 1024
}
