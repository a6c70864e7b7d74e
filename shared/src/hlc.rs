//! Time for those who want the last write to win: close to the clock on the wall, never backwards.
//!
//! A hybrid logical clock (Kulkarni and others, 2014) gives each event a [`Stamp`]: the milliseconds
//! of the machine's clock, and a counter for events in the same millisecond, or while the machine's
//! clock stands behind what was heard from others. A stamp is later than all that its giver had given
//! or heard of before, however wrong the clocks are. Written `1763721600123.4`.
//!
//! # Caveats
//!
//! Of two writes that knew nothing of each other the one with the faster clock wins, and the other
//! is gone, acknowledged or not. A clock that is far ahead is followed only [`AHEAD_MS_MAX`] far.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::travels_as_text;

/// How far ahead of the own clock a stamp from outside is believed, in milliseconds.
pub const AHEAD_MS_MAX: u64 = 60_000;

/// When something happened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Stamp {
    /// Unix milliseconds.
    pub ms: u64,
    /// Events within what counts as that millisecond, from 0.
    pub count: u32,
}

/// Gives stamps. Knows no clock: each call is told the time, in unix milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Hlc {
    /// The latest stamp given or heard of. Monotonic.
    latest: Stamp,
}

/// A stamp from outside is further ahead than any clock should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stamp {stamp} is {ahead_ms} ms ahead of this machine's clock; at most 60000 are believed")]
pub struct TooFarAhead {
    /// The stamp.
    pub stamp: Stamp,
    /// How far.
    pub ahead_ms: u64,
}

impl Hlc {
    /// A clock that goes on after a stamp.
    #[must_use]
    pub const fn after(latest: Stamp) -> Self {
        Self { latest }
    }

    /// The stamp of an event of one's own.
    pub fn tick(&mut self, now_ms: u64) -> Stamp {
        self.latest = match self.latest {
            Stamp { ms, .. } if now_ms > ms => Stamp { ms: now_ms, count: 0 },
            Stamp { ms, count: u32::MAX } => Stamp { ms: ms + 1, count: 0 },
            Stamp { ms, count } => Stamp { ms, count: count + 1 },
        };
        self.latest
    }

    /// Takes note of a stamp that came from outside: the next own one is later.
    ///
    /// # Errors
    ///
    /// It is too far ahead; it was not taken note of.
    pub fn hear(&mut self, stamp: Stamp, now_ms: u64) -> Result<(), TooFarAhead> {
        let ahead_ms = stamp.ms.saturating_sub(now_ms);
        if stamp > self.latest && ahead_ms > AHEAD_MS_MAX {
            return Err(TooFarAhead { stamp, ahead_ms });
        }
        self.latest = self.latest.max(stamp);
        Ok(())
    }
}

/// Why a text is no stamp.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no stamp: write milliseconds.count, for example 1763721600123.4")]
pub struct BadStamp(String);

impl FromStr for Stamp {
    type Err = BadStamp;

    fn from_str(text: &str) -> Result<Self, BadStamp> {
        let bad = || BadStamp(text.to_owned());
        let (ms, count) = text.split_once('.').ok_or_else(bad)?;
        let stamp =
            Self { ms: ms.parse().map_err(|_| bad())?, count: count.parse().map_err(|_| bad())? };
        if stamp.to_string() == text { Ok(stamp) } else { Err(bad()) }
    }
}

travels_as_text!(Stamp);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_follows_the_wall_and_never_goes_back() {
        let mut clock = Hlc::default();
        let given: Vec<String> =
            [5, 5, 3, 9, 1].into_iter().map(|now| clock.tick(now).to_string()).collect();
        assert_eq!(given, ["5.0", "5.1", "5.2", "9.0", "9.1"]);
        clock.hear("12.7".parse().unwrap(), 9).unwrap();
        assert_eq!(clock.tick(10).to_string(), "12.8");
        let far = Stamp { ms: 10 + AHEAD_MS_MAX + 1, count: 0 };
        assert_eq!(
            clock.hear(far, 10),
            Err(TooFarAhead { stamp: far, ahead_ms: AHEAD_MS_MAX + 1 })
        );
        assert_eq!(clock.tick(10).to_string(), "12.9");
    }

    proptest! {
        /// Two clocks that are wrong in any way and hear each other now and then.
        #[test]
        fn what_was_heard_of_is_earlier(steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0..1000_u64), 1..60)) {
            let mut clocks = [Hlc::default(), Hlc::default()];
            let mut last = [Stamp::default(); 2];
            for (which, hears, now) in steps {
                let (mine, other) = (usize::from(which), usize::from(!which));
                if hears {
                    clocks[mine].hear(last[other], now).unwrap();
                }
                let stamp = clocks[mine].tick(now);
                prop_assert!(stamp > last[mine] && stamp.ms >= now);
                prop_assert!(!hears || stamp > last[other]);
                last[mine] = stamp;
            }
        }
    }
}
