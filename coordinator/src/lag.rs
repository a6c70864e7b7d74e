//! Replication lag: how long after the acknowledgement the last owner had a write.
//!
//! # Caveats
//!
//! Only writes that all owners took are measured, the last 1,024 of them; what is owed to nodes that
//! are away is counted as hints.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// How many writes are remembered.
const KEPT: usize = 1024;

/// The lags of the last writes.
#[derive(Default)]
pub(crate) struct Lag(Mutex<VecDeque<Duration>>);

impl Lag {
    /// A write was everywhere so long after it was acknowledged.
    pub(crate) fn note(&self, behind: Duration) {
        let mut kept = self.0.lock().expect("no panic while the lock is held");
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(behind);
    }

    /// The 99th percentile and the longest; `None` before the first.
    pub(crate) fn figures(&self) -> Option<(Duration, Duration)> {
        let kept = self.0.lock().expect("no panic while the lock is held");
        let mut lags: Vec<Duration> = kept.iter().copied().collect();
        lags.sort_unstable();
        let at = lags.len().saturating_sub(1) * 99 / 100;
        Some((*lags.get(at)?, *lags.last()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_last_ones() {
        let lag = Lag::default();
        assert_eq!(lag.figures(), None);
        (0..2000).for_each(|ms| lag.note(Duration::from_millis(ms)));
        assert_eq!(lag.figures(), Some((Duration::from_millis(1988), Duration::from_millis(1999))));
    }
}
