//! The last heartbeats of one node, each with what it was like and what it led to.
//!
//! # A coordinator that slept convicts nobody
//!
//! A miss counts against a node only when somebody was awake to hear the answer. A process that is stopped,
//! or gets no processor, wakes up to timers that have all run out. It can tell: it waited for longer than it
//! meant to, or began later than it was to. Such a probe is *overslept*, and when it is a miss it is *excused*:
//! written down, and not counted.
//!
//! ```text
//!   planned ──late──▶ sent ────────── deadline ──▶ ── overshoot ──▶ given up
//!           ╰─ greater than max(100 ms, deadline / 2)? ─╯ then the coordinator slept
//! ```
//!
//! # Caveats
//!
//! A coordinator that never gets its processor in time excuses every miss, and calls nobody DOWN; it tells that it
//! sleeps. On Linux the clock stands still while the whole machine is suspended: then no timer
//! runs out, and there is nothing to excuse.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::cluster::{Health, ProbeRow};

/// Probes that are kept of each node: half a minute with a heartbeat each 500 ms.
pub const PROBES_KEPT: usize = 64;

/// A timer may be so late without anybody having slept.
const LATE_MAX: Duration = Duration::from_millis(100);

/// One heartbeat, as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was sent, in unix milliseconds.
    pub at_ms: u64,
    /// How much later than planned that was.
    pub late: Duration,
    /// How long an answer may take.
    pub deadline: Duration,
    /// How long until the answer, or until nobody waited any more.
    pub took: Duration,
}

impl Probe {
    /// How long the observer itself slept meanwhile; `None`: it was awake, as far as it can tell.
    #[must_use]
    pub fn overslept(&self) -> Option<Duration> {
        let slept = self.late.max(self.took.saturating_sub(self.deadline));
        (slept > LATE_MAX.max(self.deadline / 2)).then_some(slept)
    }
}

/// The last [`PROBES_KEPT`] probes of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeLog(VecDeque<ProbeRow>);

impl ProbeLog {
    /// Notes a probe: why it was missed, if it was, and what is thought of the node after it.
    pub fn note(&mut self, probe: &Probe, missed: Option<String>, misses: u32, health: Health) {
        let slept = probe.overslept().filter(|_| missed.is_some());
        if self.0.len() == PROBES_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(ProbeRow {
            at_ms: probe.at_ms,
            took_us: u64::try_from(probe.took.as_micros()).unwrap_or(u64::MAX),
            missed,
            excused: slept.map(|slept| format!("the coordinator itself slept {}", seconds(slept))),
            misses,
            health,
        });
    }

    /// The probes, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = &ProbeRow> {
        self.0.iter()
    }
}

/// `3.2 s`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(late: u64, deadline: u64, took: u64) -> Probe {
        let ms = Duration::from_millis;
        Probe { at_ms: 0, late: ms(late), deadline: ms(deadline), took: ms(took) }
    }

    /// In milliseconds: how late it began, its deadline, how long it took; how long the observer slept.
    #[test]
    fn who_waited_longer_than_meant_has_slept() {
        #[rustfmt::skip]
        let table = [
            // late  deadline  took   slept
            (     0,      500,    1,     0),
            (     0,      500,  500,     0),
            (     0,      500,  750,     0),
            (     0,      500,  751,   251),
            (     0,      500, 3700,  3200),
            (   250,      500,    1,     0),
            (   251,      500,    1,   251),
            (  3200,      500,  500,  3200),
            (   300,      500, 1000,   500),
            // Half of a short deadline is less than timers are late by.
            (   100,       50,  150,     0),
            (   101,       50,   50,   101),
            (     0,       50,  151,   101),
        ];
        for (late, deadline, took, slept) in table {
            let told = probe(late, deadline, took).overslept().unwrap_or_default();
            assert_eq!(told.as_millis(), slept, "late {late}, deadline {deadline}, took {took}");
        }
    }

    #[test]
    fn only_a_miss_needs_an_excuse_and_the_oldest_are_forgotten() {
        let mut log = ProbeLog::default();
        let slept = probe(3_200, 500, 500);
        log.note(&slept, None, 0, Health::Up);
        log.note(&slept, Some("no answer within 500 ms".into()), 0, Health::Up);
        let excuses: Vec<_> = log.rows().map(|row| row.excused.as_deref()).collect();
        assert_eq!(excuses, [None, Some("the coordinator itself slept 3.2 s")]);
        for n in 1..=PROBES_KEPT as u64 {
            log.note(&Probe { at_ms: n, ..probe(0, 500, 1) }, None, 0, Health::Up);
        }
        let kept: Vec<u64> = log.rows().map(|row| row.at_ms).collect();
        assert_eq!(kept, (1..=PROBES_KEPT as u64).collect::<Vec<_>>());
    }
}
