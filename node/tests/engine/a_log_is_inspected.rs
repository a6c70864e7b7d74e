//! Looking into directories that are whole, torn and damaged: what is said about them is what a start
//! would do, and what is good of them can be rescued.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::support::{Map, Rig, dir, options, path};
use bytes::Bytes;
use ringkv_node::disk::{Disk, RealDisk, SimDisk};
use ringkv_node::inspect::{Did, Fate, Harm, LogFiles, NotSalvaged, blame, salvage, verify};
use ringkv_node::{EngineOptions, StorageError};
use ringkv_shared::protocol::node::{Record, Via};

/// A snapshot, and a segment behind it that ends with a stop in good order.
const FILES: [&str; 2] = ["snap-000001.log", "data.log"];

async fn history(options: EngineOptions) -> Map {
    let mut rig = Rig::with(options).unwrap();
    rig.put("apple", "1");
    rig.put("apple", "2");
    rig.put("banana", "two words");
    rig.engine.settle().await;
    rig.compacts().await.unwrap();
    rig.put("apple", "3");
    rig.engine.write("banana".into(), None, None).unwrap();
    rig.put("cherry", "4");
    let map = rig.map();
    rig.close().await;
    map
}

async fn on_a_simulated_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    history(options(&disk)).await;
    disk
}

fn check(disk: &SimDisk) -> ringkv_node::inspect::Checked {
    verify(&LogFiles::open(disk, Path::new("/data")).unwrap()).unwrap()
}

/// `file:line @offset harm reason`, without the checksums.
fn told(disk: &SimDisk) -> Vec<String> {
    let name = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
    let findings = check(disk).findings;
    let one = findings.iter().map(|f| {
        let line = f.line.map_or_else(String::new, |line| format!(":{line} @{}", f.offset));
        let reason = f.reason.split(": the line says").next().unwrap();
        format!("{}{line} {:?}: {reason}; {} fine", name(&f.file), f.harm, f.later_fine)
    });
    one.collect()
}

fn flip(disk: &SimDisk, name: &str, line: usize) -> SimDisk {
    let broken = disk.copy();
    let mut bytes = disk.contents(&path(name)).unwrap();
    let start = start_of(&bytes, line);
    bytes[start + 5] ^= 1;
    broken.set_contents(&path(name), bytes);
    broken
}

/// Where a line starts; the first is 1.
fn start_of(bytes: &[u8], line: usize) -> usize {
    bytes.split_inclusive(|&byte| byte == b'\n').take(line - 1).map(<[u8]>::len).sum()
}

#[tokio::test]
async fn a_good_directory_is_whole() {
    let checked = check(&on_a_simulated_disk().await);
    assert_eq!(checked.findings, []);
    assert!(checked.is_good() && checked.stopped_well);
    assert_eq!((checked.last, checked.durable), (7, 7));
    let files: Vec<_> =
        checked.files.iter().map(|f| (f.name.as_str(), f.lines, f.records)).collect();
    assert_eq!(files, [(FILES[0], 4, 2), (FILES[1], 5, 3)]);
}

/// Each byte of each file changed, with the mark and without it: a start refuses exactly what is said to be
/// damaged, and cuts exactly what is said to be torn.
#[tokio::test]
async fn what_is_said_is_what_a_start_does() {
    let disk = on_a_simulated_disk().await;
    for (name, marked) in FILES.iter().flat_map(|name| [(name, true), (name, false)]) {
        let bytes = disk.contents(&path(name)).unwrap();
        for at in 0..bytes.len() {
            let what = format!("{name} byte {at}, marked: {marked}");
            let broken = disk.copy();
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            broken.set_contents(&path(name), changed);
            if !marked {
                broken.set_contents(&path("data.mark"), Vec::new());
            }
            let checked = check(&broken);
            let opened = Rig::open(&broken);
            assert_eq!(checked.is_damaged(), opened.is_err(), "{what}: {checked:?}");
            let cut = broken.contents(&path("data.log.torn.1")).is_some();
            let torn = |f: &ringkv_node::inspect::Finding| f.harm <= Harm::Torn;
            assert_eq!(checked.findings.iter().any(torn), cut, "{what}: {checked:?}");
        }
    }
}

#[tokio::test]
async fn findings_name_file_line_offset_and_harm() {
    let disk = on_a_simulated_disk().await;
    let offset = |line| start_of(&disk.contents(&path("data.log")).unwrap(), line);
    assert_eq!(
        told(&flip(&disk, "data.log", 3)),
        [format!("data.log:3 @{} Durable: checksum mismatch; 2 fine", offset(3))]
    );
    let unmarked = flip(&disk, "data.log", 5);
    unmarked.set_contents(&path("data.mark"), Vec::new());
    // The BYE says of itself that all before it is durable, and it is what is damaged.
    assert_eq!(
        told(&unmarked),
        [format!("data.log:5 @{} Torn: checksum mismatch; 0 fine", offset(5))]
    );
    let cut = disk.copy();
    let bytes = disk.contents(&path("data.log")).unwrap();
    cut.set_contents(&path("data.log"), bytes[..bytes.len() - 3].to_vec());
    cut.set_contents(&path("data.mark"), Vec::new());
    assert_eq!(
        told(&cut),
        [format!("data.log:5 @{} Unfinished: the line has no end; 0 fine", offset(5))]
    );
    assert!(check(&cut).is_good(), "a node that runs is just writing it");
}

#[tokio::test]
async fn missing_and_foreign_files_are_findings() {
    let disk = on_a_simulated_disk().await;
    let without = |name: &str| {
        let broken = disk.copy();
        broken.remove(&path(name)).unwrap();
        broken
    };
    assert_eq!(
        told(&without("data.log")),
        ["data.log Durable: the file with the newest data is missing; 0 fine"]
    );
    let [reason] = &told(&without("snap-000001.log"))[..] else { panic!("one finding") };
    assert!(reason.starts_with("data.log Durable: the file does not follow on"), "{reason}");
    assert!(reason.ends_with("s=0; s=1 to 3 are missing; 0 fine"), "{reason}");
    assert_eq!(
        told(&without("node.id")),
        ["node.id Durable: the file is missing, or not a uuid and a node id; 0 fine"]
    );
    let foreign = disk.copy();
    let id = disk.contents(&path("node.id")).unwrap();
    let mut other = id.clone();
    other[0] = if id[0] == b'0' { b'1' } else { b'0' };
    foreign.set_contents(&path("node.id"), other);
    let told = told(&foreign);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|told| told.contains("the file is of the directory ")), "{told:?}");
}

#[tokio::test]
async fn blame_tells_the_life_of_a_key() {
    let disk = on_a_simulated_disk().await;
    let log = LogFiles::open(&disk, Path::new("/data")).unwrap();
    let life = |key: &str| {
        let found = blame(&log, key.as_bytes()).unwrap();
        let one = found.touches.into_iter().map(|touch| {
            let did = match touch.did {
                Did::Set { value, .. } => String::from_utf8(value.to_bytes().to_vec()).unwrap(),
                did => format!("{did:?}"),
            };
            (
                touch.file.file_name().unwrap().to_owned().into_string().unwrap(),
                touch.line,
                did,
                touch.fate,
            )
        });
        one.collect::<Vec<_>>()
    };
    let (snap, data) = (|| FILES[0].to_owned(), || FILES[1].to_owned());
    assert_eq!(
        life("apple"),
        [
            (snap(), 2, "2".to_owned(), Fate::Superseded(1)),
            (data(), 2, "3".to_owned(), Fate::Current),
        ]
    );
    assert_eq!(
        life("banana"),
        [
            (snap(), 3, "two words".to_owned(), Fate::Superseded(1)),
            (data(), 3, "Deleted".to_owned(), Fate::Current),
        ]
    );
    assert_eq!(life("nope"), []);
    let broken = flip(&disk, "data.log", 3);
    let log = LogFiles::open(&broken, Path::new("/data")).unwrap();
    let found = blame(&log, b"banana").unwrap();
    assert_eq!((found.touches.len(), found.damaged), (1, 1));
}

#[tokio::test]
async fn blame_knows_siblings_and_how_copies_came() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    let write = |counter, seen: &str, stamp: Option<&str>| {
        let version = ringkv_shared::Version::new(1, counter);
        let record = Record::new("apple".into(), Some("x".into()), version);
        let context = Some(seen.parse().unwrap());
        let stamp = stamp.map(|stamp| stamp.parse().unwrap());
        let copy = [("apple".into(), Record { context, stamp, ..record })];
        rig.engine.merge(copy, Some(Via::Move)).unwrap();
    };
    write(2, "-", None);
    write(3, "-", None);
    write(5, "1.2", None);
    write(9, "1.5", Some("7.0"));
    write(7, "1.5", Some("8.0"));
    let held = rig.map().into_values().next().unwrap();
    let all = ringkv_node::Condition::Within(held.seen());
    rig.engine.forget([("apple".into(), all)]).unwrap();
    write(4, "-", None);
    rig.close().await;
    let log = LogFiles::open(&disk, Path::new("/data")).unwrap();
    let touches = blame(&log, b"apple").unwrap().touches;
    let fates: Vec<Fate> = touches.iter().map(|touch| touch.fate).collect();
    let superseded = [2, 3, 3, 4, 5].map(Fate::Superseded);
    assert_eq!(fates[..5], superseded);
    assert_eq!(fates[5..], [Fate::Current, Fate::Current]);
    assert_eq!(touches[5].did, Did::Dropped);
    assert_eq!(touches[2].context, Some("1.2".parse().unwrap()));
    assert_eq!((touches[4].via, touches[4].stamp), (Some(Via::Move), "8.0".parse().ok()));
}

fn real(data: &Path) -> EngineOptions {
    let id = "n1".parse().unwrap();
    let compaction = ringkv_node::CompactionPolicy { after: u64::MAX, every: None };
    EngineOptions { compaction, snapshots_kept: 1, ..EngineOptions::new(id, data.to_owned()) }
}

/// Every file with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let one = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    std::fs::read_dir(dir).unwrap().map(one).collect()
}

fn rescue(data: &Path, into: &Path) -> Result<ringkv_node::inspect::Salvaged, NotSalvaged> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    salvage(&disk, data, into, None)
}

#[tokio::test]
async fn all_but_the_damaged_line_is_rescued() {
    let dir = dir();
    let data = dir.path().join("n1");
    let map = history(real(&data)).await;
    let good = contents(&data);
    // What is lost with each line of the segment behind its header.
    let epoch = map[&b"apple"[..]].version.epoch;
    let record = |key: &str, text: &str, counter| {
        let version = ringkv_shared::Version::new(epoch, counter);
        Record::new(key.into(), Some(text.into()), version)
    };
    let lost: [(&str, Option<_>); 3] = [
        ("apple", Some(record("apple", "2", 2))),
        ("banana", Some(record("banana", "two words", 3))),
        ("cherry", None),
    ];
    for (line, (key, before)) in (2..).zip(lost) {
        let mut bytes = good["data.log"].clone();
        let at = start_of(&bytes, line) + 30;
        bytes[at] ^= 1;
        std::fs::write(data.join("data.log"), &bytes).unwrap();
        let damaged = contents(&data);
        assert!(matches!(Rig::with(real(&data)), Err(StorageError::Damaged { .. })));
        let into = dir.path().join(format!("n1-{line}"));
        let salvaged = rescue(&data, &into).unwrap();
        assert_eq!(contents(&data), damaged, "the damaged directory is as it was");
        let [loss] = &salvaged.losses[..] else { panic!("{salvaged:?}") };
        let (number, seq) = (line as u64, line as u64 + 2);
        assert_eq!(
            (loss.lines.clone(), loss.sequence.clone()),
            (Some(number..=number), Some(seq..=seq))
        );
        assert_eq!((&loss.keys[..], loss.torn), (&[Bytes::from(key)][..], false));
        let rig = Rig::with(real(&into)).unwrap();
        assert_eq!(rig.engine.uuid(), salvaged.identity.uuid);
        let mut expected = map.clone();
        expected.remove(&Bytes::from(key));
        expected.extend(before.map(|before| (Bytes::from(key), before)));
        assert_eq!(rig.map(), expected, "line {line}");
    }
}

#[tokio::test]
async fn a_lost_checksum_or_header_costs_one_line() {
    let dir = dir();
    let data = dir.path().join("n1");
    let map = history(real(&data)).await;
    let good = contents(&data)["data.log"].clone();
    for (n, at) in [(1, 3), (2, start_of(&good, 2) - 3), (3, start_of(&good, 3) - 3)] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(data.join("data.log"), &bytes).unwrap();
        let into = dir.path().join(format!("rescued-{n}"));
        let salvaged = rescue(&data, &into).unwrap();
        assert_eq!(salvaged.losses.len(), 1, "{salvaged:?}");
        let rig = Rig::with(real(&into)).unwrap();
        let changed = rig.map().iter().filter(|(key, held)| map.get(*key) != Some(*held)).count();
        assert_eq!(changed, usize::from(n == 3), "a header has no key");
    }
}

#[tokio::test]
async fn the_end_that_is_missing_is_named() {
    let dir = dir();
    let data = dir.path().join("n1");
    history(real(&data)).await;
    let good = contents(&data)["data.log"].clone();
    std::fs::write(data.join("data.log"), &good[..start_of(&good, 3)]).unwrap();
    let salvaged = rescue(&data, &dir.path().join("new")).unwrap();
    let [loss] = &salvaged.losses[..] else { panic!("{salvaged:?}") };
    assert_eq!((loss.lines.clone(), loss.sequence.clone()), (None, Some(5..=7)));
    assert_eq!(loss.reason, "the file ends before lines that were durable");
}

#[tokio::test]
async fn nothing_is_salvaged_from_or_into_what_is_in_use() {
    let dir = dir();
    let data = dir.path().join("n1");
    let rig = Rig::with(real(&data)).unwrap();
    let into = dir.path().join("new");
    assert!(matches!(rescue(&data, &into), Err(NotSalvaged::InUse(_))));
    rig.close().await;
    assert!(matches!(rescue(&data, &data), Err(NotSalvaged::Exists(_))));
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(matches!(rescue(&empty, &into), Err(NotSalvaged::NoLog(_))));
    std::fs::remove_file(data.join("node.id")).unwrap();
    assert!(matches!(rescue(&data, &into), Err(NotSalvaged::Nobody(_))));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let salvaged = salvage(&disk, &data, &into, Some("n7".parse().unwrap())).unwrap();
    assert_eq!(salvaged.identity.id.as_str(), "n7");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing half-made is left");
}
