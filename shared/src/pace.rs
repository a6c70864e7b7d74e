//! How fast a rebalance may copy: a limit that people set, and room for the requests of others.
//!
//! The limit is bytes a second over all links. Each batch takes its bytes' time in a queue: who comes when the
//! time of earlier batches is not over waits for that. A batch has at most what a quarter of a second allows, so
//! that it is even.
//!
//! Room: while requests are slower than they should be, its speed halves with every look at them; while they are
//! not, it gains a sixteenth of the full speed. At half speed it rests after a batch as long as the batch
//! took, batches are half as large, and half as many are under way. It never stops: a batch has at least [`KEYS_LEAST`] keys, and no rest is
//! longer than [`REST_MAX`].
//!
//! # Caveats
//!
//! It sees that requests are slow, not why. The first batch goes at once, whatever its size.

use std::time::Duration;

/// Keys in a batch when there is nobody to yield to.
pub const KEYS_MOST: usize = 500;
/// Batches of a link that are under way at once when there is nobody to yield to: one is read, one travels, one is
/// synced, one is ready.
pub const BATCHES_MOST: usize = 4;
/// Keys in a batch, at least.
pub const KEYS_LEAST: usize = 50;
/// The longest rest after a batch for the sake of others.
pub const REST_MAX: Duration = Duration::from_millis(500);
/// How often it looks at the requests of others.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Parts of the full speed.
const FULL: u32 = 64;
const LEAST: u32 = 2;
const GAIN: u32 = 4;

/// What is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second; `None`: no limit.
    pub rate: Option<u64>,
    /// Requests of others are slow above this; `None`: nobody is yielded to.
    pub slow: Option<Duration>,
}

/// The pace. Time is since any moment, and never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// When the time is over that the bytes of earlier batches take.
    free: Duration,
    /// The limit that this was reckoned with.
    rate: Option<u64>,
    /// When it looked last.
    looked: Option<Duration>,
    /// Of [`FULL`].
    speed: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { free: Duration::ZERO, rate: None, looked: None, speed: FULL }
    }
}

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Keys.
    pub keys: usize,
    /// Batches of a link under way, this one too; at least 1.
    pub batches: usize,
    /// Bytes; one key is allowed, whatever its size.
    pub bytes: u64,
}

impl Pace {
    /// How slow one request in a hundred was lately, if there were any; says whether it is time to look, first.
    pub fn look(&mut self, now: Duration, limits: &Limits, p99: impl FnOnce() -> Option<Duration>) {
        if self.looked.is_some_and(|looked| now < looked + LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        let slow = limits.slow.is_some_and(|slow| p99().is_some_and(|p99| p99 > slow));
        self.speed = match slow {
            true => (self.speed / 2).max(LEAST),
            false => (self.speed + GAIN).min(FULL),
        };
    }

    /// How large the next batch may be.
    #[must_use]
    pub fn room(&self, limits: &Limits) -> Room {
        let part = |most: usize| most * self.speed as usize / FULL as usize;
        let bytes = limits.rate.map_or(u64::MAX, |rate| (rate / 4).max(1));
        Room { keys: part(KEYS_MOST).max(KEYS_LEAST), batches: part(BATCHES_MOST).max(1), bytes }
    }

    /// A batch of so many bytes is to go: how long it has to wait for the limit.
    pub fn take(&mut self, now: Duration, limits: &Limits, bytes: u64) -> Duration {
        if std::mem::replace(&mut self.rate, limits.rate) != limits.rate {
            self.free = now;
        }
        let start = self.free.max(now);
        let Some(rate) = limits.rate.filter(|rate| *rate > 0) else {
            self.free = now;
            return Duration::ZERO;
        };
        let took = u128::from(bytes) * 1_000_000 / u128::from(rate);
        self.free = start + Duration::from_micros(u64::try_from(took).unwrap_or(u64::MAX));
        start - now
    }

    /// How long to rest after a batch that took so long, for the sake of others.
    #[must_use]
    pub fn rest(&self, took: Duration) -> Duration {
        (took * (FULL - self.speed) / self.speed).min(REST_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Copies `bytes` of keys of `key` bytes, each batch taking `took`; how long that takes.
    fn copied(limits: Limits, key: u64, mut bytes: u64, took: Duration) -> Duration {
        let (mut pace, mut now) = (Pace::default(), Duration::ZERO);
        while bytes > 0 {
            let room = pace.room(&limits);
            let keys = (room.bytes / key).clamp(1, room.keys as u64);
            let batch = (keys * key).min(bytes);
            now += pace.take(now, &limits, batch) + took;
            now += pace.rest(took);
            bytes -= batch;
        }
        now
    }

    #[test]
    fn the_limit_is_kept_whatever_the_keys_and_however_fast_the_disks() {
        for rate in [1000, 64_000, 10_000_000] {
            for key in [60, 1000, 900_000] {
                for took in [ms(0), ms(1), ms(20)] {
                    let limits = Limits { rate: Some(rate), slow: None };
                    let all = rate * 20;
                    let took = copied(limits, key, all, took);
                    // The last batch takes no time of its own, and has no more than a quarter of a second, or
                    // one key.
                    let last = Duration::from_secs_f64((key.max(rate / 4)) as f64 / rate as f64);
                    assert!(took + last >= ms(20_000), "{rate} {key}: {took:?}");
                }
            }
        }
        let free = copied(Limits::default(), 1000, 10_000_000, ms(1));
        assert_eq!(free, ms(20), "20 batches, and no rest");
    }

    #[test]
    fn it_yields_fast_comes_back_slowly_and_never_stops() {
        let limits = Limits { rate: None, slow: Some(ms(50)) };
        let (mut pace, mut now) = (Pace::default(), Duration::ZERO);
        let mut look = |p99: Option<u64>, times: usize| {
            for _ in 0..times {
                now += LOOK_EVERY;
                pace.look(now, &limits, || p99.map(ms));
            }
            let room = pace.room(&limits);
            (room.keys, room.batches, pace.rest(ms(10)).as_millis())
        };
        let table = [
            (None, 1, (500, 4, 0)),
            (Some(50), 1, (500, 4, 0)),
            (Some(51), 1, (250, 2, 10)),
            (Some(51), 1, (125, 1, 30)),
            (Some(51), 50, (KEYS_LEAST, 1, 310)),
            (Some(10), 1, (KEYS_LEAST, 1, 96)),
            (None, 7, (265, 2, 8)),
            (None, 20, (500, 4, 0)),
        ];
        for (turn, (p99, times, expected)) in table.into_iter().enumerate() {
            assert_eq!(look(p99, times), expected, "turn {turn}");
        }
        look(Some(1000), 50);
        assert_eq!(pace.rest(Duration::from_secs(60)), REST_MAX);
    }

    #[test]
    fn another_limit_holds_at_once() {
        let mut pace = Pace::default();
        let limit = |rate| Limits { rate, slow: None };
        assert_eq!(pace.take(ms(0), &limit(Some(1000)), 60_000), ms(0));
        assert_eq!(pace.take(ms(0), &limit(Some(1000)), 1000), ms(60_000));
        assert_eq!(pace.take(ms(1), &limit(Some(2000)), 1000), ms(0));
        assert_eq!(pace.take(ms(1), &limit(Some(2000)), 1000), ms(500));
        assert_eq!(pace.take(ms(2), &limit(None), 1000), ms(0));
    }

    #[test]
    fn it_looks_now_and_then_only() {
        let limits = Limits { rate: None, slow: Some(ms(50)) };
        let mut pace = Pace::default();
        pace.look(ms(0), &limits, || Some(ms(60)));
        let slowed = pace;
        pace.look(ms(249), &limits, || panic!("too early"));
        assert_eq!(pace, slowed);
        pace.look(ms(250), &Limits::default(), || panic!("nobody is yielded to"));
        assert_ne!(pace, slowed);
    }
}
