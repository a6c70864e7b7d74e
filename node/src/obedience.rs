//! Whom the node obeys: claims, what it is told of its cluster, and its release, each kept before it is answered.
//!
//! The rules are [`Obeys`]; here they are written down, in a file of their own: [`cluster`](crate::cluster). What is
//! answered stands there, whatever holds for writes, so an answered claim is never forgotten. A request that an older
//! coordinator sent before it was carried out before it.
//!
//! A node is released in two steps, so that no power cut leaves a node that is free and knows of its old cluster: what
//! it owes, and floors, are forgotten in the log, and when that is durable, and what it dropped too, the file goes.
//!
//! # Caveats
//!
//! Where it cannot be written down nobody new is obeyed: so a coordinator that starts anew does not get a node whose
//! disk takes nothing at all.

use ringkv_shared::protocol::node::Reign;
use uuid::Uuid;

use crate::StorageError;
use crate::cluster::NotKept;
use crate::engine::{Engine, State};
use crate::log::note::Note;
use crate::replica::{Disobeyed, Ledger, Obeys};
use crate::room::{Kind, Refused, line_room};

/// Why a node is not claimed, told or released. Nothing was changed, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// It does not obey.
    Disobeyed(Disobeyed),
    /// There is no room to write it down.
    Refused(Refused),
    /// The disk failed, as it says.
    Failed(String),
    /// The disk failed when it may have been written down: the node stops.
    Unknown,
    /// It is not released, for it holds something.
    Holds {
        /// Keys with a value.
        keys: u64,
        /// Tombstones.
        tombstones: u64,
    },
}

impl Engine {
    /// Whom the node obeys.
    #[must_use]
    pub fn obeys(&self) -> Obeys {
        self.0.lock().obeys.clone()
    }

    /// A coordinator wants to be obeyed under its epoch, and takes over from others.
    ///
    /// # Errors
    ///
    /// The node obeys another one, or a later start of it; or it cannot be written down.
    pub fn claim(&self, by: Uuid, epoch: u32, after: &[Uuid]) -> Result<Obeys, NotDone> {
        self.decide(|obeys| obeys.claim(by, epoch, after))
    }

    /// The cluster is so from now on, under a ring's epoch; the map is whole lines.
    ///
    /// # Errors
    ///
    /// The node obeys nobody, or knows a later ring; or it cannot be written down.
    pub fn adopt(&self, ring: u64, map: &str) -> Result<Obeys, NotDone> {
        self.decide(|obeys| obeys.adopt(ring, map))
    }

    /// The node is in no cluster any more: it obeys nobody, and forgets what it was told, floors and debts.
    ///
    /// # Errors
    ///
    /// It holds something, or was claimed or told anew meanwhile; or it cannot be written down: then floors and
    /// debts may be forgotten already.
    pub async fn release(&self) -> Result<(), NotDone> {
        let before = self.obeys();
        loop {
            let Some(last) = self.try_release(&before)? else { return Ok(()) };
            self.0.durable(last).await;
        }
    }

    /// One step of it; the line of the log that has to be durable before the next.
    fn try_release(&self, before: &Obeys) -> Result<Option<u64>, NotDone> {
        let mut state = self.0.lock();
        state.depend_on_all();
        let (keys, tombstones) = (state.store.tally().live, state.store.tally().tombstones);
        if keys + tombstones > 0 {
            return Err(NotDone::Holds { keys, tombstones });
        }
        if state.obeys != *before {
            return Err(NotDone::Disobeyed(Disobeyed::Stale(state.obeys.reign())));
        }
        if state.ledger != Ledger::default() {
            self.forget_all(&mut state)?;
        }
        if state.tail.durable() < state.tail.seq() {
            return Ok(Some(state.tail.seq()));
        }
        if state.obeys != Obeys::default() {
            self.keep(&mut state, Obeys::default())?;
        }
        Ok(None)
    }

    /// No floors and no debts any more.
    fn forget_all(&self, state: &mut State) -> Result<(), NotDone> {
        let gone = state.ledger.keyspaces().into_iter().map(|keyspace| Note::Gone { keyspace });
        let debts = state.ledger.debts.summary().into_iter();
        let paid = debts.map(|debt| Note::AllPaid { to: debt.to });
        let notes: Vec<Note> = gone.chain(paid).collect();
        let bytes = notes.len() as u64 * line_room(0, None, 0);
        self.admit_bytes(state, bytes, Kind::Delete).map_err(NotDone::Refused)?;
        notes.into_iter().for_each(|note| self.note(state, note));
        Ok(())
    }

    /// Whether a request under these epochs is to be carried out.
    ///
    /// # Errors
    ///
    /// The node knows of later ones.
    pub fn admit_under(&self, under: Reign) -> Result<(), Disobeyed> {
        self.0.lock().obeys.admit(under)
    }

    /// Whether a request is to be carried out that only the coordinator may make.
    ///
    /// # Errors
    ///
    /// Its epochs are not those of the coordinator that the node obeys.
    pub fn admit_coordinator(&self, under: Option<Reign>) -> Result<(), Disobeyed> {
        self.0.lock().obeys.admit_coordinator(under)
    }

    fn decide(
        &self,
        rule: impl FnOnce(&Obeys) -> Result<Obeys, Disobeyed>,
    ) -> Result<Obeys, NotDone> {
        let mut state = self.0.lock();
        let next = rule(&state.obeys).map_err(NotDone::Disobeyed)?;
        if next != state.obeys {
            self.keep(&mut state, next.clone())?;
        }
        Ok(next)
    }

    /// Writes it down, and goes by it.
    fn keep(&self, state: &mut State, obeys: Obeys) -> Result<(), NotDone> {
        match state.cluster.keep(&obeys) {
            Ok(()) => state.obeys = obeys,
            Err(NotKept::Unchanged(error)) => return Err(refused(&error)),
            Err(NotKept::Unknown(error)) => {
                // No answer leaves any more, and the committer ends the process. Who is behind the first error
                // changes nothing about that.
                state.barrier = u64::MAX;
                let _ = self.0.failures.try_send(error);
                return Err(NotDone::Unknown);
            }
        }
        Ok(())
    }
}

fn refused(error: &StorageError) -> NotDone {
    match error {
        full if full.is_full() => NotDone::Refused(Refused::DiskFull),
        read_only if read_only.is_read_only() => NotDone::Refused(Refused::ReadOnly),
        failed => NotDone::Failed(failed.to_string()),
    }
}
