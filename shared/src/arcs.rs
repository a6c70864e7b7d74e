//! The ring cut into arcs of several *sorts*: how a node is told which of its keys are meant.
//!
//! Written as the last position of each arc in hex and its sort, in order: `3fff…:1 bfff…:0 ffff…:2`. The first arc
//! begins at 0, the last one ends at the last position. Sort 0 is what is not meant.
//!
//! # Caveats
//!
//! A ring of 1,000 nodes has a quarter of a million arcs: [`ARCS_MAX`] are taken, 600 KiB as text.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::told::ArcsName;

/// The most arcs that a node is told of at once.
pub const ARCS_MAX: usize = 1 << 15;

/// Leading bits of a position by which the first arc to look at is found.
const SLICE_BITS: u32 = 10;

/// Hex digits of a position.
const DIGITS: usize = 16;

/// Arcs that cover the ring, neighbours of different sorts. Many calls name the same ones, so a clone is the same
/// piece of memory, and its text is made once.
#[derive(Clone)]
pub struct Arcs(Arc<Inner>);

struct Inner {
    /// The last position of each, ascending, with its sort.
    arcs: Vec<(u64, u16)>,
    /// Of each equal slice of the ring the arc in which it begins.
    first: Vec<u32>,
    text: OnceLock<String>,
    name: OnceLock<ArcsName>,
}

impl PartialEq for Arcs {
    fn eq(&self, other: &Self) -> bool {
        self.0.arcs == other.0.arcs
    }
}

impl Eq for Arcs {}

/// Why a text does not tell arcs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no arcs: 16 hex digits, a colon and a sort below 65536 of each, ascending to ffffffffffffffff"
)]
pub struct BadArcs;

impl Arcs {
    /// Arcs by their last positions, which ascend; what is behind the last is of the last one's sort, and without
    /// any, all is of sort 0. Neighbours of one sort become one.
    #[must_use]
    pub fn new(ends: impl IntoIterator<Item = (u64, u16)>) -> Self {
        let mut arcs: Vec<(u64, u16)> = Vec::new();
        for (end, sort) in ends {
            match arcs.last_mut() {
                Some(last) if last.1 == sort => last.0 = end,
                _ => arcs.push((end, sort)),
            }
        }
        match arcs.last_mut() {
            Some(last) => last.0 = u64::MAX,
            None => arcs.push((u64::MAX, 0)),
        }
        let mut at = 0;
        let first = (0..1 << SLICE_BITS).map(|slice: u64| {
            let start = slice << (u64::BITS - SLICE_BITS);
            while arcs[at].0 < start {
                at += 1;
            }
            at as u32
        });
        let first = first.collect();
        Self(Arc::new(Inner { arcs, first, text: OnceLock::new(), name: OnceLock::new() }))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.arcs.len()
    }

    /// The sort of a position.
    #[must_use]
    pub fn sort_of(&self, position: u64) -> u16 {
        let Inner { arcs, first, .. } = &*self.0;
        let mut at = first[(position >> (u64::BITS - SLICE_BITS)) as usize] as usize;
        while arcs[at].0 < position {
            at += 1;
        }
        arcs[at].1
    }

    /// The greatest sort.
    #[must_use]
    pub fn sorts(&self) -> u16 {
        self.0.arcs.iter().map(|(_, sort)| *sort).max().unwrap_or(0)
    }

    /// The same with other sorts.
    #[must_use]
    pub fn sorted(&self, sort: impl Fn(u16) -> u16) -> Self {
        Self::new(self.0.arcs.iter().map(|(end, old)| (*end, sort(*old))))
    }
}

impl Arcs {
    /// Their name, by which a node may know them.
    #[must_use]
    pub fn name(&self) -> ArcsName {
        *self.0.name.get_or_init(|| ArcsName::of(self))
    }

    /// As they are written.
    pub(crate) fn text(&self) -> &str {
        self.0.text.get_or_init(|| {
            let mut text = String::with_capacity(self.count() * (DIGITS + 4));
            for (number, (end, sort)) in self.0.arcs.iter().enumerate() {
                let space = if number == 0 { "" } else { " " };
                write!(text, "{space}{end:016x}:{sort}").expect("a string takes all");
            }
            text
        })
    }
}

impl fmt::Debug for Arcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arcs({self})")
    }
}

impl fmt::Display for Arcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Arcs {
    type Err = BadArcs;

    /// Canonical only.
    fn from_str(text: &str) -> Result<Self, BadArcs> {
        let mut ends: Vec<(u64, u16)> =
            Vec::with_capacity((text.len() / (DIGITS + 3)).min(ARCS_MAX));
        for arc in text.split(' ') {
            let (end, sort) = arc.split_at_checked(DIGITS).ok_or(BadArcs)?;
            let end = position(end).ok_or(BadArcs)?;
            let sort = sort.strip_prefix(':').ok_or(BadArcs)?;
            let ascends = ends.last().is_none_or(|(before, _)| *before < end);
            if !ascends || ends.len() == ARCS_MAX {
                return Err(BadArcs);
            }
            ends.push((end, sort.parse().map_err(|_| BadArcs)?));
        }
        let ends_well = ends.last().is_some_and(|(end, _)| *end == u64::MAX);
        if ends_well { Ok(Self::new(ends)) } else { Err(BadArcs) }
    }
}

/// A number in hex, of digits only.
fn position(hex: &str) -> Option<u64> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    hex.bytes().try_fold(0, |so_far, byte| Some(so_far << 4 | u64::from(digit(byte)?)))
}

impl Serialize for Arcs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Arcs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_covers_the_ring_or_is_refused() {
        let good = "00000000000000ff:1 7fffffffffffffff:0 ffffffffffffffff:2";
        let arcs: Arcs = good.parse().unwrap();
        assert_eq!((arcs.to_string(), arcs.count(), arcs.sorts()), (good.into(), 3, 2));
        let sorts = [0, 0xff, 0x100, 1 << 63, u64::MAX].map(|position| arcs.sort_of(position));
        assert_eq!(sorts, [1, 1, 0, 2, 2]);
        let only = arcs.sorted(|sort| u16::from(sort == 2));
        assert_eq!(only.to_string(), "7fffffffffffffff:0 ffffffffffffffff:1");
        for bad in [
            "",
            "ffffffffffffffff",
            "ffffffffffffffff:",
            "ffffffffffffffff:65536",
            "00000000000000ff:1",
            "ff:1 ffffffffffffffff:1",
            "00000000000000ff:1 00000000000000ff:2 ffffffffffffffff:0",
            "00000000000000ff:1  ffffffffffffffff:0",
        ] {
            assert_eq!(bad.parse::<Arcs>(), Err(BadArcs), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_position_has_the_sort_of_its_arc(
            ends in proptest::collection::btree_map(any::<u64>(), 0u16..4, 0..60),
            positions in proptest::collection::vec(any::<u64>(), 50),
        ) {
            let arcs = Arcs::new(ends.iter().map(|(end, sort)| (*end, *sort)));
            let last = ends.values().next_back().copied().unwrap_or(0);
            for position in positions.into_iter().chain(ends.keys().copied()) {
                let expected = ends.range(position..).next().map_or(last, |(_, sort)| *sort);
                prop_assert_eq!(arcs.sort_of(position), expected);
            }
            prop_assert_eq!(arcs.to_string().parse::<Arcs>(), Ok(arcs));
        }
    }
}
