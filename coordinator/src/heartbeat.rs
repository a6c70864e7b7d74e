//! Asks every node `size` again and again, and tells when one goes or comes back.
//!
//! It tells, too, when the coordinator itself slept: the misses of that time are not counted, see
//! [`ringkv_shared::probes`].
//!
//! # Caveats
//!
//! A beat ends when its last node has answered or its deadline is over, and the pause comes after it: with
//! a node that is silent, beats are twice as far apart.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::detector::Transition;
use ringkv_shared::net::NodeApiClient;
use ringkv_shared::probes::{Probe, seconds};
use ringkv_shared::protocol::cluster::Health;
use ringkv_shared::protocol::node::{DiskState, SizeReply};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::unix_ms;
use crate::cluster::{Cluster, Node};

/// The epoch of the ring that nodes were to know at the last heartbeats.
///
/// A node is told of a new ring in the background, so one that does not know the newest is behind only if it did
/// not learn it from one heartbeat to the next.
#[derive(Default)]
pub(crate) struct Due(Mutex<[u64; 2]>);

impl Due {
    /// A heartbeat begins, and this is the ring that requests are made under.
    fn begin(&self, ring: u64) {
        let mut rings = self.0.lock().expect("no panic while the lock is held");
        *rings = [rings[1], ring];
    }

    /// The ring that every node which answers knows by now.
    pub(crate) fn ring(&self) -> u64 {
        self.0.lock().expect("no panic while the lock is held")[0]
    }
}

/// So long a sleep is told even when it excused nobody.
const SLEEP_TOLD: Duration = Duration::from_secs(1);

/// Watches until `shutdown`.
pub(crate) async fn watch(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    loop {
        let planned = Instant::now() + cluster.settings().heartbeat();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(planned) => {
                beat(&cluster, planned).await;
                cluster.end_unread_pictures().await;
                cluster.tell_dropped_again();
            }
        }
    }
}

/// One heartbeat of all nodes, at once, that was to begin when `planned`.
pub(crate) async fn beat(cluster: &Cluster, planned: Instant) {
    cluster.written.note(cluster.writes.last(), unix_ms());
    cluster.due.begin(cluster.claimant.reign().ring);
    let view = cluster.view();
    let late = planned.elapsed();
    let everybody = view.nodes.values().chain(view.leaving.values());
    let beats = everybody.map(|node| beat_one(cluster, node, late));
    let sleeps = join_all(beats).await.into_iter();
    let slept = sleeps.filter(|sleep| sleep.excused || sleep.lasted >= SLEEP_TOLD);
    if let Some(longest) = slept.map(|sleep| sleep.lasted).max() {
        let slept = seconds(longest);
        cluster.events.tell(format!(
            "the coordinator slept {slept}: missed heartbeats of that time are not counted"
        ));
    }
    cluster.sync.news.notify_one();
}

/// How long the coordinator slept over a heartbeat.
struct Sleep {
    lasted: Duration,
    /// Whether the heartbeat was missed, and excused for it.
    excused: bool,
}

async fn beat_one(cluster: &Cluster, node: &Node, late: Duration) -> Sleep {
    let (deadline, down_after) = {
        let settings = cluster.settings();
        (settings.heartbeat(), settings.down_after())
    };
    let (at_ms, sent) = (unix_ms(), Instant::now());
    let answer = node.pulse.call(deadline, async |client| NodeApiClient::size(client).await).await;
    let probe = Probe { at_ms, late, deadline, took: sent.elapsed() };
    let answer = match answer {
        Ok(reply) if reply.uuid != node.member.uuid => {
            let stranger = describe(node, &reply);
            if node.met_stranger(&reply.uuid) {
                cluster.events.tell(stranger.clone());
            }
            Err(stranger)
        }
        Ok(reply) => {
            tell_overflows(cluster, node, &reply);
            cluster.heard_reign(node, &reply);
            if node.met_disk(reply.state) {
                cluster.events.tell(disk_news(node, reply.state));
            }
            Ok(reply)
        }
        Err(error) => Err(error.to_string()),
    };
    let lasted = probe.overslept().unwrap_or_default();
    let excused = answer.is_err() && !lasted.is_zero();
    if let Some(transition) = node.probed(&probe, answer, cluster.now_ms(), down_after) {
        tell(cluster, node, transition);
    }
    Sleep { lasted, excused }
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
