//! Room for the log, taken before it is needed: a line that is admitted always fits.
//!
//! A disk that fills up under a line that was applied already leaves only bad choices. So room is
//! reserved beyond the end of `data.log`, and a write is admitted, before anything of it happens,
//! only if its line fits in there.
//!
//! | state | puts | deletes | left |
//! |---|---|---|---|
//! | ok | fit, or more room is reserved | as puts | when no more can be reserved |
//! | disk full | refused | fit in the last 512 KiB | when there is room for the log and for the ballast |
//! | read-only | refused | refused | when the file system takes writes again |
//!
//! The last 512 KiB are for deletes only, which make room in the end. The state is left by itself;
//! who tries, and how often, is in [`space`](crate::space).
//!
//! # Caveats
//!
//! A file system that cannot reserve (or, as one that copies on write, does not mean it) may fill up
//! under an admitted line. That is a failed write, and the node stops with 74.

use std::io;
use std::sync::Arc;

use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::protocol::node::DiskState;

use crate::checks::{RECORD_PARTS_MAX, SIBLINGS_BYTES_MAX, SIBLINGS_MAX};
use crate::disk::{self, DiskFile};
use crate::log::record::{CONTEXT_PART_BYTES_MAX, CONTEXT_PARTS_MAX, LINE_BYTES_MAX};

/// How much is reserved at once, in bytes.
const STEP_BYTES: u64 = 4 * 1024 * 1024;
/// The last part of the room, which only deletes may use, in bytes.
const DELETES_BYTES: u64 = 512 * 1024;
/// What every line has besides key and value, at most, in bytes.
const FIELDS_BYTES_MAX: u64 = 256;

// What is admitted for a line is what the longest line needs.
const LONGEST: u64 = line_room(KEY_BYTES_MAX, Some(VALUE_BYTES_MAX), CONTEXT_PARTS_MAX);
const _: () = assert!(LONGEST >= LINE_BYTES_MAX as u64);
const _: () = assert!(line_room(KEY_BYTES_MAX, None, RECORD_PARTS_MAX) < DELETES_BYTES);

/// The most bytes that the line of such a key and value has, with so many versions in its context;
/// without a value, of a delete.
#[must_use]
pub(crate) const fn line_room(key: usize, value: Option<usize>, parts: usize) -> u64 {
    let value = match value {
        Some(bytes) => bytes,
        None => 0,
    };
    (3 * (key + value) + CONTEXT_PART_BYTES_MAX * parts) as u64 + FIELDS_BYTES_MAX
}

/// What kind of write asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stores something.
    Put,
    /// Deletes or forgets.
    Delete,
}

/// Why a write was not admitted. Nothing of it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No room to write.
    #[error("the disk is full")]
    DiskFull,
    /// The file system takes no writes.
    #[error("the file system is read-only")]
    ReadOnly,
    /// The key was written with too many contexts.
    #[error("too many versions would have to be remembered for the key")]
    Crowded,
    /// Too many writes of the key knew nothing of each other.
    #[error(
        "the key would have more than {SIBLINGS_MAX} values beside each other, or more than {} KiB of them,",
        SIBLINGS_BYTES_MAX / 1024
    )]
    Siblings,
}

/// The room for one segment.
#[derive(Debug)]
pub(crate) struct Room {
    file: Arc<dyn DiskFile>,
    /// The end of the reserved range; `u64::MAX` if the file system cannot reserve.
    reserved: u64,
    /// Whether more is being reserved just now, by who was told to with `ahead`.
    taking: bool,
    state: DiskState,
}

impl Room {
    /// Room in a segment that has `end` bytes, if it can be had.
    pub(crate) fn new(file: Arc<dyn DiskFile>, end: u64) -> Self {
        let mut room = Self { file, reserved: end, taking: false, state: DiskState::Ok };
        room.recover(end);
        room
    }

    pub(crate) const fn state(&self) -> DiskState {
        self.state
    }

    /// Whether a line of so many bytes fits behind `end`; takes more room if need be. `short` is
    /// called when the state changes.
    pub(crate) fn admit(
        &mut self,
        end: u64,
        bytes: u64,
        kind: Kind,
        short: impl FnOnce(),
    ) -> Result<(), Refused> {
        let needed = end + bytes + if kind == Kind::Put { DELETES_BYTES } else { 0 };
        match (self.state, kind) {
            (DiskState::ReadOnly, _) => return Err(Refused::ReadOnly),
            (DiskState::DiskFull, Kind::Put) => return Err(Refused::DiskFull),
            _ if needed <= self.reserved => return Ok(()),
            (DiskState::DiskFull, Kind::Delete) => return Err(Refused::DiskFull),
            (DiskState::Ok, _) => (),
        }
        let Err(error) = self.extend(needed) else { return Ok(()) };
        // A line that is too long for what is left is no reason to refuse shorter ones.
        if !self.recover(end) {
            short();
        }
        Err(if disk::is_read_only(&error) { Refused::ReadOnly } else { Refused::DiskFull })
    }

    /// The room is now in the file of the next segment, in which a start was reserved.
    pub(crate) fn passes_to(&mut self, file: Arc<dyn DiskFile>, reserved: u64) {
        (self.file, self.reserved) = (file, reserved);
    }

    /// Reserves the start of a segment: room that a node can go on with. Says how much.
    pub(crate) fn start(file: &dyn DiskFile) -> io::Result<u64> {
        extend(file, 0, 2 * DELETES_BYTES)
    }

    /// Where room should be reserved to next, if less than half a step is left behind `end`. Whoever
    /// asks reserves it and says so with `taken`.
    pub(crate) fn ahead(&mut self, end: u64) -> Option<(Arc<dyn DiskFile>, u64, u64)> {
        self.taking = self.state == DiskState::Ok && self.reserved < end + STEP_BYTES / 2;
        self.taking
            .then(|| (Arc::clone(&self.file), self.reserved, end + STEP_BYTES - self.reserved))
    }

    /// What `ahead` gave was reserved up to `end`, or could not be.
    pub(crate) fn taken(&mut self, file: &Arc<dyn DiskFile>, end: Option<u64>) {
        self.taking = false;
        if let Some(end) = end
            && Arc::ptr_eq(file, &self.file)
        {
            self.reserved = self.reserved.max(end);
        }
    }

    /// Whether the log takes more room just now. What is freed meanwhile might go to it.
    pub(crate) const fn is_taking(&self) -> bool {
        self.taking
    }

    /// Tries to leave the state, for a segment that has `end` bytes. True if all is well.
    pub(crate) fn recover(&mut self, end: u64) -> bool {
        // What is reserved already says nothing about a file system that takes no writes.
        let probed = match self.state {
            DiskState::ReadOnly => self.file.reserve(end, 1),
            _ => Ok(()),
        };
        if probed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Unsupported) {
            // Only a write can tell; who waits with one will.
            return false;
        }
        match probed.and_then(|()| self.extend(end + 2 * DELETES_BYTES)) {
            Ok(()) => self.state = DiskState::Ok,
            Err(error) => self.lacks(&error),
        }
        self.state == DiskState::Ok
    }

    /// Sets the state by what the disk said when it was asked for room.
    pub(crate) fn lacks(&mut self, error: &io::Error) {
        // Whatever else keeps room from being had, without it nothing may be admitted.
        let full = !disk::is_read_only(error);
        self.state = if full { DiskState::DiskFull } else { DiskState::ReadOnly };
    }

    fn extend(&mut self, needed: u64) -> io::Result<()> {
        if needed > self.reserved {
            self.reserved = extend(&*self.file, self.reserved, needed)?;
        }
        Ok(())
    }

    /// Writes fail because the file system takes none, or no more.
    pub(crate) const fn read_only(&mut self, read_only: bool) {
        self.state = if read_only { DiskState::ReadOnly } else { DiskState::Ok };
    }
}

/// Reserves from where room ends to `needed` and, if possible, a step beyond; says up to where.
fn extend(file: &dyn DiskFile, from: u64, needed: u64) -> io::Result<u64> {
    let mut failure = None;
    for end in [needed + STEP_BYTES, needed + DELETES_BYTES, needed] {
        match file.reserve(from, end - from) {
            Ok(()) => return Ok(end),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(u64::MAX),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.expect("at least one was tried"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk as _, Open, SimDisk};
    use std::path::Path;

    fn room(capacity: u64) -> (SimDisk, Room) {
        let disk = SimDisk::new(1);
        disk.set_capacity(capacity);
        let file = disk.open(Path::new("/f"), Open::New).unwrap();
        (disk, Room::new(file, 0))
    }

    fn admits(room: &mut Room, end: u64, kind: Kind) -> Result<(), Refused> {
        room.admit(end, 1000, kind, || ())
    }

    #[test]
    fn room_is_taken_in_steps_and_ahead() {
        let (disk, mut room) = room(u64::MAX);
        let first = STEP_BYTES + 2 * DELETES_BYTES;
        assert_eq!(disk.used(), first);
        assert_eq!(admits(&mut room, first - DELETES_BYTES - 1000, Kind::Put), Ok(()));
        assert_eq!(disk.used(), first);
        assert_eq!(admits(&mut room, first - DELETES_BYTES - 999, Kind::Put), Ok(()));
        assert_eq!(disk.used(), first + STEP_BYTES + 1);
        assert!(room.ahead(STEP_BYTES).is_none());
        let (file, from, bytes) = room.ahead(2 * STEP_BYTES).unwrap();
        assert_eq!((from, from + bytes), (first + STEP_BYTES + 1, 3 * STEP_BYTES));
        assert!(room.is_taking());
        room.taken(&file, Some(from + bytes));
        assert!(!room.is_taking());
        assert!(room.ahead(2 * STEP_BYTES).is_none());
        assert!(!room.is_taking());
        room.ahead(3 * STEP_BYTES).unwrap();
        room.taken(&file, None);
        assert!(!room.is_taking() && room.ahead(3 * STEP_BYTES).is_some());
    }

    #[test]
    fn a_full_disk_refuses_puts_first_and_deletes_last() {
        let (disk, mut room) = room(2 * DELETES_BYTES);
        let near_end = DELETES_BYTES;
        assert_eq!(admits(&mut room, 0, Kind::Put), Ok(()));
        let mut told = false;
        let refused = room.admit(near_end, 1000, Kind::Put, || told = true);
        assert_eq!((refused, told), (Err(Refused::DiskFull), true));
        assert_eq!(room.state(), DiskState::DiskFull);
        assert_eq!(admits(&mut room, 0, Kind::Put), Err(Refused::DiskFull));
        assert_eq!(admits(&mut room, near_end, Kind::Delete), Ok(()));
        let end = 2 * DELETES_BYTES;
        assert_eq!(admits(&mut room, end, Kind::Delete), Err(Refused::DiskFull));
        assert!(!room.recover(near_end));
        disk.set_capacity(u64::MAX);
        assert!(room.recover(near_end));
        assert_eq!(admits(&mut room, near_end, Kind::Put), Ok(()));
    }

    #[test]
    fn a_read_only_file_system_takes_nothing() {
        let (disk, mut room) = room(u64::MAX);
        disk.set_read_only(true);
        let far = 3 * STEP_BYTES;
        assert_eq!(admits(&mut room, far, Kind::Put), Err(Refused::ReadOnly));
        assert_eq!(admits(&mut room, 0, Kind::Delete), Err(Refused::ReadOnly));
        disk.set_read_only(false);
        assert!(room.recover(0));
        assert_eq!(admits(&mut room, far, Kind::Put), Ok(()));
    }

    #[test]
    fn where_nothing_can_be_reserved_all_is_admitted() {
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/f"), Open::New).unwrap();
        disk.fail_nth(1, Some(crate::disk::Operation::Reserve), io::ErrorKind::Unsupported);
        let mut room = Room::new(file, 0);
        assert_eq!(admits(&mut room, 1 << 40, Kind::Put), Ok(()));
        assert_eq!((room.state(), disk.used()), (DiskState::Ok, 0));
    }
}
