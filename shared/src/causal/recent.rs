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

use std::collections::HashMap;
use std::hint::black_box;

use super::Context;
use crate::Version;

/// A key is in the set that its hash's low bits say. All of them are about 2 MiB.
const SETS: usize = 8192;
/// The most keys of a set; when one more comes, the one that came first leaves the table.
const WAYS: usize = 8;
/// The most numbers that are listed of a key.
const LISTED_MAX: usize = 16;

/// The table. Pure: an access at a time.
#[derive(Debug)]
pub struct Recent {
    /// [`SETS`] of them, made with the first key.
    sets: Vec<Set>,
    /// The keys in the table that have more than one number listed, or others since the one before it.
    more: HashMap<u64, Numbers>,
    /// Keys that are not in the table may have got any number up to this one. Monotonic.
    forgotten: Version,
}

/// Keys side by side: nearly each has one number listed, and all others are before it. Kept so, it costs two looks at
/// memory.
#[derive(Clone, Debug, Default)]
struct Set {
    keys: [u64; WAYS],
    last: [Version; WAYS],
    /// How many have come.
    came: usize,
}

impl Set {
    fn find(&self, key: u64) -> Option<usize> {
        self.keys.iter().take(self.came).position(|other| *other == key)
    }

    /// Puts in a key that is not there; returns the one that leaves, with its last number.
    fn add(&mut self, key: u64, last: Version) -> Option<(u64, Version)> {
        let way = self.came % WAYS;
        let left = (self.came >= WAYS).then(|| (self.keys[way], self.last[way]));
        (self.keys[way], self.last[way]) = (key, last);
        self.came += 1;
        left
    }
}

#[derive(Clone, Debug)]
struct Numbers {
    /// Others that it got are at most this.
    floor: Version,
    /// Those that it got since, in order.
    listed: Vec<Version>,
}

impl Recent {
    /// The table of a coordinator, by its epoch, that has given no number yet: those before it have
    /// given any.
    #[must_use]
    pub fn new(epoch: u32) -> Self {
        Self { sets: Vec::new(), more: HashMap::new(), forgotten: Version::new(epoch, 0) }
    }

    /// Looks at what these keys need to be noted, so that the processor waits for all of it at once.
    pub fn look_at(&self, keys: impl Iterator<Item = u64>) {
        let look = |set: &Set| set.keys[0] ^ set.last[0].counter ^ set.last[WAYS - 1].counter;
        let sets = keys.filter_map(|key| self.sets.get(key as usize % SETS));
        black_box(sets.fold(0, |seen, set| seen ^ look(set)));
    }

    /// Takes note that a key (its hash) gets a number, its writer having seen `seen` (`None`: all).
    /// Returns the context that the write is to travel with, `None` for all before it.
    pub fn note(&mut self, key: u64, version: Version, seen: Option<&Context>) -> Option<Context> {
        if self.sets.is_empty() {
            self.sets = vec![Set::default(); SETS];
        }
        let set = &mut self.sets[key as usize % SETS];
        let way = set.find(key);
        // What it got is only of interest to a writer who has not seen all.
        let before = seen.map(|_| match way {
            None => Numbers { floor: self.forgotten, listed: Vec::new() },
            Some(way) => self.more.remove(&key).unwrap_or_else(|| Numbers::plain(set.last[way])),
        });
        let left = match way {
            Some(way) => {
                set.last[way] = version;
                None
            }
            None => set.add(key, version),
        };
        if let Some((gone, last)) = left {
            self.more.remove(&gone);
            self.forgotten = self.forgotten.max(last);
        }
        let (Some(seen), Some(mut numbers)) = (seen, before) else {
            if !self.more.is_empty() {
                self.more.remove(&key);
            }
            return None;
        };
        if numbers.seen_by(seen) {
            // What it has seen of other lines is replaced, too.
            return Some(seen.and_before(version)).filter(|seen| !seen.is_before(version));
        }
        numbers.add(version);
        self.more.insert(key, numbers);
        Some(seen.clone())
    }
}

impl Numbers {
    /// Of a key whose last writer had seen all.
    fn plain(last: Version) -> Self {
        Self { floor: last.previous().unwrap_or_default(), listed: vec![last] }
    }

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
        let room = (SETS * WAYS) as u64;
        let none = Context::up_to(Version::new(1, 99));
        // Of these, key 1 has a number that its writer had not seen all before.
        recent.note(1, Version::new(1, 101), Some(&none));
        for key in 0..=room {
            let seen = (key == 1).then_some(&none);
            recent.note(key, Version::new(1, 1_000 + key), seen);
        }
        assert_eq!(recent.more.len(), 1);
        // Key 0 has left, with number 1000, and what is new since may have got as much.
        let last = Version::new(1, 1_000_000);
        let seen = |counter| Context::up_to(Version::new(1, counter));
        assert_eq!(recent.note(room + 5, last, Some(&seen(999))), Some(seen(999)));
        let forgotten = recent.forgotten.counter;
        assert_eq!(recent.note(room + 9, last, Some(&seen(forgotten))), None);
        // Key 1 leaves when one more comes into its set.
        recent.note(room + 1, last, None);
        assert_eq!(recent.more.len(), 1, "that of the key just noted");
    }

    proptest::proptest! {
        /// However few keys there is room for, what travels is never more than the writer had seen, but for all before.
        #[test]
        fn nobody_replaces_what_was_not_seen(
            steps in proptest::collection::vec((0u64..40, proptest::option::of(0u64..100)), 1..100),
        ) {
            let mut recent = Recent::new(1);
            let mut got: std::collections::BTreeMap<u64, Vec<Version>> = Default::default();
            for (n, (key, seen)) in steps.into_iter().enumerate() {
                // All in a few sets.
                let key = key * SETS as u64 + key % 2;
                let version = Version::new(1, n as u64 + 1);
                let seen = seen.map(|counter| Context::up_to(Version::new(1, counter)));
                let travels = recent.note(key, version, seen.as_ref());
                let numbers = got.entry(key).or_default();
                let all = seen.as_ref().is_none_or(|seen| numbers.iter().all(|v| seen.covers(*v)));
                proptest::prop_assert!(all || travels == seen);
                numbers.push(version);
            }
        }
    }
}
