//! An engine with its committer running, and directories to break.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ringkv_node::{
    Compactor, Durability, Engine, EngineOptions, Entry, PageRequest, StepHook, StorageError,
};
use ringkv_shared::Version;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Key to value (`None`: tombstone) and version.
pub type Map = BTreeMap<Bytes, (Option<Bytes>, Version)>;

pub struct Rig {
    pub engine: Engine,
    pub compactor: Compactor,
    stop: CancellationToken,
    committer: JoinHandle<Result<(), StorageError>>,
}

impl Rig {
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        Self::with_hook(dir, StepHook::default())
    }

    pub fn with_hook(dir: &Path, hook: StepHook) -> Result<Self, StorageError> {
        let options = EngineOptions {
            id: "n1".parse().unwrap(),
            data: dir.to_owned(),
            durability: Durability::Always,
            compact_after: u64::MAX,
            hook,
        };
        let (engine, committer, compactor) = Engine::open(options)?;
        let stop = CancellationToken::new();
        let committer = tokio::spawn(committer.run(stop.clone()));
        Ok(Self { engine, compactor, stop, committer })
    }

    pub async fn close(self) {
        self.stop.cancel();
        self.committer.await.unwrap().unwrap();
    }

    pub fn put(&self, key: &str, value: &str) {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        self.engine.write(key, Some(value), None);
    }

    pub fn map(&self) -> Map {
        let request = PageRequest {
            after: None,
            prefix: Bytes::new(),
            keys_max: usize::MAX,
            bytes_max: usize::MAX,
            keys_only: false,
            tombstones: true,
            at: None,
        };
        let page = self.engine.page(&request);
        let plain = |(key, Entry { value, version, .. })| (key, (value, version));
        page.entries.into_iter().map(plain).collect()
    }
}

/// A directory in memory if there is one: these tests are about bytes, not about disks.
pub fn dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

/// A copy of a data directory, as it would be found after a crash now.
pub fn copy(from: &Path) -> TempDir {
    let to = dir();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The mark first: it may be behind the log, never ahead of it.
    files.sort_by_key(|path| !path.ends_with("data.mark"));
    for path in files.iter().filter(|path| path.is_file() && !path.ends_with("lock")) {
        std::fs::copy(path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}
