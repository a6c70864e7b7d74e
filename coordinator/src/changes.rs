//! addnode, removenode, setreplica: each stages a placement; with nothing to copy it is in force
//! at once, else it waits for `rebalance`. See [`ringkv_shared::topology`].
//!
//! # Caveats
//!
//! A node that holds the only copies of a keyspace and is DOWN can only be removed by force, and then
//! the change is in force at once. Keyspaces with more copies have one too few of some keys until the next
//! rebalance.

use std::net::ToSocketAddrs as _;

use futures::future::join_all;
use ringkv_shared::net::{NodeApiClient, Peer, PeerError};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::ChangeReply;
use ringkv_shared::protocol::node::SizeReply;
use ringkv_shared::topology::Topology;
use ringkv_shared::{ErrorName, Failure, Keyspace, KeyspaceName, NodeId, Zone};
use tokio::sync::OwnedMutexGuard;

use crate::checks::check_weight;
use crate::cluster::Cluster;
use crate::keyspace::check_quorums;
use crate::state::{Event, Member};

/// The most nodes: a ring token names its node by 16 bits.
const NODES_MAX: usize = 1000;

impl Cluster {
    pub(crate) async fn addnode(
        &self,
        id: NodeId,
        addr: String,
        weight: u32,
        zone: Option<Zone>,
    ) -> Result<ChangeReply, Failure> {
        let _alone = self.alone()?;
        check_weight(weight)?;
        let addr = check_addr(&addr)?;
        let before = self.view().topology.clone();
        let known = self.view().nodes.get(&id).cloned();
        if let Some(node) = known.as_ref().filter(|node| node.member.addr == addr) {
            let failure = taken(format!("{id} is already in the cluster at {addr}"));
            return Err(match node.opinion(0).stranger {
                true => failure.hint(format!(
                    "the node there now has other data; give up the old one first: removenode {id}"
                )),
                false => failure,
            });
        }
        if let Some(node) = self.view().nodes.values().find(|node| node.member.addr == addr) {
            return Err(taken(format!("nothing new answers at {addr}: that is {}", node.id)));
        }
        let size = self.meet(&id, &addr).await?;
        match known {
            Some(node) if node.member.uuid == size.uuid => {
                self.commit(&Event::Move { id: id.clone(), addr: addr.clone() })?;
                self.events.tell(format!("{id} moved to {addr}"));
            }
            Some(node) => {
                return Err(taken(format!(
                    "{id} is already in the cluster at {}",
                    node.member.addr
                )));
            }
            None if before.newest().ring.members().len() >= NODES_MAX => {
                let message = format!("the cluster has {NODES_MAX} nodes, the most there can be");
                return Err(Failure::new(ErrorName::BadArgument, message));
            }
            None => {
                let peer = self.claim(&id, &addr, &size).await?;
                // It may come with data of another time.
                self.forget_all_at(&peer, &format!("{id} at {addr}")).await?;
                let member = Member { addr: addr.clone(), uuid: size.uuid.clone() };
                self.commit(&Event::Add { id: id.clone(), member, weight, zone })?;
                self.node(&id)?.answered(size, self.now_ms());
                self.finalise_if_empty().await;
                self.events.tell(format!("{id} added at {addr}"));
            }
        }
        let mut reply = self.changed(&before);
        reply.share = Some(self.view().topology.newest().ring.share(&id));
        reply.addr = Some(addr);
        Ok(reply)
    }

    pub(crate) async fn removenode(&self, id: NodeId, force: bool) -> Result<ChangeReply, Failure> {
        let _alone = self.alone()?;
        let node = self.node(&id)?;
        let before = self.view().topology.clone();
        if !before.newest().has(&id) {
            return Err(Failure::new(ErrorName::NodeNotFound, format!("{id} is leaving already"))
                .hint("rebalance copies its keys and lets it go"));
        }
        let holds_data = before.current.has(&id);
        let only_copies = before.current.copies.values().any(|n| *n < 2);
        if holds_data && node.is_down() && only_copies && !force {
            return Err(Failure::new(
                ErrorName::NotApplied,
                format!("{id} is DOWN and holds the only copy of its keys"),
            )
            .hint(format!("restart {id} first; to lose those keys: removenode {id} --force")));
        }
        if before.newest().ring.members().len() == 1 && holds_data && !force {
            return Err(Failure::new(ErrorName::NotApplied, format!("{id} is the last node"))
                .hint(format!("add another first; to give up all keys: removenode {id} --force")));
        }
        self.commit(&Event::Remove { id: id.clone() })?;
        let forced =
            force && (node.is_down() || self.view().topology.newest().ring.members().is_empty());
        if forced && only_copies {
            self.finalise();
        } else {
            self.finalise_if_empty().await;
        }
        self.events.tell(format!("{id} removed from the ring"));
        Ok(self.changed(&before))
    }

    pub(crate) async fn setreplica(
        &self,
        space: &KeyspaceName,
        n: usize,
    ) -> Result<ChangeReply, Failure> {
        let _one = self.defining.lock().await;
        let _alone = self.alone()?;
        let view = self.view();
        let keyspace = view.keyspace(space)?;
        check_copies(n, view.topology.newest().ring.members().len())?;
        check_quorums(&Keyspace { n, ..keyspace.clone() })?;
        if n != keyspace.n {
            self.stage_copies(space, n).await?;
        }
        Ok(self.changed_of(&view.topology, space))
    }

    /// Stages another N of a keyspace. The caller is alone.
    pub(crate) async fn stage_copies(&self, space: &KeyspaceName, n: usize) -> Result<(), Failure> {
        self.commit(&Event::Replicas { name: space.clone(), n })?;
        self.finalise_if_empty().await;
        let of = if space.is_default() { String::new() } else { format!(" of {space}") };
        self.events.tell(format!("replication{of} set to {n}"));
        Ok(())
    }

    /// One change at a time, and none while a rebalance runs.
    pub(crate) fn alone(&self) -> Result<OwnedMutexGuard<()>, Failure> {
        self.reigns()?;
        self.changing.clone().try_lock_owned().map_err(|_| {
            Failure::new(ErrorName::Busy, "another change of the ring or a rebalance is under way")
                .hint("wait until it has finished: progress tells")
        })
    }

    /// Asks the node at `addr` who it is.
    async fn meet(&self, id: &NodeId, addr: &str) -> Result<SizeReply, Failure> {
        let peer = Peer::new(addr);
        let answer =
            peer.call(self.timeout(), async |client| NodeApiClient::size(client).await).await;
        let size = answer.map_err(|error| not_met(id, addr, &error))?;
        if size.id != *id {
            let message = format!("the node at {addr} is called {}, not {id}", size.id);
            return Err(Failure::new(ErrorName::BadArgument, message)
                .hint(format!("addnode {} {addr}", size.id)));
        }
        Ok(size)
    }

    /// Puts a staged placement in force when no node holds anything that would have to be copied.
    async fn finalise_if_empty(&self) {
        self.older_views_unused().await;
        let view = self.view();
        if view.topology.staged.is_none() {
            return;
        }
        let sizes = join_all(view.nodes.values().map(|node| async {
            let size =
                node.peer.call(self.timeout(), async |client| NodeApiClient::size(client).await);
            size.await.is_ok_and(|size| size.size == 0 && size.tombstones == 0)
        }));
        let nothing_to_copy = view.topology.current.ring.members().is_empty()
            || sizes.await.into_iter().all(|empty| empty);
        if nothing_to_copy {
            self.finalise();
        }
    }

    /// Puts a staged placement in force. The staging was done whether the log takes this too or
    /// not: then it waits for `rebalance`.
    fn finalise(&self) {
        if let Err(failure) = self.commit(&Event::Final) {
            tracing::warn!("the change stays pending: {failure}");
        }
    }

    fn changed(&self, before: &Topology) -> ChangeReply {
        self.changed_of(before, &KeyspaceName::default())
    }

    fn changed_of(&self, before: &Topology, space: &KeyspaceName) -> ChangeReply {
        let topology = &self.view().topology;
        let (old, new) = (&topology.current, topology.newest());
        ChangeReply {
            status: Status::Ok,
            epoch: topology.epoch,
            pending: topology.staged.is_some() || topology.pending.is_some(),
            replication: new.n(space),
            replication_before: before.newest().n(space),
            share: None,
            addr: None,
            moved_share: old.ring.moved_share(old.n(space), &new.ring, new.n(space)),
        }
    }
}

/// N is from 1 to the number of nodes.
pub(crate) fn check_copies(n: usize, nodes: usize) -> Result<(), Failure> {
    if n == 0 {
        return Err(Failure::new(ErrorName::BadArgument, "replication is at least 1"));
    }
    if n > nodes.max(1) {
        let (has, most) = (plural(nodes), nodes.max(1));
        return Err(Failure::new(
            ErrorName::BadArgument,
            format!("replication {n} needs {n} nodes, the cluster has {has}"),
        )
        .hint(format!("add nodes first, or: setreplica {most}")));
    }
    Ok(())
}

fn not_met(id: &NodeId, addr: &str, error: &PeerError) -> Failure {
    let message = match error {
        PeerError::Unreachable(why) => format!("no node answers at {addr} ({why})"),
        PeerError::Refused(why) => format!("what answers at {addr} is no storage node ({why})"),
        PeerError::TimedOut(_) | PeerError::Lost(_) => {
            format!("no node answers at {addr}: {error}")
        }
    };
    Failure::new(ErrorName::Unreachable, message)
        .hint(format!("start one there: kv node --id {id} --listen {addr} --data DIR"))
}

fn taken(message: String) -> Failure {
    Failure::new(ErrorName::NodeExists, message)
        .hint("show lists the nodes; take another id or port")
}

fn plural(nodes: usize) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

/// `host:port`, or a port of this machine.
fn check_addr(addr: &str) -> Result<String, Failure> {
    let full = if addr.contains(':') { addr.to_owned() } else { format!("127.0.0.1:{addr}") };
    let usable = !full.contains(|c: char| c.is_whitespace() || c.is_control());
    let found = full.to_socket_addrs().ok().and_then(|mut found| found.next());
    if usable && found.is_some_and(|addr| addr.port() != 0) {
        return Ok(full);
    }
    Err(Failure::new(ErrorName::BadArgument, format!("{addr:?} is no port or host:port"))
        .hint("addnode n4 5004, or: addnode n4 192.168.0.7:5004"))
}
