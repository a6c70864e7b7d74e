//! What is good of a damaged directory, as a new one.
//!
//! Every good line of every file is applied to a map, by version as always, and the map is
//! written as the one snapshot of a new directory, which has the node's id and an identity of its own: it is
//! not the old node, and the cluster must know. The damaged directory stays as it is.
//!
//! Notes are left behind. A floor says that what is not held was deleted, but here it may have been lost;
//! and what was owed is found by who compares the replicas. It obeys nobody: no cluster knows it yet.
//!
//! Files that a newer snapshot stands for are only read when that snapshot is damaged: what was forgotten
//! since (a copy that a rebalance moved away) would come back.
//!
//! The new directory is made beside its name and renamed when all of it is on the disk.
//!
//! # Caveats
//!
//! A line that is lost may have been the newest of its key: then an older value of it is
//! in the new directory, or a key that was deleted. A rebalance with another copy mends that; a
//! cluster with one copy cannot know.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ringkv_shared::NodeId;
use ringkv_shared::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};

use super::files::{Identity, LogFile, LogFiles, Role};
use super::lines::{Judge, Judged, Lines, RawLine};
use super::verify::{Harm, verify};
use crate::StorageError;
use crate::disk::{Disk, Lock};
use crate::log::escape;
use crate::log::files::DataDir;
use crate::log::record::{Header, Line};
use crate::log::snapshot::SnapshotWriter;
use crate::step::StepHook;
use crate::store::Store;

/// How many keys of lost lines are named in each loss.
const KEYS_NAMED_MAX: usize = 20;

/// Lines that are lost, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The file.
    pub file: PathBuf,
    /// Their numbers, from 1; `None`: the file is missing, or not of this log.
    pub lines: Option<RangeInclusive<u64>>,
    /// Where they are, in bytes.
    pub bytes: std::ops::Range<u64>,
    /// Their sequence numbers, as the lines around them tell; `None`: unknown, or none at all.
    pub sequence: Option<RangeInclusive<u64>>,
    /// What is wrong with the first.
    pub reason: String,
    /// Whether nobody was told that they are safe.
    pub torn: bool,
    /// What could still be read of their keys; may be wrong.
    pub keys: Vec<Bytes>,
}

/// What was rescued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The new directory.
    pub into: PathBuf,
    /// Whose it is, with its new identity.
    pub identity: Identity,
    /// Keys with a value.
    pub keys: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// What is lost; nothing, if nothing is.
    pub losses: Vec<Loss>,
}

/// Why nothing was salvaged. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum NotSalvaged {
    /// A process has the directory.
    #[error("{} is in use: its node runs", .0.display())]
    InUse(PathBuf),
    /// The target is there.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is no log.
    #[error("no log in {}", .0.display())]
    NoLog(PathBuf),
    /// Nobody knows whose it is.
    #[error("{} does not tell whose directory it is", .0.display())]
    Nobody(PathBuf),
    /// The operating system.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Writes all that is good in `dir` to the new directory `into`, as node `id` or, without one, as the
/// node that `dir` was of.
///
/// # Errors
///
/// See [`NotSalvaged`].
pub fn salvage(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    into: &Path,
    id: Option<NodeId>,
) -> Result<Salvaged, NotSalvaged> {
    let _lock = lock(&**disk, dir)?;
    let log = LogFiles::open(&**disk, dir)?;
    if !log.is_dir || log.files.is_empty() {
        return Err(NotSalvaged::NoLog(dir.to_owned()));
    }
    let known = log.identity.as_ref().map(|identity| identity.id.clone());
    let id = id.or(known).ok_or_else(|| NotSalvaged::Nobody(dir.join("node.id")))?;
    let unfinished = sibling(into);
    for path in [into, &unfinished] {
        if disk.names(path).is_ok() || disk.open(path, crate::disk::Open::Read).is_ok() {
            return Err(NotSalvaged::Exists(path.to_owned()));
        }
    }
    let rescue = Rescue::read(&log)?;
    let (keys, tombstones) = (rescue.store.tally().live, rescue.store.tally().tombstones);
    let uuid = rescue.write(disk, &unfinished, &id)?;
    disk.rename(&unfinished, into).map_err(StorageError::io("renaming", &unfinished))?;
    let above = into.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
    disk.sync_dir(above).map_err(StorageError::io("syncing directory", above))?;
    let identity = Identity { uuid, id };
    Ok(Salvaged { into: into.to_owned(), identity, keys, tombstones, losses: rescue.losses })
}

/// Keeps a node from starting meanwhile. A directory that no node ever ran on has no lock, and gets none.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<Option<Lock>, NotSalvaged> {
    let names = disk.names(dir).map_err(StorageError::io("reading directory", dir))?;
    if !names.iter().any(|name| name == "lock") {
        return Ok(None);
    }
    let path = dir.join("lock");
    match disk.lock(&path).map_err(StorageError::io("locking", &path))? {
        Some(lock) => Ok(Some(lock)),
        None => Err(NotSalvaged::InUse(dir.to_owned())),
    }
}

/// Where a directory is until it is finished.
fn sibling(into: &Path) -> PathBuf {
    let mut name = into.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    into.with_file_name(name)
}

/// The map that is being rescued.
struct Rescue {
    store: Store,
    losses: Vec<Loss>,
    /// Up to which sequence number all was durable.
    durable: u64,
    /// The highest sequence number seen.
    last: u64,
}

impl Rescue {
    fn read(log: &LogFiles) -> Result<Self, StorageError> {
        let checked = verify(log)?;
        let durable = checked.durable;
        let mut rescue = Self { store: Store::default(), losses: Vec::new(), durable, last: 0 };
        let snapshot =
            checked.files.iter().find(|file| file.needed && file.name.starts_with("snap-"));
        let trusted = snapshot.is_some_and(|file| file.harm.is_none());
        for file in log.files.iter().filter(|file| file.needed || !trusted) {
            rescue.file(log, file)?;
        }
        for finding in checked.findings.iter().filter(|finding| finding.harm == Harm::Durable) {
            // What is wrong in a line was met when the lines were read.
            let met = rescue.losses.iter().any(|loss| loss.file == finding.file);
            if finding.line.is_none() || !met {
                let missing = checked.last + 1..=checked.durable;
                let short = finding.line.is_some() && !missing.is_empty();
                rescue.losses.push(Loss {
                    file: finding.file.clone(),
                    lines: None,
                    bytes: 0..0,
                    sequence: short.then_some(missing),
                    reason: finding.reason.clone(),
                    torn: false,
                    keys: Vec::new(),
                });
            }
        }
        Ok(rescue)
    }

    /// Applies the good lines of a file and notes the others.
    fn file(&mut self, log: &LogFiles, file: &LogFile) -> Result<(), StorageError> {
        let (mut lines, mut judge) = (Lines::new(file), Judge::default());
        let is_snapshot = matches!(file.role, Role::Snapshot(_));
        // The last good line's number; a snapshot counts its own lines, which tells nobody anything.
        let (mut hole, mut seq) = (None::<Loss>, None);
        while let Some(raw) = lines.next_line()? {
            let good = match judge.judge(&raw) {
                Judged::Header(header) if foreign(log, &header) => return Ok(()),
                Judged::Header(header) => {
                    seq = (!is_snapshot).then_some(header.seq);
                    continue;
                }
                Judged::Good(line) => line,
                Judged::Bad(reason) => {
                    hole.get_or_insert_with(|| Loss::begin(file, reason.to_string())).add(&raw);
                    continue;
                }
            };
            let next = (!is_snapshot).then_some(good.seq());
            if let Some(hole) = hole.take() {
                self.lose(hole, file.role, seq, next.map(|next| next - 1));
            }
            seq = next;
            if let Line::Record(record) = good {
                self.store.apply(&record, None);
            }
        }
        if let Some(hole) = hole {
            let lines = hole.lines.as_ref().map_or(0, |lines| lines.end() - lines.start() + 1);
            self.lose(hole, file.role, seq, seq.map(|seq| seq + lines));
        }
        self.last = self.last.max(seq.unwrap_or(0));
        Ok(())
    }

    /// Notes lines that are lost between two sequence numbers.
    fn lose(&mut self, hole: Loss, role: Role, after: Option<u64>, last: Option<u64>) {
        let sequence = after.zip(last).map(|(after, last)| after + 1..=last);
        let sequence = sequence.filter(|sequence| !sequence.is_empty());
        let first = sequence.as_ref().map(|sequence| *sequence.start());
        // Only the end of the active segment may be torn: the others were synced before they closed.
        let torn = role == Role::Active && first.is_some_and(|first| first > self.durable);
        self.losses.push(Loss { sequence, torn, ..hole });
    }

    /// Writes the map as a directory that a node can start on; gives its identity.
    fn write(
        &self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        id: &NodeId,
    ) -> Result<uuid::Uuid, StorageError> {
        let dir = Arc::new(DataDir::open(Arc::clone(disk), dir, id)?);
        let next = Header { uuid: dir.uuid(), segment: 2, prev: 0, seq: self.last };
        let mut snapshot = SnapshotWriter::start(Arc::clone(&dir), &next)?;
        let mut after = None;
        loop {
            let page = self.store.copy(after.as_deref(), PAGE_KEYS_MAX, PAGE_BYTES_MAX);
            after.clone_from(&page.last);
            // Without a bound all values are in memory.
            snapshot.add(page, |_, held| Ok(held))?;
            if after.is_none() {
                break;
            }
        }
        snapshot.finish(&StepHook::default())?;
        Ok(dir.uuid())
    }
}

/// Whether a file is of another directory.
fn foreign(log: &LogFiles, header: &Header) -> bool {
    log.identity.as_ref().is_some_and(|identity| identity.uuid != header.uuid)
}

impl Loss {
    fn begin(file: &LogFile, reason: String) -> Self {
        Self {
            file: file.path.clone(),
            lines: None,
            bytes: 0..0,
            sequence: None,
            reason,
            torn: false,
            keys: Vec::new(),
        }
    }

    fn add(&mut self, raw: &RawLine) {
        let (first, start) = match &self.lines {
            Some(lines) => (*lines.start(), self.bytes.start),
            None => (raw.number, raw.offset),
        };
        self.lines = Some(first..=raw.number);
        self.bytes = start..raw.offset + raw.len;
        let key = key_of(&raw.bytes).filter(|key| !self.keys.contains(key));
        if self.keys.len() < KEYS_NAMED_MAX {
            self.keys.extend(key);
        }
    }
}

/// The key of a damaged line, if what stands in its place is one.
fn key_of(line: &[u8]) -> Option<Bytes> {
    let word = [&b"PUT "[..], b"DEL ", b"DRP "].into_iter().find(|word| line.starts_with(word))?;
    let token = line[word.len()..].split(|byte| *byte == b' ').next()?;
    escape::decode(token).ok().map(|key| Bytes::copy_from_slice(&key))
}
