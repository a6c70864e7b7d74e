//! Values that are kept only for a time.
//!
//! A value with an expiry that has passed *answers* as the tombstone of its own version at once.
//! To make it one, a sweep finds it, and a `DEL` of the same version is logged and applied:
//!
//! | stored | same version arrives | stored then |
//! |---|---|---|
//! | a value with an expiry | `DEL` | the tombstone |
//! | a value without one | `DEL` | the value |
//! | a tombstone | `PUT` | the tombstone |
//!
//! No clock is asked there: a `DEL` wins over the value that expires even where the clock is
//! behind. So replicas that saw the same writes and sweeps, in any order, hold the same, and
//! since the version stays, no older value comes back.
//!
//! # Caveats
//!
//! The sweep is a walk over all keys, a piece a call: a value may take memory for a round longer
//! than it lives. Without any expiry in the map it costs nothing.

use std::ops::Bound;

use bytes::Bytes;

use super::Store;
use super::more::State;
use crate::log::record::{Op, Record};

impl Store {
    /// Visits up to `visits_max` more keys; returns the deletes that end values which expired by `now`,
    /// in unix milliseconds. Each has seen what its value's writers had seen, and no more.
    pub fn sweep(&mut self, now: u64, visits_max: usize) -> Vec<Record> {
        let mut expired = Vec::new();
        if self.tally.expiring == 0 {
            return expired;
        }
        let from = self.sweep_hand.take();
        let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut walk = self.entries.from(from);
        for slot in walk.by_ref().take(visits_max) {
            let more = if slot.has_more() { self.more.get(slot.key()) } else { None };
            let state = State { slot, more: more.map(|more| &**more) };
            for entry in state.entries().filter(|entry| entry.is_expired(now)) {
                let key = Bytes::copy_from_slice(slot.key());
                let end = Record::new(key, Op::Del, entry.version).with_seen(&state.past());
                expired.push(Record { stamp: entry.stamp, ..end });
            }
            self.sweep_hand = Some(slot.key().into());
        }
        if walk.next().is_none() {
            self.sweep_hand = None;
        }
        expired
    }
}
