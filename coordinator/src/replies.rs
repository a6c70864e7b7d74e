//! What replicas answered, in the words of the protocol and in ours.

use ringkv_shared::net::PeerError;
use ringkv_shared::protocol::cluster::{ReplicaOutcome, ReplicaReport};
use ringkv_shared::{ErrorName, Failure, NodeId};
use serde::Serialize;

/// The report of an answer.
pub(crate) fn report<T: Serialize>(node: &NodeId, answer: &Result<T, PeerError>) -> ReplicaReport {
    match answer {
        Ok(reply) => {
            let reply = serde_json::to_value(reply).ok();
            ReplicaReport { reply, ..ReplicaReport::new(node.clone(), ReplicaOutcome::Ok) }
        }
        Err(error) => {
            let why = Some(format!("{node} {}", in_words(error)));
            ReplicaReport { why, ..ReplicaReport::new(node.clone(), outcome_of(error)) }
        }
    }
}

/// The report of a node that was not asked because it is DOWN.
pub(crate) fn down(node: &NodeId) -> ReplicaReport {
    let why = Some(format!("{node} is DOWN"));
    ReplicaReport { why, ..ReplicaReport::new(node.clone(), ReplicaOutcome::Unreachable) }
}

/// The report of a node that has not answered yet.
pub(crate) fn pending(node: &NodeId) -> ReplicaReport {
    let why = Some(format!("{node} has not answered yet"));
    ReplicaReport { why, ..ReplicaReport::new(node.clone(), ReplicaOutcome::Pending) }
}

pub(crate) fn outcome_of(error: &PeerError) -> ReplicaOutcome {
    match error {
        PeerError::Unreachable(_) => ReplicaOutcome::Unreachable,
        PeerError::Refused(_) => ReplicaOutcome::Refused,
        PeerError::TimedOut(_) | PeerError::Lost(_) => ReplicaOutcome::Unknown,
    }
}

fn in_words(error: &PeerError) -> String {
    match error {
        PeerError::Refused(failure) => format!("refused: {failure}"),
        other => other.to_string(),
    }
}

/// `n1 ok; n2 is DOWN`.
pub(crate) fn describe(replicas: &[ReplicaReport]) -> String {
    let each = replicas.iter().map(|report| match (&report.why, &report.stands_in_for) {
        (Some(why), _) => why.clone(),
        (None, Some(owner)) => format!("{} ok, standing in for {owner}", report.node),
        (None, None) => format!("{} ok", report.node),
    });
    each.collect::<Vec<_>>().join("; ")
}

/// There must be somebody who could keep a key.
pub(crate) fn some_owner(owners: &[NodeId]) -> Result<(), Failure> {
    if owners.is_empty() {
        return Err(Failure::new(
            ErrorName::Unreachable,
            "the ring is empty: there is no node to keep keys",
        )
        .hint("addnode <id> <port>"));
    }
    Ok(())
}
