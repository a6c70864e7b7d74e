//! A part of a run: loading, the measured part with its warm-up, reading back.
//!
//! ```text
//! ├─ warm-up ─┼──── measured ────┼─ the last answers ─┤
//! not counted   counted            latencies only
//! ```
//!
//! # Caveats
//!
//! With `--ops` the measured part ends with the last answer, so that one slow answer lowers the rate.

use std::time::Duration;

use super::book::Book;
use super::connection::Slot;
use super::dialect::Answer;
use super::meter::Meter;
use super::source::Source;
use super::tally::Tally;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// A batch when the one before it is answered.
    Closed {
        /// How many at once.
        pipeline: u32,
    },
    /// At planned moments.
    Open {
        /// How many a second.
        rate: u32,
    },
}

/// A part of a run.
pub(super) struct Phase<'a> {
    /// What to ask.
    pub(super) source: Source,
    /// When.
    pub(super) pace: Pace,
    /// How long before it is counted.
    pub(super) warm_up: Duration,
    /// How long it is counted; `None`: until all is answered.
    pub(super) lasting: Option<Duration>,
    /// How many requests once it is counted; `None`: all that the source has.
    pub(super) count: Option<u64>,
    /// What looks at CPU time at the beginning and the end.
    pub(super) meter: Option<&'a mut Meter>,
}

impl<'a> Phase<'a> {
    /// One that asks all of `source` at once and counts from the beginning.
    pub(super) const fn whole(source: Source, pipeline: u32) -> Self {
        Self {
            source,
            pace: Pace::Closed { pipeline },
            warm_up: Duration::ZERO,
            lasting: None,
            count: None,
            meter: None,
        }
    }
}

/// How far a phase is. Moments are nanoseconds of the loader's clock.
pub(super) struct Stage {
    started: u64,
    begun: Option<u64>,
    ends: Option<u64>,
    over: bool,
    looked: u64,
    warm_up: u64,
    tally: Tally,
}

impl Stage {
    /// The phase starts now.
    pub(super) fn begin(phase: &Phase<'_>, now: u64) -> Self {
        let warm_up = phase.warm_up.as_nanos() as u64;
        let (ends, over) = (None, false);
        Self {
            started: now,
            begun: None,
            ends,
            over,
            looked: now,
            warm_up,
            tally: Tally::default(),
        }
    }

    /// When it started.
    pub(super) const fn started(&self) -> u64 {
        self.started
    }

    /// Goes on to the measured part, and beyond it, when it is time. `clock` tells the time again after
    /// the meter has looked.
    pub(super) fn advance(
        &mut self,
        phase: &mut Phase<'_>,
        now: u64,
        clock: impl Fn() -> Duration,
    ) {
        if self.begun.is_none() && now >= self.started + self.warm_up {
            if let Some(meter) = &mut phase.meter {
                meter.begin();
            }
            let begun = clock().as_nanos() as u64;
            self.begun = Some(begun);
            self.ends = phase.lasting.map(|lasting| begun + lasting.as_nanos() as u64);
            if let Some(count) = phase.count {
                phase.source.limit(count);
            }
        }
        if !self.over && self.ends.is_some_and(|ends| now >= ends) {
            self.over = true;
            phase.source.end();
            if let Some(meter) = &mut phase.meter {
                meter.end();
            }
        }
    }

    /// How long until [`Self::advance`] has something to do.
    pub(super) fn time_left(&self, now: u64) -> Duration {
        let at = match (self.begun, self.ends) {
            (None, _) => self.started + self.warm_up,
            (Some(_), Some(ends)) if !self.over => ends,
            _ => return Duration::MAX,
        };
        Duration::from_nanos(at.saturating_sub(now))
    }

    /// Whether deadlines were not looked at for so long.
    pub(super) fn is_time_to_look(&mut self, now: u64, every: Duration) -> bool {
        let is_time = now >= self.looked + every.as_nanos() as u64;
        if is_time {
            self.looked = now;
        }
        is_time
    }

    /// The time since the measured part began, if what was sent at `since` counts.
    fn counted(&self, since: u64, now: u64) -> Option<Duration> {
        let begun = self.begun.filter(|begun| since >= *begun)?;
        Some(Duration::from_nanos(now.saturating_sub(begun)))
    }

    /// Requests that were sent at `since` did not work.
    pub(super) fn failed(&mut self, name: &str, count: u64, since: u64, now: u64) {
        if let Some(at) = self.counted(since, now) {
            self.tally.failed(name, count, at);
        }
    }

    /// Answers that were read at once.
    pub(super) fn burst(&mut self, now: u64) -> Burst<'_> {
        Burst { stage: self, now, since: 0, alike: 0, good: 0 }
    }

    /// All is answered.
    pub(super) fn end(mut self, phase: &mut Phase<'_>, now: u64) -> Tally {
        if let (false, Some(meter)) = (self.over, &mut phase.meter) {
            meter.end();
        }
        let begun = self.begun.unwrap_or(now);
        let end = self.ends.filter(|_| self.over).unwrap_or(now);
        self.tally.end(Duration::from_nanos(end.saturating_sub(begun)));
        self.tally
    }
}

/// Answers that were read at once, so at one moment.
pub(super) struct Burst<'a> {
    stage: &'a mut Stage,
    now: u64,
    /// Of the last answers: when they were asked for, and how many they are.
    since: u64,
    alike: u64,
    good: u64,
}

impl Burst<'_> {
    /// Counts an answer, and notes it in the book.
    pub(super) fn take(&mut self, slot: Slot, answer: Answer<'_>, book: &mut Book) {
        let Slot { key, least, since, read, .. } = slot;
        let counted = self.stage.counted(since, self.now);
        let tally = &mut self.stage.tally;
        match (read, answer) {
            (false, Answer::Stored) => {
                book.acknowledge(key, least);
                tally.puts += u64::from(counted.is_some());
            }
            (true, Answer::Value(value)) if counted.is_some() => {
                tally.got(key, true, book.judge(key, least, Some(value)));
            }
            (true, Answer::Several(values)) if counted.is_some() => {
                tally.got(key, true, book.judge_several(key, least, &values));
            }
            (true, Answer::Missing) if counted.is_some() => {
                tally.got(key, false, book.judge(key, least, None));
            }
            (true, Answer::Value(_) | Answer::Several(_) | Answer::Missing) => {}
            (read, Answer::Refused { name, harmless }) => {
                if !read && harmless {
                    book.refuse(key);
                }
                self.stage.failed(&name, 1, since, self.now);
                return;
            }
            // A get that was answered as a put, or the other way round.
            _ => return self.stage.failed("PROTOCOL", 1, since, self.now),
        }
        if counted.is_none() {
            return;
        }
        self.good += 1;
        if since != self.since {
            self.note();
            self.since = since;
        }
        self.alike += 1;
    }

    fn note(&mut self) {
        if self.alike > 0 {
            self.stage.tally.took(self.now.saturating_sub(self.since), self.alike);
        }
        self.alike = 0;
    }

    /// That were all.
    pub(super) fn end(mut self) {
        self.note();
        let Some(begun) = self.stage.begun.filter(|_| self.good > 0) else { return };
        let at = Duration::from_nanos(self.now.saturating_sub(begun));
        let in_time = self.stage.ends.is_none_or(|ends| self.now <= ends);
        self.stage.tally.good(at, if in_time { self.good } else { 0 });
    }
}
