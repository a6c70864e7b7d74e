//! Pictures of the map that somebody far away reads, page by page: who began one may never come back
//! to end it, so a picture that is not read for a while ends by itself.
//!
//! A picture is named by a UUID, not by its number in the map: numbers begin anew when the node
//! restarts, and a reader from before must not be given another's picture.
//!
//! # Caveats
//!
//! The clock is the one by which values expire: when it is set forward, pictures may end early.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::engine::Engine;
use crate::store::{FreezeError, FreezeId};

/// How long a picture that nobody reads is kept, in milliseconds.
const UNREAD_MS_MAX: u64 = 60_000;

/// The pictures that are being read.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    /// By name: the map's number, and when it was read last, in unix milliseconds.
    read: BTreeMap<Uuid, (FreezeId, u64)>,
}

impl Pictures {
    fn overdue(&mut self, now_ms: u64) -> Vec<FreezeId> {
        let mut overdue = Vec::new();
        self.read.retain(|_, (id, at)| {
            let kept = now_ms.saturating_sub(*at) < UNREAD_MS_MAX;
            overdue.extend((!kept).then_some(*id));
            kept
        });
        overdue
    }
}

impl Engine {
    /// Begins a picture and names it.
    ///
    /// # Errors
    ///
    /// Too many are being taken.
    pub fn begin_picture(&self) -> Result<Uuid, FreezeError> {
        let id = self.freeze()?;
        let name = Uuid::new_v4();
        let now_ms = self.now();
        self.0.lock().pictures.read.insert(name, (id, now_ms));
        Ok(name)
    }

    /// The picture of that name, for a page of it.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn picture(&self, name: Uuid) -> Result<FreezeId, FreezeError> {
        let now_ms = self.now();
        let mut state = self.0.lock();
        let (id, at) = state.pictures.read.get_mut(&name).ok_or(FreezeError::Gone)?;
        *at = now_ms;
        Ok(*id)
    }

    /// Ends a picture; one that is gone is no matter.
    pub fn end_picture(&self, name: Uuid) {
        let gone = self.0.lock().pictures.read.remove(&name);
        if let Some((id, _)) = gone {
            self.thaw(id);
        }
    }

    /// Ends the pictures that nobody has read for a while; says how many.
    pub fn end_unread_pictures(&self) -> usize {
        let now_ms = self.now();
        let overdue = self.0.lock().pictures.overdue(now_ms);
        overdue.iter().for_each(|id| self.thaw(*id));
        overdue.len()
    }
}
