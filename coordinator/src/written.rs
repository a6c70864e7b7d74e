//! When the numbers of writes were given, about: for who asks `why`.
//!
//! Each heartbeat notes the last number given, at most once a second, for a day. So of each number
//! it is known between which two notes it was given.
//!
//! # Caveats
//!
//! Only of this coordinator's own start, and only to a heartbeat or a second. By its clock, as it was then.

use std::collections::VecDeque;
use std::sync::Mutex;

use ringkv_shared::Version;

/// How many notes are kept: those of a day in which every second had a write. 1.3 MiB.
const KEPT: usize = 86_400;
/// The least time between two, in milliseconds.
const APART_MS: u64 = 1000;

/// The notes: number and unix milliseconds, both ascending.
pub(crate) struct Written {
    epoch: u32,
    notes: Mutex<VecDeque<(u64, u64)>>,
}

impl Written {
    pub(crate) fn new(epoch: u32) -> Self {
        Self { epoch, notes: Mutex::default() }
    }

    /// The last number given by now.
    pub(crate) fn note(&self, last: Version, now_ms: u64) {
        let mut notes = self.notes.lock().expect("no panic while the lock is held");
        if notes.back().map_or(0, |(counter, _)| *counter) >= last.counter {
            return;
        }
        let before = notes.len().checked_sub(2).and_then(|at| notes.get(at));
        if before.is_some_and(|(_, at_ms)| now_ms < at_ms + APART_MS) {
            notes.pop_back();
        }
        notes.push_back((last.counter, now_ms));
        if notes.len() > KEPT {
            notes.pop_front();
        }
    }

    /// How long ago a number was given, in words.
    pub(crate) fn ago(&self, version: Version, now_ms: u64) -> String {
        if version.epoch != self.epoch {
            return "before this coordinator started".to_owned();
        }
        let notes = self.notes.lock().expect("no panic while the lock is held");
        let at = notes.partition_point(|(counter, _)| *counter < version.counter);
        match notes.get(at) {
            None => in_words(0),
            Some(_) if at == 0 && notes.len() == KEPT => "more than a day ago".to_owned(),
            Some((_, at_ms)) => in_words(now_ms.saturating_sub(*at_ms)),
        }
    }
}

fn in_words(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..=119 => format!("{s} s ago"),
        s @ 120..=7199 => format!("{} min ago", s / 60),
        s => format!("{} h ago", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_as_old_as_the_note_after_it() {
        let written = Written::new(3);
        for (counter, at_ms) in [(2, 10_000), (5, 10_300), (9, 10_600), (10, 14_000)] {
            written.note(Version::new(3, counter), at_ms);
        }
        let table = [
            (Version::new(3, 1), "10 s ago"),
            (Version::new(3, 3), "9 s ago"),
            (Version::new(3, 9), "9 s ago"),
            (Version::new(3, 10), "6 s ago"),
            (Version::new(3, 11), "0 s ago"),
            (Version::new(2, 1), "before this coordinator started"),
        ];
        for (version, expected) in table {
            assert_eq!(written.ago(version, 20_000), expected, "{version}");
        }
        assert_eq!(written.notes.lock().unwrap().len(), 3);
        assert_eq!(in_words(7_200_000), "2 h ago");
    }

    #[test]
    fn it_is_bounded() {
        let written = Written::new(1);
        for n in 1..=KEPT as u64 + 5 {
            written.note(Version::new(1, n), n * APART_MS * 2);
        }
        assert_eq!(written.notes.lock().unwrap().len(), KEPT);
        assert_eq!(written.ago(Version::new(1, 1), u64::MAX), "more than a day ago");
    }
}
