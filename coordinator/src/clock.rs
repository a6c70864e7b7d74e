//! The time of day, for expiries and for people. Nothing that decides who wins looks at it.
//!
//! # Caveats
//!
//! It may jump when the machine's clock is set.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time in unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
