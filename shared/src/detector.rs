//! The failure detector of one node: heartbeats answered or missed, in; UP, SUSPECT, DOWN, out.
//!
//! ```text
//!            miss                  down_after misses
//!   UP ─────────────▶ SUSPECT ─────────────────────▶ DOWN
//!    ◀───────────────────┴────────── answer ──────────┘
//! ```
//!
//! # Caveats
//!
//! It counts misses of one observer; a paused observer must not be asked (it should notice its
//! own pause). DOWN changes which replica is asked first and never moves data.

use crate::protocol::cluster::Health;

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
    /// In a row, since the last answer.
    misses: u32,
    /// When watching began or the last answer came, in the caller's milliseconds.
    since_ms: u64,
    /// Whether it ever answered.
    answered: bool,
}

impl Detector {
    /// Watches a node from `now_ms` on; it counts as up until it misses.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self { health: Health::Up, misses: 0, since_ms: now_ms, answered: false }
    }

    /// What it thinks now.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Milliseconds since the last answer; `None` before the first.
    #[must_use]
    pub fn last_seen_ms(&self, now_ms: u64) -> Option<u64> {
        self.answered.then(|| now_ms.saturating_sub(self.since_ms))
    }

    /// The node answered a heartbeat.
    pub fn answered(&mut self, now_ms: u64) -> Option<Transition> {
        let transition = self.change(Health::Up, now_ms);
        (self.misses, self.since_ms, self.answered) = (0, now_ms, true);
        transition
    }

    /// A heartbeat went unanswered; `down_after` in a row make a node DOWN.
    pub fn missed(&mut self, now_ms: u64, down_after: u32) -> Option<Transition> {
        self.misses = self.misses.saturating_add(1);
        let health = if self.misses >= down_after { Health::Down } else { Health::Suspect };
        self.change(health, now_ms)
    }

    fn change(&mut self, to: Health, now_ms: u64) -> Option<Transition> {
        let from = std::mem::replace(&mut self.health, to);
        let silent_ms = now_ms.saturating_sub(self.since_ms);
        (from != to).then_some(Transition { from, to, misses: self.misses, silent_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a heartbeat (a answered, m missed), and what is thought after it.
    #[test]
    fn opinions() {
        let table = [("aaa", "UUU"), ("mmmm", "SSDD"), ("amam", "USUS"), ("mmmam", "SSDUS")];
        for (beats, expected) in table {
            let mut detector = Detector::new(0);
            let thought: String = (1u64..)
                .zip(beats.chars())
                .map(|(n, beat)| {
                    match beat {
                        'a' => detector.answered(n * 500),
                        _ => detector.missed(n * 500, DOWN_AFTER_MISSES),
                    };
                    match detector.health() {
                        Health::Up => 'U',
                        Health::Suspect => 'S',
                        Health::Down => 'D',
                    }
                })
                .collect();
            assert_eq!(thought, expected, "{beats}");
        }
    }

    #[test]
    fn a_transition_says_how_long_and_is_told_once() {
        let mut detector = Detector::new(0);
        detector.answered(100);
        detector.missed(600, 3);
        detector.missed(1100, 3);
        let down = detector.missed(1700, 3).unwrap();
        assert_eq!((down.to, down.misses, down.silent_ms), (Health::Down, 3, 1600));
        assert_eq!(detector.missed(2200, 3), None);
        assert_eq!(detector.last_seen_ms(2200), Some(2100));
    }
}
