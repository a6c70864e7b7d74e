//! Dropped keyspaces: every node is told, and told again until it has confirmed.
//!
//! A keyspace that is not in the coordinator's state is unknown, whatever nodes still hold of it. A
//! node that was away when it was dropped must not bring it back, so the log keeps who has not confirmed,
//! and none of that name can be made until all have. Who joins the ring later, perhaps with salvaged data, is told
//! of all that were ever dropped before it is a member.
//!
//! # Caveats
//!
//! A node that was told, did not answer in time, was told again and confirmed may still carry out the first
//! telling later, out of a connection that was given up. That is within moments of the confirmation; a
//! keyspace that is made again in them, and written to, can lose the write at that node.

use std::sync::Arc;

use futures::future::join_all;
use ringkv_shared::net::{Client, NodeApiClient, Peer};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::KeyspaceReply;
use ringkv_shared::{ErrorName, Failure, KeyspaceName};
use tokio::sync::OwnedMutexGuard;

use crate::cluster::{Cluster, Node, View};
use crate::state::Event;

/// How many times as long as a request a node has to forget a keyspace.
const FORGET_DEADLINES: u32 = 5;

impl Cluster {
    pub(crate) async fn drop_keyspace(
        &self,
        name: &KeyspaceName,
    ) -> Result<KeyspaceReply, Failure> {
        let _one = self.defining.lock().await;
        let _alone = self.alone()?;
        self.view().keyspace(name)?;
        if name.is_default() {
            let message = "the keyspace default is always there; nothing was done";
            return Err(Failure::new(ErrorName::BadArgument, message)
                .hint("del takes single keys out of it"));
        }
        self.commit(&Event::Dropped { name: name.clone() })?;
        self.requests.forget_keyspace(name);
        self.events.tell(format!("keyspace {name} dropped"));
        let telling = Arc::clone(&self.telling).lock_owned().await;
        self.tell_dropped(telling).await;
        let dropped = self.view().dropped_keyspaces(|dropped| dropped == name);
        Ok(KeyspaceReply { status: Status::Ok, keyspaces: Vec::new(), dropped })
    }

    /// Begins to tell the nodes that have not confirmed yet, unless that is under way.
    pub(crate) fn tell_dropped_again(self: &Arc<Self>) {
        if self.view().dropped.is_empty() || self.deposed().is_some() {
            return;
        }
        if let Ok(telling) = Arc::clone(&self.telling).try_lock_owned() {
            let cluster = Arc::clone(self);
            tokio::spawn(async move { cluster.tell_dropped(telling).await });
        }
    }

    async fn tell_dropped(&self, _one: OwnedMutexGuard<()>) {
        // A write that was under way when the keyspace was dropped is through then.
        self.older_views_unused().await;
        let view = self.view();
        let pairs = view.dropped.iter().flat_map(|(name, unheard)| {
            let nodes = unheard.iter().filter_map(|id| view.nodes.get(id));
            nodes.map(move |node| (name, node))
        });
        join_all(pairs.map(|(name, node)| self.tell_one(&view, name, node))).await;
    }

    async fn tell_one(&self, view: &View, name: &KeyspaceName, node: &Node) {
        debug_assert!(!view.keyspaces.contains_key(name), "{name} is there");
        if node.is_down() {
            return;
        }
        if let Err(failure) = self.forget_at(&node.peer, &node.name(), name).await {
            tracing::info!(node = %node.id, keyspace = %name, "not forgotten: {failure}");
            return;
        }
        let forgotten = Event::Forgotten { name: name.clone(), id: node.id.clone() };
        if let Err(failure) = self.commit(&forgotten) {
            tracing::warn!("{} is told again: {failure}", node.id);
        }
    }

    /// Has a node that is no member yet forget all that ever was dropped.
    pub(crate) async fn forget_all_at(&self, peer: &Peer, who: &str) -> Result<(), Failure> {
        let view = self.view();
        for name in &view.ever_dropped {
            self.forget_at(peer, who, name).await?;
        }
        Ok(())
    }

    async fn forget_at(&self, peer: &Peer, who: &str, name: &KeyspaceName) -> Result<(), Failure> {
        let keyspace = name.clone();
        let call =
            async move |client: &Client| NodeApiClient::drop_keyspace(client, keyspace).await;
        let answer = peer.call(self.timeout() * FORGET_DEADLINES, call).await;
        answer.map(drop).map_err(|error| error.into_failure(who))
    }
}
