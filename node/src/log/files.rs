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
//! | `cluster` | whom the node obeys, and what it was told of its cluster; written by `cluster.rs` |
//! | `cluster.tmp` | room for its next content |
//! | `ballast` | room for a compaction when the disk is full |
//! | `data.log.torn.1` | a tail that was cut off, kept for the curious |
//! | `*.tmp` | not finished when the node stopped; deleted on start |
//!
//! Names change by rename only, and a rename counts once the directory is synced.
//!
//! # Caveats
//!
//! The lock is advisory and local: it does not keep two machines off one network directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringkv_shared::NodeId;
use uuid::Uuid;

use crate::StorageError;
use crate::disk::{Disk, DiskFile, Lock, Open};

/// The name of the active segment.
pub const ACTIVE: &str = "data.log";

/// A data directory that this process owns.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    uuid: Uuid,
    /// Held for as long as the directory is in use.
    _lock: Lock,
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
    pub fn open(disk: Arc<dyn Disk>, path: &Path, id: &NodeId) -> Result<Self, StorageError> {
        disk.create_dir(path).map_err(StorageError::io("making directory", path))?;
        let lock = lock(&*disk, path)?;
        let uuid = identity(&*disk, path, id)?;
        Ok(Self { disk, path: path.to_owned(), uuid, _lock: lock })
    }

    /// Where the files are.
    #[must_use]
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
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
        self.path.join(ACTIVE)
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
        self.path.join(closed_name(segment))
    }

    /// A snapshot.
    #[must_use]
    pub fn snapshot(&self, segment: u64) -> PathBuf {
        self.path.join(snapshot_name(segment))
    }

    /// A snapshot before it is complete.
    #[must_use]
    pub fn snapshot_tmp(&self, segment: u64) -> PathBuf {
        self.path.join(format!("snap-{segment:06}.tmp"))
    }

    /// The first free name for a torn tail.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn torn(&self) -> Result<PathBuf, StorageError> {
        let names = names(self.disk(), &self.path)?;
        let mut free = (1..).map(|n: u32| format!("data.log.torn.{n}"));
        let free = free.find(|name| !names.contains(name));
        Ok(self.path.join(free.expect("there is always a next number")))
    }

    /// What is in the directory.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn list(&self) -> Result<Listing, StorageError> {
        Ok(Listing::of(&names(self.disk(), &self.path)?))
    }

    /// Deletes what was not finished.
    ///
    /// # Errors
    ///
    /// A file cannot be deleted.
    pub fn delete_unfinished(&self) -> Result<(), StorageError> {
        for name in names(self.disk(), &self.path)?.iter().filter(|name| name.ends_with(".tmp")) {
            remove(self.disk(), &self.path.join(name))?;
        }
        Ok(())
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    ///
    /// The sync failed.
    pub fn sync(&self) -> Result<(), StorageError> {
        sync_dir(self.disk(), &self.path)
    }
}

impl Listing {
    /// What the names in a directory come to.
    #[must_use]
    pub fn of(names: &[String]) -> Self {
        let mut listing = Self::default();
        for name in names {
            listing.active |= name == ACTIVE;
            listing.closed.extend(number(name, "data-"));
            listing.snapshots.extend(number(name, "snap-"));
        }
        listing.closed.sort_unstable();
        listing.snapshots.sort_unstable();
        listing
    }
}

/// The name of a closed segment.
#[must_use]
pub fn closed_name(segment: u64) -> String {
    format!("data-{segment:06}.log")
}

/// The name of a snapshot.
#[must_use]
pub fn snapshot_name(segment: u64) -> String {
    format!("snap-{segment:06}.log")
}

/// Uuid and node id in the bytes of a `node.id`.
#[must_use]
pub fn parse_identity(bytes: &[u8]) -> Option<(Uuid, NodeId)> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (uuid, id) = line.split_once(' ')?;
    Some((uuid.parse().ok()?, id.parse().ok()?))
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Lock, StorageError> {
    let path = dir.join("lock");
    let lock = disk.lock(&path).map_err(StorageError::io("locking", &path))?;
    lock.ok_or_else(|| StorageError::InUse { dir: dir.to_owned() })
}

fn identity(disk: &dyn Disk, dir: &Path, id: &NodeId) -> Result<Uuid, StorageError> {
    let path = dir.join("node.id");
    let names = names(disk, dir)?;
    if !names.iter().any(|name| name == "node.id") {
        if names.iter().any(|name| name.ends_with(".log")) {
            return Err(StorageError::damaged(&path, "the file is missing beside log files"));
        }
        return new_identity(disk, dir, id);
    }
    let (uuid, found) = parse_identity(&read(disk, &path)?)
        .ok_or_else(|| StorageError::damaged(&path, "not a uuid and a node id"))?;
    if found == *id {
        return Ok(uuid);
    }
    Err(StorageError::OtherNode { dir: dir.to_owned(), found, wanted: id.clone() })
}

fn new_identity(disk: &dyn Disk, dir: &Path, id: &NodeId) -> Result<Uuid, StorageError> {
    let (uuid, tmp) = (Uuid::new_v4(), dir.join("node.tmp"));
    write_new(disk, &tmp, format!("{uuid} {id}\n").as_bytes())?;
    rename(disk, &tmp, &dir.join("node.id"))?;
    sync_dir(disk, dir)?;
    Ok(uuid)
}

fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, StorageError> {
    disk.names(dir).map_err(StorageError::io("reading directory", dir))
}

fn number(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".log")?;
    digits.parse().ok().filter(|n: &u64| format!("{n:06}") == digits)
}

/// Opens a file.
///
/// # Errors
///
/// It is not there, or cannot be opened.
pub fn open(disk: &dyn Disk, path: &Path, how: Open) -> Result<Arc<dyn DiskFile>, StorageError> {
    disk.open(path, how).map_err(StorageError::io("opening", path))
}

/// The bytes of a file.
///
/// # Errors
///
/// It cannot be read.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, StorageError> {
    let file = open(disk, path, Open::Read)?;
    let len = file.len().map_err(StorageError::io("reading", path))?;
    let mut bytes = vec![0; usize::try_from(len).expect("a file in memory is addressable")];
    let read = file.read_at(&mut bytes, 0).map_err(StorageError::io("reading", path))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes and syncs a file of unfinished work; its name is not durable yet.
///
/// # Errors
///
/// It cannot be written or synced.
pub fn write_new(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
) -> Result<Arc<dyn DiskFile>, StorageError> {
    let file = disk.open(path, Open::New).map_err(StorageError::io("making", path))?;
    file.write_at(bytes, 0).map_err(StorageError::io("writing", path))?;
    file.sync().map_err(StorageError::io("syncing", path))?;
    Ok(file)
}

/// Renames a file; durable after a sync of the directory.
///
/// # Errors
///
/// It cannot be renamed.
pub fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StorageError> {
    disk.rename(from, to).map_err(StorageError::io("renaming", from))
}

/// Deletes a file; durable after a sync of the directory.
///
/// # Errors
///
/// It cannot be deleted.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    disk.remove(path).map_err(StorageError::io("deleting", path))
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    disk.sync_dir(dir).map_err(StorageError::io("syncing directory", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    const DIR: &str = "/data";

    fn open_as(disk: &SimDisk, id: &str) -> Result<DataDir, StorageError> {
        DataDir::open(Arc::new(disk.clone()), Path::new(DIR), &id.parse().unwrap())
    }

    fn has(disk: &SimDisk, name: &str) -> bool {
        disk.contents(&Path::new(DIR).join(name)).is_some()
    }

    #[test]
    fn one_process_one_directory_one_node() {
        let disk = SimDisk::new(1);
        let first = open_as(&disk, "n1").unwrap();
        assert!(matches!(open_as(&disk, "n1"), Err(StorageError::InUse { .. })));
        let uuid = first.uuid();
        drop(first);
        let other = open_as(&disk, "n2").unwrap_err().to_string();
        assert!(other.contains("belongs to node n1, not n2"), "{other}");
        assert_eq!(open_as(&disk, "n1").unwrap().uuid(), uuid);
    }

    #[test]
    fn an_identity_that_is_missing_beside_data_is_not_made_up() {
        let disk = SimDisk::new(1);
        disk.set_contents(&Path::new(DIR).join("data.log"), b"x".to_vec());
        assert!(matches!(open_as(&disk, "n1"), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn the_listing_knows_its_files() {
        let disk = SimDisk::new(1);
        let data = open_as(&disk, "n1").unwrap();
        for name in ["data.log", "data-000010.log", "data-000009.log", "snap-000008.log"] {
            disk.set_contents(&Path::new(DIR).join(name), Vec::new());
        }
        for name in ["snap-000010.tmp", "data-1.log", "data.log.torn.1"] {
            disk.set_contents(&Path::new(DIR).join(name), Vec::new());
        }
        data.delete_unfinished().unwrap();
        assert!(!has(&disk, "snap-000010.tmp") && has(&disk, "data-1.log"));
        let expected = Listing { snapshots: vec![8], closed: vec![9, 10], active: true };
        assert_eq!(data.list().unwrap(), expected);
        assert!(data.torn().unwrap().ends_with("data.log.torn.2"));
    }
}
