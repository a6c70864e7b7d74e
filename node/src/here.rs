//! Whether a group of lines is written here, by the thread that serves, or by one that may wait for the disk.
//!
//! To hand a group over and to hear of it costs two switches of threads, some 30 µs, about a fifth of a sync. But what
//! is done here holds up all that is served. So it is done here when it is brief: little is to be written, the last
//! syncs were quick, and nearly all who are there wait for this group anyway.
//!
//! # Caveats
//!
//! A guess: one sync that takes long after many that were quick holds up reads for as long as it takes.

/// The most bytes written here: to memory of the operating system, that takes about 100 µs.
const WRITE_BYTES_MAX: usize = 512 * 1024;
/// The most bytes synced here. Of more, the next are better taken in meanwhile.
const SYNC_BYTES_MAX: usize = 32 * 1024;
/// The longest that a sync may usually take, in microseconds, to be done here.
const SYNC_US_MAX: u64 = 500;
/// Of so many who wait, one who does not may be held up.
const HELD_UP_PER: usize = 4;

/// What is known of a group before it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Bytes to be written.
    pub(crate) bytes: usize,
    /// Bytes that a sync has to cover; `None`: none is to be made.
    pub(crate) unsynced: Option<usize>,
    /// How many bursts wait for it.
    pub(crate) waiting: usize,
    /// How many bursts, since the last group, waited for nothing.
    pub(crate) passed: usize,
}

/// What the last syncs have shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Syncs {
    /// How long one usually takes, in microseconds.
    usual_us: u64,
}

impl Syncs {
    /// Whether a group is brief enough to be written here.
    pub(crate) const fn are_brief(self, group: Group) -> bool {
        let Group { bytes, unsynced, waiting, passed } = group;
        if bytes > WRITE_BYTES_MAX {
            return false;
        }
        match unsynced {
            None => true,
            Some(unsynced) => {
                unsynced <= SYNC_BYTES_MAX
                    && self.usual_us <= SYNC_US_MAX
                    && passed * HELD_UP_PER <= waiting
            }
        }
    }

    /// A sync took so long. One that was slow counts for a while.
    pub(crate) fn took(&mut self, us: u64) {
        self.usual_us = (7 * self.usual_us + us).div_ceil(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_decisions() {
        let kib = 1024;
        for (bytes, unsynced, waiting, passed, expected) in [
            (kib, None, 0, 100, true),
            (513 * kib, None, 100, 0, false),
            (kib, Some(kib), 1, 0, true),
            (kib, Some(33 * kib), 100, 0, false),
            (33 * kib, Some(33 * kib), 100, 0, false),
            (kib, Some(kib), 1, 1, false),
            (kib, Some(kib), 40, 10, true),
            (kib, Some(kib), 40, 11, false),
        ] {
            let group = Group { bytes, unsynced, waiting, passed };
            assert_eq!(Syncs::default().are_brief(group), expected, "{group:?}");
        }
    }

    #[test]
    fn a_slow_disk_is_not_waited_for_here() {
        let group = Group { bytes: 1, unsynced: Some(1), waiting: 1, passed: 0 };
        let mut syncs = Syncs::default();
        (0..100).for_each(|_| syncs.took(150));
        assert!(syncs.are_brief(group));
        syncs.took(10_000);
        assert!(!syncs.are_brief(group));
        (0..100).for_each(|_| syncs.took(150));
        assert!(syncs.are_brief(group));
    }
}
