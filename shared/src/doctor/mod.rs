//! What is wrong with a cluster now, and what would be if one more node died.
//!
//! A [`Checkup`] is what the coordinator knows at one moment; [`examine`] turns it into findings, worst first, each
//! a plain sentence with what to do about it:
//!
//! | file | looks at |
//! |---|---|
//! | `nodes` | each node by itself: whether it answers, its disk, what it knows, what it missed |
//! | `ring` | the change that is under way, zones, balance, how long replicas were not compared |
//! | `losses` | which keys cannot be used now, and which could not with one more node dead |
//!
//! # Caveats
//!
//! What cannot be used is told in shares of the ring, which hold for keys that are not there yet, too; `what-if`
//! counts the keys that are.

mod losses;
mod nodes;
mod ring;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::cluster::{Finding, Health, Severity, Stage};
use crate::protocol::node::DiskState;
use crate::topology::Topology;
use crate::{Keyspace, KeyspaceName, NodeId};

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Whether it answers.
    pub health: Health,
    /// For how long that is thought, in milliseconds.
    pub for_ms: u64,
    /// Whether another data directory answers in its place.
    pub stranger: bool,
    /// Whether its disk takes writes, when it last told.
    pub disk: DiskState,
    /// The ring epoch that it knows, when that is an older one.
    pub ring_epoch: Option<u64>,
    /// Keys that other nodes keep for it: hints.
    pub owed: u64,
    /// Whether hints for it were thrown away.
    pub overflown: bool,
    /// Keys that it holds, when it last told.
    pub keys: Option<u64>,
}

/// What is known of a cluster.
#[derive(Clone, Debug)]
pub struct Checkup<'a> {
    /// The rings.
    pub topology: &'a Topology,
    /// What holds for each keyspace.
    pub keyspaces: &'a BTreeMap<KeyspaceName, Keyspace>,
    /// Why this coordinator is not the one any more, in a sentence, if another has taken over.
    pub deposed: Option<String>,
    /// Every member.
    pub nodes: &'a BTreeMap<NodeId, Vitals>,
    /// How far a change of the ring is.
    pub stage: Stage,
    /// Whether it was told to rest.
    pub paused: bool,
    /// Whether a rebalance runs.
    pub running: bool,
    /// For how long some part of the ring was not verified, in milliseconds; since the start of the
    /// coordinator if it never was.
    pub unverified_ms: u64,
    /// The pause between rounds of anti-entropy, in milliseconds; `None`: there are none.
    pub anti_entropy_ms: Option<u64>,
}

/// What is wrong, worst first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Now.
    pub now: Vec<Finding>,
    /// If one more node died.
    pub next: Vec<Finding>,
}

/// Looks at everything.
#[must_use]
pub fn examine(checkup: &Checkup<'_>) -> Diagnosis {
    let mut now: Vec<Finding> = deposed(checkup).into_iter().collect();
    now.extend(nodes::findings(checkup));
    now.extend(ring::findings(checkup));
    let dead = checkup.dead();
    let losses: Vec<_> = checkup
        .keyspaces
        .values()
        .map(|space| losses::Losses::new(checkup, space, &dead))
        .collect();
    now.extend(losses.iter().flat_map(|losses| losses.now(&dead)));
    let mut next: Vec<Finding> = losses.iter().flat_map(|losses| losses.next(&dead)).collect();
    next.extend(losses::harmless(checkup, &next));
    // Stable: of equal ones nodes first, then the ring, then keyspaces, each by name.
    for findings in [&mut now, &mut next] {
        findings.sort_by_key(|finding| Reverse(finding.severity));
    }
    Diagnosis { now, next }
}

fn deposed(checkup: &Checkup<'_>) -> Option<Finding> {
    let text = checkup.deposed.clone()?;
    Some(finding(
        Severity::Critical,
        text,
        "connect to the one that the nodes obey, and stop this one",
    ))
}

impl Checkup<'_> {
    /// Who is DOWN.
    fn dead(&self) -> BTreeSet<NodeId> {
        let down = self.nodes.iter().filter(|(_, vitals)| vitals.health == Health::Down);
        down.map(|(node, _)| node.clone()).collect()
    }
}

fn finding(severity: Severity, text: String, hint: &str) -> Finding {
    Finding { severity, text, hint: (!hint.is_empty()).then(|| hint.to_owned()) }
}

/// `31.0 %`.
fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent < 0.05 => "less than 0.1 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

/// How long, in the largest unit that it is twice of: `90 s`, `2 min`, `3 h`, `5 days`.
fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests;
