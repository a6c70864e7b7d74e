//! The simulated disk behind the traits of a disk.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Change, Operation, SimDisk, index};
use crate::disk::{Disk, DiskFile, Lock, Open};

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    writable: bool,
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.begin_change(Operation::Open)?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let free = self.lock_state().locked.insert(path.to_owned());
        Ok(free.then(|| Lock::new(SimLock { disk: self.clone(), path: path.to_owned() })))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.lock_state();
        state.faults.begin(Operation::List)?;
        if !state.dirs.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock_state();
        let writable = how != Open::Read;
        if writable {
            state.begin_change(Operation::Open)?;
        } else {
            state.faults.begin(Operation::Open)?;
        }
        let inode = state.open(path, how)?;
        drop(state);
        Ok(Arc::new(SimFile { disk: self.clone(), inode, writable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.begin_change(Operation::Rename)?;
        let inode = state.find(from)?;
        state.change(Some(from), Some((to, inode)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.begin_change(Operation::Remove)?;
        state.find(path)?;
        state.change(Some(path), None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.faults.begin(Operation::SyncDir)?;
        let changes = std::mem::take(&mut state.changes);
        let (synced, others) = changes.into_iter().partition(|change| change.is_in(dir));
        state.changes = others;
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| change.apply(&mut state.durable_names));
        Ok(())
    }
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock_state().inode(self.inode).seen().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock_state();
        state.faults.begin(Operation::Read)?;
        let seen = state.inode(self.inode).seen();
        let rest = &seen[index(offset).min(seen.len())..];
        let read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.lock_state().write(self.inode, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock_state().sync(self.inode)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.lock_state();
        state.begin_change(Operation::Truncate)?;
        state.inode(self.inode).truncate(index(len));
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.lock_state().reserve(self.inode, offset + len)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock_state().inode(self.inode).handles -= 1;
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock_state().locked.remove(&self.path);
    }
}
