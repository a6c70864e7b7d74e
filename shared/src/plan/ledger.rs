//! The copies that were counted, struck off one by one as the run comes to them.
//!
//! Each planned copy is made, or found not to be needed any more, for it has *arrived*: its target was written to
//! meanwhile, or the key is gone. A copy that was not planned is *extra*. So of each link, always:
//! planned + extra = made + failed + arrived, once all keys had their turn.
//!
//! # Caveats
//!
//! It keeps 16 bytes for each planned copy, and knows keys by 64 bits of their hash: of a million keys two are
//! taken for one another once in forty million runs, and then a copy is called by the wrong name; it is made all
//! the same.

use std::ops::Range;

use super::Planned;
use crate::ring::key_position;
use crate::{Blob, KeyspaceName, NodeId};

/// From whom to whom.
pub type Link = (NodeId, NodeId);

/// The list.
#[derive(Debug, Default)]
pub struct Ledger {
    links: Vec<Link>,
    entries: Vec<Entry>,
    sorted: bool,
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
            let known = self.links.iter().position(|(a, b)| a == from && b == to);
            let link = known.unwrap_or_else(|| {
                self.links.push((from.clone(), to.clone()));
                self.links.len() - 1
            });
            let link = u32::try_from(link).expect("at most a million links");
            self.entries.push(Entry { key, link, struck: false });
        }
        self.sorted = false;
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
        let Some(number) = self.links.iter().position(|known| known == link) else { return false };
        let range = self.of(hash(space, key));
        let mut open = self.entries[range].iter_mut();
        let open = open.find(|entry| !entry.struck && entry.link as usize == number);
        open.map(|entry| entry.struck = true).is_some()
    }

    /// Strikes off all that is left: keys that had no turn, for nobody holds anything of them any more.
    pub fn close(&mut self) -> Vec<Link> {
        let entries = std::mem::take(&mut self.entries);
        let left = entries.into_iter().filter(|entry| !entry.struck);
        left.map(|entry| self.links[entry.link as usize].clone()).collect()
    }

    fn of(&mut self, key: u64) -> Range<usize> {
        if !self.sorted {
            self.entries.sort_unstable();
            self.sorted = true;
        }
        let start = self.entries.partition_point(|entry| entry.key < key);
        let end = self.entries.partition_point(|entry| entry.key <= key);
        start..end
    }
}

fn hash(space: &KeyspaceName, key: &Blob) -> u64 {
    // Not by chance equal for keys of two keyspaces that have the same name.
    key_position(&[space.as_str().as_bytes(), b"\0", key.as_bytes()].concat())
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
        let mut left = ledger.close();
        left.sort();
        assert_eq!(left, links("bc ca ca"));
        assert_eq!(ledger.close(), []);
    }
}
