//! A get from start to end: R owners asked, their replies merged.
//!
//! Whom to ask and what the replies amount to is decided by [`Get`]. An answer holds only if the picture of the cluster by
//! which the owners were chosen is still in force when it is there; else the key is read anew.

use std::sync::Arc;

use ringkv_shared::net::{
    Client as Connection, ClusterApiClient, Found, PeerError, Piece, ask_get,
};
use ringkv_shared::protocol::cluster::{ClusterGet, ReadOptions, SiblingValue};
use ringkv_shared::protocol::node::{GetReply, Record};
use ringkv_shared::quorum::{Get, ReadState};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId};
use tokio::time::{Instant, timeout_at};

use crate::lease::Lease;
use crate::pending::{ASKED_MAX, Asking};
use crate::view::Node;
use crate::{DEADLINE, Entry, Shared, TRIES};

/// A read under way.
struct Reading {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    keyspace: KeyspaceName,
    key: Blob,
    get: Get,
    asking: Asking,
    /// Those asked, with the numbers of their connections.
    asked: Vec<(NodeId, Arc<Node>, u64)>,
    silent: usize,
    /// Whether one could not be asked from here.
    is_unusual: bool,
}

impl Shared {
    pub(crate) async fn read(
        self: &Arc<Self>,
        keyspace: &KeyspaceName,
        key: Blob,
    ) -> Result<Option<Entry>, Failure> {
        for _ in 0..TRIES {
            let Some(lease) = self.lease().await? else { break };
            let Some(mut reading) = Reading::start(self, &lease, keyspace, &key) else { break };
            reading.ask().await;
            reading.wait().await;
            if reading.is_unusual {
                break;
            }
            if !self.leases.holds(&lease).await? {
                continue;
            }
            if reading.get.state() != ReadState::Enough {
                break;
            }
            return Ok(reading.end());
        }
        self.read_through_coordinator(keyspace.clone(), key).await.map(Entry::of)
    }

    async fn read_through_coordinator(
        &self,
        keyspace: KeyspaceName,
        key: Blob,
    ) -> Result<ClusterGet, Failure> {
        let options = Some(ReadOptions { keyspace, ..ReadOptions::default() });
        let get = async move |c: &Connection| ClusterApiClient::get(c, key, options).await;
        let read = self.coordinator.call(DEADLINE, get).await;
        read.map_err(|error| error.into_failure(&self.who()))
    }
}

impl Reading {
    /// `None`: there is no such keyspace, or nobody to be asked.
    fn start(
        shared: &Arc<Shared>,
        lease: &Arc<Lease>,
        name: &KeyspaceName,
        key: &Blob,
    ) -> Option<Self> {
        let keyspace = lease.view.keyspaces.get(name)?;
        let set = lease.view.topology.write_set(name, key.as_bytes());
        if set.owners.is_empty() || set.owners.len() > ASKED_MAX {
            return None;
        }
        Some(Self {
            shared: Arc::clone(shared),
            lease: Arc::clone(lease),
            keyspace: name.clone(),
            key: key.clone(),
            get: lease.view.topology.read(keyspace, set, keyspace.r),
            asking: shared.pending.open(),
            asked: Vec::new(),
            silent: 0,
            is_unusual: false,
        })
    }

    /// Asks whom the machine names; those that are DOWN have failed at once, and others are named.
    async fn ask(&mut self) {
        loop {
            let nodes = self.get.ask();
            if nodes.is_empty() {
                return;
            }
            for node in nodes {
                self.ask_one(node).await;
            }
        }
    }

    async fn ask_one(&mut self, id: NodeId) {
        if self.lease.down.contains(&id) {
            self.get.reply(&id, None);
            return;
        }
        let Some(node) = self.lease.view.nodes.get(&id).cloned() else { return };
        if !node.is_within_reach().await {
            self.is_unusual = true;
            return;
        }
        let (place, connection) = (self.asked.len(), node.peer.connection_number());
        let params =
            |out: &mut Vec<u8>| ask_get(out, &self.keyspace, Piece::Bytes(self.key.as_bytes()));
        if node.peer.route(self.asking.token(place), "get", params) {
            self.silent += 1;
        } else {
            self.asking.unsent();
            self.is_unusual = true;
        }
        self.asked.push((id, node, connection));
    }

    /// Waits until the answer is known, asking one more whenever it takes long.
    async fn wait(&mut self) {
        let (hedge, started) = (self.lease.hedge, Instant::now());
        let mut next = started + hedge;
        while self.get.state() == ReadState::Open && !self.is_unusual && self.silent > 0 {
            let by = next.min(started + self.lease.timeout);
            if let Ok((place, line)) = timeout_at(by, self.asking.next()).await {
                self.take(place, line.as_deref());
                self.ask().await;
            } else if by < next {
                let timeout = self.lease.timeout;
                self.asked.iter().for_each(|(_, node, number)| node.peer.give_up(*number, timeout));
                return;
            } else {
                if let Some(node) = self.get.hedge() {
                    self.ask_one(node).await;
                }
                next = Instant::now() + hedge;
            }
        }
    }

    fn take(&mut self, place: usize, line: Option<&[u8]>) {
        self.silent -= 1;
        let Some((id, node, _)) = self.asked.get(place) else { return };
        let record = match line.and_then(Found::read) {
            Some(Found::Nothing) => Some(None),
            Some(Found::Value { value, version, expires, stamp, .. }) => {
                let value = Some(Blob::from(value));
                let record = Record::new(self.key.clone(), value, version);
                Some(Some(Record { expires, stamp, ..record }))
            }
            None => match node.peer.read::<GetReply>(line) {
                Ok(reply) => Some(reply.into_record(self.key.clone())),
                Err(PeerError::Refused(failure)) if failure.name == ErrorName::StaleEpoch => {
                    self.shared.leases.end(&self.lease);
                    None
                }
                Err(_) => None,
            },
        };
        self.get.reply(id, record);
    }

    fn end(self) -> Option<Entry> {
        let merged = self.get.merged();
        if self.get.repairs().is_some() {
            self.repair();
        }
        let record = merged?;
        let context = (!record.is_plain()).then(|| record.seen());
        let mut siblings = SiblingValue::of(&record);
        let last = siblings.last()?.clone();
        if siblings.len() == 1 {
            siblings.clear();
        }
        let SiblingValue { value, version, expires } = last;
        Some(Entry { value, version, expires, siblings, context })
    }

    /// Has the coordinator read it, too, which repairs what differs; unless much is repaired already: then anti-entropy
    /// does it.
    fn repair(self) {
        let Ok(room) = Arc::clone(&self.shared.repairs).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let read = self.shared.read_through_coordinator(self.keyspace, self.key);
            if let Err(failure) = read.await {
                tracing::debug!("not repaired: {failure}");
            }
            drop(room);
        });
    }
}
