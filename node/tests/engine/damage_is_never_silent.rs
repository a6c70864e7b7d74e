//! A log that was cut short or changed gives back a prefix of what was written, if nothing
//! that was acknowledged is missing from it, and otherwise refuses to open and changes nothing.

use crate::support::{Map, Rig, path};
use ringkv_node::disk::SimDisk;
use ringkv_node::log::decode::{decode_header, decode_line, said_checksum};
use ringkv_node::{NodeError, StorageError};

const DURABLE: usize = 3;
const WRITTEN: usize = 6;

struct Log {
    disk: SimDisk,
    /// The log.
    bytes: Vec<u8>,
    /// The mark when only the first group was durable.
    old_mark: Vec<u8>,
    /// Where each line ends; the header's end comes first.
    ends: Vec<usize>,
    /// The map after each line.
    maps: Vec<Map>,
}

/// Six writes, acknowledged three by three.
async fn log() -> Log {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    let (mut maps, mut old_mark) = (vec![rig.map()], Vec::new());
    for n in 1..=WRITTEN {
        rig.put(&format!("key{}", n % 4), &format!("value {n} ü"));
        maps.push(rig.map());
        if n % DURABLE == 0 {
            rig.engine.settle().await;
        }
        if n == DURABLE {
            old_mark = disk.contents(&path("data.mark")).unwrap();
        }
    }
    // Not stopped in good order: a BYE would say that all of it is durable.
    let disk = disk.copy();
    rig.close().await;
    let bytes = disk.contents(&path("data.log")).unwrap();
    let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    Log { ends: ends.collect(), disk, bytes, old_mark, maps }
}

impl Log {
    /// The disk with this log, and with the old mark if only the first group counts.
    fn with(&self, bytes: &[u8], old_mark: bool) -> SimDisk {
        let broken = self.disk.copy();
        broken.set_contents(&path("data.log"), bytes.to_vec());
        if old_mark {
            broken.set_contents(&path("data.mark"), self.old_mark.clone());
        }
        broken
    }
}

fn refuses(disk: &SimDisk, bytes: &[u8], what: &str) {
    let Err(error) = Rig::open(disk) else { panic!("{what}: opened") };
    assert!(error.to_string().contains("Nothing was changed"), "{what}: {error}");
    assert_eq!(NodeError::from(error).exit_code(), 74, "{what}");
    assert_eq!(disk.contents(&path("data.log")).unwrap(), bytes, "{what}");
}

#[tokio::test]
async fn a_power_cut_at_any_byte_keeps_what_was_durable() {
    let log = log().await;
    let durable_end = log.ends[DURABLE];
    for cut in 0..=log.bytes.len() {
        let bytes = &log.bytes[..cut];
        let broken = log.with(bytes, true);
        if cut < durable_end {
            refuses(&broken, bytes, &format!("cut at {cut}"));
            continue;
        }
        let lines = log.ends.iter().filter(|end| **end <= cut).count() - 1;
        let rig = Rig::open(&broken).unwrap();
        assert_eq!(rig.map(), log.maps[lines], "cut at {cut}");
        let torn = broken.contents(&path("data.log.torn.1"));
        let rest = &bytes[log.ends[lines]..];
        assert_eq!(torn.unwrap_or_default(), rest, "cut at {cut}");
    }
}

#[tokio::test]
async fn with_a_current_mark_every_cut_is_refused() {
    let log = log().await;
    for cut in 0..log.bytes.len() {
        let broken = log.with(&log.bytes[..cut], false);
        refuses(&broken, &log.bytes[..cut], &format!("cut at {cut}"));
    }
}

#[tokio::test]
async fn with_a_current_mark_every_flipped_bit_is_refused() {
    let log = log().await;
    for at in 0..log.bytes.len() {
        let mut bytes = log.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        refuses(&log.with(&bytes, false), &bytes, &format!("byte {at}"));
    }
}

/// A short-lined log of 200 writes, all acknowledged.
async fn long_log() -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    for n in 0..200 {
        rig.put(&format!("k{}", n % 50), "v");
    }
    rig.close().await;
    let bytes = disk.contents(&path("data.log")).unwrap();
    (disk, bytes)
}

/// Every bit by its line, since the lines before are as they were; and a bit of every byte by
/// opening the whole log.
#[tokio::test]
async fn every_bit_of_a_long_log_counts() {
    let (disk, bytes) = long_log().await;
    let (mut start, mut prev) = (0, None);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let end = start + line.len();
        for bit in start * 8..end * 8 {
            let mut flipped = bytes[start..].to_vec();
            flipped[bit / 8 - start] ^= 1 << (bit % 8);
            let first = flipped.split(|&byte| byte == b'\n').next().unwrap();
            let good = prev.map_or_else(
                || decode_header(first).is_ok(),
                |prev| decode_line(first, prev).is_ok(),
            );
            assert!(!good, "bit {bit}");
        }
        prev = said_checksum(line.strip_suffix(b"\n").unwrap());
        start = end;
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let broken = disk.copy();
        broken.set_contents(&path("data.log"), flipped.clone());
        refuses(&broken, &flipped, &format!("byte {at}"));
    }
}

#[tokio::test]
async fn with_an_old_mark_a_flipped_bit_costs_at_most_the_last_group() {
    let log = log().await;
    for at in 0..log.bytes.len() {
        let mut bytes = log.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let broken = log.with(&bytes, true);
        if at < log.ends[DURABLE] {
            refuses(&broken, &bytes, &format!("byte {at}"));
            continue;
        }
        let lines = log.ends.iter().filter(|end| **end <= at).count() - 1;
        let rig = Rig::open(&broken).unwrap();
        assert_eq!(rig.map(), log.maps[lines], "byte {at}");
    }
}

#[tokio::test]
async fn after_a_torn_tail_the_log_goes_on() {
    let log = log().await;
    let broken = log.with(&log.bytes[..log.bytes.len() - 1], true);
    let rig = Rig::open(&broken).unwrap();
    rig.put("new", "line");
    rig.engine.settle().await;
    let map = rig.map();
    rig.close().await;
    assert_eq!(crate::support::map_of(&broken, "after the new line"), map);
}

#[tokio::test]
async fn two_opens_of_one_directory_are_refused() {
    let disk = SimDisk::new(1);
    let _first = Rig::open(&disk).unwrap();
    let Err(error) = Rig::open(&disk) else { panic!("opened twice") };
    assert!(matches!(error, StorageError::InUse { .. }));
    assert!(error.to_string().contains("/data"), "{error}");
    assert_eq!(NodeError::from(error).exit_code(), 73);
}
