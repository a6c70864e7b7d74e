//! What cannot be used of a keyspace: now, and with one more node dead.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkup, finding, percent};
use crate::availability::{Arcs, Shares};
use crate::protocol::cluster::{Finding, Health, Severity};
use crate::{Keyspace, NodeId};

/// What a keyspace suffers.
pub(super) struct Losses<'a> {
    space: &'a Keyspace,
    /// N of the ring in force, and never more than there are nodes.
    copies: usize,
    /// N of the ring in force, as it was asked for.
    wanted: usize,
    /// Members of the ring in force.
    nodes: usize,
    now: Shares,
    /// With each node dead that is not yet.
    next: BTreeMap<&'a NodeId, Shares>,
}

/// One way to suffer: which share, how bad, and what it is in words.
struct Effect {
    of: fn(&Shares) -> f64,
    severity: Severity,
}

const UNREADABLE: Effect = Effect { of: |shares| shares.unreadable, severity: Severity::Critical };
const READ_ONLY: Effect = Effect { of: |shares| shares.read_only, severity: Severity::Critical };
const LAST_COPY: Effect = Effect { of: |shares| shares.last_copy, severity: Severity::Warning };

impl<'a> Losses<'a> {
    pub(super) fn new(checkup: &Checkup<'a>, space: &'a Keyspace, dead: &BTreeSet<NodeId>) -> Self {
        let current = &checkup.topology.current;
        let arcs = Arcs::new(checkup.topology, space);
        let alive = checkup.nodes.keys().filter(|node| !dead.contains(*node));
        let with = |node: &NodeId| dead.iter().chain([node]).cloned().collect();
        Self {
            space,
            copies: current.n(&space.name).min(current.ring.members().len()),
            wanted: current.n(&space.name),
            nodes: current.ring.members().len(),
            now: arcs.without(dead),
            next: alive.map(|node| (node, arcs.without(&with(node)))).collect(),
        }
    }

    /// What suffers now.
    pub(super) fn now(&self, dead: &BTreeSet<NodeId>) -> Vec<Finding> {
        let (Keyspace { name, r, w, .. }, n) = (self.space, self.copies);
        let who: Vec<&str> = dead.iter().map(NodeId::as_str).collect();
        let who = who.join(" ");
        let hint = format!("start {who} again");
        let found = |effect: &Effect, says: &str| {
            let share = (effect.of)(&self.now);
            let text = format!("{} of {name} {says} without {who}", percent(share));
            (share > 0.0).then(|| finding(effect.severity, text, &hint))
        };
        let findings = [
            found(&UNREADABLE, &format!("cannot be read (N={n}, R={r})")),
            found(&READ_ONLY, &format!("can be read and not written (N={n}, W={w})")),
            found(&LAST_COPY, "has one copy left"),
        ];
        findings.into_iter().flatten().collect()
    }

    /// What would suffer if the node died that most keys depend on.
    pub(super) fn next(&self, dead: &BTreeSet<NodeId>) -> Vec<Finding> {
        let (Keyspace { name, r, w, .. }, n) = (self.space, self.copies);
        let hint = self.remedy(dead);
        let found = |effect: &Effect, severity, says: &str| {
            let (node, share) = self.worst(effect)?;
            let now = (effect.of)(&self.now);
            let too = if dead.is_empty() { "" } else { " as well" };
            let already = match percent(now) {
                percent if now > 0.0 => format!(", {percent} are now"),
                _ => String::new(),
            };
            let share = percent(share);
            let text = says.replace("{share}", &share).replace("{name}", name.as_str());
            Some(finding(severity, format!("losing {node}{too} {text}{already}"), &hint))
        };
        let unreadable = format!("makes {{share}} of {{name}} unreadable (N={n}, R={r})");
        let read_only = format!("makes {{share}} of {{name}} read-only (N={n}, W={w})");
        let findings = [
            found(&UNREADABLE, Severity::Critical, &unreadable),
            found(&READ_ONLY, Severity::Critical, &read_only),
            // That is what copies are for.
            found(&LAST_COPY, Severity::Note, "leaves one copy of {share} of {name}"),
        ];
        findings.into_iter().flatten().collect()
    }

    /// The node without which most suffers in that way, if it is more than now; of equal ones the first.
    fn worst(&self, effect: &Effect) -> Option<(&'a NodeId, f64)> {
        let shares = self.next.iter().map(|(node, shares)| (*node, (effect.of)(shares)));
        let more = shares.filter(|(_, share)| *share > (effect.of)(&self.now));
        more.fold(None, |worst: Option<(&NodeId, f64)>, (node, share)| match worst {
            Some((_, most)) if most >= share => worst,
            _ => Some((node, share)),
        })
    }

    /// What makes it suffer less.
    fn remedy(&self, dead: &BTreeSet<NodeId>) -> String {
        if !dead.is_empty() {
            let who: Vec<&str> = dead.iter().map(NodeId::as_str).collect();
            return format!("start {} again first", who.join(" "));
        }
        let (Keyspace { name, .. }, copies) = (self.space, self.copies);
        // One copy may be away, and still a read meets the last write.
        let majority = copies / 2 + 1;
        if majority < copies {
            return format!(
                "let a majority answer: keyspace set {name} --r {majority} --w {majority}"
            );
        }
        if self.wanted > self.nodes {
            return "add a node: addnode, then rebalance".to_owned();
        }
        let more = copies + 1;
        let set = match name.is_default() {
            true => format!("setreplica {more}"),
            false => format!("keyspace set {name} --n {more}"),
        };
        let first = if more > self.nodes { "add a node, and " } else { "" };
        format!("{first}keep more copies: {set}, then rebalance")
    }
}

/// That nobody is needed, if nobody is.
pub(super) fn harmless(checkup: &Checkup<'_>, next: &[Finding]) -> Option<Finding> {
    let alive = checkup.nodes.values().any(|vitals| vitals.health != Health::Down);
    let bad = next.iter().any(|finding| finding.severity == Severity::Critical);
    let text = "any one node may be lost: every key can be read and written without it".to_owned();
    (alive && !bad).then(|| finding(Severity::Note, text, ""))
}
