//! Hinted handoff, the keeper's part: what other nodes have missed is noted, listed and struck off.
//!
//! A note is a line of the log, made in the same step as the write that was missed, so that an
//! acknowledged write that counts on it can count on it after a crash.
//!
//! # Caveats
//!
//! Notes that are thrown away, for want of room in their bounds or for age, are told as `overflow` in
//! `size`, and nobody waits for them.

use ringkv_shared::NodeId;
use ringkv_shared::protocol::node::{Debt, SpaceKey};

use crate::engine::{Engine, State};
use crate::log::key;
use crate::log::note::Note;
use crate::replica::{AGE_MS_MAX, Noting};
use crate::room::{Kind, Refused, line_room};

/// Keys in a page of `owed`: as many as fit one `fetch`, when their values are of a usual size.
const OWED_KEYS_MAX: usize = 500;

/// What a node has missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// A page of keys, in order.
    pub keys: Vec<SpaceKey>,
    /// Whether there are more behind the last.
    pub more: bool,
}

impl Engine {
    /// Notes that a node has missed what is held for these keys. What is beyond the bounds is thrown
    /// away, and counts as `overflow`. A node owes itself nothing.
    ///
    /// # Errors
    ///
    /// There is no room; nothing was noted.
    pub fn owe(&self, to: &NodeId, keys: &[SpaceKey]) -> Result<(), Refused> {
        let now = self.now();
        let mut state = self.0.lock();
        let bytes = keys.iter().map(|key| debt_bytes(1, key.key.len())).sum();
        self.admit_bytes(&mut state, bytes, Kind::Put)?;
        for SpaceKey { keyspace, key } in keys {
            let stored = key::stored(keyspace, key.clone().into_bytes());
            self.note_debts(&mut state, std::slice::from_ref(to), &stored, now);
        }
        Ok(())
    }

    /// A page of what a node has missed.
    #[must_use]
    pub fn owed(&self, to: &NodeId, after: Option<&SpaceKey>) -> Owed {
        let mut state = self.0.lock();
        state.depend_on_notes();
        let (keys, more) = state.ledger.debts.owed(to, after, OWED_KEYS_MAX);
        Owed { keys, more }
    }

    /// Strikes off keys that a node has now.
    ///
    /// # Errors
    ///
    /// There is no room to log it; nothing was struck off.
    pub fn paid(&self, to: &NodeId, keys: &[SpaceKey]) -> Result<(), Refused> {
        let mut state = self.0.lock();
        let bytes = keys.iter().map(|key| line_room(key.key.len(), None, 0)).sum();
        self.admit_bytes(&mut state, bytes, Kind::Delete)?;
        state.depend_on_notes();
        for key in keys {
            if state.ledger.debts.is_owed(to, key) {
                let SpaceKey { keyspace, key } = key.clone();
                let (to, key) = (to.clone(), key.into_bytes());
                self.note(&mut state, Note::Paid { to, keyspace, key });
            }
        }
        Ok(())
    }

    /// Strikes off all that is owed to a node, and its overflow.
    ///
    /// # Errors
    ///
    /// There is no room to log it; nothing was struck off.
    pub fn all_paid(&self, to: &NodeId) -> Result<(), Refused> {
        let mut state = self.0.lock();
        self.admit_bytes(&mut state, line_room(0, None, 0), Kind::Delete)?;
        state.depend_on_notes();
        if state.ledger.debts.has(to) {
            self.note(&mut state, Note::AllPaid { to: to.clone() });
        }
        Ok(())
    }

    /// What is owed to whom.
    #[must_use]
    pub fn debts(&self) -> Vec<Debt> {
        self.0.lock().ledger.debts.summary()
    }

    /// Throws away notes that have become too old.
    pub fn throw_away_old_notes(&self) {
        let before_ms = self.now().saturating_sub(AGE_MS_MAX);
        let mut state = self.0.lock();
        for to in state.ledger.debts.outdated(before_ms) {
            // Refused for want of room, they are found again in the next round.
            if self.admit_bytes(&mut state, line_room(0, None, 0), Kind::Delete).is_ok() {
                self.note(&mut state, Note::Overflow { to, before_ms });
            }
        }
    }

    /// Notes a stored key for those who missed it; there must be [`debt_bytes`] of room.
    pub(crate) fn note_debts(&self, state: &mut State, owe: &[NodeId], stored: &[u8], now: u64) {
        if owe.is_empty() {
            return;
        }
        state.depend_on_notes();
        let (keyspace, key) = key::named(stored);
        for to in owe.iter().filter(|to| **to != self.options().id) {
            let debts = &state.ledger.debts;
            let (to, keyspace) = (to.clone(), keyspace.clone());
            match debts.noting(&to, &keyspace, key) {
                Noting::Known => {}
                Noting::Full if debts.is_overflown(&to) => {}
                Noting::Full => self.note(state, Note::Overflow { to, before_ms: 0 }),
                Noting::New => {
                    let key = key.to_vec().into();
                    self.note(state, Note::Owed { to, keyspace, key, at_ms: now });
                }
            }
        }
    }

    /// Appends a note and does what it says; there must be room for it.
    pub(crate) fn note(&self, state: &mut State, note: Note) {
        state.ledger.apply(&note);
        let before = state.tail.waiting_bytes();
        state.noted = state.tail.note(note);
        self.appended(state, state.noted, before);
    }
}

/// The most bytes of the lines that note a key for so many nodes.
pub(crate) const fn debt_bytes(nodes: usize, key: usize) -> u64 {
    nodes as u64 * line_room(key, None, 0)
}
