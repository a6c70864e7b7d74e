//! Takes a node off the ring that is gone for long, when the setting `autoheal` asks for it.
//!
//! [`ringkv_shared::heal`] decides. What is done is what a person would do: `removenode`, `rebalance`; and it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringkv_shared::heal::{self, Healing};
use ringkv_shared::protocol::cluster::Stage;
use ringkv_shared::{Failure, NodeId};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Node};

/// Looks once a heartbeat, until `shutdown`.
pub(crate) async fn watch(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let mut told = None;
    loop {
        let pause = cluster.settings().heartbeat();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => look(&cluster, &mut told).await,
        }
    }
}

/// Heals who is to be healed, or tells why not, once.
async fn look(cluster: &Arc<Cluster>, told: &mut Option<String>) {
    let text = match cluster.healing() {
        Healing::Nothing | Healing::Wait { .. } => None,
        Healing::Cannot { node, why } => Some(format!("autoheal leaves {node} on the ring: {why}")),
        Healing::Heal(node) => match heal(cluster, &node).await {
            Ok(()) => None,
            Err(failure) => Some(format!("autoheal could not take {node} off the ring: {failure}")),
        },
    };
    if text != *told {
        text.iter().for_each(|text| cluster.events.tell(text.clone()));
        *told = text;
    }
}

async fn heal(cluster: &Arc<Cluster>, node: &NodeId) -> Result<(), Failure> {
    cluster.removenode(node.clone(), false).await?;
    cluster.events.tell(format!(
        "autoheal: {node} was DOWN for too long, its copies are made anew on the other nodes"
    ));
    cluster.rebalance(false, None)?;
    Ok(())
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
