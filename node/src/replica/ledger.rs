//! Floors and debts together, as the log's notes say them.
//!
//! # Caveats
//!
//! A page is of the moment when it is taken. Pages of different moments are no state that ever was; only with the
//! notes made since the first of them they are.

use std::collections::BTreeSet;

use ringkv_shared::protocol::node::SpaceKey;
use ringkv_shared::{KeyspaceName, NodeId};

use super::{Debts, Floors};
use crate::log::note::Note;

/// What notes of the log come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// What counts as replaced where nothing is held.
    pub floors: Floors,
    /// What other nodes have missed.
    pub debts: Debts,
}

/// How far the pages of a ledger have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Behind the floor of this leaf.
    Floor(KeyspaceName, u16),
    /// Behind what is owed to this node up to this key; `None`: before its first.
    Debt(NodeId, Option<SpaceKey>),
}

impl Ledger {
    /// Does what a note says, as at its time or on replay.
    pub fn apply(&mut self, note: &Note) {
        match note {
            Note::Floor { keyspace, leaf, floor } => {
                self.floors.set(keyspace, *leaf, floor.clone())
            }
            Note::Owed { to, keyspace, key, at_ms } => self.debts.owe(to, keyspace, key, *at_ms),
            Note::Paid { to, keyspace, key } => self.debts.pay(to, keyspace, key),
            Note::Overflow { to, before_ms } => self.debts.overflow(to, *before_ms),
            Note::AllPaid { to } => self.debts.pay_all(to),
            Note::Gone { keyspace } => {
                self.floors.forget(keyspace);
                self.debts.forget(keyspace);
            }
        }
    }

    /// The keyspaces that have a floor, or of which anything is owed.
    #[must_use]
    pub fn keyspaces(&self) -> BTreeSet<KeyspaceName> {
        self.floors.keyspaces().chain(self.debts.keyspaces()).cloned().collect()
    }

    /// Whether a keyspace has a floor, or anything of it is owed.
    #[must_use]
    pub fn knows(&self, keyspace: &KeyspaceName) -> bool {
        self.floors.has(keyspace) || self.debts.has_of(keyspace)
    }

    /// Up to `max` notes that say what there is, behind a cursor; none at the end.
    #[must_use]
    pub fn page(&self, after: Option<&Cursor>, max: usize) -> Vec<Note> {
        let debts = match after {
            Some(Cursor::Debt(to, key)) => Some((to.clone(), key.clone())),
            Some(Cursor::Floor(..)) | None => None,
        };
        if debts.is_none() {
            let from = after.and_then(|after| match after {
                Cursor::Floor(keyspace, leaf) => Some((keyspace.clone(), *leaf)),
                Cursor::Debt(..) => None,
            });
            let page = self.floors.page(from.as_ref(), max).into_iter();
            let page: Vec<Note> =
                page.map(|(keyspace, leaf, floor)| Note::Floor { keyspace, leaf, floor }).collect();
            if !page.is_empty() {
                return page;
            }
        }
        self.debts.page(debts.as_ref(), max)
    }
}

impl Cursor {
    /// The place behind a note of a page.
    #[must_use]
    pub fn behind(note: &Note) -> Option<Self> {
        match note {
            Note::Floor { keyspace, leaf, .. } => Some(Self::Floor(keyspace.clone(), *leaf)),
            Note::Owed { to, keyspace, key, .. } => {
                let key = SpaceKey { keyspace: keyspace.clone(), key: key.clone().into() };
                Some(Self::Debt(to.clone(), Some(key)))
            }
            Note::Overflow { to, .. } => Some(Self::Debt(to.clone(), None)),
            Note::Paid { .. } | Note::AllPaid { .. } | Note::Gone { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::debts::Noting;
    use bytes::Bytes;
    use proptest::prelude::*;
    use ringkv_shared::Version;
    use ringkv_shared::causal::Context;

    fn note() -> impl Strategy<Value = Note> {
        let keyspace = (0..3_u8).prop_map(|n| format!("k{n}").parse::<KeyspaceName>().unwrap());
        let to = (0..3_u8).prop_map(|n| format!("n{n}").parse::<NodeId>().unwrap());
        let key = (0..5_u8).prop_map(|key| Bytes::from(vec![key]));
        let time = 0..20_u64;
        let floor = prop_oneof![
            1 => Just(Context::empty()),
            3 => (1..9_u64).prop_map(|n| Context::up_to(Version::new(1, n))),
        ];
        prop_oneof![
            3 => (keyspace.clone(), 0..4_u16, floor)
                .prop_map(|(keyspace, leaf, floor)| Note::Floor { keyspace, leaf, floor }),
            6 => (to.clone(), keyspace.clone(), key.clone(), time.clone())
                .prop_map(|(to, keyspace, key, at_ms)| Note::Owed { to, keyspace, key, at_ms }),
            3 => (to.clone(), keyspace.clone(), key)
                .prop_map(|(to, keyspace, key)| Note::Paid { to, keyspace, key }),
            1 => (to.clone(), time).prop_map(|(to, before_ms)| Note::Overflow { to, before_ms }),
            1 => to.prop_map(|to| Note::AllPaid { to }),
            1 => keyspace.prop_map(|keyspace| Note::Gone { keyspace }),
        ]
    }

    /// Makes a note as the engine does: a key that is noted already is not noted again, in the log neither.
    fn make(ledger: &mut Ledger, note: &Note) -> bool {
        let again = matches!(note, Note::Owed { to, keyspace, key, .. }
            if ledger.debts.noting(to, keyspace, key) == Noting::Known);
        if !again {
            ledger.apply(note);
        }
        !again
    }

    proptest! {
        /// A snapshot that is taken in pages while notes are made, and the notes made meanwhile replayed over it.
        #[test]
        fn pages_and_what_came_meanwhile_are_the_present(
            before in proptest::collection::vec(note(), 0..30),
            meanwhile in proptest::collection::vec(note(), 0..30),
            page in 1..5_usize, between in 0..4_usize,
        ) {
            let mut ledger = Ledger::default();
            for note in &before {
                make(&mut ledger, note);
            }
            let (mut snapshot, mut after, mut made) = (Vec::new(), None, Vec::new());
            let mut later = meanwhile.iter();
            loop {
                let page = ledger.page(after.as_ref(), page);
                after = page.last().and_then(Cursor::behind);
                snapshot.extend(page);
                if after.is_none() {
                    break;
                }
                made.extend(later.by_ref().take(between).filter(|note| make(&mut ledger, note)));
            }
            made.extend(later.filter(|note| make(&mut ledger, note)));
            let mut found = Ledger::default();
            snapshot.iter().chain(made).for_each(|note| found.apply(note));
            prop_assert_eq!(found, ledger);
        }
    }
}
