//! Who is asked for a key: read off the placements in force, without a copy.

use crate::NodeId;
use crate::ring::Owners;

/// The owners of one key by every placement that is in force for something.
///
/// A write goes to all owners of both placements, each once, those of the current one first; it counts when enough
/// of each placement have it. A read asks the current ones.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// By the placement in force.
    pub current: Owners<'a>,
    /// By the placement that is pending, if there is one.
    pub pending: Option<Owners<'a>>,
}

impl<'a> Route<'a> {
    /// Everybody whom a write goes to.
    pub fn owners(&self) -> impl Iterator<Item = &'a NodeId> + '_ {
        self.current.iter().chain(self.newcomers())
    }

    /// The owners of the pending placement who are none of the current one.
    pub fn newcomers(&self) -> impl Iterator<Item = &'a NodeId> + '_ {
        let pending = self.pending.iter().flat_map(Owners::iter);
        pending.filter(|owner| !self.current.contains(owner))
    }

    /// Whether nobody is there to be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners().next().is_none()
    }
}
