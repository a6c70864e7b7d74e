//! Anti-entropy, a replica's part: digests of what is held, and tombstones that are forgotten.
//!
//! A tombstone goes only with its whole leaf of the digests being as it was when all replicas were
//! found alike, and only into a floor that covers it: [`Floors`](crate::replica::Floors). The floor's line comes
//! first, so that a crash between leaves tombstones that are not needed, never a key without either.
//!
//! # Caveats
//!
//! A floor is for a whole leaf: who raises it must know that this node is to hold all of the leaf that
//! anybody holds. When a key is dropped, which another node has now, the floor of its leaf is lifted, for it would
//! refuse that key if it came back.

use bytes::Bytes;
use ringkv_shared::causal::Context;
use ringkv_shared::merkle::{self, Digest};
use ringkv_shared::protocol::node::Collection;
use ringkv_shared::{KeyspaceName, Version};

use crate::engine::{Engine, State};
use crate::log::key;
use crate::log::note::{FLOOR_PARTS_MAX, Note};
use crate::log::record::Record;
use crate::room::{Kind, Refused, line_room};

/// The most bytes of the line that lifts a floor.
pub(crate) const LIFT_BYTES: u64 = line_room(0, None, 0);

impl Engine {
    /// Digests of what is held: of all parts, or of the leaves of one.
    #[must_use]
    pub fn digests(&self, keyspace: &KeyspaceName, part: Option<u8>) -> Vec<Digest> {
        let mut state = self.0.lock();
        state.depend_on_all();
        let (digests, keyspace) = (state.store.digests(), keyspace.as_str());
        match part {
            None => digests.parts(keyspace).collect(),
            Some(part) => digests.leaves(keyspace, part).collect(),
        }
    }

    /// Raises the floors of leaves that are as they are said to be, and forgets the tombstones named
    /// that are covered then; says how many it forgot.
    ///
    /// # Errors
    ///
    /// There is no room to log it; nothing was forgotten.
    pub fn collect(&self, keyspace: &KeyspaceName, leaves: &[Collection]) -> Result<u64, Refused> {
        let now = self.now();
        let mut state = self.0.lock();
        let bytes = leaves.iter().map(|leaf| state.collection_room(keyspace, leaf)).sum();
        self.admit_bytes(&mut state, bytes, Kind::Delete)?;
        let mut forgotten = 0;
        for Collection { leaf, digest, floor, keys } in leaves {
            let is = state.store.digests().leaf(keyspace.as_str(), *leaf);
            let Some(floor) = state.raised(keyspace, *leaf, floor) else { continue };
            if digest.parse() != Ok(is) {
                continue;
            }
            self.set_floor(&mut state, keyspace, *leaf, floor.clone());
            for key in keys.iter().filter(|key| merkle::leaf_of_key(key.as_bytes()) == *leaf) {
                let key = key::stored(keyspace, key.clone().into_bytes());
                if state.is_covered_tombstone(&key, &floor, now) {
                    self.forget_one(&mut state, key);
                    forgotten += 1;
                }
            }
        }
        state.figures.collected += forgotten;
        Ok(forgotten)
    }

    /// Lifts the floor of the leaf of a key that is about to be forgotten, unless it is a tombstone that the
    /// floor stands for as well; there must be [`LIFT_BYTES`] of room.
    pub(crate) fn lift_floor(&self, state: &mut State, stored: &[u8]) {
        if state.ledger.floors.is_empty() {
            return;
        }
        let (keyspace, leaf) = place(stored);
        let Some(floor) = state.ledger.floors.get(keyspace.as_str(), leaf) else { return };
        // At time 0 nothing has expired: other replicas may not have noticed yet.
        if !state.is_covered_tombstone(stored, &floor, 0) {
            self.set_floor(state, &keyspace, leaf, Context::empty());
        }
    }

    fn set_floor(&self, state: &mut State, keyspace: &KeyspaceName, leaf: u16, floor: Context) {
        state.depend_on_notes();
        let is = state.ledger.floors.get(keyspace.as_str(), leaf).unwrap_or_default();
        if is != floor {
            self.note(state, Note::Floor { keyspace: keyspace.clone(), leaf, floor });
        }
    }
}

impl State {
    /// A write as it is above the floor of its leaf, if nothing is held for its key: it takes over what
    /// counts as replaced.
    ///
    /// # Errors
    ///
    /// It counts as replaced itself; the greatest version of its line that does.
    pub(crate) fn above_floor<B: AsRef<[u8]>>(
        &self,
        record: Record<B>,
    ) -> Result<Record<B>, Version> {
        let key = record.key.as_ref();
        if self.ledger.floors.is_empty() || self.store.get(key, 0).is_some() {
            return Ok(record);
        }
        let (keyspace, leaf) = place(key);
        let Some(floor) = self.ledger.floors.get(keyspace.as_str(), leaf) else {
            return Ok(record);
        };
        let version = record.version;
        if floor.covers(version) {
            let bound = floor.bounds().find(|bound| bound.line() == version.line());
            return Err(bound.map_or(version, |bound| bound.max(version)));
        }
        let mut seen = record.seen();
        seen.join(&floor);
        Ok(record.with_seen(&seen))
    }

    /// Of each group of writes, which is of one key, those that are above the floor; and the keys of which
    /// none is.
    pub(crate) fn above_floors(
        &mut self,
        groups: Vec<Vec<Record>>,
    ) -> (Vec<Vec<Record>>, Vec<Bytes>) {
        let mut covered = Vec::new();
        if self.ledger.floors.is_empty() {
            return (groups, covered);
        }
        self.depend_on_notes();
        let above = groups.into_iter().map(|group| {
            let last =
                group.last().map(|record| (record.key.clone(), record.version, record.seen()));
            let above = group.into_iter().filter_map(|record| self.above_floor(record).ok());
            let mut above: Vec<Record> = above.collect();
            let key = last.map(|(key, version, replaced)| {
                // The last says what all of them replaced; if it is covered, the one before does.
                if let Some(next) = above.pop_if(|next| next.version != version) {
                    let mut seen = next.seen();
                    seen.join(&replaced);
                    above.push(next.with_seen(&seen));
                }
                key
            });
            covered.extend(key.filter(|_| above.is_empty()));
            above
        });
        (above.collect(), covered)
    }

    /// What the floor of a leaf would be, with this added; `None` if it would be too long to keep.
    fn raised(&self, keyspace: &KeyspaceName, leaf: u16, by: &Context) -> Option<Context> {
        let mut floor = self.ledger.floors.get(keyspace.as_str(), leaf).unwrap_or_default();
        floor.join(by);
        (floor.parts() <= FLOOR_PARTS_MAX).then_some(floor)
    }

    /// The most bytes of the lines of a collection.
    fn collection_room(&self, keyspace: &KeyspaceName, collection: &Collection) -> u64 {
        let Collection { leaf, floor, keys, .. } = collection;
        let is = self.ledger.floors.get(keyspace.as_str(), *leaf).unwrap_or_default();
        let parts = (is.parts() + floor.parts()).min(FLOOR_PARTS_MAX);
        let keys = keys.iter().map(|key| line_room(key.len(), None, 0));
        line_room(0, None, parts) + keys.sum::<u64>()
    }

    /// Whether a key has a tombstone and nothing else, which the floor covers with all that it replaced.
    fn is_covered_tombstone(&self, key: &[u8], floor: &Context, now: u64) -> bool {
        let held = self.store.get(key, now);
        held.is_some_and(|held| {
            !held.is_live() && held.entries().count() == 1 && floor.includes(&held.seen())
        })
    }
}

/// The keyspace of a stored key, and its leaf.
fn place(stored: &[u8]) -> (KeyspaceName, u16) {
    let (keyspace, key) = key::named(stored);
    (keyspace, merkle::leaf_of_key(key))
}
