//! The cluster at one moment, for a backup while writes go on.
//!
//! ```text
//!   freeze at every node        what is overwritten from now on is kept there
//!   V = last version given      one step with the list of writes under way
//!   wait for those              each is at its nodes now, or its deadline has passed
//!   pages at V from every node  of each key the newest record up to V
//!   thaw
//! ```
//!
//! Why that is one moment: a write up to V was numbered before V was taken, so it is in the list and was
//! waited for; what it overwrote at a node later than the freeze was kept, and its own record is
//! there. A write after V is in no page. So the pages are what a reader would have found who stopped
//! all writes for an instant.
//!
//! The nodes are those of one view. When the ring changes while the picture is begun, it is begun
//! again: a write up to V might be at a node that has no freeze.
//!
//! # Caveats
//!
//! Of a write whose outcome is unknown the picture may have it or not, as every reader. A write
//! that somebody makes at a node directly, past the coordinator, has a version of its own and is in
//! the picture or not by that. A coordinator that restarts has no pictures; the nodes end theirs by
//! themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::net::{Client, NodeApiClient, PeerError};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::ClusterFreeze;
use ringkv_shared::protocol::node::{DoneReply, PictureAt};
use ringkv_shared::{ErrorName, Failure, KeyspaceName, NodeId, Version};
use tokio::time::Instant;

use crate::clock::unix_ms;
use crate::cluster::{Cluster, Node, View};

/// How long a picture that nobody reads is kept: as long as the nodes do.
const UNREAD_MAX: Duration = Duration::from_secs(60);
/// How often a picture is begun anew because the ring changed.
const BEGINS_MAX: usize = 5;

/// A picture of the cluster.
pub(crate) struct Picture {
    /// The nodes that it is of.
    pub(crate) view: Arc<View>,
    version: Version,
    /// What each node calls its part.
    parts: BTreeMap<NodeId, String>,
    read: Mutex<Instant>,
}

/// The pictures that are being read, by name.
#[derive(Default)]
pub(crate) struct Pictures(Mutex<BTreeMap<String, Arc<Picture>>>);

impl Pictures {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Picture>>> {
        self.0.lock().expect("no panic while the lock is held")
    }

    /// Takes out those that nobody has read for a while.
    fn unread(&self) -> Vec<Arc<Picture>> {
        let mut overdue = Vec::new();
        self.lock().retain(|_, picture| {
            let kept = picture.last_read().elapsed() < UNREAD_MAX;
            overdue.extend((!kept).then(|| Arc::clone(picture)));
            kept
        });
        overdue
    }
}

impl Picture {
    /// What to ask a node for; `None` if it is not in the picture.
    pub(crate) fn at(&self, node: &NodeId) -> Option<PictureAt> {
        let picture = self.parts.get(node)?.clone();
        Some(PictureAt { picture, version: self.version })
    }

    fn last_read(&self) -> MutexGuard<'_, Instant> {
        self.read.lock().expect("no panic while the lock is held")
    }
}

impl Cluster {
    /// Begins a picture.
    pub(crate) async fn freeze(&self) -> Result<ClusterFreeze, Failure> {
        for _ in 0..BEGINS_MAX {
            let picture = self.begin().await?;
            if Arc::ptr_eq(&picture.view, &self.view()) {
                return Ok(self.keep(picture));
            }
            self.end(&picture).await;
        }
        let message = "the ring changes all the time; no picture of it was taken";
        Err(Failure::new(ErrorName::Busy, message).hint("when the rebalance is through, try again"))
    }

    async fn begin(&self) -> Result<Picture, Failure> {
        let (view, _user) = self.enter();
        let asked = join_all(view.nodes.values().map(|node| self.freeze_one(node))).await;
        let (mut parts, mut refused) = (BTreeMap::new(), None);
        for (id, answer) in view.nodes.keys().zip(asked) {
            match answer {
                Ok(Some(part)) => drop(parts.insert(id.clone(), part)),
                Ok(None) => {}
                Err(failure) => refused = Some(failure),
            }
        }
        let (version, under_way) = self.writes.mark();
        let read = Mutex::new(Instant::now());
        let picture = Picture { view: Arc::clone(&view), version, parts, read };
        if let Some(failure) = refused {
            self.end(&picture).await;
            return Err(failure);
        }
        under_way.wait().await;
        Ok(picture)
    }

    /// The node's part; `None` if it does not answer.
    async fn freeze_one(&self, node: &Node) -> Result<Option<String>, Failure> {
        if node.is_down() {
            return Ok(None);
        }
        let freeze = async |client: &Client| NodeApiClient::freeze(client).await;
        match node.peer.call(self.timeout(), freeze).await {
            Ok(reply) => Ok(Some(reply.picture)),
            Err(PeerError::Refused(failure)) => Err(failure),
            Err(_) => Ok(None),
        }
    }

    fn keep(&self, picture: Picture) -> ClusterFreeze {
        let silent = picture.view.nodes.keys().filter(|id| !picture.parts.contains_key(*id));
        let reply = ClusterFreeze {
            status: Status::Ok,
            picture: uuid::Uuid::new_v4().to_string(),
            version: picture.version,
            at_ms: unix_ms(),
            replication: picture.view.topology.current.n(&KeyspaceName::default()),
            silent: silent.cloned().collect(),
        };
        self.pictures.lock().insert(reply.picture.clone(), Arc::new(picture));
        reply
    }

    /// The picture of that name, for a page of it.
    pub(crate) fn picture(&self, name: &str) -> Result<Arc<Picture>, Failure> {
        let picture = self.pictures.lock().get(name).cloned();
        let picture = picture.ok_or_else(|| {
            let message = "the picture is gone: it was ended, or not read for a minute, or the coordinator was restarted";
            Failure::new(ErrorName::NotApplied, message).hint("begin again")
        })?;
        *picture.last_read() = Instant::now();
        Ok(picture)
    }

    /// Ends a picture; one that is gone is no matter.
    pub(crate) async fn thaw(&self, name: &str) -> DoneReply {
        let gone = self.pictures.lock().remove(name);
        if let Some(picture) = gone {
            self.end(&picture).await;
        }
        DoneReply { status: Status::Ok }
    }

    /// Ends the pictures that nobody has read for a while.
    pub(crate) async fn end_unread_pictures(&self) {
        for picture in self.pictures.unread() {
            self.end(&picture).await;
        }
    }

    /// Tells the nodes; those that do not hear it end their parts by themselves.
    async fn end(&self, picture: &Picture) {
        let thaws = picture.parts.iter().map(|(id, part)| async move {
            let part = part.clone();
            let thaw = async move |client: &Client| NodeApiClient::thaw(client, part).await;
            drop(picture.view.nodes[id].peer.call(self.timeout(), thaw).await);
        });
        join_all(thaws).await;
    }
}
