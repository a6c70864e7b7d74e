//! The version of one write: which coordinator term made it, and its number in that term.
//!
//! A coordinator raises its durable epoch each time it starts and numbers the writes it routes
//! from 1, so `(epoch, counter)` grows for ever without a clock: a later write always wins, a
//! copy that arrives late never does. Written `epoch.counter`, for example `3.42`.
//!
//! # Caveats
//!
//! One coordinator at a time is assumed: two of them in one epoch could give one number to two
//! writes. Siblings and causal contexts are built on this as dots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The totally ordered version of a write.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// The coordinator's start number; 0 for a write sent straight to a node. Monotonic.
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
        Self::new(self.epoch, self.counter + 1)
    }
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
        let version =
            Self::new(epoch.parse().map_err(|_| bad())?, counter.parse().map_err(|_| bad())?);
        if version.to_string() == text { Ok(version) } else { Err(bad()) }
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;

    fn try_from(text: String) -> Result<Self, BadVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
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
        for bad in ["", "3", "03.1", "3.+1", "3.1.1", "-1.2", "3. 1"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }
}
