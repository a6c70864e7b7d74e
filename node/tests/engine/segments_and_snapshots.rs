//! Segments are closed by size, snapshots stand for them, and as many snapshots stay as were asked
//! for, each of them a map to go back to.

use std::time::Duration;

use crate::support::{Map, Rig, map_of, options, path};
use ringkv_node::disk::{Disk, SimDisk};
use ringkv_node::{CompactionPolicy, EngineOptions, Reason};
use tokio_util::sync::CancellationToken;

fn names(disk: &SimDisk, prefix: &str) -> Vec<String> {
    let names = disk.names(&path("")).unwrap();
    let mut names: Vec<_> = names.into_iter().filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

async fn fill(rig: &Rig, from: u64) {
    for n in from..from + 40 {
        rig.put(&format!("key{}", n % 9), &format!("value {n}"));
        rig.engine.settle().await;
    }
}

#[tokio::test]
async fn segments_are_closed_by_size_and_deleted_by_compaction() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::with(EngineOptions { segment_bytes: 500, ..options(&disk) }).unwrap();
    // Lines are written on while a segment is being closed.
    for round in 0.. {
        assert!(round < 1000, "{:?}", names(&disk, "data-"));
        fill(&rig, 0).await;
        if names(&disk, "data-").len() >= 4 {
            break;
        }
    }
    for name in names(&disk, "data-") {
        let bytes = disk.contents(&path(&name)).unwrap().len();
        assert!(bytes >= 500, "{name}: {bytes}");
    }
    let map = rig.map();
    assert_eq!(map_of(&disk, "segments alone"), map);
    let compacted = rig.compactor.compact(Reason::Request).await.unwrap();
    assert!(compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
    assert!(names(&disk, "data-").is_empty());
    assert_eq!(map_of(&disk, "the snapshot"), map);
    fill(&rig, 40).await;
    let map = rig.map();
    // Whatever was under way is at its end when another compaction is.
    rig.compactor.compact(Reason::Request).await.unwrap();
    let on_disk = ["snap-", "data-", "data.log"].map(|prefix| {
        let sizes =
            names(&disk, prefix).into_iter().map(|n| disk.contents(&path(&n)).unwrap().len());
        sizes.sum::<usize>()
    });
    assert_eq!(rig.engine.figures().log_bytes, on_disk.iter().sum::<usize>() as u64);
    rig.close().await;
    assert_eq!(map_of(&disk, "snapshot and segments"), map);
}

#[tokio::test]
async fn old_snapshots_stay_and_can_be_gone_back_to() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::with(EngineOptions { snapshots_kept: 3, ..options(&disk) }).unwrap();
    let mut maps: Vec<Map> = Vec::new();
    for round in 0..5 {
        fill(&rig, round * 7).await;
        rig.compactor.compact(Reason::Request).await.unwrap();
        maps.push(rig.map());
    }
    rig.close().await;
    assert_eq!(names(&disk, "snap-"), ["snap-000003.log", "snap-000004.log", "snap-000005.log"]);
    for newer in ["snap-000005.log", "snap-000004.log"] {
        for name in ["data.log", "data.mark", newer] {
            disk.remove(&path(name)).unwrap();
        }
        maps.pop();
        let rig = Rig::with(EngineOptions { snapshots_kept: 3, ..options(&disk) }).unwrap();
        assert_eq!(&rig.map(), maps.last().unwrap(), "without {newer}");
        rig.close().await;
    }
}

#[tokio::test]
async fn a_compaction_comes_by_itself_when_it_is_due() {
    for (compaction, reason) in [
        (CompactionPolicy { after: 10, every: None }, Reason::Operations),
        (CompactionPolicy { after: u64::MAX, every: Some(Duration::from_millis(1)) }, Reason::Age),
    ] {
        let disk = SimDisk::new(1);
        let rig = Rig::with(EngineOptions { compaction, ..options(&disk) }).unwrap();
        let (engine, stop) = (rig.engine.clone(), CancellationToken::new());
        let (compactor, committer) = rig.into_parts();
        let compacting = tokio::spawn(compactor.run(stop.clone()));
        for n in 0..20_u8 {
            engine.write(vec![b'k', n % 3].into(), Some(vec![n].into()), None).unwrap();
            engine.settle().await;
        }
        let compacted = async {
            while engine.figures().last_compaction.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), compacted).await.unwrap();
        assert_eq!(engine.figures().last_compaction.unwrap().1, reason);
        stop.cancel();
        compacting.await.unwrap().unwrap();
        drop(committer);
    }
}
