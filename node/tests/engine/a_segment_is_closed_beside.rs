//! Who writes does not wait for the disk to sync a segment that is being closed, unless the policy says so.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::{Rig, map_of, options, path};
use ringkv_node::disk::{Disk, DiskFile, Lock, Open, SimDisk};
use ringkv_node::{Durability, EngineOptions};

/// The longest that anything may take: much longer than it does.
const PATIENCE: Duration = Duration::from_secs(60);
const SEGMENT_BYTES: u64 = 500;

/// A disk on which syncs wait while the gate is shut.
#[derive(Clone, Debug)]
struct Gated {
    disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    /// Whether it is shut, and how many wait.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn set_shut(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    fn waiting(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }
}

impl Disk for Gated {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.disk.lock(path)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.names(dir)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let (file, gate) = (self.disk.open(path, how)?, Arc::clone(&self.gate));
        Ok(Arc::new(GatedFile { file, gate }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.reserve(offset, len)
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn lines_are_written_while_the_segment_is_synced() {
    let sim = SimDisk::new(1);
    let gate = Arc::new(Gate::default());
    let rig = Rig::with(EngineOptions {
        disk: Arc::new(Gated { disk: sim.clone(), gate: Arc::clone(&gate) }),
        durability: Durability::Os,
        segment_bytes: SEGMENT_BYTES,
        ..options(&sim)
    })
    .unwrap();
    gate.set_shut(true);
    let put = async |n: u64| {
        rig.put(&format!("key{n}"), "a value of some bytes");
        tokio::time::timeout(PATIENCE, rig.engine.settle()).await.expect("acknowledged");
    };
    for n in 0..20 {
        put(n).await;
    }
    until("the segment is being synced", || gate.waiting() == 1).await;
    for n in 20..60 {
        put(n).await;
    }
    assert_eq!(gate.waiting(), 1, "nothing else syncs it");
    assert!(sim.contents(&path("data.log")).unwrap().len() as u64 > 3 * SEGMENT_BYTES);
    assert_eq!(sim.contents(&path("data-000001.log")), None);
    gate.set_shut(false);
    until("the segment is closed", || sim.contents(&path("data-000001.log")).is_some()).await;
    put(60).await;
    let map = rig.map();
    assert_eq!(map.len(), 61);
    rig.close().await;
    assert_eq!(map_of(&sim, "both segments"), map);
}
