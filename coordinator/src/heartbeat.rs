//! Asks every node `size` again and again, and tells when one goes or comes back.
//!
//! # Caveats
//!
//! A coordinator that was itself paused sees at most one missed beat a node for it, since the
//! beats it slept through were never sent.

use std::sync::Arc;

use futures::future::join_all;
use ringkv_shared::detector::Transition;
use ringkv_shared::net::NodeApiClient;
use ringkv_shared::protocol::cluster::Health;
use ringkv_shared::protocol::node::{DiskState, SizeReply};
use tokio_util::sync::CancellationToken;

use crate::clock::unix_ms;
use crate::cluster::{Cluster, Node};

/// Watches until `shutdown`.
pub(crate) async fn watch(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    loop {
        let pause = cluster.settings().heartbeat();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {
                beat(&cluster).await;
                cluster.end_unread_pictures().await;
                cluster.tell_dropped_again();
            }
        }
    }
}

/// One heartbeat of all nodes, at once.
pub(crate) async fn beat(cluster: &Cluster) {
    cluster.written.note(cluster.writes.last(), unix_ms());
    let view = cluster.view();
    let everybody = view.nodes.values().chain(view.leaving.values());
    join_all(everybody.map(|node| beat_one(cluster, node))).await;
    cluster.sync.news.notify_one();
}

async fn beat_one(cluster: &Cluster, node: &Node) {
    let (deadline, down_after) = {
        let settings = cluster.settings();
        (settings.heartbeat(), settings.down_after())
    };
    let answer = node.pulse.call(deadline, async |client| NodeApiClient::size(client).await).await;
    let now_ms = cluster.now_ms();
    let transition = match answer {
        Ok(reply) if reply.uuid != node.member.uuid => {
            let stranger = describe(node, &reply);
            if node.met_stranger(&reply.uuid) {
                cluster.events.tell(stranger.clone());
            }
            node.missed(stranger, now_ms, down_after)
        }
        Ok(reply) => {
            tell_overflows(cluster, node, &reply);
            if node.met_disk(reply.state) {
                cluster.events.tell(disk_news(node, reply.state));
            }
            node.answered(reply, now_ms)
        }
        Err(error) => node.missed(error.to_string(), now_ms, down_after),
    };
    if let Some(transition) = transition {
        tell(cluster, node, transition);
    }
}

/// Tells of notes that were thrown away, once.
fn tell_overflows(cluster: &Cluster, node: &Node, reply: &SizeReply) {
    for target in cluster.sync.newly_overflown(&node.id, &reply.debts) {
        let keeper = &node.id;
        let text =
            format!("hints for {target} overflowed at {keeper}: anti-entropy finds the rest");
        cluster.events.tell(text);
    }
}

fn disk_news(node: &Node, state: DiskState) -> String {
    let id = &node.id;
    match state {
        DiskState::Ok => format!("{id} takes writes again"),
        DiskState::DiskFull => {
            format!("{id}: DISK FULL, it refuses puts; reads and deletes go on")
        }
        DiskState::ReadOnly => format!("{id}: READ ONLY, it refuses writes; reads go on"),
    }
}

/// Who answers at the address of `node`, when that is another.
fn describe(node: &Node, found: &SizeReply) -> String {
    let Node { id, member, .. } = node;
    if found.id == *id {
        format!("{id} at {} has another data directory than before: its keys are gone", member.addr)
    } else {
        format!("{} at {} answers in place of {id}", found.id, member.addr)
    }
}

#[allow(clippy::cast_precision_loss)]
fn tell(cluster: &Cluster, node: &Node, transition: Transition) {
    let Transition { from, to, misses, silent_ms } = transition;
    match (from, to) {
        (_, Health::Down) => cluster.events.tell(format!(
            "{} is DOWN ({misses} heartbeats missed, {:.1} s)",
            node.id,
            silent_ms as f64 / 1000.0
        )),
        (Health::Down, Health::Up) => {
            cluster.events.tell(format!("{} is UP", node.id));
            cluster.sync.handoff().is_back(&node.id);
        }
        (_, Health::Suspect) => tracing::info!(node = %node.id, "missed a heartbeat"),
        _ => {}
    }
}
