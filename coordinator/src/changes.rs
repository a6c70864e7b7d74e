//! What stages a change of the ring: addnode, removenode, replacenode, setweight, setzone, setreplica.
//!
//! With nothing to copy it is in force at once, else it waits for `rebalance`, and can be taken back until then:
//! by the opposite, or all of it by `plan clear`. See [`ringkv_shared::topology`].
//!
//! # Caveats
//!
//! A node that holds the only copies of a keyspace and is DOWN can only be removed by force, and then
//! the change is in force at once. Keyspaces with more copies have one too few of some keys until the next
//! rebalance.

use std::net::ToSocketAddrs as _;

use ringkv_shared::net::{NodeApiClient, Peer, PeerError};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::ChangeReply;
use ringkv_shared::protocol::node::SizeReply;
use ringkv_shared::ring::Seat;
use ringkv_shared::topology::Topology;
use ringkv_shared::{ErrorName, Failure, Keyspace, KeyspaceName, NodeId, Zone};
use tokio::sync::OwnedMutexGuard;

use crate::checks::check_weight;
use crate::cluster::{Cluster, Node};
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
        let alone = self.alone()?;
        check_weight(weight)?;
        let addr = check_addr(&addr)?;
        let before = self.view().topology.clone();
        let known = self.view().nodes.get(&id).cloned();
        if let Some(node) = known.as_ref().filter(|node| node.member.addr == addr) {
            self.may_stage_with(&alone)?;
            self.add_again(node, weight, zone)?;
        } else if let Some(node) = known {
            self.check_addr_is_free(&addr)?;
            let size = self.meet(&id, &addr).await?;
            if node.member.uuid != size.uuid {
                let at = &node.member.addr;
                return Err(taken(format!("{id} is already in the cluster at {at}")));
            }
            self.commit(&Event::Move { id: id.clone(), addr: addr.clone() })?;
            self.events.tell(format!("{id} moved to {addr}"));
        } else {
            self.check_addr_is_free(&addr)?;
            self.check_seat_is_free(&id, None)?;
            let (size, member) = self.welcome(&id, &addr, &alone).await?;
            if before.newest().ring.members().len() >= NODES_MAX {
                let message = format!("the cluster has {NODES_MAX} nodes, the most there can be");
                return Err(Failure::new(ErrorName::BadArgument, message));
            }
            self.commit(&Event::Add { id: id.clone(), member, weight, zone })?;
            self.node(&id)?.answered(size, self.now_ms());
            self.finalise_if_empty().await;
            self.events.tell(format!("{id} added at {addr}"));
        }
        let mut reply = self.changed(&before, Some(&id));
        reply.addr = Some(addr);
        Ok(reply)
    }

    /// A member at its own address: that its leaving is staged may be taken back.
    fn add_again(&self, node: &Node, weight: u32, zone: Option<Zone>) -> Result<(), Failure> {
        let Node { id, member, .. } = node;
        let stranger = node.opinion(0).stranger;
        if stranger || self.view().topology.newest().has(id) {
            let failure = taken(format!("{id} is already in the cluster at {}", member.addr));
            return Err(match stranger {
                true => failure.hint(format!(
                    "the node there now has other data; give up the old one first: removenode {id}"
                )),
                false => failure,
            });
        }
        self.check_seat_is_free(id, None)?;
        self.commit(&Event::Add { id: id.clone(), member: member.clone(), weight, zone })?;
        self.events.tell(format!("{id} stays"));
        Ok(())
    }

    pub(crate) async fn replacenode(
        &self,
        old: NodeId,
        id: NodeId,
        addr: String,
    ) -> Result<ChangeReply, Failure> {
        let alone = self.may_stage()?;
        let addr = check_addr(&addr)?;
        let leaving = self.node(&old)?;
        let before = self.view().topology.clone();
        check_on_ring(&before, &old)?;
        if let Some(node) = self.view().nodes.get(&id) {
            let at = &node.member.addr;
            return Err(taken(format!("{id} is already in the cluster at {at}")));
        }
        if before.current.has(&old) && leaving.is_down() && has_single_copies(&before) {
            return Err(only_copy(&old, &format!("removenode {old} --force, then addnode {id}")));
        }
        self.check_addr_is_free(&addr)?;
        self.check_seat_is_free(&id, Some(&old))?;
        let (size, member) = self.welcome(&id, &addr, &alone).await?;
        self.commit(&Event::Replace { old: old.clone(), id: id.clone(), member })?;
        self.node(&id)?.answered(size, self.now_ms());
        self.finalise_if_empty().await;
        self.events.tell(format!("{id} at {addr} takes the seat of {old}"));
        let mut reply = self.changed(&before, Some(&id));
        reply.addr = Some(addr);
        Ok(reply)
    }

    pub(crate) async fn removenode(&self, id: NodeId, force: bool) -> Result<ChangeReply, Failure> {
        let _alone = self.may_stage()?;
        let node = self.node(&id)?;
        let before = self.view().topology.clone();
        check_on_ring(&before, &id)?;
        let holds_data = before.current.has(&id);
        let only_copies = has_single_copies(&before);
        if holds_data && node.is_down() && only_copies && !force {
            return Err(only_copy(&id, &format!("removenode {id} --force")));
        }
        let last = before.newest().ring.members().len() == 1;
        if last && holds_data && !force {
            return Err(Failure::new(ErrorName::NotApplied, format!("{id} is the last node"))
                .hint(format!("add another first; to give up all keys: removenode {id} --force")));
        }
        let at_once = force && (node.is_down() || last) && only_copies;
        if at_once && before.staged.is_some() {
            return Err(Failure::new(
                ErrorName::NotApplied,
                format!(
                    "{id} would be off the ring at once, and with it what else is staged, uncopied"
                ),
            )
            .hint("first: plan clear"));
        }
        self.commit(&Event::Remove { id: id.clone() })?;
        if at_once {
            let finalised = self.commit(&Event::Final);
            self.end_at_once(finalised.map(drop)).await;
        } else {
            self.finalise_if_empty().await;
        }
        self.events.tell(format!("{id} removed from the ring"));
        Ok(self.changed(&before, None))
    }

    pub(crate) async fn setweight(&self, id: NodeId, weight: u32) -> Result<ChangeReply, Failure> {
        let _alone = self.may_stage()?;
        check_weight(weight)?;
        self.node(&id)?;
        let before = self.view().topology.clone();
        if check_on_ring(&before, &id)?.weight != weight {
            self.commit(&Event::Weight { id: id.clone(), weight })?;
            self.finalise_if_empty().await;
            self.events.tell(format!("weight of {id} set to {weight}"));
        }
        Ok(self.changed(&before, Some(&id)))
    }

    pub(crate) async fn setzone(
        &self,
        id: NodeId,
        zone: Option<Zone>,
    ) -> Result<ChangeReply, Failure> {
        let _alone = self.may_stage()?;
        self.node(&id)?;
        let before = self.view().topology.clone();
        if check_on_ring(&before, &id)?.zone != zone {
            let text = match &zone {
                Some(zone) => format!("{id} stands in zone {zone}"),
                None => format!("{id} stands in no zone"),
            };
            self.commit(&Event::Zone { id: id.clone(), zone })?;
            self.finalise_if_empty().await;
            self.events.tell(text);
        }
        Ok(self.changed(&before, Some(&id)))
    }

    pub(crate) async fn setreplica(
        &self,
        space: &KeyspaceName,
        n: usize,
    ) -> Result<ChangeReply, Failure> {
        let _one = self.defining.lock().await;
        let _alone = self.may_stage()?;
        let view = self.view();
        let keyspace = view.keyspace(space)?;
        check_copies(n, view.topology.newest().ring.members().len())?;
        check_quorums(&Keyspace { n, ..keyspace.clone() })?;
        if n != keyspace.n {
            self.stage_copies(space, n).await?;
        }
        Ok(self.changed_of(&view.topology, space, None))
    }

    /// Stages another N of a keyspace. The caller is alone.
    pub(crate) async fn stage_copies(&self, space: &KeyspaceName, n: usize) -> Result<(), Failure> {
        self.commit(&Event::Replicas { name: space.clone(), n })?;
        self.finalise_if_empty().await;
        let of = if space.is_default() { String::new() } else { format!(" of {space}") };
        self.events.tell(format!("replication{of} set to {n}"));
        Ok(())
    }

    fn check_addr_is_free(&self, addr: &str) -> Result<(), Failure> {
        let view = self.view();
        match view.nodes.values().find(|node| node.member.addr == addr) {
            Some(node) => Err(taken(format!("nothing new answers at {addr}: that is {}", node.id))),
            None => Ok(()),
        }
    }

    /// Nobody else has the tokens that a node of this name would have, but for one whose seat it takes.
    fn check_seat_is_free(&self, id: &NodeId, of: Option<&NodeId>) -> Result<(), Failure> {
        let topology = &self.view().topology;
        let rings = [&topology.current.ring, &topology.newest().ring];
        let mut sitters = rings.iter().filter_map(|ring| ring.sits_for(id));
        match sitters.find(|other| *other != id && Some(*other) != of) {
            Some(other) => Err(taken(format!(
                "{other} sits in the seat that was {id}'s, and has its part of the ring"
            ))),
            None => Ok(()),
        }
    }

    /// Meets a node that is new here, and has it obey.
    async fn welcome(
        &self,
        id: &NodeId,
        addr: &str,
        alone: &OwnedMutexGuard<()>,
    ) -> Result<(SizeReply, Member), Failure> {
        self.may_stage_with(alone)?;
        let size = self.meet(id, addr).await?;
        let peer = self.claim(id, addr, &size).await?;
        // It may come with data of another time.
        self.forget_all_at(&peer, &format!("{id} at {addr}")).await?;
        let member = Member { addr: addr.to_owned(), uuid: size.uuid.clone() };
        Ok((size, member))
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

    fn changed(&self, before: &Topology, of: Option<&NodeId>) -> ChangeReply {
        self.changed_of(before, &KeyspaceName::default(), of)
    }

    fn changed_of(
        &self,
        before: &Topology,
        space: &KeyspaceName,
        of: Option<&NodeId>,
    ) -> ChangeReply {
        let topology = &self.view().topology;
        let (old, new) = (&topology.current, topology.newest());
        ChangeReply {
            status: Status::Ok,
            epoch: topology.epoch,
            pending: topology.staged.is_some() || topology.pending.is_some(),
            replication: new.n(space),
            replication_before: before.newest().n(space),
            share: of.map(|id| new.ring.share(id)),
            addr: None,
            moved_share: old.ring.moved_share(old.n(space), &new.ring, new.n(space)),
        }
    }
}

/// The seat of a node on the newest ring.
fn check_on_ring<'a>(topology: &'a Topology, id: &NodeId) -> Result<&'a Seat, Failure> {
    topology.newest().ring.members().get(id).ok_or_else(|| {
        Failure::new(ErrorName::NodeNotFound, format!("{id} is leaving already"))
            .hint("rebalance copies its keys and lets it go; to keep it: plan clear")
    })
}

fn has_single_copies(topology: &Topology) -> bool {
    topology.current.copies.values().any(|n| *n < 2)
}

fn only_copy(id: &NodeId, lose: &str) -> Failure {
    let message = format!("{id} is DOWN and holds the only copy of its keys");
    Failure::new(ErrorName::NotApplied, message)
        .hint(format!("restart {id} first; to lose those keys: {lose}"))
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
