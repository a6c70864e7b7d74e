//! What clients asked for, and what they were told: all that an invariant may look at, besides what the
//! replicas hold in the end.

use std::collections::{BTreeMap, BTreeSet};

use ringkv_shared::causal::Context;
use ringkv_shared::quorum::WriteOutcome;
use ringkv_shared::{Blob, Version};

/// A write, as its client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: Blob,
    /// Whether it is a delete.
    pub(crate) deletes: bool,
    pub(crate) version: Version,
    /// What its client had seen, or the node that numbered it; `None`: all of its line before it.
    pub(crate) seen: Option<Context>,
    /// What the client was told, and when; `None`: nothing so far.
    pub(crate) told: Option<(u64, WriteOutcome)>,
    /// How often it was told something.
    pub(crate) answers: usize,
}

impl Write {
    pub(crate) fn is_acknowledged(&self) -> bool {
        matches!(self.told, Some((_, WriteOutcome::Done)))
    }

    /// Whether its client had seen a version, so that it was to replace that.
    pub(crate) fn has_seen(&self, version: Version) -> bool {
        let seen = self.seen.clone().unwrap_or_else(|| Context::before(self.version));
        self.version != version && seen.covers(version)
    }

    fn replaces(&self, other: &Self) -> bool {
        self.key == other.key && self.has_seen(other.version)
    }
}

/// A read, as its client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) key: Blob,
    pub(crate) began: u64,
    /// What was answered, if anything: what the reader has seen then.
    pub(crate) answer: Option<Context>,
    pub(crate) answers: usize,
}

/// Everything, in the order in which it began.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) writes: Vec<Write>,
    pub(crate) reads: Vec<Read>,
}

impl History {
    /// Writes of a key that were acknowledged and are lost: neither are they held in the end, nor were
    /// they replaced, in one step or several, by something that is, or by a delete whose tombstone
    /// was collected. `held` has the versions of each key that nothing has replaced, `collected` those tombstones.
    pub(crate) fn lost(
        &self,
        held: &BTreeMap<Blob, Vec<Version>>,
        collected: &BTreeSet<(Blob, Version)>,
    ) -> Vec<&Write> {
        let is_held = |write: &Write| {
            held[&write.key].contains(&write.version)
                || collected.contains(&(write.key.clone(), write.version))
        };
        let mut accounted: Vec<&Write> =
            self.writes.iter().filter(|write| is_held(write)).collect();
        let mut next = 0;
        while let Some(write) = accounted.get(next).copied() {
            next += 1;
            let known = |other: &Write| accounted.iter().any(|w| w.version == other.version);
            let replaced: Vec<&Write> =
                self.writes.iter().filter(|other| write.replaces(other) && !known(other)).collect();
            accounted.extend(replaced);
        }
        let accounted = |write: &&Write| accounted.iter().any(|w| w.version == write.version);
        self.writes.iter().filter(|w| w.is_acknowledged() && !accounted(w)).collect()
    }
}
