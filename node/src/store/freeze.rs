//! A picture of the map at one version, taken while writes go on.
//!
//! [`Store::freeze`] begins it: from then on what a key had is kept aside when it is overwritten, deleted, swept or
//! dropped. A page of version V then gives, of the current and the kept states of each key, the newest
//! that was there at V. [`Store::thaw`] ends it.
//!
//! An entry *was there at V* when its version is up to V. Versions that a node gave itself
//! are no part of that order: such an entry was there when it was there as the picture
//! began. Of a key with siblings, the page has those that were there, from the state whose greatest
//! coordinators' version up to V is the greatest; of two such, the one that has nothing else, then the later one.
//! Where the last write wins, it is the state with the last of those that were there.
//!
//! What is kept is bounded ([`KEPT_BYTES_MAX`]). Beyond it all pictures are given up, writes go on,
//! and the next page of one says so: a backup is begun again, a node that is out of
//! memory is not.
//!
//! # Caveats
//!
//! What is kept is forgotten when the last picture ends. A kept value
//! that is not in memory has its place in an older file: while [`Store::is_frozen`], no file may be
//! deleted. A write of a version up to V that arrives later is in the picture, too:
//! the picture is of versions, not of a moment.

use std::collections::BTreeMap;

use ringkv_shared::hlc::Stamp;
use ringkv_shared::{Line, Version};

use super::Store;
use super::entry::Entry;
use super::more::{Left, State};

/// How many pictures may be taken at once.
pub const FREEZES_MAX: usize = 4;

/// The most bytes kept aside, for all pictures together.
pub const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// About what a kept entry costs beside its own bytes and its key's.
const KEPT_OVERHEAD_BYTES: usize = 96;

/// Names a picture. Never given twice by one map; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FreezeId(u64);

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    /// [`FREEZES_MAX`] are being taken.
    #[error("{FREEZES_MAX} pictures of this node's data are being taken already")]
    TooMany,
    /// It was given up because too much was written meanwhile, or it was ended.
    #[error(
        "the picture is gone: more than {} MiB were overwritten since it was begun, or it was ended",
        KEPT_BYTES_MAX / 1024 / 1024
    )]
    Gone,
}

/// The pictures and what is kept for them.
#[derive(Debug, Default)]
pub(super) struct Freezes {
    /// The pictures, each with the last line that was applied when it began.
    active: BTreeMap<FreezeId, u64>,
    /// The last id given. Monotonic.
    last: FreezeId,
    /// What each key had, oldest first, with the newest picture of the time when it left the map.
    pub(super) kept: BTreeMap<Box<[u8]>, Vec<(FreezeId, Left)>>,
    /// Bytes in `kept`, about.
    bytes: usize,
}

/// A version in a picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    version: Version,
    /// The last line that was applied when the picture began.
    begun: u64,
}

impl Moment {
    /// Whether an entry was there.
    pub(super) fn has(self, entry: &Entry<&[u8]>) -> bool {
        match entry.version.line() {
            Line::Coordinators => entry.version <= self.version,
            Line::Node(_) => entry.seq <= self.begun,
        }
    }

    /// How new a state is, of those that were there, by the clock where it decides; `None`: nothing of it was.
    pub(super) fn rank(self, state: State<'_>) -> Option<(Option<Stamp>, Option<Version>, bool)> {
        let (mut last, mut newest, mut all, mut any) = (None, None, true, false);
        for entry in state.entries() {
            let has = self.has(&entry);
            (all, any) = (all && has, any || has);
            last = last.max(entry.stamp.filter(|_| has));
            if has && entry.version.line() == Line::Coordinators {
                newest = newest.max(Some(entry.version));
            }
        }
        any.then_some((last, newest, all))
    }
}

impl Freezes {
    /// Keeps what leaves the map, if a picture may need it.
    pub(super) fn keep(&mut self, left: impl FnOnce() -> Left) {
        if self.active.is_empty() {
            return;
        }
        let left = left();
        let key: Box<[u8]> = left.slot.get().key().into();
        self.bytes += left.bytes() + key.len() + KEPT_OVERHEAD_BYTES;
        self.kept.entry(key).or_default().push((self.last, left));
        if self.bytes > KEPT_BYTES_MAX {
            self.active.clear();
            self.forget();
        }
    }

    /// A version in a picture that is being taken.
    pub(super) fn moment(&self, id: FreezeId, version: Version) -> Result<Moment, FreezeError> {
        let begun = *self.active.get(&id).ok_or(FreezeError::Gone)?;
        Ok(Moment { version, begun })
    }

    fn forget(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }
}

impl Store {
    /// Begins a picture.
    ///
    /// # Errors
    ///
    /// [`FreezeError::TooMany`].
    pub fn freeze(&mut self) -> Result<FreezeId, FreezeError> {
        if self.freezes.active.len() >= FREEZES_MAX {
            return Err(FreezeError::TooMany);
        }
        let id = FreezeId(self.freezes.last.0 + 1);
        self.freezes.last = id;
        self.freezes.active.insert(id, self.applied_seq);
        Ok(id)
    }

    /// Ends a picture; one that is gone is no matter.
    pub fn thaw(&mut self, id: FreezeId) {
        self.freezes.active.remove(&id);
        if self.freezes.active.is_empty() {
            self.freezes.forget();
        }
    }

    /// Whether any picture is being taken: places of entries that left the map are still needed.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        !self.freezes.active.is_empty()
    }

    /// About how many bytes are kept aside for pictures.
    #[must_use]
    pub const fn kept_bytes(&self) -> usize {
        self.freezes.bytes
    }
}
