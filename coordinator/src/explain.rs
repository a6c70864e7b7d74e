//! How a request was done: the way from the key's hash to its owners, what each answered and when,
//! and what that was worth.
//!
//! # Caveats
//!
//! How long a sync took is what the node says of its last one, asked afterwards: on a busy node it may be
//! that of another write.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::protocol::cluster::{Explanation, ReplicaOutcome, ReplicaReport, Skipped};
use ringkv_shared::ring::key_position;
use ringkv_shared::{Blob, Keyspace, NodeId};

use crate::cluster::{Cluster, View};

/// What happened.
pub(crate) struct Trace {
    pub(crate) key: Blob,
    pub(crate) replicas: Vec<ReplicaReport>,
    /// When enough had answered, from the start.
    pub(crate) met: Option<Duration>,
    pub(crate) answered: Duration,
    /// Who is being repaired, of a read.
    pub(crate) repaired: Option<Vec<NodeId>>,
}

pub(crate) async fn write(
    cluster: &Cluster,
    view: &Arc<View>,
    keyspace: &Keyspace,
    w: usize,
    mut trace: Trace,
) -> Explanation {
    join_all(trace.replicas.iter_mut().map(|report| async {
        report.sync_us = last_sync(cluster, view, report).await;
    }))
    .await;
    let hints = trace.replicas.iter().filter_map(|report| {
        let keeper = report.hinted_at.as_ref()?;
        Some(format!("{keeper} keeps a hint for {}", report.node))
    });
    let besides = hints.collect();
    tell(view, keyspace, w, trace, besides)
}

pub(crate) async fn read(
    _cluster: &Cluster,
    view: &Arc<View>,
    keyspace: &Keyspace,
    r: usize,
    trace: Trace,
) -> Explanation {
    let behind = trace.repaired.iter().flatten();
    let besides = behind.map(|node| format!("{node} is behind and gets repaired now")).collect();
    tell(view, keyspace, r, trace, besides)
}

async fn last_sync(cluster: &Cluster, view: &View, report: &ReplicaReport) -> Option<u64> {
    if report.outcome != ReplicaOutcome::Ok {
        return None;
    }
    let stats = async |client: &Client| NodeApiClient::stats(client).await;
    let stats = view.nodes[&report.node].peer.call(cluster.timeout(), stats).await.ok()?;
    Some(stats.last_sync_us)
}

fn tell(
    view: &View,
    keyspace: &Keyspace,
    needed: usize,
    trace: Trace,
    besides: Vec<String>,
) -> Explanation {
    let hash = key_position(trace.key.as_bytes());
    let placement = &view.topology.current;
    let ring = &placement.ring;
    let owners = placement.owners(&keyspace.name, trace.key.as_bytes());
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let skipped = skipped(view, hash, &owners, &trace.replicas);
    Explanation {
        hash: format!("{hash:016x}"),
        token: ring.token_at(hash).map_or_else(String::new, |(token, _)| format!("{token:016x}")),
        n: placement.n(&keyspace.name),
        needed: placement.needed(&keyspace.name, needed),
        owners,
        skipped,
        replicas: trace.replicas,
        met_us: trace.met.map(us),
        answered_us: us(trace.answered),
        besides,
        guarantee: keyspace.guarantee(),
    }
}

/// Tokens on the way from the key to its last owner, or to the last who stands in, that brought nobody new.
fn skipped(view: &View, hash: u64, owners: &[NodeId], replicas: &[ReplicaReport]) -> Vec<Skipped> {
    let mut left: Vec<&NodeId> = owners.iter().collect();
    left.extend(replicas.iter().filter(|r| r.stands_in_for.is_some()).map(|r| &r.node));
    let mut met: Vec<&NodeId> = Vec::new();
    let mut skipped = Vec::new();
    for (token, node) in view.topology.current.ring.walk(hash) {
        if left.is_empty() {
            break;
        }
        let why = if met.contains(&node) {
            "is on the list already"
        } else if left.contains(&node) {
            left.retain(|other| *other != node);
            met.push(node);
            let down = replicas
                .iter()
                .any(|r| r.node == *node && r.outcome == ReplicaOutcome::Unreachable);
            if !down {
                continue;
            }
            "cannot be reached"
        } else {
            met.push(node);
            "cannot stand in"
        };
        skipped.push(Skipped {
            token: format!("{token:016x}"),
            node: node.clone(),
            why: why.to_owned(),
        });
    }
    skipped
}
