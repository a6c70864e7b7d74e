//! Floors: what counts as replaced for keys of which nothing is held.
//!
//! A tombstone says that older writes are replaced. When all replicas have it, and nothing that it
//! replaces is under way any more, it may go; but a copy that was forgotten somewhere may still turn up. So the
//! tombstones of a leaf give way to one *floor*: a context. A key that is not held is, from then on, as
//! good as one of which all that the floor covers was replaced.
//!
//! ```text
//!   held:  DEL a 1.7 (past 1.6)   DEL b 1.9 (past 1.8)   PUT c 1.3       leaf 4660
//!   collect up to 1.20         ──► floor 1.20             PUT c 1.3
//!   a copy of a, 1.5, turns up ──► refused: covered, and a is not held
//!   put a 1.21                 ──► stored, as ever
//! ```
//!
//! # Caveats
//!
//! A floor is only true while the node holds all of the leaf that it held when the floor was raised.
//! Whoever makes it forget something else than a collected tombstone must lift the floor of that leaf.

use std::collections::BTreeMap;
use std::ops::Bound;

use ringkv_shared::causal::Context;
use ringkv_shared::{KeyspaceName, Version};

/// The floors of all keyspaces; a leaf without one costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    spaces: BTreeMap<KeyspaceName, BTreeMap<u16, Floor>>,
}

/// A floor, small where it is what it nearly always is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Floor {
    /// All of one line up to this version.
    UpTo(Version),
    /// Any other.
    Of(Box<Context>),
}

impl Floor {
    fn new(context: Context) -> Self {
        let first = context.bounds().next();
        match first {
            Some(bound) if context == Context::up_to(bound) => Self::UpTo(bound),
            _ => Self::Of(Box::new(context)),
        }
    }

    fn context(&self) -> Context {
        match self {
            Self::UpTo(version) => Context::up_to(*version),
            Self::Of(context) => (**context).clone(),
        }
    }
}

impl Floors {
    /// The floor of a leaf, if it has one.
    #[must_use]
    pub fn get(&self, keyspace: &str, leaf: u16) -> Option<Context> {
        self.spaces.get(keyspace)?.get(&leaf).map(Floor::context)
    }

    /// Whether there is any floor at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// Whether a keyspace has any.
    #[must_use]
    pub fn has(&self, keyspace: &KeyspaceName) -> bool {
        self.spaces.contains_key(keyspace)
    }

    /// The keyspaces that have any.
    pub fn keyspaces(&self) -> impl Iterator<Item = &KeyspaceName> {
        self.spaces.keys()
    }

    /// The floor of a leaf is now this; nothing lifts it.
    pub fn set(&mut self, keyspace: &KeyspaceName, leaf: u16, floor: Context) {
        if !floor.is_empty() {
            let leaves = self.spaces.entry(keyspace.clone()).or_default();
            leaves.insert(leaf, Floor::new(floor));
        } else if let Some(leaves) = self.spaces.get_mut(keyspace) {
            leaves.remove(&leaf);
            if leaves.is_empty() {
                self.spaces.remove(keyspace);
            }
        }
    }

    /// A keyspace is gone, with all its keys.
    pub fn forget(&mut self, keyspace: &KeyspaceName) {
        self.spaces.remove(keyspace);
    }

    /// Up to `max` floors behind a leaf of a keyspace, in order.
    #[must_use]
    pub fn page(
        &self,
        after: Option<&(KeyspaceName, u16)>,
        max: usize,
    ) -> Vec<(KeyspaceName, u16, Context)> {
        let from = after.map_or(Bound::Unbounded, |(keyspace, _)| Bound::Included(keyspace));
        let spaces = self.spaces.range::<KeyspaceName, _>((from, Bound::Unbounded));
        let all = spaces.flat_map(|(name, leaves)| {
            let from = match after {
                Some((keyspace, leaf)) if keyspace == name => Bound::Excluded(*leaf),
                _ => Bound::Unbounded,
            };
            let leaves = leaves.range((from, Bound::Unbounded));
            leaves.map(|(leaf, floor)| (name.clone(), *leaf, floor.context()))
        });
        all.take(max).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> KeyspaceName {
        text.parse().unwrap()
    }

    #[test]
    fn a_floor_is_what_was_set_last() {
        let (mut floors, users) = (Floors::default(), name("users"));
        for text in ["1.40", "1.40,x80000001.7", "1.40,+1.42", "+1.42"] {
            let floor: Context = text.parse().unwrap();
            floors.set(&users, 7, floor.clone());
            assert_eq!(floors.get("users", 7), Some(floor));
        }
        assert_eq!((floors.get("users", 8), floors.get("default", 7)), (None, None));
        floors.set(&users, 7, Context::empty());
        assert_eq!(floors, Floors::default());
    }

    #[test]
    fn pages_have_all_floors_in_order() {
        let mut floors = Floors::default();
        let mut all = Vec::new();
        for keyspace in ["a", "b", "c"].map(name) {
            for leaf in [0, 1, 77, u16::MAX] {
                let floor = Context::up_to(Version::new(1, u64::from(leaf) + 1));
                floors.set(&keyspace, leaf, floor.clone());
                all.push((keyspace.clone(), leaf, floor));
            }
        }
        for max in 1..14 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = floors.page(after.as_ref(), max);
                let Some((keyspace, leaf, _)) = page.last() else { break };
                after = Some((keyspace.clone(), *leaf));
                found.extend(page);
            }
            assert_eq!(found, all, "{max} a page");
        }
    }
}
