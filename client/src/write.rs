//! A put or del from start to end: numbered, sent to all owners, acknowledged when W have it.
//!
//! Who is sent what, and what the answers amount to, is decided by [`Put`]. When it does not come to an
//! acknowledgement by itself, the coordinator carries the same write, under its number, to the end: it knows stand-ins,
//! hints and renumbering.

use std::sync::Arc;

use ringkv_shared::limits::WATCHED_BYTES_MAX;
use ringkv_shared::net::{
    Client as Connection, ClusterApiClient, PeerError, Piece, Taken, ask_write,
};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{ReplicaOutcome, WriteOptions};
use ringkv_shared::protocol::lease::Acknowledged;
use ringkv_shared::protocol::node::{Record, WriteReply};
use ringkv_shared::quorum::{Put, PutStep, WriteOutcome};
use ringkv_shared::ring::key_position;
use ringkv_shared::topology::WriteSet;
use ringkv_shared::{Blob, ErrorName, Failure, Keyspace, KeyspaceName, NodeId};
use tokio::time::{Instant, timeout_at};

use crate::lease::Lease;
use crate::numbers::{Numbered, Wanted};
use crate::pending::{ASKED_MAX, Asking};
use crate::view::Node;
use crate::{DEADLINE, Shared, TRIES, Written};

/// A write under way.
struct Writing {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    keyspace: KeyspaceName,
    record: Record,
    numbered: Numbered,
    put: Put,
    asking: Asking,
    /// Those asked, with the numbers of their connections.
    asked: Vec<(NodeId, Arc<Node>, u64)>,
    /// How many of them have not answered.
    silent: usize,
    /// Whether there was a value at one of them.
    existed: bool,
    /// Whether one holds another version than this: only the coordinator can judge that.
    is_superseded: bool,
}

impl Shared {
    pub(crate) async fn write(
        self: &Arc<Self>,
        keyspace: &KeyspaceName,
        key: Blob,
        value: Option<Blob>,
    ) -> Result<Written, Failure> {
        let position = key_position(key.as_bytes());
        for _ in 0..TRIES {
            let Some(lease) = self.lease().await? else { break };
            let Some((of, set)) = straight(&lease, keyspace, &key).await else { break };
            let wanted = Wanted::new(lease.view.id, keyspace, position, value.is_none());
            match self.numbers.number(wanted).await {
                Ok(mut numbered) if Instant::now() >= numbered.by => {
                    // The number came too late, and nothing was sent.
                    numbered.is_over();
                }
                Ok(numbered) => {
                    let record = Record {
                        expires: numbered.expires,
                        stamp: numbered.stamp,
                        ..Record::new(key, value, numbered.version)
                    };
                    let writing = Writing::new(self, lease.clone(), &of, &set, record, numbered);
                    return writing.carry_out().await;
                }
                Err(failure) if failure.name == ErrorName::StaleEpoch => self.leases.end(&lease),
                Err(failure) if failure.name == ErrorName::Busy => break,
                Err(failure) => return Err(failure),
            }
        }
        self.write_through_coordinator(keyspace, key, value).await
    }

    async fn write_through_coordinator(
        &self,
        keyspace: &KeyspaceName,
        key: Blob,
        value: Option<Blob>,
    ) -> Result<Written, Failure> {
        let options = WriteOptions { keyspace: keyspace.clone(), ..WriteOptions::default() };
        let write = async |c: &Connection| match value {
            Some(value) => ClusterApiClient::put(c, key, value, Some(options)).await,
            None => ClusterApiClient::del(c, key, Some(options)).await,
        };
        let written = self.coordinator.call(DEADLINE, write).await;
        written.map(Written::from).map_err(|error| error.into_failure(&self.who()))
    }
}

/// The keyspace and the owners of a key, if it can be written to them from here: each is DOWN or within reach, one at
/// least is within reach, and nobody has to stand in.
async fn straight(
    lease: &Lease,
    keyspace: &KeyspaceName,
    key: &Blob,
) -> Option<(Keyspace, WriteSet)> {
    let of = lease.view.keyspaces.get(keyspace)?;
    let set = lease.view.topology.write_set(keyspace, key.as_bytes());
    let mut within_reach = 0;
    for owner in &set.owners {
        if lease.down.contains(owner) {
            if of.sloppy {
                return None;
            }
            continue;
        }
        if !lease.view.nodes.get(owner)?.is_within_reach().await {
            return None;
        }
        within_reach += 1;
    }
    (within_reach > 0 && set.owners.len() <= ASKED_MAX).then(|| (of.clone(), set))
}

impl Writing {
    fn new(
        shared: &Arc<Shared>,
        lease: Arc<Lease>,
        keyspace: &Keyspace,
        set: &WriteSet,
        record: Record,
        numbered: Numbered,
    ) -> Box<Self> {
        let quorums = lease.view.topology.write_quorums(&keyspace.name, set, keyspace.w);
        let (put, steps) = Put::start(quorums, &lease.down, Vec::new());
        // It is handed on to who waits for the last answers, and large.
        let mut writing = Box::new(Self {
            shared: Arc::clone(shared),
            lease,
            keyspace: keyspace.name.clone(),
            record,
            numbered,
            put,
            asking: shared.pending.open(),
            asked: Vec::with_capacity(steps.len()),
            silent: 0,
            existed: false,
            is_superseded: false,
        });
        for step in steps {
            if let PutStep::Send { to, owe, .. } = step {
                writing.send(to, &owe);
            }
        }
        writing
    }

    /// Sends the write on the connection that there is. Nobody is asked to stand in, so what cannot be sent is left to the
    /// coordinator.
    fn send(&mut self, to: NodeId, owe: &[NodeId]) {
        let Some(node) = self.lease.view.nodes.get(&to) else { return };
        let (place, connection) = (self.asked.len(), node.peer.connection_number());
        let Record { key, value, .. } = &self.record;
        let value = value.as_ref().map(|value| Piece::Bytes(value.as_bytes()));
        let pieces = (Piece::Bytes(key.as_bytes()), value);
        let params = |out: &mut Vec<u8>| ask_write(out, &self.keyspace, pieces, &self.record, owe);
        if node.peer.route(self.asking.token(place), "write", params) {
            self.silent += 1;
        } else {
            self.asking.unsent();
            self.put.answer(&to, ReplicaOutcome::Unreachable);
        }
        self.asked.push((to, Arc::clone(node), connection));
    }

    async fn carry_out(mut self: Box<Self>) -> Result<Written, Failure> {
        while self.put.outcome().is_none() && !self.is_superseded && self.silent > 0 {
            if !self.hear().await {
                break;
            }
        }
        // What is judged too late may have been taken too late: after a change of the ring.
        let late = Instant::now() >= self.numbered.by;
        if late || self.is_superseded || self.put.end() != WriteOutcome::Done {
            let written = self.finish().await;
            self.numbered.is_over();
            return written;
        }
        self.tell();
        let written = Written { version: self.record.version, existed: self.existed };
        if self.silent == 0 && self.put.rest().is_empty() {
            self.numbered.is_over();
            return Ok(written);
        }
        match Arc::clone(&self.shared.settling).try_acquire_owned() {
            Ok(room) => drop(tokio::spawn(async move {
                self.settle().await;
                drop(room);
            })),
            Err(_) => self.settle().await,
        }
        Ok(written)
    }

    /// Takes the next answer; false: the time is over.
    async fn hear(&mut self) -> bool {
        match timeout_at(self.numbered.by, self.asking.next()).await {
            Ok((place, line)) => {
                self.take(place, line.as_deref());
                true
            }
            Err(_) => {
                // A connection on which an answer is missing is not used any more.
                let timeout = self.lease.timeout;
                self.asked.iter().for_each(|(_, node, number)| node.peer.give_up(*number, timeout));
                false
            }
        }
    }

    fn take(&mut self, place: usize, line: Option<&[u8]>) {
        self.silent -= 1;
        let Some((node, at, _)) = self.asked.get(place) else { return };
        if let Some(taken) = line.and_then(|line| Taken::read(line, self.record.version)) {
            self.existed |= taken.status == Status::Ok;
            self.put.answer(node, ReplicaOutcome::Ok);
            return;
        }
        let outcome = match at.peer.read::<WriteReply>(line) {
            Ok(_) => {
                self.is_superseded = true;
                ReplicaOutcome::Ok
            }
            Err(PeerError::Refused(failure)) => {
                if failure.name == ErrorName::StaleEpoch {
                    self.shared.leases.end(&self.lease);
                }
                ReplicaOutcome::Refused
            }
            Err(_) => ReplicaOutcome::Unknown,
        };
        self.put.answer(node, outcome);
    }

    /// Has the coordinator carry it to the end.
    async fn finish(&self) -> Result<Written, Failure> {
        let (record, keyspace) = (self.record.clone(), Some(self.keyspace.clone()));
        let finish =
            async move |c: &Connection| ClusterApiClient::finish(c, record, keyspace).await;
        let finished = self.shared.coordinator.call(DEADLINE, finish).await;
        finished.map(Written::from).map_err(|error| {
            let failure = error.into_failure(&self.shared.who());
            self.with_what_is_known(failure)
        })
    }

    /// When the coordinator could not be asked, some of it may have been done here.
    fn with_what_is_known(&self, failure: Failure) -> Failure {
        let nothing = self.put.end() == WriteOutcome::NotApplied;
        if failure.name != ErrorName::Unreachable || nothing {
            return failure;
        }
        let message = format!(
            "{} was sent to its owners and not acknowledged by enough; then: {}",
            self.record.key, failure.message
        );
        Failure::new(ErrorName::OutcomeUnknown, message)
            .hint("get it, then decide whether to write again")
    }

    /// Tells those who watch.
    fn tell(&self) {
        let Record { key, value, deleted, version, .. } = &self.record;
        let value = value.clone().filter(|value| value.len() <= WATCHED_BYTES_MAX);
        self.shared.numbers.acknowledged(Acknowledged {
            keyspace: self.keyspace.clone(),
            key: key.clone(),
            value,
            deleted: *deleted,
            version: *version,
        });
    }

    /// Waits for the last answers of an acknowledged write. Whoever does not have it then gets it through the
    /// coordinator, or is owed it.
    async fn settle(mut self: Box<Self>) {
        while self.silent > 0 && self.hear().await {}
        if (self.is_superseded || !self.put.rest().is_empty())
            && let Err(failure) = self.finish().await
        {
            tracing::debug!(key = %self.record.key, "left to anti-entropy: {failure}");
        }
        self.numbered.is_over();
    }
}
