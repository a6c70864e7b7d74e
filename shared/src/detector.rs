//! The failure detector of one node: heartbeats answered or missed, in; UP, SUSPECT, DOWN, out.
//!
//! ```text
//!            miss                  down_after misses
//!   UP ─────────────▶ SUSPECT ─────────────────────▶ DOWN
//!    ◀───────────────────┴────────── answer ──────────┘
//! ```
//!
//! A miss that the observer overslept is excused: see [`probes`](crate::probes).
//!
//! # Caveats
//!
//! It counts misses of one observer: a node that only this one cannot reach is DOWN. DOWN changes which
//! replica is asked first and never moves data by itself.

use crate::probes::{Probe, ProbeLog};
use crate::protocol::cluster::{Health, ProbeRow};

/// Misses in a row before a node is called DOWN. With a heartbeat each 500 ms that is 1.5 s.
pub const DOWN_AFTER_MISSES: u32 = 3;

/// A change of opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// From.
    pub from: Health,
    /// To.
    pub to: Health,
    /// Misses in a row that led to it.
    pub misses: u32,
    /// Milliseconds since the last answer (or since watching began).
    pub silent_ms: u64,
}

/// The detector's state for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detector {
    health: Health,
    /// When it came to think so, in the caller's milliseconds.
    since_ms: u64,
    /// In a row, since the last answer; excused ones left out.
    misses: u32,
    /// When watching began or the last answer came, in the caller's milliseconds.
    heard_ms: u64,
    /// Whether it ever answered.
    answered: bool,
    probes: ProbeLog,
}

impl Detector {
    /// Watches a node from `now_ms` on; it counts as up until it misses.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            health: Health::Up,
            since_ms: now_ms,
            misses: 0,
            heard_ms: now_ms,
            answered: false,
            probes: ProbeLog::default(),
        }
    }

    /// What it thinks now.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// When it came to think so, in the caller's milliseconds: when watching began, or the last change of opinion.
    #[must_use]
    pub const fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Milliseconds since the last answer; `None` before the first.
    #[must_use]
    pub fn last_seen_ms(&self, now_ms: u64) -> Option<u64> {
        self.answered.then(|| now_ms.saturating_sub(self.heard_ms))
    }

    /// The last probes, oldest first.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeRow> {
        self.probes.rows()
    }

    /// A heartbeat has ended: answered, or missed for a reason. `down_after` misses in a row that were not
    /// overslept make a node DOWN.
    pub fn probed(
        &mut self,
        probe: &Probe,
        missed: Option<String>,
        now_ms: u64,
        down_after: u32,
    ) -> Option<Transition> {
        let transition = match &missed {
            None => self.answered(now_ms),
            Some(_) if probe.overslept().is_some() => None,
            Some(_) => self.missed(now_ms, down_after),
        };
        self.probes.note(probe, missed, self.misses, self.health);
        transition
    }

    /// The node answered, a heartbeat or whatever else shows that it is there.
    pub fn answered(&mut self, now_ms: u64) -> Option<Transition> {
        let transition = self.change(Health::Up, now_ms);
        (self.misses, self.heard_ms, self.answered) = (0, now_ms, true);
        transition
    }

    fn missed(&mut self, now_ms: u64, down_after: u32) -> Option<Transition> {
        self.misses = self.misses.saturating_add(1);
        let health = if self.misses >= down_after { Health::Down } else { Health::Suspect };
        self.change(health, now_ms)
    }

    fn change(&mut self, to: Health, now_ms: u64) -> Option<Transition> {
        let from = std::mem::replace(&mut self.health, to);
        if from == to {
            return None;
        }
        self.since_ms = now_ms;
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        Some(Transition { from, to, misses: self.misses, silent_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_millis(500);

    /// Feeds a heartbeat: a answered, m missed, s missed and overslept.
    fn feed(detector: &mut Detector, beat: char, now_ms: u64) -> Option<Transition> {
        let took = if beat == 's' { DEADLINE * 5 } else { DEADLINE };
        let probe = Probe { at_ms: now_ms, late: Duration::ZERO, deadline: DEADLINE, took };
        let missed = (beat != 'a').then(|| "no answer".to_owned());
        detector.probed(&probe, missed, now_ms, DOWN_AFTER_MISSES)
    }

    /// One letter a heartbeat; what is thought after each, the misses counted after each, and which beat the last
    /// opinion is from.
    #[test]
    fn opinions() {
        #[rustfmt::skip]
        let table = [
            // beats    thought    misses     since
            ("aaa",     "UUU",     "000",     0),
            ("mmmm",    "SSDD",    "1234",    3),
            ("amam",    "USUS",    "0101",    4),
            ("mmmam",   "SSDUS",   "12301",   5),
            // Who slept convicts nobody, and forgives nobody.
            ("ssssss",  "UUUUUU",  "000000",  0),
            ("mmsm",    "SSSD",    "1223",    4),
            ("mssmssm", "SSSSSSD", "1112223", 7),
            ("mmmss",   "SSDDD",   "12333",   3),
            ("ssas",    "UUUU",    "0000",    0),
        ];
        for (beats, thought, misses, since) in table {
            let mut detector = Detector::new(0);
            for (n, beat) in (1u64..).zip(beats.chars()) {
                feed(&mut detector, beat, n * 500);
            }
            let letter = |row: &ProbeRow| match row.health {
                Health::Up => 'U',
                Health::Suspect => 'S',
                Health::Down => 'D',
            };
            assert_eq!(detector.probes().map(letter).collect::<String>(), thought, "{beats}");
            let counted: String = detector.probes().map(|row| row.misses.to_string()).collect();
            assert_eq!((counted.as_str(), detector.since_ms()), (misses, since * 500), "{beats}");
        }
    }

    #[test]
    fn a_transition_says_how_long_and_is_told_once() {
        let mut detector = Detector::new(0);
        detector.answered(100);
        feed(&mut detector, 'm', 600);
        feed(&mut detector, 'm', 1100);
        let down = feed(&mut detector, 'm', 1700).unwrap();
        assert_eq!((down.to, down.misses, down.silent_ms), (Health::Down, 3, 1600));
        assert_eq!(feed(&mut detector, 'm', 2200), None);
        assert_eq!(detector.last_seen_ms(2200), Some(2100));
    }
}
