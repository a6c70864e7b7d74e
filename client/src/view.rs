//! The picture of the cluster that a client works from, with a connection to each node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringkv_shared::net::{Claimant, Peer, Router};
use ringkv_shared::protocol::lease::{NodeAt, RouteMap, ViewId};
use ringkv_shared::topology::Topology;
use ringkv_shared::{Keyspace, KeyspaceName, NodeId};
use tokio::time::Instant;

use crate::pending::Pending;

/// How long it may take to connect to a node.
const CONNECT: Duration = Duration::from_secs(1);
/// A node that could not be reached from here is not tried for so long.
const AVOIDED: Duration = Duration::from_secs(2);

/// A picture of the cluster. Immutable, but for its connections.
pub(crate) struct View {
    pub(crate) id: ViewId,
    pub(crate) topology: Topology,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(crate) keyspaces: BTreeMap<KeyspaceName, Keyspace>,
    /// Under which epochs nodes are asked.
    claimant: Arc<Claimant>,
}

/// A node, with its connection.
pub(crate) struct Node {
    at: NodeAt,
    pub(crate) peer: Peer,
    /// Not to be tried until then.
    avoided: Mutex<Option<Instant>>,
}

impl View {
    /// The picture that a map draws, with the connections of the one before as far as they still hold.
    pub(crate) fn of(
        id: ViewId,
        map: &RouteMap,
        before: Option<&Self>,
        pending: &Arc<Pending>,
    ) -> Self {
        let same = |claimant: &&Arc<Claimant>| {
            claimant.coordinator == map.coordinator && claimant.epoch == id.epoch
        };
        let before = before.filter(|before| same(&&before.claimant));
        let claimant = before.map(|before| Arc::clone(&before.claimant)).unwrap_or_else(|| {
            Arc::new(Claimant::new(&map.coordinator, Vec::new(), map.reign.coordinator))
        });
        claimant.set_ring(map.reign.ring);
        let node = |at: &NodeAt| {
            let known = before.and_then(|before| before.nodes.get(&at.id));
            let kept = known.filter(|node| node.at == *at).cloned();
            (at.id.clone(), kept.unwrap_or_else(|| Arc::new(Node::new(at, &claimant, pending))))
        };
        Self {
            id,
            topology: map.topology(),
            nodes: map.nodes.iter().map(node).collect(),
            keyspaces: map.keyspaces.iter().map(|k| (k.name.clone(), k.clone())).collect(),
            claimant,
        }
    }
}

impl Node {
    fn new(at: &NodeAt, claimant: &Arc<Claimant>, pending: &Arc<Pending>) -> Self {
        let peer = Peer::of_member(&at.addr, &at.uuid, Arc::clone(claimant));
        let peer = peer.as_client().with_router(Arc::clone(pending) as Arc<dyn Router>);
        Self { at: at.clone(), peer, avoided: Mutex::default() }
    }

    /// Whether it can be asked from here, connecting if necessary.
    pub(crate) async fn is_within_reach(&self) -> bool {
        if self.peer.is_connected() {
            return true;
        }
        let avoided = *self.avoided.lock().expect("no panic while the lock is held");
        if avoided.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let Err(error) = self.peer.meet(CONNECT).await else { return true };
        tracing::debug!(node = %self.at.id, "asked through the coordinator: {error}");
        self.avoid();
        false
    }

    /// It could not be reached.
    fn avoid(&self) {
        let until = Instant::now() + AVOIDED;
        *self.avoided.lock().expect("no panic while the lock is held") = Some(until);
    }
}
