//! The files of a log, opened for reading.
//!
//! A directory is listed, all its files are opened, and it is listed again: when both lists are the
//! same, what is open is what was there at one moment. A node that compacts meanwhile may delete a
//! file; who has it open can still read it.
//!
//! # Caveats
//!
//! The mark is read before the log, as it must be: the log only grows, so it has all that the mark
//! says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringkv_shared::NodeId;
use uuid::Uuid;

use crate::StorageError;
use crate::disk::{Disk, DiskFile, Open};
use crate::log::files::{self, Listing};
use crate::log::mark;
use crate::log::place::FileId;
use crate::log::scan::{Kind, Scan, Scanner};

/// How often a directory is listed until it keeps still.
const LISTS_MAX: usize = 20;
/// How much of a file is in memory while it is scanned, in bytes.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// What a file of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The snapshot of all segments up to this one.
    Snapshot(u64),
    /// A closed segment.
    Closed(u64),
    /// `data.log`.
    Active,
    /// A segment that was given by itself, not with its directory.
    Alone,
}

/// The content of `node.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Identity of the directory.
    pub uuid: Uuid,
    /// The node whose it is.
    pub id: NodeId,
}

/// A file of the log.
#[derive(Debug)]
pub struct LogFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub role: Role,
    /// Whether a start reads it; else a newer snapshot stands for it.
    pub needed: bool,
    /// How long it was when it was opened, in bytes.
    pub bytes: u64,
    file: Arc<dyn DiskFile>,
}

/// All files of a log.
#[derive(Debug)]
pub struct LogFiles {
    /// The directory, or the one file.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whose it is; `None` if `node.id` is missing or malformed.
    pub identity: Option<Identity>,
    /// Up to which sequence number `data.mark` says that the log is durable; 0 without one.
    pub marked: u64,
    /// The files, the oldest content first.
    pub files: Vec<LogFile>,
}

impl LogFiles {
    /// Opens the log in a directory, or one file of a log.
    ///
    /// # Errors
    ///
    /// Nothing is there, or it cannot be read.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let Ok(mut names) = disk.names(path) else { return Self::open_file(disk, path) };
        for _ in 0..LISTS_MAX {
            let opened = Self::open_dir(disk, path, &names);
            let now = disk.names(path).map_err(StorageError::io("reading directory", path))?;
            if Listing::of(&now) == Listing::of(&names) {
                return opened;
            }
            names = now;
        }
        let moving = std::io::Error::from(std::io::ErrorKind::ResourceBusy);
        Err(StorageError::io("reading a directory that changes all the time,", path)(moving))
    }

    fn open_dir(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<Self, StorageError> {
        let has = |name: &str| names.iter().any(|other| other == name);
        let read = |name: &str| match has(name) {
            true => files::read(disk, &dir.join(name)),
            false => Ok(Vec::new()),
        };
        let marked = mark::remembered(&read("data.mark")?);
        let identity = files::parse_identity(&read("node.id")?);
        let identity = identity.map(|(uuid, id)| Identity { uuid, id });
        let listing = Listing::of(names);
        let newest = listing.snapshots.last().copied().unwrap_or(0);
        let snapshot = |n: u64| (Role::Snapshot(n), files::snapshot_name(n), n == newest);
        let closed = |n: u64| (Role::Closed(n), files::closed_name(n), n > newest);
        let active = listing.active.then(|| (Role::Active, files::ACTIVE.to_owned(), true));
        let mut found: Vec<(Role, String, bool)> =
            listing.snapshots.into_iter().map(snapshot).collect();
        found.extend(listing.closed.into_iter().map(closed));
        found.extend(active);
        found.sort_by_key(|(role, ..)| role.place());
        let open = |(role, name, needed): (Role, String, bool)| {
            LogFile::open(disk, dir.join(name), role, needed)
        };
        let files = found.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { path: dir.to_owned(), is_dir: true, identity, marked, files })
    }

    fn open_file(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let listing = Listing::of(&[name]);
        let snapshot = listing.snapshots.first().copied().map(Role::Snapshot);
        let closed = listing.closed.first().copied().map(Role::Closed);
        let role = snapshot.or(closed).unwrap_or(Role::Alone);
        let file = LogFile::open(disk, path.to_owned(), role, true)?;
        Ok(Self {
            path: path.to_owned(),
            is_dir: false,
            identity: None,
            marked: 0,
            files: vec![file],
        })
    }

    /// The files that a start reads, in its order.
    pub fn needed(&self) -> impl Iterator<Item = &LogFile> {
        self.files.iter().filter(|file| file.needed)
    }
}

impl Role {
    /// Where its content stands in time.
    fn place(self) -> (u64, bool) {
        match self {
            Self::Snapshot(n) => (n, true),
            Self::Closed(n) => (n, false),
            Self::Active | Self::Alone => (u64::MAX, false),
        }
    }

    /// Which rules its lines follow.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Snapshot(_) => Kind::Snapshot,
            _ => Kind::Segment,
        }
    }
}

impl LogFile {
    fn open(
        disk: &dyn Disk,
        path: PathBuf,
        role: Role,
        needed: bool,
    ) -> Result<Self, StorageError> {
        let file = files::open(disk, &path, Open::Read)?;
        let bytes = file.len().map_err(StorageError::io("reading", &path))?;
        Ok(Self { path, role, needed, bytes, file })
    }

    /// Its name without the directory.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Reads up to `max` bytes at `offset`; fewer only at the end.
    pub(super) fn read(&self, offset: u64, max: usize) -> Result<Vec<u8>, StorageError> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut chunk = vec![0; left.min(max)];
        let read = self.file.read_at(&mut chunk, offset);
        let read = read.map_err(StorageError::io("reading", &self.path))?;
        chunk.truncate(read);
        Ok(chunk)
    }

    /// What is in it, up to the first bad line.
    pub(super) fn scan(&self) -> Result<Scan, StorageError> {
        let mut scanner = Scanner::new(self.role.kind(), FileId(0));
        let mut at = 0;
        loop {
            let chunk = self.read(at, CHUNK_BYTES)?;
            if chunk.is_empty() {
                return Ok(scanner.finish());
            }
            scanner.feed(&chunk, |_, _| ());
            at += chunk.len() as u64;
        }
    }
}
