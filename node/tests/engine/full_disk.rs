//! A disk that is full, or read-only: writes are refused before anything is applied, reads and
//! deletes go on, and the node takes writes again by itself when there is room.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{map_of, options, power_cut};
use bytes::Bytes;
use ringkv_node::disk::{Operation, RealDisk, SimDisk};
use ringkv_node::{
    CompactionPolicy, Compactor, Engine, EngineOptions, Reason, Refused, StorageError,
};
use ringkv_shared::protocol::node::DiskState;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1024 * 1024;
/// Room for ballast, a first reservation and some writes.
const CAPACITY: u64 = 14 * MIB;
const PATIENCE: Duration = Duration::from_secs(20);

/// A node without a network.
struct Node {
    engine: Engine,
    stop: CancellationToken,
    tasks: [JoinHandle<Result<(), StorageError>>; 2],
}

impl Node {
    fn open(options: EngineOptions) -> Self {
        let (engine, committer, compactor): (_, _, Compactor) = Engine::open(options).unwrap();
        let stop = CancellationToken::new();
        let tasks =
            [tokio::spawn(committer.run(stop.clone())), tokio::spawn(compactor.run(stop.clone()))];
        Self { engine, stop, tasks }
    }

    fn put(&self, key: u64, bytes: usize) -> Result<(), Refused> {
        // Of all lengths and letters, so that it is not compressed to nothing.
        let value: Vec<u8> = (0..bytes as u64).map(|n| ((n * n * (key + 7)) >> 5) as u8).collect();
        let value: Bytes = value.iter().map(|byte| b'a' + byte % 26).collect();
        self.engine.write(name(key), Some(value), None).map(drop)
    }

    fn del(&self, key: u64) -> Result<(), Refused> {
        self.engine.write(name(key), None, None).map(drop)
    }

    fn state(&self) -> DiskState {
        self.engine.figures().state
    }

    async fn reaches(&self, state: DiskState) {
        let reached = async {
            while self.state() != state {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await;
        in_time.unwrap_or_else(|_| panic!("not {state:?}: {:?}", self.engine.figures()));
    }

    /// Puts until one is refused; says how many were not.
    async fn fill(&self, mut key: impl FnMut(u64) -> u64, bytes: usize) -> u64 {
        for n in 0..100_000 {
            if let Err(refused) = self.put(key(n), bytes) {
                assert_eq!(refused, Refused::DiskFull);
                return n;
            }
            self.engine.settle().await;
        }
        panic!("the disk never was full");
    }

    async fn close(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }
}

fn name(key: u64) -> Bytes {
    Bytes::from(format!("key{key}"))
}

fn never(options: EngineOptions) -> EngineOptions {
    EngineOptions { compaction: CompactionPolicy { after: u64::MAX, every: None }, ..options }
}

fn disk(capacity: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.set_capacity(capacity);
    disk
}

#[tokio::test]
async fn a_full_disk_refuses_puts_and_recovers_when_room_is_freed() {
    let disk = disk(CAPACITY);
    let node = Node::open(never(options(&disk)));
    let taken = node.fill(|n| n, 20_000).await;
    assert!(taken > 100, "{taken}");
    node.reaches(DiskState::DiskFull).await;
    assert!(node.engine.get(&name(taken)).unwrap().is_none(), "what was refused was not applied");
    assert_eq!(node.put(0, 10), Err(Refused::DiskFull));
    assert!(node.engine.get(&name(taken - 1)).unwrap().is_some(), "reads go on");
    for key in 0..50 {
        node.del(key).unwrap();
    }
    node.engine.settle().await;
    assert_eq!(node.engine.figures().tombstones, 50, "deletes go on");
    disk.set_capacity(2 * CAPACITY);
    node.reaches(DiskState::Ok).await;
    node.put(0, 20_000).unwrap();
    node.engine.settle().await;
    let keys = node.engine.figures().keys;
    assert_eq!(keys, taken - 49);
    node.close().await;
    assert_eq!(map_of(&power_cut(&disk, 1), "after a power cut").len() as u64, taken);
}

#[tokio::test]
async fn what_was_overwritten_or_deleted_makes_room_without_help() {
    for overwrite in [true, false] {
        let disk = disk(CAPACITY);
        let node = Node::open(never(options(&disk)));
        // Ten keys written over and over: nearly all of the log can go.
        node.fill(|n| if overwrite { n % 10 } else { n }, 20_000).await;
        if !overwrite {
            let keys = node.engine.figures().keys;
            node.reaches(DiskState::DiskFull).await;
            (0..keys - 10).for_each(|key| node.del(key).unwrap());
        }
        let recovered = async {
            while node.state() != DiskState::Ok || node.engine.figures().compactions == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, recovered).await.unwrap();
        assert_eq!(node.engine.figures().last_compaction.unwrap().1, Reason::Space);
        node.put(0, 20_000).unwrap();
        node.close().await;
    }
}

/// A picture needs the files that a compaction would delete.
#[tokio::test]
async fn what_a_picture_held_up_is_made_room_of_when_it_ends() {
    let disk = disk(CAPACITY);
    let node = Node::open(never(options(&disk)));
    let picture = node.engine.freeze().unwrap();
    node.fill(|n| n % 10, 20_000).await;
    node.reaches(DiskState::DiskFull).await;
    // It looks for room a few times, in vain.
    let looked = disk.count(Some(Operation::Reserve)) + 10;
    while disk.count(Some(Operation::Reserve)) < looked {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(node.put(0, 10), Err(Refused::DiskFull));
    node.engine.thaw(picture);
    node.reaches(DiskState::Ok).await;
    node.put(0, 20_000).unwrap();
    node.close().await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_serves_and_says_so() {
    let disk = disk(CAPACITY);
    let node = Node::open(never(options(&disk)));
    let taken = node.fill(|n| n, 20_000).await;
    node.close().await;
    disk.set_capacity(disk.used());
    for full in [disk.clone(), disk.copy()] {
        let node = Node::open(never(options(&full)));
        assert_eq!(node.engine.figures().keys, taken);
        node.reaches(DiskState::DiskFull).await;
        assert_eq!(node.put(0, 10), Err(Refused::DiskFull));
        node.close().await;
    }
}

#[tokio::test]
async fn a_read_only_file_system_is_read_from_and_waited_for() {
    let disk = SimDisk::new(1);
    let node = Node::open(never(options(&disk)));
    node.put(1, 10).unwrap();
    node.engine.settle().await;
    disk.set_read_only(true);
    node.put(2, 10).unwrap();
    let waits = tokio::spawn(node.engine.settle());
    node.reaches(DiskState::ReadOnly).await;
    // While the state was not known yet, the question for it depended on all.
    drop(node.engine.settle());
    assert_eq!(node.put(3, 10), Err(Refused::ReadOnly));
    assert_eq!(node.del(1), Err(Refused::ReadOnly));
    assert!(node.engine.get(&name(1)).unwrap().is_some());
    node.engine.settle().await;
    assert!(!waits.is_finished(), "nothing is acknowledged that is not on the disk");
    disk.set_read_only(false);
    tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap();
    node.reaches(DiskState::Ok).await;
    node.put(3, 10).unwrap();
    node.close().await;
    assert_eq!(map_of(&power_cut(&disk, 1), "after a power cut").len(), 3);
}

#[tokio::test]
async fn without_reservations_a_full_disk_stops_the_node_and_the_log_stays_whole() {
    let disk = SimDisk::new(1);
    disk.fail_all(Operation::Reserve, std::io::ErrorKind::Unsupported);
    let node = Node::open(never(options(&disk)));
    disk.set_capacity(MIB);
    let mut acknowledged = 0;
    loop {
        node.put(acknowledged, 20_000).unwrap();
        let settled = node.engine.settle();
        tokio::select! {
            () = settled => acknowledged += 1,
            () = async { while !node.tasks[0].is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            } } => break,
        }
    }
    let [committer, compactor] = node.tasks;
    let failure = committer.await.unwrap().unwrap_err();
    assert!(failure.is_full(), "{failure}");
    compactor.abort();
    disk.set_capacity(u64::MAX);
    assert_eq!(map_of(&disk, "after the failure").len() as u64, acknowledged);
}

/// A file system of its own, in memory and small; unmounted when dropped.
struct SmallFileSystem(tempfile::TempDir);

impl SmallFileSystem {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=14m", "tmpfs"]).arg(dir.path());
        let mounted = mount.stderr(std::process::Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "left {:?}", self.path());
    }
}

#[tokio::test]
async fn a_real_file_system_fills_up_and_is_freed() {
    let Some(small) = SmallFileSystem::mount() else {
        eprintln!("SKIPPED: mounting a tmpfs needs root");
        return;
    };
    let options = || EngineOptions {
        disk: Arc::new(RealDisk),
        ..EngineOptions::new("n1".parse().unwrap(), small.path().join("data"))
    };
    let other = small.path().join("other");
    let node = Node::open(never(options()));
    std::fs::write(&other, vec![0; 3 * MIB as usize]).unwrap();
    let taken = node.fill(|n| n, 20_000).await;
    node.reaches(DiskState::DiskFull).await;
    assert!(node.engine.get(&name(taken - 1)).unwrap().is_some());
    node.del(0).unwrap();
    node.engine.settle().await;
    std::fs::remove_file(&other).unwrap();
    node.reaches(DiskState::Ok).await;
    node.put(taken, 20_000).unwrap();
    node.engine.settle().await;
    node.close().await;
    let node = Node::open(never(options()));
    assert_eq!(node.engine.figures().keys, taken);
    node.close().await;
}
