//! why-down: what is thought of a node, and the heartbeats that led to it.

use ringkv_shared::heal::Healing;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::WhyDownReply;
use ringkv_shared::{Failure, NodeId};

use crate::clock::unix_ms;
use crate::cluster::Cluster;

impl Cluster {
    pub(crate) fn why_down(&self, id: &NodeId) -> Result<WhyDownReply, Failure> {
        let node = self.node(id)?;
        let (now_ms, unix_now_ms) = (self.now_ms(), unix_ms());
        let opinion = node.opinion(now_ms);
        let heals_in_ms = match self.healing() {
            Healing::Wait { node, at_ms } if node == *id => Some(at_ms.saturating_sub(now_ms)),
            Healing::Heal(node) if node == *id => Some(0),
            _ => None,
        };
        let settings = self.settings();
        Ok(WhyDownReply {
            status: Status::Ok,
            node: id.clone(),
            addr: node.member.addr.clone(),
            health: opinion.health,
            since_ms: unix_now_ms.saturating_sub(now_ms.saturating_sub(opinion.since_ms)),
            heartbeat_ms: u64::try_from(settings.heartbeat().as_millis()).unwrap_or(u64::MAX),
            down_after: settings.down_after(),
            probes: node.probes(),
            heals_at_ms: heals_in_ms.map(|ms| unix_now_ms + ms),
        })
    }
}
