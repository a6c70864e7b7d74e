//! Where a member sits: how much of the ring it takes, in which zone it stands, and whose tokens it has.

use serde::{Deserialize, Serialize};

use crate::{NodeId, Zone};

/// A member's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Units of virtual nodes, at least 1.
    pub weight: u32,
    /// What fails together with it; `None`: nothing else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Whose tokens it has, when it replaced another member; `None`: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<NodeId>,
}

impl Seat {
    /// The name that this member's tokens come from.
    #[must_use]
    pub fn tokens_of<'a>(&'a self, node: &'a NodeId) -> &'a NodeId {
        self.of.as_ref().unwrap_or(node)
    }
}

impl From<u32> for Seat {
    /// A seat of that weight, in no zone.
    fn from(weight: u32) -> Self {
        Self { weight, zone: None, of: None }
    }
}
