//! The *view*: an immutable picture of members and placements.
//!
//! Every request takes the view once and holds it to its end; a change of the ring publishes a new view and
//! can wait until nobody uses an older one. That wait is what makes a committed placement safe to copy for: after
//! it, every write in flight goes to the new owners too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringkv_shared::protocol::cluster::Stage;
use ringkv_shared::topology::Topology;
use ringkv_shared::{Keyspace, KeyspaceName, NodeId};
use tokio_util::task::TaskTracker;

use crate::node::{AsWhom, Node};
use crate::state::{Member, State};

/// A picture of the cluster that requests work from.
pub(crate) struct View {
    /// Grows with every view of this start.
    pub(crate) number: u64,
    pub(crate) topology: Topology,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Those of the ring in force, by their places among its members.
    in_ring_order: Vec<Arc<Node>>,
    /// Nodes that are on no ring any more and may have old copies: nobody reads there or writes.
    pub(crate) leaving: BTreeMap<NodeId, Arc<Node>>,
    /// How far a change of the ring is.
    pub(crate) stage: Stage,
    /// Whether the copying of what is pending rests.
    pub(crate) paused: bool,
    /// What holds for each keyspace; `default` is always there.
    pub(crate) keyspaces: BTreeMap<KeyspaceName, Keyspace>,
    /// Keyspaces that were dropped, and who has not confirmed it.
    pub(crate) dropped: BTreeMap<KeyspaceName, BTreeSet<NodeId>>,
    /// All that ever were dropped.
    pub(crate) ever_dropped: BTreeSet<KeyspaceName>,
    /// Requests under way with this view.
    pub(crate) users: TaskTracker,
}

impl View {
    /// A member, or a node that is leaving.
    pub(crate) fn anybody(&self, id: &NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(id).or_else(|| self.leaving.get(id))
    }

    /// The first `most` owners of a position in the ring in force.
    pub(crate) fn owners(
        &self,
        keyspace: &KeyspaceName,
        position: u64,
        most: usize,
    ) -> impl Iterator<Item = &Arc<Node>> + Clone {
        let owners = self.topology.current.preferred(keyspace, position);
        (0..owners.len().min(most)).map(move |place| {
            let number = owners.numbers()[place];
            &self.in_ring_order[usize::from(number)]
        })
    }

    /// The identities of their data directories.
    pub(crate) fn identities(&self) -> BTreeSet<&str> {
        let all = self.nodes.values().chain(self.leaving.values());
        all.map(|node| node.member.uuid.as_str()).collect()
    }

    /// The members of the ring in force. Who is only to join may have been a member before, and hold what was deleted
    /// since.
    pub(crate) fn in_force(&self) -> BTreeMap<NodeId, Arc<Node>> {
        let on_ring = self.nodes.iter().filter(|(id, _)| self.topology.current.has(id));
        on_ring.map(|(id, node)| (id.clone(), node.clone())).collect()
    }

    /// The members and the nodes that are leaving.
    pub(crate) fn everybody(&self) -> BTreeMap<NodeId, Arc<Node>> {
        let all = self.nodes.iter().chain(&self.leaving);
        all.map(|(id, node)| (id.clone(), node.clone())).collect()
    }

    /// The picture of a state, keeping those nodes of `old` that have not moved.
    pub(crate) fn of(state: &State, old: Option<&Self>, as_whom: &AsWhom, now_ms: u64) -> Self {
        let nodes_of = |members| nodes_of(members, old, as_whom, now_ms);
        let nodes = nodes_of(&state.members);
        let on_ring = state.topology.current.ring.ids().iter();
        Self {
            number: old.map_or(1, |old| old.number + 1),
            topology: state.topology.clone(),
            in_ring_order: on_ring.filter_map(|id| nodes.get(id).cloned()).collect(),
            nodes,
            leaving: state.clearing.as_ref().map(nodes_of).unwrap_or_default(),
            stage: stage_of(state),
            paused: state.paused,
            keyspaces: state.keyspaces.clone(),
            dropped: state.dropped.clone(),
            ever_dropped: state.ever_dropped.clone(),
            users: TaskTracker::new(),
        }
    }
}

const fn stage_of(state: &State) -> Stage {
    match (&state.topology, &state.clearing) {
        (Topology { pending: Some(_), .. }, _) => Stage::Copying,
        (_, Some(_)) => Stage::Clearing,
        (Topology { staged: Some(_), .. }, _) => Stage::Staged,
        _ => Stage::Idle,
    }
}

/// Nodes with their connections, those of before where they have not moved.
fn nodes_of(
    members: &BTreeMap<NodeId, Member>,
    old: Option<&View>,
    as_whom: &AsWhom,
    now_ms: u64,
) -> BTreeMap<NodeId, Arc<Node>> {
    let node = |(id, member): (&NodeId, &Member)| {
        let known = old.and_then(|old| old.anybody(id));
        let kept = known.filter(|node| node.member == *member).cloned();
        let fresh = || Arc::new(Node::new(id, member, as_whom, now_ms));
        (id.clone(), kept.unwrap_or_else(fresh))
    };
    members.iter().map(node).collect()
}
