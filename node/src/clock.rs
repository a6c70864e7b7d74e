//! What time it is, for values that expire.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A clock that the engine asks; tests have one that they move.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time in unix milliseconds.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
