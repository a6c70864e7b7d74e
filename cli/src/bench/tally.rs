//! What is counted while requests are sent and answered.
//!
//! # Caveats
//!
//! Latencies are kept in steps of 0.1 µs with three digits, up to a minute; a longer one counts as a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::book::Verdict;

/// A latency is kept in units of so many nanoseconds.
const UNIT_NS: u64 = 100;
const LATENCY_UNITS_MAX: u64 = 600_000_000;

/// Counts of one phase.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Puts that were acknowledged.
    pub(super) puts: u64,
    /// Gets that were answered.
    pub(super) gets: u64,
    /// Of them, how many found nothing.
    pub(super) missing: u64,
    /// Gets of a value that no put of that key has.
    pub(super) wrong: u64,
    /// Gets of a value that had been replaced before they were sent.
    pub(super) stale: u64,
    /// Gets that found nothing though a put had been acknowledged.
    pub(super) lost: u64,
    /// What did not work, by its stable name.
    pub(super) errors: BTreeMap<String, u64>,
    /// From the beginning of the phase to its first and its last error.
    pub(super) errors_between: Option<(Duration, Duration)>,
    /// The longest time in which nothing was answered well, and when it began.
    pub(super) silence: (Duration, Duration),
    /// How long it lasted.
    pub(super) lasted: Duration,
    /// Up to a few keys that were read wrongly, in words.
    pub(super) named: Vec<String>,
    /// Answers within the measured part.
    in_time: u64,
    latencies: Histogram<u64>,
    last_good: Duration,
}

/// How many keys that were read wrongly are named.
const NAMED_MAX: usize = 5;

impl Default for Tally {
    fn default() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_UNITS_MAX, 3);
        Self {
            puts: 0,
            gets: 0,
            missing: 0,
            wrong: 0,
            stale: 0,
            lost: 0,
            errors: BTreeMap::new(),
            errors_between: None,
            silence: (Duration::ZERO, Duration::ZERO),
            lasted: Duration::ZERO,
            named: Vec::new(),
            in_time: 0,
            latencies: latencies.expect("valid bounds"),
            last_good: Duration::ZERO,
        }
    }
}

impl Tally {
    /// So many requests took so long, in nanoseconds.
    pub(super) fn took(&mut self, ns: u64, count: u64) {
        let units = (ns / UNIT_NS).clamp(1, LATENCY_UNITS_MAX);
        self.latencies.saturating_record_n(units, count);
    }

    /// A get is answered.
    pub(super) fn got(&mut self, key: u32, found: bool, verdict: Verdict) {
        self.gets += 1;
        self.missing += u64::from(!found);
        let what = match verdict {
            Verdict::Right => return,
            Verdict::Wrong => {
                self.wrong += 1;
                "a value that was never put under this key"
            }
            Verdict::Stale => {
                self.stale += 1;
                "a value that had been replaced"
            }
            Verdict::Lost => {
                self.lost += 1;
                "nothing, though a put was acknowledged"
            }
        };
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("key:{key:012}: {what}"));
        }
    }

    /// So many answers came that count for the rate.
    pub(super) fn good(&mut self, at: Duration, count: u64) {
        self.in_time += count;
        let silence = at.saturating_sub(self.last_good);
        if silence > self.silence.0 {
            self.silence = (silence, self.last_good);
        }
        self.last_good = self.last_good.max(at);
    }

    /// Requests did not work.
    pub(super) fn failed(&mut self, name: &str, count: u64, at: Duration) {
        if count == 0 {
            return;
        }
        match self.errors.get_mut(name) {
            Some(so_far) => *so_far += count,
            None => {
                self.errors.insert(name.to_owned(), count);
            }
        }
        let first = self.errors_between.map_or(at, |(first, _)| first);
        self.errors_between = Some((first, at));
    }

    /// The phase ended after so long.
    pub(super) fn end(&mut self, lasted: Duration) {
        self.good(lasted, 0);
        self.lasted = lasted;
    }

    /// Requests that were answered well.
    #[must_use]
    pub(super) const fn ops(&self) -> u64 {
        self.puts + self.gets
    }

    /// Requests that did not work.
    #[must_use]
    pub(super) fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The same by name: `none`, or `UNREACHABLE 3, TIMEOUT 1`.
    #[must_use]
    pub(super) fn errors_in_words(&self) -> String {
        if self.errors.is_empty() {
            return "none".to_owned();
        }
        let error = |(name, count): (&String, &u64)| format!("{name} {count}");
        self.errors.iter().map(error).collect::<Vec<_>>().join(", ")
    }

    /// Requests a second that were answered well.
    #[must_use]
    pub(super) fn ops_per_second(&self) -> f64 {
        self.in_time as f64 / self.lasted.as_secs_f64().max(1e-9)
    }

    /// The latency that so many of a hundred did not exceed, in milliseconds.
    #[must_use]
    pub(super) fn percentile_ms(&self, percentile: f64) -> f64 {
        self.ms(self.latencies.value_at_percentile(percentile) as f64)
    }

    /// The longest one.
    #[must_use]
    pub(super) fn max_ms(&self) -> f64 {
        self.ms(self.latencies.max() as f64)
    }

    /// The mean.
    #[must_use]
    pub(super) fn mean_ms(&self) -> f64 {
        self.ms(self.latencies.mean())
    }

    fn ms(&self, units: f64) -> f64 {
        units * UNIT_NS as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_percentiles() {
        let mut tally = Tally::default();
        tally.took(1_000_000, 99);
        tally.took(50_000_000, 1);
        assert!((tally.percentile_ms(50.0) - 1.0).abs() < 0.01);
        assert!((tally.percentile_ms(99.9) - 50.0).abs() < 0.1);
        tally.took(u64::MAX, 1);
        assert!((tally.max_ms() - 60_000.0).abs() < 60.0);
    }

    #[test]
    fn the_longest_silence_and_the_time_of_errors_are_kept() {
        let mut tally = Tally::default();
        let at = Duration::from_millis;
        tally.good(at(100), 1);
        tally.failed("UNREACHABLE", 2, at(200));
        tally.failed("UNREACHABLE", 1, at(400));
        tally.good(at(700), 1);
        tally.good(at(800), 1);
        tally.end(at(1000));
        assert_eq!(tally.silence, (at(600), at(100)));
        assert_eq!(tally.errors_between, Some((at(200), at(400))));
        assert_eq!(tally.failures(), 3);
    }
}
