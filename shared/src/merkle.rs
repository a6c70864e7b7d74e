//! What two replicas differ in, found by comparing few numbers: digests over the ring, on two levels.
//!
//! ```text
//!   256 parts           ∑       ∑    …    ∑       the first 8 bits of a position; each sums up its
//!   65,536 leaves     ∑ ∑ … ∑ ∑ ∑ …     ∑ ∑ ∑     256 leaves; the first 16 bits
//! ```
//!
//! A leaf is an arc of 2^48 positions; its digest is the wrapping sum of the hashes of all that is held
//! there, so that a change costs a subtraction and an addition on each level, and the order of changes
//! does not matter. Replicas that hold the same have the same digests. Where they differ, 256 numbers
//! tell in which parts, and 256 more for each of these in which leaves.
//!
//! # Caveats
//!
//! Equal sums of different contents have a chance of 1 in 2^64 each, by accident; who can choose
//! keys can make them. A leaf that a token cuts belongs to two lists of owners, and its digest cannot
//! tell the one's keys from the other's.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ring::key_position;

/// How many leaves there are: at ten million keys about 150 in each.
pub const LEAVES: usize = 1 << 16;
/// How many parts there are; as many leaves are in each.
pub const PARTS: usize = 1 << 8;

const _: () = assert!(PARTS * PARTS == LEAVES);

/// The leaf of a position of the ring.
#[must_use]
pub const fn leaf_of(position: u64) -> u16 {
    (position >> 48) as u16
}

/// The leaf of a key, whatever its keyspace.
#[must_use]
pub fn leaf_of_key(key: &[u8]) -> u16 {
    leaf_of(key_position(key))
}

/// The part of a leaf.
#[must_use]
pub const fn part_of(leaf: u16) -> u8 {
    (leaf >> 8) as u8
}

/// The leaves of a part, in order.
#[must_use]
pub const fn leaves_of(part: u8) -> RangeInclusive<u16> {
    let first = (part as u16) << 8;
    first..=first | 0xff
}

/// The positions of a leaf: the first and the last.
#[must_use]
pub const fn positions_of(leaf: u16) -> RangeInclusive<u64> {
    let first = (leaf as u64) << 48;
    first..=first | ((1 << 48) - 1)
}

/// What is held in a leaf or part, as one number; 0 is of nothing.
///
/// Written as 16 hex digits, nothing as `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

/// Why a text is no digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no digest: 16 hex digits, or 0")]
pub struct BadDigest(String);

impl FromStr for Digest {
    type Err = BadDigest;

    /// Canonical only, so that texts can be compared as well.
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let digest = u64::from_str_radix(text, 16).map(Self).ok();
        digest.filter(|digest| digest.to_string() == text).ok_or_else(|| BadDigest(text.to_owned()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            digest => write!(f, "{digest:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_cover_the_ring() {
        assert_eq!((*positions_of(0).start(), *positions_of(u16::MAX).end()), (0, u64::MAX));
        for leaf in 0..u16::MAX {
            let positions = positions_of(leaf);
            assert_eq!(positions.end() + 1, *positions_of(leaf + 1).start());
            assert_eq!((leaf_of(*positions.start()), leaf_of(*positions.end())), (leaf, leaf));
        }
    }

    #[test]
    fn parts_cover_the_leaves() {
        let leaves = (0..=u8::MAX).flat_map(leaves_of);
        assert!(leaves.eq(0..=u16::MAX));
        assert!((0..=u8::MAX).all(|part| leaves_of(part).all(|leaf| part_of(leaf) == part)));
    }

    #[test]
    fn a_digest_has_one_spelling() {
        for good in ["0", "00000000000000ff", "ffffffffffffffff"] {
            assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        }
        for bad in ["", "ff", "00", "0000000000000000", "00000000000000FF", "+0000000000000ff", "x"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }
}
