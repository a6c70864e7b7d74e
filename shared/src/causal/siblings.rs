//! What a replica holds for a key: the versions that were replaced, and the values that were not.
//!
//! Both follow from the set of writes that arrived. With W that set: *past* is the union of what
//! the writes of W have seen, *values* are those of W that past does not have. So merging two
//! replicas is the union of their sets, and the order in which writes or merges come is all one.

use super::Context;
use crate::Version;

/// The values of a key that no write has replaced, each with its version, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings<T> {
    past: Context,
    values: Vec<(Version, T)>,
}

impl<T> Default for Siblings<T> {
    fn default() -> Self {
        Self { past: Context::empty(), values: Vec::new() }
    }
}

impl<T: Clone> Siblings<T> {
    /// What is held when these versions were replaced and these values were not.
    #[must_use]
    pub fn new(past: Context, values: impl IntoIterator<Item = (Version, T)>) -> Self {
        let mut held = Self { past, values: Vec::new() };
        for (version, value) in values {
            held.write(version, &Context::empty(), value);
        }
        held
    }

    /// Where the last write wins: of several values the last by `when` (of two alike, by version), which
    /// counts as having replaced what its line had before, and nothing else. A total order, whatever had
    /// seen what, so that replicas agree even when clocks were wrong.
    #[must_use]
    pub fn last<K: Ord>(
        values: impl IntoIterator<Item = (Version, T)>,
        when: impl Fn(&T) -> K,
    ) -> Self {
        let last = values.into_iter().max_by_key(|(version, value)| (when(value), *version));
        last.map_or_else(Self::default, |(version, value)| {
            Self::new(Context::before(version), [(version, value)])
        })
    }

    /// A write arrives. True if it changed something: false for one that came before, or that
    /// was replaced already by one that came before.
    pub fn write(&mut self, version: Version, seen: &Context, value: T) -> bool {
        let known = self.past.covers(version) || self.has(version);
        let taught = !self.past.includes(seen);
        if taught {
            self.past.join(seen);
            self.forget_replaced();
        }
        if !known {
            let at = self.values.partition_point(|(other, _)| *other < version);
            self.values.insert(at, (version, value));
        }
        !known || taught
    }

    /// Takes over what another replica holds. True if that changed something.
    pub fn merge(&mut self, other: &Self) -> bool {
        let mut changed = false;
        if !self.past.includes(&other.past) {
            self.past.join(&other.past);
            self.forget_replaced();
            changed = true;
        }
        for (version, value) in &other.values {
            changed |= self.write(*version, &Context::empty(), value.clone());
        }
        changed
    }

    fn forget_replaced(&mut self) {
        let past = &self.past;
        self.values.retain(|(version, _)| !past.covers(*version));
    }

    fn has(&self, version: Version) -> bool {
        self.values.binary_search_by_key(&version, |(version, _)| *version).is_ok()
    }

    /// What a reader of these has seen: the context for its next write.
    #[must_use]
    pub fn context(&self) -> Context {
        let mut seen = self.past.clone();
        self.values.iter().for_each(|(version, _)| seen.add(*version));
        seen
    }

    /// The values with their versions, in the order of the versions.
    #[must_use]
    pub fn values(&self) -> &[(Version, T)] {
        &self.values
    }

    /// What was replaced.
    #[must_use]
    pub const fn past(&self) -> &Context {
        &self.past
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NODE_EPOCH;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    /// Each line: version, what its writer had seen (`=`: said nothing), what is held afterwards.
    #[test]
    fn a_write_replaces_what_it_has_seen_and_nothing_else() {
        let table = [
            ("1.1", "=", "1.1"),
            ("1.2", "+1.1", "1.2"),
            ("1.3", "+1.1", "1.2 1.3"),
            ("1.2", "+1.1", "1.2 1.3"),
            ("1.4", "1.0,+1.1,+1.2,+1.3", "1.4"),
            ("x80000001.1", "=", "1.4 x80000001.1"),
            ("1.5", "=", "1.5 x80000001.1"),
            ("1.6", "1.5,+x80000001.1", "1.6"),
            ("x80000001.1", "=", "1.6"),
            ("2.1", "-", "1.6 2.1"),
            ("2.2", "=", "2.2"),
        ];
        let mut held = Siblings::default();
        for (new, seen, expected) in table {
            let seen = match seen {
                "=" => Context::before(version(new)),
                "1.0,+1.1,+1.2,+1.3" => held.context(),
                seen => seen.parse().unwrap(),
            };
            held.write(version(new), &seen, ());
            let now: Vec<String> = held.values().iter().map(|(v, ())| v.to_string()).collect();
            assert_eq!(now.join(" "), expected, "after {new}");
        }
    }

    #[test]
    fn k_writers_at_once_make_k_siblings_and_no_more() {
        let mut held = Siblings::default();
        held.write(version("1.1"), &Context::before(version("1.1")), 0);
        for round in 0..50_u64 {
            let seen = held.context();
            for writer in 0..4 {
                held.write(Version::new(1, 2 + round * 4 + writer), &seen, writer);
            }
            assert_eq!(held.values().len(), 4);
        }
    }

    /// A write as it travels: what it is, and which of the writes before it its writer had seen.
    #[derive(Clone, Debug)]
    struct Write {
        version: Version,
        seen: Context,
    }

    /// Writes of a coordinator, its successor and a node; each writer has seen what some replica held.
    fn history() -> impl Strategy<Value = Vec<Write>> {
        let step = (any::<bool>(), 0..3_usize, proptest::option::of(0..3_usize), any::<bool>());
        (1..25_u64, proptest::collection::vec(step, 1..25)).prop_map(|(restart, steps)| {
            let mut replicas: [Siblings<u64>; 3] = Default::default();
            let mut writes = Vec::new();
            for (n, (direct, to, merged, says)) in (1_u64..).zip(steps) {
                let epoch = if direct { NODE_EPOCH | 1 } else { 1 + u32::from(n >= restart) };
                let version = Version::new(epoch, n);
                let seen = if says { replicas[to].context() } else { Context::before(version) };
                replicas[to].write(version, &seen, n);
                if let Some(from) = merged {
                    let other = replicas[from].clone();
                    replicas[to].merge(&other);
                }
                writes.push(Write { version, seen });
            }
            writes
        })
    }

    fn all(writes: impl IntoIterator<Item = Write>) -> Siblings<u64> {
        let mut held = Siblings::default();
        for Write { version, seen } in writes {
            held.write(version, &seen, version.counter);
        }
        held
    }

    proptest! {
        #[test]
        fn order_and_repetition_are_all_one(
            (writes, shuffled) in history().prop_flat_map(|w| (Just(w.clone()), Just(w).prop_shuffle())),
            split in 0..25_usize,
        ) {
            let expected = all(writes.clone());
            prop_assert_eq!(&all(shuffled.clone()), &expected);
            prop_assert_eq!(&all(shuffled.iter().chain(&writes).cloned()), &expected);
            let (one, other) = shuffled.split_at(split.min(shuffled.len()));
            let (one, other) = (all(one.to_vec()), all(other.to_vec()));
            let (mut left, mut right) = (one.clone(), other.clone());
            left.merge(&other);
            right.merge(&one);
            prop_assert_eq!(&left, &expected);
            prop_assert_eq!(&right, &expected);
            prop_assert!(!left.merge(&other) && !left.merge(&one), "merged again, nothing changes");
        }

        #[test]
        fn a_value_goes_only_when_a_write_has_seen_it(writes in history()) {
            let held = all(writes.clone());
            for write in &writes {
                let replaced = writes.iter().any(|other| other.seen.covers(write.version));
                let there = held.values().iter().any(|(version, _)| *version == write.version);
                prop_assert_eq!(there, !replaced, "{:?}", write);
            }
            prop_assert!(!held.values().is_empty());
        }
    }
}
