//! Each node by itself.

use super::{Checkup, Vitals, duration, finding};
use crate::NodeId;
use crate::protocol::cluster::{Finding, Health, Severity};
use crate::protocol::node::DiskState;

pub(super) fn findings(checkup: &Checkup<'_>) -> Vec<Finding> {
    if checkup.nodes.is_empty() {
        let text = "the cluster has no nodes: nothing can be stored".to_owned();
        return vec![finding(Severity::Critical, text, "start one and add it: addnode n1 5001")];
    }
    let all = checkup.nodes.iter().flat_map(|(id, vitals)| {
        [
            presence(id, vitals),
            disk(id, vitals),
            epoch(id, vitals, checkup.topology.epoch),
            owed(id, vitals),
            overflown(id, vitals),
        ]
    });
    all.flatten().collect()
}

fn presence(id: &NodeId, vitals: &Vitals) -> Option<Finding> {
    let again = "start it again";
    let give_up = format!("or give it up: removenode {id}, or replacenode {id} with another");
    if vitals.stranger {
        let text =
            format!("another data directory answers in place of {id}: its copies are not there");
        let hint = format!("start {id} with its own directory, {give_up}");
        return Some(finding(Severity::Critical, text, &hint));
    }
    match vitals.health {
        Health::Up => None,
        Health::Suspect => {
            let text = format!("{id} missed its last heartbeat");
            Some(finding(Severity::Note, text, &format!("why-down {id} shows its heartbeats")))
        }
        Health::Down => {
            let text = format!("{id} has been DOWN for {}", duration(vitals.for_ms));
            let hint = format!("why-down {id} shows its heartbeats; {again}, {give_up}");
            Some(finding(Severity::Warning, text, &hint))
        }
    }
}

fn disk(id: &NodeId, vitals: &Vitals) -> Option<Finding> {
    let (text, hint) = match vitals.disk {
        DiskState::Ok => return None,
        DiskState::DiskFull => ("its disk is full, it refuses puts", "make room on its disk"),
        DiskState::ReadOnly => (
            "its file system is read-only, it refuses writes",
            "mount it for writing, and start it again",
        ),
    };
    Some(finding(Severity::Critical, format!("{id}: {text}"), hint))
}

fn epoch(id: &NodeId, vitals: &Vitals, ours: u64) -> Option<Finding> {
    let theirs = vitals.ring_epoch?;
    let text = format!("{id} knows the ring of epoch {theirs}, the coordinator has {ours}");
    Some(finding(Severity::Warning, text, "it is told with the next heartbeats that it answers"))
}

fn owed(id: &NodeId, vitals: &Vitals) -> Option<Finding> {
    let keys = match vitals.owed {
        0 => return None,
        1 => "1 key is".to_owned(),
        keys => format!("{keys} keys are"),
    };
    let text = match vitals.health {
        Health::Down => format!("{keys} kept for {id} until it is back"),
        Health::Up | Health::Suspect => {
            format!("{keys} being handed over to {id}, which missed writes")
        }
    };
    Some(finding(Severity::Note, text, ""))
}

fn overflown(id: &NodeId, vitals: &Vitals) -> Option<Finding> {
    let text = format!("{id} missed more writes than could be noted");
    let hint = "anti-entropy finds them; to have them found now: check --repair";
    vitals.overflown.then(|| finding(Severity::Warning, text, hint))
}
