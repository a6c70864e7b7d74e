//! How long requests took lately, so that a rebalance can make room for them.
//!
//! # Caveats
//!
//! At most the last 1,024 requests count, and only those that were answered within the last second.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// How many requests are remembered.
const KEPT: usize = 1024;
/// For how long.
const WINDOW: Duration = Duration::from_secs(1);

/// The last requests: when they were answered, and how long they took.
#[derive(Default)]
pub(crate) struct Latency(Mutex<VecDeque<(Instant, Duration)>>);

/// A request under way.
pub(crate) struct Timed<'a> {
    latency: &'a Latency,
    started: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.latency.note(now, now - self.started);
    }
}

impl Latency {
    /// A request begins; it ends when the guard is dropped.
    pub(crate) fn of_request(&self) -> Timed<'_> {
        Timed { latency: self, started: Instant::now() }
    }

    /// A request was answered.
    pub(crate) fn note(&self, now: Instant, took: Duration) {
        let mut kept = self.0.lock().expect("no panic while the lock is held");
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((now, took));
    }

    /// The 99th percentile; `None` when there were no requests.
    pub(crate) fn p99(&self, now: Instant) -> Option<Duration> {
        let mut kept = self.0.lock().expect("no panic while the lock is held");
        kept.retain(|(at, _)| *at + WINDOW >= now);
        let mut took: Vec<Duration> = kept.iter().map(|(_, took)| *took).collect();
        drop(kept);
        took.sort_unstable();
        took.get(took.len().saturating_sub(1) * 99 / 100).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_last_second() {
        let (latency, start) = (Latency::default(), Instant::now());
        assert_eq!(latency.p99(start), None);
        let ms = Duration::from_millis;
        (0..200).for_each(|i| latency.note(start, ms(i)));
        assert_eq!(latency.p99(start), Some(ms(197)));
        latency.note(start + ms(900), ms(5));
        assert_eq!(latency.p99(start + ms(1001)), Some(ms(5)));
        assert_eq!(latency.p99(start + ms(2000)), None);
    }
}
