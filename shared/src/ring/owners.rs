//! The owners of a position, read off the ring.

use std::borrow::Cow;

use super::circle::Number;
use crate::NodeId;

/// Owners in preference order, each once: borrowed from the ring, no copy made.
#[derive(Clone, Debug)]
pub struct Owners<'a> {
    /// All members of the ring in id order; numbers are places in it.
    members: &'a [NodeId],
    numbers: Cow<'a, [Number]>,
}

impl<'a> Owners<'a> {
    pub(super) const fn new(members: &'a [NodeId], numbers: Cow<'a, [Number]>) -> Self {
        Self { members, numbers }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none: nobody is on the ring.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The owners as places among [`Ring::ids`](super::Ring::ids): who has a table of the members finds them
    /// there without looking at names.
    #[must_use]
    pub fn numbers(&self) -> &[Number] {
        &self.numbers
    }

    /// The owners.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a NodeId> + '_ {
        self.numbers.iter().map(|number| &self.members[usize::from(*number)])
    }

    /// Whether a node is one of them.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.iter().any(|owner| owner == node)
    }

    /// Their ids.
    #[must_use]
    pub fn to_vec(&self) -> Vec<NodeId> {
        self.iter().cloned().collect()
    }
}
