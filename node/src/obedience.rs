//! Whom the node obeys: claims, what it is told of its cluster, and its release, each a line of the log.
//!
//! The rules are [`Obeys`]; here they are written down. As with a write, what is answered is what stands in the log:
//! an answered claim is never forgotten, and a request that an older coordinator sent before it was carried out
//! before it.
//!
//! # Caveats
//!
//! As safe as a write, by the same policy: with `interval` a machine that stops may forget a claim of its last
//! second, and obey the coordinator before.

use ringkv_shared::protocol::node::Reign;
use uuid::Uuid;

use crate::engine::{Engine, State};
use crate::replica::{Disobeyed, Ledger, Obeys};
use crate::room::{Kind, Refused, line_room};

/// Why a node is not claimed, told or released. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// It does not obey.
    Disobeyed(Disobeyed),
    /// There is no room to log it.
    Refused(Refused),
    /// It is not released, for it holds something.
    Holds {
        /// Keys with a value.
        keys: u64,
        /// Tombstones.
        tombstones: u64,
    },
}

impl Engine {
    /// Whom the node obeys, safe or not.
    #[must_use]
    pub fn obeys(&self) -> Obeys {
        self.0.lock().ledger.obeys.clone()
    }

    /// Whom the node obeys, and with it a dependence on that.
    #[must_use]
    pub fn cluster(&self) -> Obeys {
        let mut state = self.0.lock();
        state.depend_on_notes();
        state.ledger.obeys.clone()
    }

    /// A coordinator wants to be obeyed under its epoch, and takes over from others.
    ///
    /// # Errors
    ///
    /// The node obeys another one, or a later start of it; or there is no room.
    pub fn claim(&self, by: Uuid, epoch: u32, after: &[Uuid]) -> Result<Obeys, NotDone> {
        self.decide(|obeys| obeys.claim(by, epoch, after))
    }

    /// The cluster is so from now on, under a ring's epoch.
    ///
    /// # Errors
    ///
    /// The node obeys nobody, or knows a later ring; or there is no room.
    pub fn adopt(&self, ring: u64, map: &str) -> Result<Obeys, NotDone> {
        self.decide(|obeys| obeys.adopt(ring, map))
    }

    /// The node is in no cluster any more: it obeys nobody, and forgets what it was told, floors and debts.
    ///
    /// # Errors
    ///
    /// It holds something; or there is no room.
    pub fn release(&self) -> Result<(), NotDone> {
        let mut state = self.0.lock();
        state.depend_on_all();
        let (keys, tombstones) = (state.store.tally().live, state.store.tally().tombstones);
        if keys + tombstones > 0 {
            return Err(NotDone::Holds { keys, tombstones });
        }
        if state.ledger != Ledger::default() {
            self.write_down(&mut state, &Obeys::default())?;
        }
        Ok(())
    }

    /// Whether a request under these epochs is to be carried out.
    ///
    /// # Errors
    ///
    /// The node knows of later ones.
    pub fn admit_under(&self, under: Reign) -> Result<(), Disobeyed> {
        let mut state = self.0.lock();
        let admitted = state.ledger.obeys.admit(under);
        if admitted.is_err() {
            state.depend_on_notes();
        }
        admitted
    }

    /// Whether a request is to be carried out that only the coordinator may make.
    ///
    /// # Errors
    ///
    /// Its epochs are not those of the coordinator that the node obeys.
    pub fn admit_coordinator(&self, under: Option<Reign>) -> Result<(), Disobeyed> {
        let mut state = self.0.lock();
        state.depend_on_notes();
        state.ledger.obeys.admit_coordinator(under)
    }

    fn decide(
        &self,
        rule: impl FnOnce(&Obeys) -> Result<Obeys, Disobeyed>,
    ) -> Result<Obeys, NotDone> {
        let mut state = self.0.lock();
        state.depend_on_notes();
        let next = rule(&state.ledger.obeys).map_err(NotDone::Disobeyed)?;
        if next != state.ledger.obeys {
            self.write_down(&mut state, &next)?;
        }
        Ok(next)
    }

    fn write_down(&self, state: &mut State, obeys: &Obeys) -> Result<(), NotDone> {
        let bytes = line_room(0, obeys.map().map(|map| map.len()), 0);
        // As a delete: who is to make room on a full disk has to be obeyed.
        self.admit_bytes(state, bytes, Kind::Delete).map_err(NotDone::Refused)?;
        self.note(state, obeys.note());
        Ok(())
    }
}
