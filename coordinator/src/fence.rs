//! Whether this coordinator is the one that its nodes obey.
//!
//! A node obeys one coordinator and refuses every other, see [`ringkv_shared::protocol::claim`]. Whom it obeys
//! stands in every answer to a heartbeat. As soon as one node obeys another coordinator, this one is *deposed*: the
//! other may serve the same keys by now, so this one reads and writes nothing more and changes nothing. It still
//! shows what it knows.
//!
//! # Caveats
//!
//! A directory that was copied, or put back from a backup, is noticed at the start, by nodes that answer then.
//! Deposed is for good, until a restart asks the nodes anew. Between the moment when another coordinator claims the
//! first node and the next refusal or heartbeat, half a second later by default, nodes that were not claimed yet still
//! answer; a coordinator that takes over claims all that answer before it serves.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::net::{Claimant, Client, NodeApiClient, Peer, PeerError};
use ringkv_shared::protocol::node::{Reign, SizeReply};
use ringkv_shared::{ErrorName, Failure, NodeId};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Node};
use crate::events::counted;

/// Who said that this coordinator is not the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deposed {
    /// The node.
    node: NodeId,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Another one has claimed the node under this epoch.
    Replaced(u32),
    /// The node was told by this directory what is not in it any more, under these epochs.
    PutBack(Reign),
}

/// Whom a node obeys, as this coordinator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Us, as we are now.
    Ours,
    /// Nobody, or one that we follow: a claim changes that.
    Claimable,
    /// Another, and a claim is refused.
    Anothers,
}

fn standing(claimant: &Claimant, coordinator: Option<&str>, epoch: u32) -> Standing {
    let follows = |uuid: &str| claimant.after.iter().any(|after| after == uuid);
    match coordinator {
        Some(uuid) if uuid == claimant.coordinator && epoch == claimant.epoch => Standing::Ours,
        None => Standing::Claimable,
        Some(uuid) if uuid == claimant.coordinator || follows(uuid) => {
            if epoch < claimant.epoch {
                Standing::Claimable
            } else {
                Standing::Anothers
            }
        }
        Some(_) => Standing::Anothers,
    }
}

impl Deposed {
    /// The sentence that says so.
    pub(crate) fn sentence(&self) -> String {
        let node = &self.node;
        match self.why {
            Why::Replaced(epoch) => {
                format!(
                    "this coordinator was replaced: {node} obeys another one since epoch {epoch}"
                )
            }
            Why::PutBack(reign) => format!(
                "this coordinator's directory is older than what it told {node} under {reign}: a copy, or put back from a backup"
            ),
        }
    }
}

impl Cluster {
    /// Takes note of whom a member obeys, and under which ring.
    pub(crate) fn heard_reign(&self, node: &Node, reply: &SizeReply) {
        // One that has left may obey whom it likes.
        let view = self.view();
        if view.nodes.get(&node.id).is_none_or(|member| member.member != node.member) {
            return;
        }
        let Reign { coordinator: epoch, ring } = reply.reign;
        match standing(&self.claimant, reply.coordinator.as_deref(), epoch) {
            Standing::Ours => self.herald.heard(&node.member.uuid, Some(ring)),
            Standing::Claimable => self.herald.heard(&node.member.uuid, None),
            Standing::Anothers => {
                self.depose(Deposed { node: node.id.clone(), why: Why::Replaced(epoch) });
            }
        }
    }

    /// After the first heartbeat, and before any node was claimed: what nodes say of us was said by an earlier start.
    /// If that knew of this start already, or of a later ring, this directory is not what it was. Numbers would be
    /// given twice, and keys looked for where they were.
    pub(crate) fn notice_if_put_back(&self) {
        let view = self.view();
        let ours =
            |reply: &SizeReply| reply.coordinator.as_ref() == Some(&self.claimant.coordinator);
        for node in view.nodes.values() {
            let reign = node.opinion(0).last.filter(ours).map(|reply| reply.reign);
            let newer = |reign: &Reign| {
                reign.coordinator >= self.claimant.epoch || reign.ring > view.topology.epoch
            };
            if let Some(reign) = reign.filter(newer) {
                self.depose(Deposed { node: node.id.clone(), why: Why::PutBack(reign) });
            }
        }
    }

    /// Asks all nodes whom they obey as soon as one has refused something as stale, until `shutdown`.
    pub(crate) async fn heed_refusals(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.claimant.refused() => {}
            }
            let (view, deadline) = (self.view(), self.settings().heartbeat());
            join_all(view.nodes.values().map(|node| self.ask_reign(node, deadline))).await;
            // Refused for an older ring, or by a node that was just claimed: not asked again and again.
            tokio::time::sleep(deadline).await;
        }
    }

    async fn ask_reign(&self, node: &Node, deadline: Duration) {
        let size = async |client: &Client| NodeApiClient::size(client).await;
        // Who does not answer is asked by the next heartbeat.
        let reply = node.pulse.call(deadline, size).await.ok();
        if let Some(reply) = reply.filter(|reply| reply.uuid == node.member.uuid) {
            self.heard_reign(node, &reply);
        }
    }

    fn depose(&self, deposed: Deposed) {
        let mut known = self.deposed.lock().expect("no panic while the lock is held");
        if known.is_none() {
            let told = deposed.sentence();
            *known = Some(deposed);
            self.events.tell(format!("{told}; it reads and writes nothing any more"));
        }
    }

    /// Who said that this coordinator is not the one, if somebody did.
    pub(crate) fn deposed(&self) -> Option<Deposed> {
        self.deposed.lock().expect("no panic while the lock is held").clone()
    }

    /// For whatever reads or writes data or changes something: only while the nodes obey this coordinator.
    pub(crate) fn reigns(&self) -> Result<(), Failure> {
        let Some(deposed) = self.deposed() else { return Ok(()) };
        let message = format!("{}; nothing was applied", deposed.sentence());
        Err(Failure::new(ErrorName::StaleEpoch, message).hint(
            "connect to the new one; if this is the right one, stop that one, then rebuild this one: kv coordinator --recover --data NEWDIR --node HOST:PORT,…",
        ))
    }

    /// Claims a node that is to be a member; nothing was sent to it but its own identity. What it says then is asked
    /// under our epochs.
    ///
    /// One that obeys us and is no member was one, and has left without being cleared. It joins only empty: what it
    /// has left may have been deleted since, and no tombstone or floor stands against it, for who owns its keys now
    /// may be another than who collected them.
    pub(crate) async fn claim(
        &self,
        id: &NodeId,
        addr: &str,
        found: &SizeReply,
    ) -> Result<Peer, Failure> {
        let whom = found.coordinator.as_deref();
        if standing(&self.claimant, whom, found.reign.coordinator) == Standing::Anothers {
            return Err(anothers(id, addr));
        }
        if whom.is_some() && found.size + found.tombstones > 0 {
            return Err(left_over(id, addr, found));
        }
        let peer = Peer::of_member(addr, &found.uuid, self.claimant.clone());
        let call = async |client: &Client| NodeApiClient::size(client).await;
        match peer.call(self.timeout(), call).await {
            Ok(_) => Ok(peer),
            // Claimed by another one since it was asked.
            Err(PeerError::Refused(failure)) if failure.name == ErrorName::StaleEpoch => {
                Err(anothers(id, addr))
            }
            Err(error) => Err(error.into_failure(&format!("{id} at {addr}"))),
        }
    }
}

fn anothers(id: &NodeId, addr: &str) -> Failure {
    let message = format!("{id} at {addr} obeys another coordinator; nothing was changed");
    Failure::new(ErrorName::NodeExists, message).hint(format!(
        "for a new node, start it with an empty --data; to take over its whole cluster: kv coordinator --recover --data NEWDIR --node {addr}"
    ))
}

fn left_over(id: &NodeId, addr: &str, found: &SizeReply) -> Failure {
    let keys = counted(found.size, "key");
    let tombstones = match found.tombstones {
        0 => String::new(),
        some => format!(" and {}", counted(some, "tombstone")),
    };
    let message = format!(
        "{id} at {addr} has left this cluster and still holds {keys}{tombstones} of that time; nothing was changed"
    );
    Failure::new(ErrorName::NotApplied, message).hint(format!(
        "what was deleted since would come back: start it with an empty --data, then addnode {id} {addr}; keys that nobody else has come back with load and its log"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ours_or_can_be_or_is_not() {
        let claimant = Claimant::new("c2", vec!["c0".to_owned(), "c1".to_owned()], 5);
        let table = [
            (None, 0, Standing::Claimable),
            (Some("c2"), 5, Standing::Ours),
            // Of an earlier start, or of a later one: of a copy of our directory, or before it was put back.
            (Some("c2"), 4, Standing::Claimable),
            (Some("c2"), 6, Standing::Anothers),
            (Some("c1"), 4, Standing::Claimable),
            (Some("c0"), 1, Standing::Claimable),
            (Some("c1"), 5, Standing::Anothers),
            (Some("c3"), 1, Standing::Anothers),
        ];
        for (whom, epoch, expected) in table {
            assert_eq!(standing(&claimant, whom, epoch), expected, "{whom:?} {epoch}");
        }
    }
}
