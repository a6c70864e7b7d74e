//! The change of the ring, where copies lie, and how long they were not compared.

use super::{Checkup, duration, finding};
use crate::protocol::cluster::{Finding, Severity, Stage};
use crate::zones::crowded;
use crate::{KeyspaceName, NodeId};

/// A node with more than so many times its part of the keys is told of.
const PART_MAX: f64 = 1.5;
/// With fewer keys a node than this, chance decides who has how many.
const KEYS_MIN: u64 = 1_000;
/// So many pauses between rounds of anti-entropy may be over before it is told that replicas were not compared.
const ROUNDS_MISSED_MAX: u64 = 20;
/// And so long, in milliseconds: a round that moves much takes its time.
const UNVERIFIED_MIN_MS: u64 = 600_000;

pub(super) fn findings(checkup: &Checkup<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = change(checkup).into_iter().collect();
    found.extend(checkup.keyspaces.keys().filter_map(|space| copies(checkup, space)));
    found.extend(checkup.keyspaces.keys().filter_map(|space| zones(checkup, space)));
    found.extend(fullest(checkup));
    found.extend(unverified(checkup));
    found
}

fn change(checkup: &Checkup<'_>) -> Option<Finding> {
    let Checkup { stage, paused, running, .. } = *checkup;
    let (severity, text, hint) = match stage {
        Stage::Idle => return None,
        Stage::Staged => (
            Severity::Note,
            "a change of the ring is staged, and not in force",
            "plan shows what it does; rebalance carries it out, plan clear takes it back",
        ),
        Stage::Copying if paused => (
            Severity::Warning,
            "the rebalance rests: until it is through, each write needs old and new owners",
            "resume lets it go on, cancel takes the change back",
        ),
        Stage::Copying if !running => (
            Severity::Warning,
            "a change of the ring is committed, and its copies are not being made",
            "progress tells why; rebalance goes on, cancel takes the change back",
        ),
        Stage::Copying => {
            (Severity::Note, "a rebalance is under way", "progress tells how far it is")
        }
        Stage::Clearing if !running => (
            Severity::Note,
            "old copies are still to be dropped after a change of the ring",
            "rebalance goes on with it",
        ),
        Stage::Clearing => {
            (Severity::Note, "old copies are being dropped", "progress tells how far it is")
        }
    };
    Some(finding(severity, text.to_owned(), hint))
}

/// Fewer nodes than copies.
fn copies(checkup: &Checkup<'_>, space: &KeyspaceName) -> Option<Finding> {
    let current = &checkup.topology.current;
    let (n, nodes) = (current.n(space), current.ring.members().len());
    if n <= nodes || nodes == 0 {
        return None;
    }
    let are =
        if nodes == 1 { "there is 1 node".to_owned() } else { format!("there are {nodes} nodes") };
    let text = format!("{space} is to have {n} copies, and {are}");
    Some(finding(Severity::Warning, text, "add nodes: addnode, then rebalance"))
}

fn zones(checkup: &Checkup<'_>, space: &KeyspaceName) -> Option<Finding> {
    let text = crowded(&checkup.topology.current, space)?;
    Some(finding(Severity::Warning, text, "add a node in another zone: addnode with --zone"))
}

/// Who has most keys, measured by its weight.
#[allow(clippy::cast_precision_loss)]
fn fullest(checkup: &Checkup<'_>) -> Option<Finding> {
    let members = checkup.topology.current.ring.members();
    let keys = |node: &NodeId| checkup.nodes.get(node).and_then(|vitals| vitals.keys);
    let told: Vec<(&NodeId, u64, u64)> = members
        .iter()
        .filter_map(|(node, seat)| Some((node, keys(node)?, u64::from(seat.weight))))
        .collect();
    let (all, weights) =
        told.iter().fold((0, 0), |(k, w), (_, keys, weight)| (k + keys, w + weight));
    if all < KEYS_MIN * told.len() as u64 || weights == 0 {
        return None;
    }
    let part = |keys: u64, weight: u64| keys as f64 * weights as f64 / (all as f64 * weight as f64);
    let parts = told.into_iter().map(|(node, keys, weight)| (node, part(keys, weight)));
    let (node, part) = parts.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let text = format!("{node} holds {part:.1} times its part of the keys");
    let hint =
        format!("rebalance drops what does not belong there; setweight {node} changes its part");
    (part > PART_MAX).then(|| finding(Severity::Note, text, &hint))
}

fn unverified(checkup: &Checkup<'_>) -> Option<Finding> {
    let current = &checkup.topology.current;
    let copies = current.copies.values().copied().max().unwrap_or(1);
    if copies.min(current.ring.members().len()) < 2 {
        return None;
    }
    let Some(pause_ms) = checkup.anti_entropy_ms else {
        let text = "anti-entropy is off: replicas that differ are found by reads only".to_owned();
        return Some(finding(Severity::Note, text, "config anti_entropy 30 turns it on"));
    };
    let most_ms = UNVERIFIED_MIN_MS.max(pause_ms.saturating_mul(ROUNDS_MISSED_MAX));
    let text = format!(
        "some replicas have not been compared for {}: while an owner is away they cannot be",
        duration(checkup.unverified_ms)
    );
    (checkup.unverified_ms > most_ms)
        .then(|| finding(Severity::Warning, text, "check tells what differs, and who is not there"))
}
