//! Arcs as a node is told of them: all of them, or the name of some that it was told of before.
//!
//! ```text
//!   coordinator   census @7c0f…  ─►  no arcs of that name; nothing was done
//!                 census 3fff…:1 bfff…:0 …  ─►  counted, and known by their name from now on
//!                 census @7c0f…  ─►  counted
//! ```
//!
//! A rebalance asks a node for the same arcs again and again, a stretch of keys after the other, and nine nodes have
//! 2,300 of them: 44 KB to write, to carry and to read each time. Cutting them down to those of a call would not do: the keys
//! of a stretch lie all over the ring. So a call names them, by the hash of their text. Who asks keeps no books of
//! who knows what: it names them, and tells them when a node does not know, as after a restart.
//!
//! # Caveats
//!
//! Two different texts of one hash would be taken for each other: once in 2^128, by accident. What is moved by wrong arcs
//! is idempotent, and what is dropped is compared with its owners once more.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use xxhash_rust::xxh3::xxh3_128;

use crate::arcs::{ARCS_MAX, Arcs, BadArcs};

/// So many arcs have a name that is worth it: fewer are told each time.
const NAMED_MIN: usize = 64;
/// Sets of arcs that are known by their names, at the most.
pub const KNOWN_MAX: usize = 64;
/// And arcs in all of them together: half a mebibyte a greatest set, two of all.
const KNOWN_ARCS_MAX: usize = 4 * ARCS_MAX;
/// Before a name stands what no arc begins with.
const SIGN: char = '@';
/// Hex digits of a name.
const DIGITS: usize = 32;

/// The name of some arcs: the hash of their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArcsName(u128);

impl ArcsName {
    /// The name of what is written so.
    #[must_use]
    pub fn of(arcs: &Arcs) -> Self {
        Self(xxh3_128(arcs.text().as_bytes()))
    }
}

/// What a node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// All of them.
    Arcs(Arcs),
    /// Some that it may know, written `@` and 32 hex digits.
    Name(ArcsName),
}

impl Told {
    /// The name of these arcs, or all of them if they are few.
    #[must_use]
    pub fn short(arcs: &Arcs) -> Self {
        if arcs.count() < NAMED_MIN { Self::Arcs(arcs.clone()) } else { Self::Name(arcs.name()) }
    }
}

impl FromStr for Told {
    type Err = BadArcs;

    /// Canonical only.
    fn from_str(text: &str) -> Result<Self, BadArcs> {
        let Some(name) = text.strip_prefix(SIGN) else { return text.parse().map(Self::Arcs) };
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_name = name.len() == DIGITS && name.as_bytes().iter().all(is_digit);
        let name = u128::from_str_radix(name, 16).ok().filter(|_| is_name);
        name.map(|name| Self::Name(ArcsName(name))).ok_or(BadArcs)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arcs(arcs) => arcs.fmt(f),
            Self::Name(ArcsName(name)) => write!(f, "{SIGN}{name:032x}"),
        }
    }
}

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Arcs(arcs) => arcs.serialize(serializer),
            Self::Name(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The arcs that a node was told of last, at most [`KNOWN_MAX`] sets.
#[derive(Debug, Default)]
pub struct KnownArcs {
    /// Those used last are behind.
    sets: Vec<(ArcsName, Arcs)>,
}

impl KnownArcs {
    /// The arcs that are meant; `None`: they are named and not known.
    pub fn meant(&mut self, told: Told) -> Option<Arcs> {
        let (name, arcs) = match told {
            Told::Arcs(arcs) if arcs.count() < NAMED_MIN => return Some(arcs),
            Told::Arcs(arcs) => (arcs.name(), Some(arcs)),
            Told::Name(name) => (name, None),
        };
        let at = self.sets.iter().rposition(|(known, _)| *known == name);
        let known = at.map(|at| self.sets.remove(at).1);
        let arcs = known.or(arcs)?;
        self.sets.push((name, arcs.clone()));
        self.forget_oldest();
        Some(arcs)
    }

    fn forget_oldest(&mut self) {
        let mut all: usize = self.sets.iter().map(|(_, arcs)| arcs.count()).sum();
        while self.sets.len() > KNOWN_MAX || all > KNOWN_ARCS_MAX {
            all -= self.sets.remove(0).1.count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many arcs, of sorts in turn; another `seed`, other arcs.
    fn arcs(count: u64, seed: u64) -> Arcs {
        Arcs::new((1..=count).map(|n| (n * (u64::MAX / count) - seed, (n % 2) as u16 + 1)))
    }

    #[test]
    fn what_is_told_once_is_known_by_its_name() {
        let (mut known, many) = (KnownArcs::default(), arcs(100, 1));
        let name = Told::short(&many);
        assert_eq!(known.meant(name.clone()), None);
        assert_eq!(known.meant(Told::Arcs(many.clone())), Some(many.clone()));
        assert_eq!(known.meant(name), Some(many));
        let few = arcs(3, 1);
        assert_eq!(Told::short(&few), Told::Arcs(few.clone()));
        assert_eq!(known.meant(Told::Arcs(few.clone())), Some(few));
    }

    #[test]
    fn only_so_many_are_known_and_those_used_last() {
        let (mut known, first) = (KnownArcs::default(), arcs(100, 0));
        known.meant(Told::Arcs(first.clone()));
        for seed in 1..2 * KNOWN_MAX as u64 {
            known.meant(Told::Arcs(arcs(100, seed)));
            assert!(known.meant(Told::short(&first)).is_some(), "it is in use");
        }
        assert_eq!(known.sets.len(), KNOWN_MAX);
        assert_eq!(known.meant(Told::short(&arcs(100, 1))), None);
        let most = ARCS_MAX as u64;
        (0..9).for_each(|seed| drop(known.meant(Told::Arcs(arcs(most, seed)))));
        assert_eq!(known.sets.len(), KNOWN_ARCS_MAX / ARCS_MAX);
        assert!(known.meant(Told::short(&arcs(most, 8))).is_some());
    }

    #[test]
    fn a_text_is_arcs_or_a_name() {
        let arcs = arcs(100, 7);
        for told in [Told::short(&arcs), Told::Arcs(arcs)] {
            let json = serde_json::to_string(&told).unwrap();
            assert_eq!(json, format!("\"{told}\""));
            assert_eq!(serde_json::from_str::<Told>(&json).unwrap(), told);
        }
        let name = "0123456789abcdef0123456789abcdef";
        assert!(matches!(format!("@{name}").parse(), Ok(Told::Name(_))));
        for bad in [
            "@",
            "@1",
            &format!("@{name}0"),
            &format!("@+{}", &name[1..]),
            &format!("@{}", name.to_uppercase()),
        ] {
            assert_eq!(bad.parse::<Told>(), Err(BadArcs), "{bad}");
        }
    }
}
