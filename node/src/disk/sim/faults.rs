//! Which operation of a simulated disk is to fail, and with what.

use std::collections::BTreeMap;
use std::io;

/// The kinds of operations that are counted and can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the operations of `Disk` and `DiskFile`")]
pub enum Operation {
    Open,
    List,
    Read,
    Write,
    Sync,
    Truncate,
    Reserve,
    Rename,
    Remove,
    SyncDir,
}

/// Counts operations and makes some fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    counts: BTreeMap<Operation, u64>,
    planned: Vec<Fault>,
    /// Kinds of which every operation fails.
    always: BTreeMap<Operation, io::ErrorKind>,
    /// Operations until the power is off; 0: it is off.
    power: Option<u64>,
}

#[derive(Clone, Debug)]
struct Fault {
    /// Only operations of this kind count.
    kind: Option<Operation>,
    /// How many of them go well before.
    remaining: u64,
    error: io::ErrorKind,
}

impl Faults {
    /// How often an operation was tried; `None`: all of them.
    pub(super) fn count(&self, kind: Option<Operation>) -> u64 {
        let of = |k: &Operation| kind.is_none_or(|kind| kind == *k);
        self.counts.iter().filter(|(k, _)| of(k)).map(|(_, count)| count).sum()
    }

    pub(super) fn plan(&mut self, n: u64, kind: Option<Operation>, error: io::ErrorKind) {
        self.planned.push(Fault { kind, remaining: n - 1, error });
    }

    pub(super) fn fail_all(&mut self, kind: Operation, error: io::ErrorKind) {
        self.always.insert(kind, error);
    }

    pub(super) const fn power_off_after(&mut self, n: u64) {
        self.power = Some(n);
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    /// Counts an operation; an error if it is to fail.
    pub(super) fn begin(&mut self, op: Operation) -> io::Result<()> {
        *self.counts.entry(op).or_default() += 1;
        match &mut self.power {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) => *left -= 1,
            None => (),
        }
        let mut failure = self.always.get(&op).copied();
        self.planned.retain_mut(|fault| {
            if fault.kind.is_some_and(|kind| kind != op) {
                return true;
            }
            let due = fault.remaining == 0;
            if due {
                failure = Some(fault.error);
            } else {
                fault.remaining -= 1;
            }
            !due
        });
        failure.map_or(Ok(()), |kind| Err(kind.into()))
    }
}
