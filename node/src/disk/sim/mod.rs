//! A disk in memory that fails, fills up and loses power on request.
//!
//! Each file has the bytes that are seen and the bytes that are durable, in sectors of 512; so do
//! the names. [`SimDisk::crash`] gives the disk that a power cut leaves: what is durable, and of all
//! the rest (sectors, lengths, changes of names) a random part. [`SimDisk::fail_nth`] makes one
//! operation fail: a write leaves a random first part of its bytes; a sync writes some sectors and
//! marks all of them clean, as operating systems do, so that a second sync would claim success for
//! bytes that a power cut then takes.
//!
//! The same seed and the same operations give the same disk.
//!
//! # Caveats
//!
//! Directories are durable as soon as they are made. Room is counted in bytes, not in blocks, and
//! names take none.

mod faults;
mod handles;
mod inode;

pub use faults::Operation;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore, SeedableRng as _};

use super::Open;
use faults::Faults;
use inode::Inode;

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: StdRng,
    dirs: BTreeSet<PathBuf>,
    /// Names as they are seen.
    names: BTreeMap<PathBuf, u64>,
    /// Names that a power cut leaves at least, if no change takes them away.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the sync of their directory, in order.
    changes: Vec<Change>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locked: BTreeSet<PathBuf>,
    faults: Faults,
    /// Room for all files, in bytes.
    capacity: u64,
    read_only: bool,
}

/// One step that changes names, done whole or not at all.
#[derive(Clone, Debug)]
struct Change {
    gone: Option<PathBuf>,
    named: Option<(PathBuf, u64)>,
}

impl SimDisk {
    /// An empty disk; `seed` decides what faults leave behind.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State {
            rng: StdRng::seed_from_u64(seed),
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            locked: BTreeSet::new(),
            faults: Faults::default(),
            capacity: u64::MAX,
            read_only: false,
        })
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the disk")
    }

    /// The disk that a power cut now would leave, with no fault planned.
    #[must_use]
    pub fn crash(&self, rng: &mut dyn RngCore) -> Self {
        let state = self.lock_state();
        let chance = f64::from(rng.random_range(0..=4_u8)) / 4.0;
        let mut names = state.durable_names.clone();
        for change in &state.changes {
            if rng.random_bool(chance) {
                change.apply(&mut names);
            }
        }
        let mut inodes = BTreeMap::new();
        for inode in names.values() {
            let left = || state.inodes[inode].crash(chance, rng);
            inodes.entry(*inode).or_insert_with(left);
        }
        state.left(names, inodes, rng.next_u64())
    }

    /// Another disk like this one, with no fault planned: what a killed process leaves. What was not
    /// synced is seen there, and a power cut may still take it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut state = self.lock_state();
        let seed = state.rng.next_u64();
        let changed = state.changes.iter().filter_map(|change| change.named.as_ref());
        let named = state.names.values().chain(state.durable_names.values());
        let used = named.chain(changed.map(|(_, inode)| inode));
        let inodes = used.map(|inode| (*inode, state.inodes[inode].closed())).collect();
        let left = state.left(state.names.clone(), inodes, seed);
        let mut copied = left.lock_state();
        copied.durable_names.clone_from(&state.durable_names);
        copied.changes.clone_from(&state.changes);
        drop(copied);
        left
    }

    /// Makes the n-th operation from now fail, n from 1; of one kind, or of any.
    pub fn fail_nth(&self, n: u64, kind: Option<Operation>, error: ErrorKind) {
        self.lock_state().faults.plan(n, kind, error);
    }

    /// Makes every operation of a kind fail.
    pub fn fail_all(&self, kind: Operation, error: ErrorKind) {
        self.lock_state().faults.fail_all(kind, error);
    }

    /// Forgets the faults that did not happen yet.
    pub fn clear_faults(&self) {
        self.lock_state().faults.clear();
    }

    /// Lets n more operations succeed, and then none.
    pub fn power_off_after(&self, n: u64) {
        self.lock_state().faults.power_off_after(n);
    }

    /// How many operations were tried, of one kind or of any.
    #[must_use]
    pub fn count(&self, kind: Option<Operation>) -> u64 {
        self.lock_state().faults.count(kind)
    }

    /// Gives the disk room for so many bytes. Files that have more keep it.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock_state().capacity = bytes;
    }

    /// Room that files take, reserved room included, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock_state().used()
    }

    /// Refuses every change from now on, or no more.
    pub fn set_read_only(&self, read_only: bool) {
        self.lock_state().read_only = read_only;
    }

    /// The bytes of a file as they are seen, if there is one.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock_state();
        state.names.get(path).map(|inode| state.inodes[inode].seen().to_vec())
    }

    /// Puts a file there, durable, whatever was there before: the hand of whoever breaks things.
    pub fn set_contents(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock_state();
        let inode = state.add(Inode::durable(bytes));
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((name, inode)) = &self.named {
            names.insert(name.clone(), *inode);
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let path = self.gone.as_ref().or(self.named.as_ref().map(|(name, _)| name));
        path.is_some_and(|path| path.parent() == Some(dir))
    }
}

impl State {
    /// Another disk with these files, and no fault planned.
    fn left(
        &self,
        names: BTreeMap<PathBuf, u64>,
        inodes: BTreeMap<u64, Inode>,
        seed: u64,
    ) -> SimDisk {
        SimDisk::of(Self {
            rng: StdRng::seed_from_u64(seed),
            dirs: self.dirs.clone(),
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            inodes,
            next_inode: self.next_inode,
            locked: BTreeSet::new(),
            faults: Faults::default(),
            capacity: self.capacity,
            read_only: false,
        })
    }

    /// Counts a change; an error if it is to fail.
    fn begin_change(&mut self, op: Operation) -> io::Result<()> {
        self.faults.begin(op)?;
        if self.read_only { Err(ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn change(&mut self, gone: Option<&Path>, named: Option<(&Path, u64)>) {
        let named = named.map(|(name, inode)| (name.to_owned(), inode));
        let change = Change { gone: gone.map(Path::to_owned), named };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn add(&mut self, inode: Inode) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, inode);
        self.next_inode
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("a file that is named or open is there")
    }

    fn used(&self) -> u64 {
        let named: BTreeSet<&u64> = self.names.values().collect();
        let live = |(number, inode): &(&u64, &Inode)| inode.handles > 0 || named.contains(number);
        self.inodes.iter().filter(live).map(|(_, inode)| inode.allocated()).sum()
    }

    fn open(&mut self, path: &Path, how: Open) -> io::Result<u64> {
        let inode = match (self.find(path), how) {
            (Err(missing), Open::Read | Open::Write) => return Err(missing),
            (Err(_), Open::Keep | Open::New) => {
                let made = self.add(Inode::default());
                self.change(None, Some((path, made)));
                made
            }
            (Ok(inode), Open::New) => {
                self.inode(inode).truncate(0);
                inode
            }
            (Ok(inode), _) => inode,
        };
        self.inode(inode).handles += 1;
        Ok(inode)
    }

    fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let begun = self.begin_change(Operation::Write);
        let allocated = self.inode(inode).allocated();
        let room = allocated + self.capacity.saturating_sub(self.used());
        let fits = room.saturating_sub(offset).min(bytes.len() as u64);
        let written = match &begun {
            _ if self.read_only => 0,
            Err(_) => self.rng.random_range(0..=fits),
            Ok(()) => fits,
        };
        let (written, offset) = (index(written), index(offset));
        self.inode(inode).write(&bytes[..written], offset);
        begun?;
        if written < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn reserve(&mut self, inode: u64, end: u64) -> io::Result<()> {
        self.begin_change(Operation::Reserve)?;
        let more = end.saturating_sub(self.inode(inode).allocated());
        if more > self.capacity.saturating_sub(self.used()) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.inode(inode).reserve(end);
        Ok(())
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        let begun = self.faults.begin(Operation::Sync);
        let inode = self.inodes.get_mut(&inode).expect("an open file is there");
        match &begun {
            Ok(()) => inode.sync(),
            Err(_) => inode.fail_sync(&mut self.rng),
        }
        begun
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a simulated file fits in memory")
}
