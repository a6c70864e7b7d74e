//! The digests of the map, kept with every change.
//!
//! # Caveats
//!
//! A change that leaves the versions as they are is none: eviction, another place in the log, the end of
//! a value that has expired.

use std::hint::black_box;

use ringkv_shared::Version;
use ringkv_shared::merkle;
use ringkv_shared::ring::key_position;

use super::Store;
use super::entry::Entry;
use super::more::State;
use crate::log::key;
use crate::replica::{self, Digests};

/// The place of a stored key in the digests.
pub(super) struct Spot<'k> {
    keyspace: &'k str,
    position: u64,
}

impl<'k> Spot<'k> {
    pub(super) fn of(stored: &'k [u8]) -> Self {
        let (keyspace, key) = key::split(stored);
        Self { keyspace: keyspace.unwrap_or("default"), position: key_position(key) }
    }

    /// Where it lies on the ring.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The hash of a plain key.
    pub(super) fn plain(&self, version: Version) -> u64 {
        replica::hash_plain(self.position, version)
    }

    /// The hash of what is held.
    pub(super) fn hash(&self, state: State<'_>) -> u64 {
        match state.more {
            None => self.plain(state.slot.version()),
            Some(more) => {
                let versions = state.entries().map(|entry: Entry<&[u8]>| entry.version);
                replica::hash(self.position, versions, &more.past)
            }
        }
    }

    /// What is held here changes: the hash before and after; 0 for nothing.
    pub(super) fn change(&self, digests: &mut Digests, before: u64, after: u64) {
        digests.change(self.keyspace, merkle::leaf_of(self.position), before, after);
    }
}

impl Store {
    /// Looks at the digests that writes of these keys would change, so that these wait for them together.
    pub(super) fn look_at_digests<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let look = |key| {
            let Spot { keyspace, position } = Spot::of(key);
            self.digests.leaf(keyspace, merkle::leaf_of(position)).0
        };
        black_box(keys.fold(0, |seen, key| seen ^ look(key)));
    }

    /// The digests of what is held.
    #[must_use]
    pub const fn digests(&self) -> &Digests {
        &self.digests
    }
}
