//! Forgetting without a trace: what belongs elsewhere now, and whole keyspaces.
//!
//! A delete leaves a tombstone; who forgets a key holds nothing of it any more, and takes whatever comes. So
//! a key is forgotten only on a condition: that no more is held than whoever asks has seen elsewhere.
//!
//! # Caveats
//!
//! Replayed, the line of it forgets whatever is held then: it says what was done, not on which condition.

use bytes::Bytes;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::causal::Context;
use ringkv_shared::{KeyspaceName, Version};

use crate::collect::LIFT_BYTES;
use crate::engine::{Engine, State};
use crate::log::key;
use crate::log::note::Note;
use crate::log::record::{Op, Record};
use crate::room::{Kind, Refused, line_room};
use crate::store::{PageRequest, Seen};

/// What must be so for a key to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// This version is held, and nothing else.
    Only(Version),
    /// All that is held, and all that it has replaced, is in this context.
    Within(Context),
}

impl Condition {
    fn holds(&self, state: &State, key: &[u8]) -> bool {
        let held = state.store.get(key, 0);
        held.is_some_and(|held| match self {
            Self::Only(version) => held.is_only(*version),
            Self::Within(context) => context.includes(&held.seen()),
        })
    }
}

impl Engine {
    /// Forgets stored keys, each on its condition; says how many were.
    ///
    /// # Errors
    ///
    /// There is no room to log it; nothing was forgotten.
    pub fn forget(
        &self,
        keys: impl IntoIterator<Item = (Bytes, Condition)>,
    ) -> Result<u64, Refused> {
        let keys: Vec<(Bytes, Condition)> = keys.into_iter().collect();
        let mut state = self.0.lock();
        let due = keys.iter().filter(|(key, condition)| condition.holds(&state, key)).count();
        let bytes = keys.iter().map(|(key, _)| line_room(key.len(), None, 0) + LIFT_BYTES);
        let bytes = bytes.max().unwrap_or(0);
        self.admit_bytes(&mut state, bytes * due as u64, Kind::Delete)?;
        let mut forgotten = 0;
        for (key, condition) in keys {
            state.depend_on(&key);
            // Asked again: the same key may come twice.
            if condition.holds(&state, &key) {
                // First: a floor without the key would refuse it, should it come back.
                self.lift_floor(&mut state, &key);
                self.forget_one(&mut state, key);
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Forgets the keys of a request on these arcs of which exactly that is held which was seen elsewhere: how many,
    /// and how many others there are.
    ///
    /// # Errors
    ///
    /// There is no room to log it; nothing was forgotten.
    pub fn shed(
        &self,
        request: &PageRequest,
        arcs: &Arcs,
        seen: &Seen,
    ) -> Result<(u64, u64), Refused> {
        let mut state = self.0.lock();
        // Whoever hears that nothing is left may act on it.
        state.depend_on_all();
        let (keys, left) = state.store.alike(request, arcs, seen);
        let bytes = keys.iter().map(|(key, _)| line_room(key.len(), None, 0) + LIFT_BYTES);
        let bytes = bytes.sum();
        self.admit_bytes(&mut state, bytes, Kind::Delete)?;
        for (key, version) in &keys {
            self.lift_floor(&mut state, key);
            let before = state.tail.waiting_bytes();
            let line = state.tail.append(Record::new(&key[..], Op::Drop, *version));
            self.appended(&mut state, line.seq, before);
        }
        let last = state.tail.seq();
        state.store.apply_drops(keys.iter().map(|(key, _)| &key[..]), last);
        Ok((keys.len() as u64, left))
    }

    /// Forgets a key that is held; there must be room for it.
    pub(crate) fn forget_one(&self, state: &mut State, key: Bytes) {
        let version =
            state.store.get(&key, 0).expect("only what is held is forgotten").entry.version;
        self.append(state, Record::new(key, Op::Drop, version));
    }

    /// Forgets all keys of a keyspace other than `default`, with its floors and what was owed of it; says how
    /// many keys there were.
    ///
    /// # Errors
    ///
    /// There is no room to log it; nothing was forgotten.
    ///
    /// # Panics
    ///
    /// It is `default`.
    pub fn forget_keyspace(&self, keyspace: &KeyspaceName) -> Result<u64, Refused> {
        assert!(!keyspace.is_default(), "the default keyspace stays");
        let prefix = Bytes::from(key::prefix(keyspace));
        let mut state = self.0.lock();
        state.depend_on_all();
        let keys = state.store.count(&prefix);
        let known = state.ledger.knows(keyspace);
        if keys > 0 || known {
            self.admit_bytes(&mut state, 2 * line_room(prefix.len(), None, 0), Kind::Delete)?;
        }
        if known {
            self.note(&mut state, Note::Gone { keyspace: keyspace.clone() });
        }
        if keys > 0 {
            self.append(&mut state, Record::new(prefix, Op::DropSpace, Version::default()));
        }
        Ok(keys)
    }
}
