//! The ring cut into arcs of several *sorts*: how a node is told which of its keys are meant.
//!
//! Written as the last position of each arc in hex and its sort, in order: `3fff…:1 bfff…:0 ffff…:2`. The first arc
//! begins at 0, the last one ends at the last position. Sort 0 is what is not meant.
//!
//! # Caveats
//!
//! A ring of 1,000 nodes has a quarter of a million arcs: [`ARCS_MAX`] are taken, 600 KiB as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most arcs that a node is told of at once.
pub const ARCS_MAX: usize = 1 << 15;

/// Leading bits of a position by which the first arc to look at is found.
const SLICE_BITS: u32 = 10;

/// Arcs that cover the ring, neighbours of different sorts.
#[derive(Clone, PartialEq, Eq)]
pub struct Arcs {
    /// The last position of each, ascending, with its sort.
    arcs: Vec<(u64, u16)>,
    /// Of each equal slice of the ring the arc in which it begins.
    first: Vec<u32>,
}

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
        let slice = |slice: u64| slice << (u64::BITS - SLICE_BITS);
        let at = |start: u64| arcs.partition_point(|(end, _)| *end < start);
        let first = (0..1 << SLICE_BITS).map(|number| at(slice(number)) as u32).collect();
        Self { arcs, first }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.arcs.len()
    }

    /// The sort of a position.
    #[must_use]
    pub fn sort_of(&self, position: u64) -> u16 {
        let mut at = self.first[(position >> (u64::BITS - SLICE_BITS)) as usize] as usize;
        while self.arcs[at].0 < position {
            at += 1;
        }
        self.arcs[at].1
    }

    /// The greatest sort.
    #[must_use]
    pub fn sorts(&self) -> u16 {
        self.arcs.iter().map(|(_, sort)| *sort).max().unwrap_or(0)
    }

    /// The same with other sorts.
    #[must_use]
    pub fn sorted(&self, sort: impl Fn(u16) -> u16) -> Self {
        Self::new(self.arcs.iter().map(|(end, old)| (*end, sort(*old))))
    }
}

impl fmt::Debug for Arcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arcs({self})")
    }
}

impl fmt::Display for Arcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (end, sort)) in self.arcs.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{end:016x}:{sort}")?;
        }
        Ok(())
    }
}

impl FromStr for Arcs {
    type Err = BadArcs;

    /// Canonical only.
    fn from_str(text: &str) -> Result<Self, BadArcs> {
        let mut ends = Vec::new();
        for arc in text.split(' ') {
            let (end, sort) = arc.split_once(':').ok_or(BadArcs)?;
            let well_formed = end.len() == 16 && end.bytes().all(|b| b.is_ascii_hexdigit());
            let end = u64::from_str_radix(end, 16).ok().filter(|_| well_formed).ok_or(BadArcs)?;
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

impl Serialize for Arcs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
