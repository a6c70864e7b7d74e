//! Which numbers each key got lately, so that contexts stay short.
//!
//! A writer who has seen *all* that was ever numbered for a key replaces all before it: then its
//! context need not list versions one by one, and the replicas keep the key in its plain form.
//! Whether it has is known here, for this coordinator gives all the numbers: of each key in the
//! table, all numbers it ever got are those listed, and others up to its floor.
//!
//! ```text
//!   put k            ──► 1.5      floor 1.4 (a put without context replaces all), listed 1.5
//!   put k, seen 1.5  ──► 1.9      has seen all: before(1.9); floor 1.8, listed 1.9
//!   put k, seen 1.5  ──► 1.12     has not seen 1.9: exactly 1.5; floor 1.8, listed 1.9 1.12
//! ```
//!
//! # Caveats
//!
//! Keys are told apart by a 64-bit hash; two with the same hash share an entry, and one that left the
//! table counts as if it had got every number so far. Both only make contexts longer, never wrong.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::Context;
use crate::Version;

/// The most keys in the table: about 5 MiB.
const KEYS_MAX: usize = 65_536;
/// The most numbers that are listed of a key.
const LISTED_MAX: usize = 16;

/// The table. Pure: an access at a time.
#[derive(Debug)]
pub struct Recent {
    keys: HashMap<u64, Numbers, BuildHasherDefault<IsHash>>,
    /// The keys in the order in which they came in.
    order: VecDeque<u64>,
    /// Keys that are not in the table may have got any number up to this one. Monotonic.
    forgotten: Version,
}

#[derive(Clone, Debug)]
struct Numbers {
    /// Others that it got are at most this.
    floor: Version,
    /// Those that it got since, in order.
    listed: Vec<Version>,
}

/// Of what is a hash already.
#[derive(Debug, Default)]
struct IsHash(u64);

impl Hasher for IsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Recent {
    /// The table of a coordinator, by its epoch, that has given no number yet: those before it have
    /// given any.
    #[must_use]
    pub fn new(epoch: u32) -> Self {
        let forgotten = Version::new(epoch, 0);
        Self { keys: HashMap::default(), order: VecDeque::new(), forgotten }
    }

    /// Takes note that a key (its hash) gets a number, its writer having seen `seen` (`None`: all).
    /// Returns the context that the write is to travel with, `None` for all before it.
    pub fn note(&mut self, key: u64, version: Version, seen: Option<&Context>) -> Option<Context> {
        let known = match self.keys.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                self.order.push_back(key);
                place.insert(Numbers { floor: self.forgotten, listed: Vec::new() })
            }
        };
        let all = seen.is_none_or(|seen| known.seen_by(seen));
        if all {
            known.floor = version.previous().unwrap_or_default();
            known.listed.clear();
        }
        known.add(version);
        if self.order.len() > KEYS_MAX {
            self.forget_oldest();
        }
        match seen {
            Some(seen) if !all => Some(seen.clone()),
            // What it has seen of other lines is replaced, too.
            Some(seen) => Some(seen.and_before(version)).filter(|seen| !seen.is_before(version)),
            None => None,
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(gone) = self.order.pop_front().and_then(|oldest| self.keys.remove(&oldest)) {
            let last = gone.listed.last().copied().unwrap_or(gone.floor);
            self.forgotten = self.forgotten.max(last);
        }
    }
}

impl Numbers {
    fn seen_by(&self, seen: &Context) -> bool {
        seen.covers_all_up_to(self.floor) && self.listed.iter().all(|version| seen.covers(*version))
    }

    fn add(&mut self, version: Version) {
        self.listed.push(version);
        if self.listed.len() > LISTED_MAX {
            self.floor = self.listed.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: the number given, what its writer had seen (`all`: said nothing), the context that
    /// travels (`=`: all before it).
    #[test]
    fn who_has_seen_all_replaces_all() {
        let table = [
            ("1.5", "all", "="),
            ("1.9", "1.5", "="),
            ("1.12", "1.5", "1.5"),
            ("1.13", "1.9", "1.9"),
            ("1.20", "1.9,+1.12,+1.13", "="),
            ("1.21", "1.20,x80000001.3", "1.20,x80000001.3"),
            ("1.25", "1.20,x80000001.3", "1.20,x80000001.3"),
            ("1.30", "all", "="),
        ];
        let mut recent = Recent::new(1);
        for (version, seen, expected) in table {
            let seen: Option<Context> = (seen != "all").then(|| seen.parse().unwrap());
            let travels = recent.note(7, version.parse().unwrap(), seen.as_ref());
            let travels = travels.map_or("=".to_owned(), |context| context.to_string());
            assert_eq!(travels, expected, "{version}");
        }
    }

    #[test]
    fn a_key_that_left_the_table_may_have_got_anything() {
        let mut recent = Recent::new(1);
        for key in 0..=KEYS_MAX as u64 {
            recent.note(key, Version::new(1, 100 + key), None);
        }
        let seen = Context::up_to(Version::new(1, 99));
        let last = Version::new(1, 1_000_000);
        assert_eq!(recent.note(0, last, Some(&seen)), Some(seen.clone()));
        // Key 1 has left since, with number 101.
        let seen = Context::up_to(Version::new(1, 101));
        assert_eq!(recent.note(KEYS_MAX as u64 + 1, last, Some(&seen)), None);
    }
}
