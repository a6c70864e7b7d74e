//! The copies that were counted, struck off one by one as the run comes to them.
//!
//! Each planned copy is made, or found not to be needed any more, for it has *arrived*: its target was written to
//! meanwhile, or the key is gone. A copy that was not planned is *extra*. So of each link, always:
//! planned + extra = made + failed + arrived, once all keys had their turn. Keys that are counted and copied many at a
//! time are numbers here, without names.
//!
//! # Caveats
//!
//! It keeps 20 bytes for each planned copy of a key that was named, and knows keys by 64 bits of their hash: of a million keys two are
//! taken for one another once in forty million runs, and then a copy is called by the wrong name; it is made all
//! the same.

use std::collections::BTreeMap;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Planned;
use crate::{Blob, KeyspaceName, NodeId};

/// From whom to whom.
pub type Link = (NodeId, NodeId);

/// The list.
#[derive(Debug, Default)]
pub struct Ledger {
    links: Vec<Link>,
    /// Of each link its place among `links`.
    numbers: BTreeMap<Link, u32>,
    entries: Vec<Entry>,
    /// How many copies were planned without the names of their keys, by the number of the link, and not made yet.
    nameless: BTreeMap<u32, u64>,
    /// Where to look for a key: of each equal part of all hashes, how many entries are before it. Hashes are spread
    /// evenly, so there is about one in each part. Empty until somebody looks.
    parts: Vec<u32>,
    /// A hash shifted right by this is the number of its part.
    shift: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: u64,
    link: u32,
    struck: bool,
}

impl Ledger {
    /// Copies of a key that are planned.
    pub fn plan(&mut self, space: &KeyspaceName, key: &Blob, planned: &[Planned]) {
        let key = hash(space, key);
        for Planned { from, to, .. } in planned {
            let link = self.number((from.clone(), to.clone()));
            self.entries.push(Entry { key, link, struck: false });
        }
        self.parts.clear();
    }

    /// So many copies that are planned of keys that nobody has named.
    pub fn plan_many(&mut self, planned: &[Planned], keys: u64) {
        for Planned { from, to, .. } in planned {
            let link = self.number((from.clone(), to.clone()));
            *self.nameless.entry(link).or_default() += keys;
        }
    }

    fn number(&mut self, link: Link) -> u32 {
        let next = u32::try_from(self.links.len()).expect("at most a million links");
        *self.numbers.entry(link).or_insert_with_key(|link| {
            self.links.push(link.clone());
            next
        })
    }

    /// A key has its turn, and only these copies of it are needed: strikes off the others, and says which.
    pub fn arrived(&mut self, space: &KeyspaceName, key: &Blob, needed: &[Link]) -> Vec<Link> {
        let range = self.of(hash(space, key));
        let mut gone = Vec::new();
        for entry in self.entries[range].iter_mut().filter(|entry| !entry.struck) {
            let link = &self.links[entry.link as usize];
            if !needed.contains(link) {
                entry.struck = true;
                gone.push(link.clone());
            }
        }
        gone
    }

    /// A copy was made, or was tried: strikes it off. False if it was not planned.
    pub fn tried(&mut self, space: &KeyspaceName, key: &Blob, link: &Link) -> bool {
        let Some(number) = self.numbers.get(link).copied() else { return false };
        let range = self.of(hash(space, key));
        let mut open = self.entries[range].iter_mut();
        let open = open.find(|entry| !entry.struck && entry.link == number);
        let named = open.map(|entry| entry.struck = true).is_some();
        named || self.tried_many(link, 1) == 1
    }

    /// So many copies along a link were made, or were tried: strikes them off. How many of them were planned.
    pub fn tried_many(&mut self, link: &Link, keys: u64) -> u64 {
        let number = self.numbers.get(link);
        let Some(open) = number.and_then(|number| self.nameless.get_mut(number)) else { return 0 };
        let planned = keys.min(*open);
        *open -= planned;
        planned
    }

    /// Strikes off all that is left: keys that had no turn, for nobody holds anything of them any more. How many of
    /// each link.
    pub fn close(&mut self) -> BTreeMap<Link, u64> {
        let entries = std::mem::take(&mut self.entries);
        let left = entries.into_iter().filter(|entry| !entry.struck).map(|entry| (entry.link, 1));
        let mut links = BTreeMap::new();
        for (link, keys) in left.chain(std::mem::take(&mut self.nameless)).filter(|left| left.1 > 0)
        {
            *links.entry(self.links[link as usize].clone()).or_default() += keys;
        }
        links
    }

    fn of(&mut self, key: u64) -> Range<usize> {
        if self.entries.is_empty() {
            return 0..0;
        }
        if self.parts.is_empty() {
            self.order();
        }
        let part = usize::try_from(key >> self.shift).unwrap_or(usize::MAX);
        let in_part =
            |part: usize| self.parts.get(part).map_or(self.entries.len(), |at| *at as usize);
        let (first, end) = (in_part(part), in_part(part.saturating_add(1)));
        let within = &self.entries[first..end];
        let start = first + within.iter().take_while(|entry| entry.key < key).count();
        let same = self.entries[start..end].iter().take_while(|entry| entry.key == key);
        start..start + same.count()
    }

    fn order(&mut self) {
        self.entries.sort_unstable();
        let bits = self.entries.len().next_power_of_two().trailing_zeros().max(1);
        self.shift = u64::BITS - bits;
        let mut at = 0;
        self.parts = (0..1u64 << bits)
            .map(|part| {
                let before = |entry: &Entry| entry.key >> self.shift < part;
                while self.entries.get(at as usize).is_some_and(before) {
                    at += 1;
                }
                at
            })
            .collect();
    }
}

fn hash(space: &KeyspaceName, key: &Blob) -> u64 {
    // The same key of another keyspace is another key.
    xxh3_64_with_seed(key.as_bytes(), xxh3_64_with_seed(space.as_str().as_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> Link {
        (text[..1].parse().unwrap(), text[1..].parse().unwrap())
    }

    fn links(text: &str) -> Vec<Link> {
        text.split_whitespace().map(link).collect()
    }

    #[test]
    fn every_planned_copy_is_made_or_arrives_once() {
        let (space, other) = (KeyspaceName::default(), "other".parse().unwrap());
        let mut ledger = Ledger::default();
        let plan = |text: &str| -> Vec<Planned> {
            links(text).into_iter().map(|(from, to)| Planned { from, to, bytes: 1 }).collect()
        };
        for (key, copies) in [("x", "ab ac"), ("a", "ab"), ("m", "ba ca"), ("z", "bc")] {
            ledger.plan(&space, &key.into(), &plan(copies));
        }
        ledger.plan(&other, &"x".into(), &plan("ca"));
        // Keys have their turn in any order; one may have it twice.
        assert_eq!(ledger.arrived(&space, &"x".into(), &links("ac")), links("ab"));
        assert_eq!(ledger.arrived(&space, &"x".into(), &links("ac")), []);
        assert!(ledger.tried(&space, &"x".into(), &link("ac")));
        assert!(!ledger.tried(&space, &"x".into(), &link("ac")), "only once");
        assert_eq!(ledger.arrived(&space, &"a".into(), &links("cb")), links("ab"));
        assert!(!ledger.tried(&space, &"a".into(), &link("cb")), "it was not planned");
        assert_eq!(ledger.arrived(&space, &"m".into(), &links("ba ca")), []);
        assert!(ledger.tried(&space, &"m".into(), &link("ba")));
        assert_eq!(ledger.arrived(&space, &"nobody".into(), &[]), []);
        // Copies of keys without names, one of which is named when it is made.
        ledger.plan_many(&plan("cd ce"), 10);
        assert_eq!(ledger.tried_many(&link("cd"), 7), 7);
        assert!(ledger.tried(&space, &"named".into(), &link("cd")));
        assert_eq!(ledger.tried_many(&link("cd"), 7), 2, "5 of them were not planned");
        assert_eq!(ledger.tried_many(&link("ab"), 1), 0);
        let left = [("bc", 1), ("ca", 2), ("ce", 10)].map(|(text, keys)| (link(text), keys));
        assert_eq!(ledger.close(), left.into());
        assert_eq!(ledger.close(), BTreeMap::new());
    }
}
