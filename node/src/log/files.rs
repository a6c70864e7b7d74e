//! The data directory: who owns it and what is in it.
//!
//! | file | what it is |
//! |---|---|
//! | `lock` | locked by the process that uses the directory |
//! | `node.id` | `<uuid> <node id>`: made once, never changed |
//! | `data.log` | the active segment |
//! | `data.mark` | what of it is durable |
//! | `data-000041.log` | closed segment 41 |
//! | `snap-000041.log` | the map after segments 1 to 41 |
//! | `data.log.torn.1` | a tail that was cut off, kept for the curious |
//! | `*.tmp` | not finished when the node stopped; deleted on start |
//!
//! Names change by rename only, and a rename counts once the directory is synced. Directory
//! 0700, files 0600.
//!
//! # Caveats
//!
//! The lock is advisory and local: it does not keep two machines off one network directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ringkv_shared::NodeId;
use uuid::Uuid;

use crate::StorageError;

/// A data directory that this process owns.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    uuid: Uuid,
    /// Held for as long as the directory is in use.
    _lock: File,
}

/// What is in a data directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Numbers of the snapshots, ascending.
    pub snapshots: Vec<u64>,
    /// Numbers of the closed segments, ascending.
    pub closed: Vec<u64>,
    /// Whether there is a `data.log`.
    pub active: bool,
}

impl DataDir {
    /// Makes the directory if need be, locks it and checks that it is this node's.
    ///
    /// # Errors
    ///
    /// In use, another node's, or not accessible.
    pub fn open(path: &Path, id: &NodeId) -> Result<Self, StorageError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(StorageError::io("making directory", path))?;
        let lock = lock(path)?;
        let uuid = identity(path, id)?;
        Ok(Self { path: path.to_owned(), uuid, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The active segment.
    #[must_use]
    pub fn active(&self) -> PathBuf {
        self.path.join("data.log")
    }

    /// The active segment before it has its name.
    #[must_use]
    pub fn active_tmp(&self) -> PathBuf {
        self.path.join("data.tmp")
    }

    /// The mark file.
    #[must_use]
    pub fn mark(&self) -> PathBuf {
        self.path.join("data.mark")
    }

    /// A closed segment.
    #[must_use]
    pub fn closed(&self, segment: u64) -> PathBuf {
        self.path.join(format!("data-{segment:06}.log"))
    }

    /// A snapshot.
    #[must_use]
    pub fn snapshot(&self, segment: u64) -> PathBuf {
        self.path.join(format!("snap-{segment:06}.log"))
    }

    /// A snapshot before it is complete.
    #[must_use]
    pub fn snapshot_tmp(&self, segment: u64) -> PathBuf {
        self.path.join(format!("snap-{segment:06}.tmp"))
    }

    /// The first free name for a torn tail.
    #[must_use]
    pub fn torn(&self) -> PathBuf {
        let name = |n: u32| self.path.join(format!("data.log.torn.{n}"));
        (1..).map(name).find(|path| !path.exists()).expect("there is always a next number")
    }

    /// What is in the directory.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn list(&self) -> Result<Listing, StorageError> {
        let mut listing = Listing::default();
        for name in names(&self.path)? {
            listing.active |= name == "data.log";
            listing.closed.extend(number(&name, "data-"));
            listing.snapshots.extend(number(&name, "snap-"));
        }
        listing.closed.sort_unstable();
        listing.snapshots.sort_unstable();
        Ok(listing)
    }

    /// Deletes what was not finished.
    ///
    /// # Errors
    ///
    /// A file cannot be deleted.
    pub fn delete_unfinished(&self) -> Result<(), StorageError> {
        for name in names(&self.path)?.iter().filter(|name| name.ends_with(".tmp")) {
            remove(&self.path.join(name))?;
        }
        Ok(())
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    ///
    /// The sync failed.
    pub fn sync(&self) -> Result<(), StorageError> {
        sync_dir(&self.path)
    }
}

fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join("lock");
    let file = private().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(StorageError::io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StorageError::io("locking", &path)(source)),
    }
}

fn identity(dir: &Path, id: &NodeId) -> Result<Uuid, StorageError> {
    let path = dir.join("node.id");
    if !path.exists() {
        return new_identity(dir, &path, id);
    }
    let text = fs::read_to_string(&path).map_err(StorageError::io("reading", &path))?;
    let parsed = text.strip_suffix('\n').and_then(|line| line.split_once(' '));
    let parsed = parsed.and_then(|(uuid, id)| Some((uuid.parse().ok()?, id.parse().ok()?)));
    let (uuid, found): (Uuid, NodeId) =
        parsed.ok_or_else(|| StorageError::damaged(&path, "not a uuid and a node id"))?;
    if found == *id {
        return Ok(uuid);
    }
    Err(StorageError::OtherNode { dir: dir.to_owned(), found, wanted: id.clone() })
}

fn new_identity(dir: &Path, path: &Path, id: &NodeId) -> Result<Uuid, StorageError> {
    if names(dir)?.iter().any(|name| name.ends_with(".log")) {
        return Err(StorageError::damaged(path, "the file is missing beside log files"));
    }
    let (uuid, tmp) = (Uuid::new_v4(), dir.join("node.tmp"));
    write_new(&tmp, format!("{uuid} {id}\n").as_bytes())?;
    rename(&tmp, path)?;
    sync_dir(dir)?;
    Ok(uuid)
}

fn names(dir: &Path) -> Result<Vec<String>, StorageError> {
    let read = || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect();
    let names: std::io::Result<Vec<_>> = read();
    let names = names.map_err(StorageError::io("reading directory", dir))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn number(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".log")?;
    digits.parse().ok().filter(|n: &u64| format!("{n:06}") == digits)
}

/// Options for files that only their owner may read.
#[must_use]
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Writes and syncs a file of unfinished work; its name is not durable yet.
///
/// # Errors
///
/// It cannot be written or synced.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<File, StorageError> {
    let file = private().write(true).create(true).truncate(true).open(path);
    let mut file = file.map_err(StorageError::io("making", path))?;
    file.write_all(bytes).map_err(StorageError::io("writing", path))?;
    file.sync_all().map_err(StorageError::io("syncing", path))?;
    Ok(file)
}

/// Renames a file; durable after a sync of the directory.
///
/// # Errors
///
/// It cannot be renamed.
pub fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(StorageError::io("renaming", from))
}

/// Deletes a file; durable after a sync of the directory.
///
/// # Errors
///
/// It cannot be deleted.
pub fn remove(path: &Path) -> Result<(), StorageError> {
    fs::remove_file(path).map_err(StorageError::io("deleting", path))
}

fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    let synced = File::open(dir).and_then(|file| file.sync_all());
    synced.map_err(StorageError::io("syncing directory", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_one_directory_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let (n1, n2) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        let first = DataDir::open(dir.path(), &n1).unwrap();
        let second = DataDir::open(dir.path(), &n1);
        assert!(matches!(second, Err(StorageError::InUse { .. })));
        let uuid = first.uuid();
        drop(first);
        let other = DataDir::open(dir.path(), &n2).unwrap_err().to_string();
        assert!(other.contains("belongs to node n1, not n2"), "{other}");
        assert_eq!(DataDir::open(dir.path(), &n1).unwrap().uuid(), uuid);
    }

    #[test]
    fn an_identity_that_is_missing_beside_data_is_not_made_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data.log"), "x").unwrap();
        let opened = DataDir::open(dir.path(), &"n1".parse().unwrap());
        assert!(matches!(opened, Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn the_listing_knows_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), &"n1".parse().unwrap()).unwrap();
        for name in ["data.log", "data-000010.log", "data-000009.log", "snap-000008.log"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for name in ["snap-000010.tmp", "data-1.log", "data.log.torn.1"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        data.delete_unfinished().unwrap();
        assert!(!dir.path().join("snap-000010.tmp").exists());
        let expected = Listing { snapshots: vec![8], closed: vec![9, 10], active: true };
        assert_eq!(data.list().unwrap(), expected);
        assert!(data.torn().ends_with("data.log.torn.2"));
    }
}
