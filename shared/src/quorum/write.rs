//! The verdict on a write. Three outcomes, never a fourth: it is done, it is certainly not done,
//! or nobody knows.
//!
//! | enough ok in every placement | some ok | some unknown | verdict |
//! |---|---|---|---|
//! | yes | | | `Done` |
//! | no | yes | | `Partial`: some replicas have it, fewer than asked for |
//! | no | no | yes | `Unknown` |
//! | no | no | no | `NotApplied` |
//!
//! While a change of the ring is pending, a write counts only when enough owners of *each*
//! placement have it: otherwise an acknowledged write could be missing after the switch.

use crate::protocol::cluster::ReplicaOutcome;
use crate::topology::WriteSet;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Acknowledged.
    Done,
    /// Fewer replicas than asked for have it for certain. It is not undone.
    Partial,
    /// Certainly applied nowhere.
    NotApplied,
    /// May be applied somewhere.
    Unknown,
}

/// Judges the outcomes of `set.owners`, in their order, when `needed` owners of the current and
/// `needed_pending` of the pending placement must have the write.
#[must_use]
pub fn judge_write(
    set: &WriteSet,
    outcomes: &[ReplicaOutcome],
    needed: usize,
    needed_pending: usize,
) -> WriteOutcome {
    let ok = |outcome: &&ReplicaOutcome| **outcome == ReplicaOutcome::Ok;
    let current = outcomes.iter().take(set.current).filter(ok).count();
    let pending = set
        .owners
        .iter()
        .zip(outcomes)
        .filter(|(owner, outcome)| set.pending.contains(owner) && ok(outcome))
        .count();
    if current >= needed && pending >= needed_pending && current > 0 {
        WriteOutcome::Done
    } else if outcomes.contains(&ReplicaOutcome::Ok) {
        WriteOutcome::Partial
    } else if outcomes.contains(&ReplicaOutcome::Unknown) {
        WriteOutcome::Unknown
    } else {
        WriteOutcome::NotApplied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(letter: char) -> ReplicaOutcome {
        match letter {
            'o' => ReplicaOutcome::Ok,
            'r' => ReplicaOutcome::Refused,
            'u' => ReplicaOutcome::Unknown,
            _ => ReplicaOutcome::Unreachable,
        }
    }

    /// current/pending owners, W, outcome a node (o ok, r refused, u unknown, - unreachable).
    #[test]
    fn verdicts() {
        use WriteOutcome::{Done, NotApplied, Partial, Unknown};
        let table = [
            ("a  ", "", 1, "o  ", Done),
            ("a  ", "", 1, "u  ", Unknown),
            ("a  ", "", 1, "-  ", NotApplied),
            ("a  ", "", 1, "r  ", NotApplied),
            ("ab ", "", 1, "o- ", Done),
            ("ab ", "", 1, "-o ", Done),
            ("ab ", "", 2, "o- ", Partial),
            ("ab ", "", 2, "ou ", Partial),
            ("ab ", "", 2, "u- ", Unknown),
            ("ab ", "", 2, "oo ", Done),
            ("ab ", "", 1, "ur ", Unknown),
            ("abc", "", 2, "o-o", Done),
            // a joins out, c joins in: both placements must have it
            ("ab ", "bc", 1, "o--", Partial),
            ("ab ", "bc", 1, "-o-", Done),
            ("ab ", "bc", 1, "o-o", Done),
            ("ab ", "bc", 1, "--o", Partial),
            ("ab ", "bc", 2, "oo-", Partial),
            ("ab ", "bc", 2, "ooo", Done),
        ];
        for (current, pending, w, outcomes, expected) in table {
            let ids = |text: &str| -> Vec<crate::NodeId> {
                text.trim().chars().map(|c| c.to_string().parse().unwrap()).collect()
            };
            let (now, then) = (ids(current), ids(pending));
            let mut owners = now.clone();
            owners.extend(then.iter().filter(|id| !now.contains(id)).cloned());
            let set = WriteSet { current: now.len(), owners, pending: then.clone() };
            let outcomes: Vec<_> = outcomes.chars().take(set.owners.len()).map(outcome).collect();
            let verdict = judge_write(&set, &outcomes, w, w.min(then.len()));
            assert_eq!(verdict, expected, "{current}/{pending} W={w} {outcomes:?}");
        }
    }

    #[test]
    fn a_write_to_nobody_is_not_done() {
        let set = WriteSet { owners: vec![], current: 0, pending: vec![] };
        assert_eq!(judge_write(&set, &[], 0, 0), WriteOutcome::NotApplied);
    }
}
