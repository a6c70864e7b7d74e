//! Digests of what is held, kept with every change.
//!
//! What they are, and how two replicas compare them: [`merkle`]. The hash of a
//! key is of its position, the versions held and what they have replaced. It is not of values: one version
//! is one value. So a value that has expired and the tombstone that a sweep makes of it are the same.
//!
//! # Caveats
//!
//! A keyspace costs 514 KiB from its first key until it is dropped, though the operating system gives
//! memory for those leaves only that were written.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use ringkv_shared::Version;
use ringkv_shared::causal::Context;
use ringkv_shared::merkle::{self, Digest, LEAVES, PARTS};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// The digests of all keyspaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Those of `default`, which most changes are of: no search for them.
    default: Option<Space>,
    /// Those of the others.
    spaces: BTreeMap<Box<str>, Space>,
}

const DEFAULT: &str = "default";

/// The digests of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Space {
    /// [`PARTS`] of them.
    parts: Vec<u64>,
    /// [`LEAVES`] of them.
    leaves: Vec<u64>,
}

impl Space {
    fn new() -> Self {
        Self { parts: vec![0; PARTS], leaves: vec![0; LEAVES] }
    }
}

impl Digests {
    /// What is held for a key of this leaf changes: its hash before and after; 0 for nothing.
    pub fn change(&mut self, keyspace: &str, leaf: u16, before: u64, after: u64) {
        if before == after {
            return;
        }
        let space = self.space_mut(keyspace);
        let by = after.wrapping_sub(before);
        let part = &mut space.parts[usize::from(merkle::part_of(leaf))];
        *part = part.wrapping_add(by);
        let leaf = &mut space.leaves[usize::from(leaf)];
        *leaf = leaf.wrapping_add(by);
    }

    /// The digests of all parts, in order.
    pub fn parts(&self, keyspace: &str) -> impl Iterator<Item = Digest> {
        let parts = self.space(keyspace).map(|space| &space.parts[..]);
        parts.unwrap_or(&[0; PARTS]).iter().copied().map(Digest)
    }

    /// The digests of the leaves of a part, in order.
    pub fn leaves(&self, keyspace: &str, part: u8) -> impl Iterator<Item = Digest> {
        merkle::leaves_of(part).map(move |leaf| self.leaf(keyspace, leaf))
    }

    /// The digest of a leaf.
    #[must_use]
    pub fn leaf(&self, keyspace: &str, leaf: u16) -> Digest {
        let space = self.space(keyspace);
        Digest(space.map_or(0, |space| space.leaves[usize::from(leaf)]))
    }

    /// Adds the changes that another was told of, who began with nothing.
    pub fn join(&mut self, other: &Self) {
        let spaces = other.spaces.iter().map(|(name, space)| (&**name, space));
        for (name, changes) in other.default.iter().map(|space| (DEFAULT, space)).chain(spaces) {
            let space = self.space_mut(name);
            let all = [(&mut space.parts, &changes.parts), (&mut space.leaves, &changes.leaves)];
            for (digests, changes) in all {
                digests.iter_mut().zip(changes).for_each(|(d, by)| *d = d.wrapping_add(*by));
            }
        }
    }

    fn space_mut(&mut self, keyspace: &str) -> &mut Space {
        if keyspace == DEFAULT {
            return self.default.get_or_insert_with(Space::new);
        }
        if !self.spaces.contains_key(keyspace) {
            self.spaces.insert(keyspace.into(), Space::new());
        }
        self.spaces.get_mut(keyspace).expect("it was just put in")
    }

    fn space(&self, keyspace: &str) -> Option<&Space> {
        if keyspace == DEFAULT { self.default.as_ref() } else { self.spaces.get(keyspace) }
    }

    /// A keyspace other than `default` is gone, with all its keys.
    pub fn forget(&mut self, keyspace: &str) {
        self.spaces.remove(keyspace);
    }
}

/// The hash of a key with what is held for it: the versions that nothing has replaced, in order,
/// and what was replaced.
#[must_use]
pub fn hash(position: u64, versions: impl Iterator<Item = Version> + Clone, past: &Context) -> u64 {
    let mut some = versions.clone();
    match (some.next(), some.next()) {
        (Some(only), None) if past.is_before(only) => hash_plain(position, only),
        _ => hash_any(position, versions, past),
    }
}

/// The hash of a key with one version, which has replaced all of its line before it and nothing else: nearly
/// all keys.
#[must_use]
pub fn hash_plain(position: u64, version: Version) -> u64 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&version.epoch.to_le_bytes());
    bytes[4..].copy_from_slice(&version.counter.to_le_bytes());
    xxh3_64_with_seed(&bytes, position)
}

fn hash_any(position: u64, versions: impl Iterator<Item = Version>, past: &Context) -> u64 {
    let mut text = Hashed(Xxh3::with_seed(position));
    let mut versions = versions;
    let written = versions.try_for_each(|version| write!(text, "{version} "));
    let written = written.and_then(|()| write!(text, "{past}"));
    written.expect("a hash takes every text");
    text.0.digest()
}

/// Text that is hashed while it is written.
struct Hashed(Xxh3);

impl fmt::Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn of(position: u64, versions: &[&str], past: &str) -> u64 {
        hash(position, versions.iter().map(|text| version(text)), &past.parse().unwrap())
    }

    #[test]
    fn whatever_differs_has_another_hash() {
        let hashes = [
            of(1, &["1.2"], "1.1"),
            of(2, &["1.2"], "1.1"),
            of(1, &["1.3"], "1.2"),
            of(1, &["2.2"], "2.1"),
            of(1, &["x80000001.2"], "x80000001.1"),
            of(1, &["1.2"], "-"),
            of(1, &["1.2"], "1.1,x80000001.1"),
            of(1, &["1.2", "x80000001.2"], "1.1"),
            of(1, &["1.2", "x80000001.2"], "1.1,x80000001.1"),
        ];
        assert_eq!(BTreeSet::from(hashes).len(), hashes.len());
        assert!(!hashes.contains(&0));
    }

    #[test]
    fn what_is_plain_has_one_hash() {
        assert_eq!(of(7, &["1.2"], "1.1"), hash_plain(7, version("1.2")));
    }

    #[test]
    fn a_keyspace_without_keys_costs_nothing() {
        let mut digests = Digests::default();
        assert!(digests.parts("users").eq([Digest(0); PARTS]));
        assert!(digests.leaves("users", 3).eq([Digest(0); PARTS]));
        digests.change("users", 7, 5, 5);
        assert!(digests.spaces.is_empty());
        digests.change("users", 7, 0, 5);
        digests.forget("users");
        assert_eq!(digests, Digests::default());
    }

    proptest! {
        /// Changes in any order: each part is the sum of its leaves, and equal contents are equal.
        #[test]
        fn only_what_is_held_matters(
            held in proptest::collection::btree_map(any::<(bool, u16)>(), 1..u64::MAX, 1..40),
            gone in proptest::collection::btree_map(any::<(bool, u16)>(), 1..u64::MAX, 0..40),
        ) {
            let space = |users: bool| if users { "users" } else { "default" };
            let (mut one, mut other) = (Digests::default(), Digests::default());
            for ((users, leaf), hash) in &held {
                one.change(space(*users), *leaf, 0, *hash);
            }
            for ((users, leaf), hash) in gone.iter().chain(&held) {
                other.change(space(*users), *leaf, 0, *hash);
            }
            for ((users, leaf), hash) in &gone {
                other.change(space(*users), *leaf, *hash, 0);
            }
            for name in ["users", "default"] {
                let leaves = (0..=u8::MAX).flat_map(|part| one.leaves(name, part));
                prop_assert!(leaves.eq((0..=u8::MAX).flat_map(|part| other.leaves(name, part))));
                let sum = |part| one.leaves(name, part).fold(0_u64, |sum, leaf| sum.wrapping_add(leaf.0));
                prop_assert!(one.parts(name).map(|part| part.0).eq((0..=u8::MAX).map(sum)));
                prop_assert!(one.parts(name).eq(other.parts(name)));
            }
        }
    }
}
