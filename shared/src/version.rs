//! The version of one write: which coordinator term made it, and its number in that term.
//!
//! A coordinator raises its durable epoch each time it starts and numbers the writes it routes
//! from 1, so `(epoch, counter)` grows for ever without a clock. Written `epoch.counter`, for
//! example `3.42`. Epochs with the highest bit set are kept for nodes that number writes of their own,
//! each in an epoch made from its identity: `x9f00c001.7`.
//!
//! All coordinators together are one [`Line`], each such node is one. Within a line a later version is
//! a later write; between lines the order of versions means nothing.
//!
//! # Caveats
//!
//! One coordinator at a time is assumed: two of them in one epoch could give one number to two
//! writes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::travels_as_text;

/// The version of a write.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// The coordinator's start number, or what stands for a node that numbers its own writes.
    pub epoch: u32,
    /// The number of the write in its epoch, from 1. Monotonic.
    pub counter: u64,
}

impl Version {
    /// A version from its two numbers.
    #[must_use]
    pub const fn new(epoch: u32, counter: u64) -> Self {
        Self { epoch, counter }
    }

    /// The next version of the same epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.epoch, self.counter.saturating_add(1))
    }

    /// The greatest version of the same line that is less, if there can be one.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        match (self.counter.checked_sub(1), self.line()) {
            (Some(counter), _) => Some(Self::new(self.epoch, counter)),
            (None, Line::Coordinators) => Some(Self::new(self.epoch.checked_sub(1)?, u64::MAX)),
            (None, Line::Node(_)) => None,
        }
    }

    /// Who numbered it.
    #[must_use]
    pub const fn line(self) -> Line {
        if self.epoch & NODE_EPOCH == 0 { Line::Coordinators } else { Line::Node(self.epoch) }
    }
}

/// The bit of an epoch that says that a node gives the numbers; the others are made from its identity.
pub const NODE_EPOCH: u32 = 1 << 31;

/// Who gives numbers one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// The coordinators: each start of one goes on where the last stopped.
    Coordinators,
    /// A node, by its epoch.
    Node(u32),
}

/// Why a text is no version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no version: write epoch.counter, for example 3.42")]
pub struct BadVersion(String);

impl FromStr for Version {
    type Err = BadVersion;

    /// Canonical decimal only (no sign, no leading zero), so a text stands for one version and
    /// a version for one text.
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.to_owned());
        let (epoch, counter) = text.split_once('.').ok_or_else(bad)?;
        let epoch = match epoch.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => epoch.parse(),
        };
        let version = Self::new(epoch.map_err(|_| bad())?, counter.parse().map_err(|_| bad())?);
        if version.to_string() == text { Ok(version) } else { Err(bad()) }
    }
}

travels_as_text!(Version);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line() {
            Line::Coordinators => write!(f, "{}.{}", self.epoch, self.counter),
            Line::Node(epoch) => write!(f, "x{epoch:08x}.{}", self.counter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_term_beats_any_counter() {
        assert!(Version::new(2, 1) > Version::new(1, 999));
        assert!(Version::new(2, 2) > Version::new(2, 1));
    }

    #[test]
    fn text_is_canonical() {
        assert_eq!("3.42".parse(), Ok(Version::new(3, 42)));
        assert_eq!("x9f00c001.7".parse(), Ok(Version::new(0x9f00_c001, 7)));
        for bad in ["", "3", "03.1", "3.+1", "3.1.1", "-1.2", "3. 1", "x00000003.1", "2147483648.1"]
        {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }
}
