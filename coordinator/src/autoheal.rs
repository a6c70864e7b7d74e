//! Takes a node off the ring that is gone for long, when the setting `autoheal` asks for it.
//!
//! [`ringkv_shared::heal`] decides. What is done is what a person would do: `removenode`, `rebalance`; and it is told.
//! A rebalance that cannot begin is tried again; when the node comes back before it could, the wish is taken back.
//!
//! # Caveats
//!
//! What it has staged when the coordinator stops is staged as if a person had done it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringkv_shared::heal::{self, Healing};
use ringkv_shared::protocol::cluster::Stage;
use ringkv_shared::{Failure, NodeId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Node};

/// How long until a rebalance that could not begin is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Looks once a heartbeat, until `shutdown`.
pub(crate) async fn watch(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let (mut told, mut staged) = (None, None);
    loop {
        let pause = cluster.settings().heartbeat();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {
                again(&cluster, &mut staged);
                look(&cluster, &mut told, &mut staged).await;
            }
        }
    }
}

/// What was staged here, until it is carried out.
struct Staged {
    node: NodeId,
    /// The ring's epoch then: when it is another, somebody has a hand in it.
    epoch: u64,
    /// When it is tried again.
    at: Instant,
}

/// Begins anew what could not be carried out, or takes it back when there is no need any more.
fn again(cluster: &Arc<Cluster>, staged: &mut Option<Staged>) {
    let view = cluster.view();
    let Some(Staged { node, epoch, at }) = staged else { return };
    if view.stage != Stage::Staged || view.topology.epoch != *epoch {
        *staged = None;
        return;
    }
    // Who runs or stages something now is not disturbed: it is looked at again with the next heartbeat.
    let Ok(alone) = cluster.alone() else { return };
    let is_back = view.nodes.get(node).is_some_and(|node| !node.is_down());
    if is_back && cluster.clear_staged().is_ok() {
        cluster.events.tell(format!("autoheal: {node} is back and stays on the ring"));
    } else if !is_back && Instant::now() >= *at {
        *at = Instant::now() + AGAIN_AFTER;
        drop(alone);
        if let Err(failure) = cluster.rebalance(false, Some(*epoch)) {
            tracing::info!(%node, "not taken off the ring yet: {failure}");
        }
    }
}

/// Heals who is to be healed, or tells why not, once.
async fn look(cluster: &Arc<Cluster>, told: &mut Option<String>, staged: &mut Option<Staged>) {
    let text = match cluster.healing() {
        Healing::Nothing | Healing::Wait { .. } => None,
        Healing::Cannot { node, why } => Some(format!("autoheal leaves {node} on the ring: {why}")),
        Healing::Heal(node) => match heal(cluster, &node).await {
            Ok(epoch) => {
                *staged = Some(Staged { node, epoch, at: Instant::now() + AGAIN_AFTER });
                None
            }
            Err(failure) => Some(format!("autoheal could not take {node} off the ring: {failure}")),
        },
    };
    if text != *told {
        text.iter().for_each(|text| cluster.events.tell(text.clone()));
        *told = text;
    }
}

/// Says under which epoch of the ring it was staged.
async fn heal(cluster: &Arc<Cluster>, node: &NodeId) -> Result<u64, Failure> {
    let epoch = cluster.removenode(node.clone(), false).await?.epoch;
    cluster.events.tell(format!(
        "autoheal: {node} was DOWN for too long, its copies are made anew on the other nodes"
    ));
    if let Err(failure) = cluster.rebalance(false, Some(epoch)) {
        tracing::info!(%node, "not taken off the ring yet: {failure}");
    }
    Ok(epoch)
}

impl Cluster {
    /// What is to be done about a node that is DOWN.
    pub(crate) fn healing(&self) -> Healing {
        let (view, now_ms) = (self.view(), self.now_ms());
        let after = self.settings().autoheal();
        let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        let opinion = |(id, node): (&NodeId, &Arc<Node>)| {
            let opinion = node.opinion(now_ms);
            let (health, since_ms) = (opinion.health, opinion.since_ms);
            (id.clone(), heal::Opinion { health, since_ms })
        };
        let opinions: BTreeMap<_, _> = view.nodes.iter().map(opinion).collect();
        let settled = view.stage == Stage::Idle;
        heal::decide(&view.topology.current, settled, &opinions, now_ms, after_ms)
    }
}
