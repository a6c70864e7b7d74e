//! What holds of every ring, and of every step from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use ringkv_shared::topology::Placement;
use ringkv_shared::{KeyspaceName, NodeId};

use crate::history::{Change, Step};

/// Positions that are looked at, spread over the ring.
const POSITIONS: u64 = 16;

pub(crate) fn hold(step: &Step) {
    for i in 0..POSITIONS {
        // Odd, so that they do not fall on anything regular.
        let position = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let owners = |placement: &Placement| {
            placement.ring.owners_at(position, placement.n(&KeyspaceName::default()))
        };
        let (before, after) = (owners(&step.before), owners(&step.after));
        are_distinct(step, &after);
        are_spread(step, &after);
        move_little(step, position, &before, &after);
    }
}

/// As many owners as there can be, each once.
fn are_distinct(step: &Step, owners: &[NodeId]) {
    let distinct: BTreeSet<&NodeId> = owners.iter().collect();
    let n = step.after.n(&KeyspaceName::default()).min(step.after.ring.members().len());
    assert_eq!((distinct.len(), owners.len()), (n, n), "{step}");
}

/// In distinct zones while zones last; beyond that no zone has two more than one that has a node left.
fn are_spread(step: &Step, owners: &[NodeId]) {
    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for (node, seat) in step.after.ring.members() {
        // Who has none is a zone of its own.
        let zone = seat.zone.as_ref().map_or_else(|| format!("of {node}"), ToString::to_string);
        *nodes.entry(zone.clone()).or_default() += 1;
        *copies.entry(zone).or_default() += usize::from(owners.contains(node));
    }
    let zones = copies.values().filter(|copies| **copies > 0).count();
    assert_eq!(zones, owners.len().min(nodes.len()), "{step}: {owners:?}");
    let most = copies.values().max().copied().unwrap_or(0);
    for (zone, copies) in &copies {
        let full = *copies == nodes[zone];
        assert!(full || most - copies <= 1, "{step}: {owners:?} leave out {zone}");
    }
}

/// Only keys of the node that is changed move.
fn move_little(step: &Step, position: u64, before: &[NodeId], after: &[NodeId]) {
    let only = |from: &[NodeId], to: &[NodeId], node: &NodeId, what: &str| {
        let other = to.iter().find(|owner| *owner != node && !from.contains(owner));
        assert_eq!(other, None, "{step}: not {node} alone {what}, from {before:?} to {after:?}");
    };
    let n = before.len().min(after.len());
    match &step.change {
        Change::Join(node) | Change::Heavier(node) => only(before, after, node, "gains"),
        Change::Leave(node) | Change::Lighter(node) => only(after, before, node, "loses"),
        Change::Replace { old, new } => {
            let heir = |owner: &NodeId| if owner == old { new.clone() } else { owner.clone() };
            let expected: Vec<NodeId> = before.iter().map(heir).collect();
            assert_eq!(after, expected, "{step}: {new} does not take the places of {old}");
        }
        // As if it had left and come back.
        Change::Rezone(node) => {
            let n = step.before.n(&KeyspaceName::default());
            let between = step.before.ring.without(node).owners_at(position, n);
            only(&between, before, node, "loses");
            only(&between, after, node, "gains");
        }
        Change::Copies => assert_eq!(before[..n], after[..n], "{step}"),
    }
}
