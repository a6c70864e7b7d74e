//! An engine with its committer running, on a disk to break.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

pub mod served;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use ringkv_node::disk::SimDisk;
use ringkv_node::{
    CompactionPolicy, Compactor, Condition, Engine, EngineOptions, PageRequest, Reason, StepHook,
    StorageError, WriteOutcome,
};
use ringkv_shared::Version;
use ringkv_shared::protocol::node::Record;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Stored key to all that is held for it.
pub type Map = BTreeMap<Bytes, Record>;

/// A file of the node's directory.
pub fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

/// Options of a node that compacts only when told.
pub fn options(disk: &SimDisk) -> EngineOptions {
    EngineOptions {
        disk: Arc::new(disk.clone()),
        compaction: CompactionPolicy { after: u64::MAX, every: None },
        snapshots_kept: 1,
        ..EngineOptions::new("n1".parse().unwrap(), "/data".into())
    }
}

pub struct Rig {
    pub engine: Engine,
    pub compactor: Compactor,
    stop: CancellationToken,
    /// Cancelled when the committer is at its end.
    ended: CancellationToken,
    committer: JoinHandle<Result<(), StorageError>>,
}

impl Rig {
    pub fn open(disk: &SimDisk) -> Result<Self, StorageError> {
        Self::with(options(disk))
    }

    pub fn with_hook(disk: &SimDisk, hook: StepHook) -> Result<Self, StorageError> {
        Self::with(EngineOptions { hook, ..options(disk) })
    }

    pub fn with(options: EngineOptions) -> Result<Self, StorageError> {
        let (engine, committer, compactor) = Engine::open(options)?;
        let stop = CancellationToken::new();
        let ended = CancellationToken::new();
        let (stopped, at_end) = (stop.clone(), ended.clone().drop_guard());
        let committer = tokio::spawn(async move {
            let _at_end = at_end;
            committer.run(stopped).await
        });
        Ok(Self { engine, compactor, stop, ended, committer })
    }

    /// The parts, for who runs the compactor too; the committer runs until this is dropped.
    pub fn into_parts(self) -> (Compactor, impl Drop) {
        (self.compactor, self.stop.drop_guard())
    }

    pub async fn close(self) {
        self.try_close().await.unwrap();
    }

    pub async fn try_close(self) -> Result<(), StorageError> {
        self.stop.cancel();
        self.committer.await.unwrap()
    }

    pub fn put(&self, key: &str, value: &str) -> WriteOutcome {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        self.engine.write(key, Some(value), None).unwrap()
    }

    /// Forgets a key, if this is the only version it has.
    pub fn forget(&self, key: &str, version: Version) -> u64 {
        let key = Bytes::from(key.to_owned());
        self.engine.forget([(key, Condition::Only(version))]).unwrap()
    }

    /// Waits until all is safe; false if the committer failed before that.
    pub async fn settles(&self) -> bool {
        let settled = self.engine.settle();
        tokio::select! {
            () = settled => true,
            () = self.ended.cancelled() => false,
        }
    }

    /// What comes of this; `None` if the committer failed before that.
    pub async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.ended.cancelled() => None,
        }
    }

    /// Ends the node as a process that stops without a farewell.
    pub async fn kill(self) {
        self.committer.abort();
        // Aborted, or at its end just before.
        let _ = self.committer.await;
    }

    /// Compacts; false if the committer failed meanwhile.
    pub async fn compacts(&mut self) -> Result<bool, StorageError> {
        tokio::select! {
            compacted = self.compactor.compact(Reason::Request) => compacted.map(|_| true),
            () = self.ended.cancelled() => Ok(false),
        }
    }

    /// Waits for a committer that fails.
    pub async fn ended(self) -> Result<(), StorageError> {
        self.committer.await.unwrap()
    }

    pub fn map(&self) -> Map {
        let request = PageRequest {
            keys_max: usize::MAX,
            bytes_max: usize::MAX,
            ..PageRequest::everything()
        };
        let page = self.engine.page(&request).unwrap();
        page.entries.into_iter().collect()
    }
}

/// The map that a disk holds, opened in a copy.
pub fn map_of(disk: &SimDisk, what: &str) -> Map {
    let rig = Rig::open(&disk.copy()).unwrap_or_else(|error| panic!("{what}: {error}"));
    rig.map()
}

/// The disk that a power cut now would leave.
pub fn power_cut(disk: &SimDisk, seed: u64) -> SimDisk {
    disk.crash(&mut StdRng::seed_from_u64(seed))
}

/// A directory in memory if there is one: these tests are about bytes, not about disks.
pub fn dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}
