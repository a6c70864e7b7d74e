//! A client of ringkv that knows the ring: it goes straight to the owners of a key.
//!
//! ```no_run
//! # async fn example() -> Result<(), ringkv_client::Failure> {
//! use ringkv_client::Client;
//!
//! let client = Client::connect("127.0.0.1:5000").await?;
//! client.put("apple", "red").await?;
//! let apple = client.get("apple").await?.expect("it was put");
//! assert_eq!(apple.value.as_bytes(), b"red");
//! # Ok(()) }
//! ```
//!
//! A [`Client`] is cheap to clone, and all clones share one connection to each node. What many callers ask at once
//! travels together, without anybody asking for it: so use one client for all, from as many tasks as you like.
//!
//! ```text
//!            ┌── lease ──► coordinator    the ring, for a second; renewed while there is something to do
//!   client ──┼── number ─► coordinator    versions for all writes that begin now, in one call
//!            ├── write ──► every owner    done when W have it
//!            └── get ────► R owners       done when R have answered
//! ```
//!
//! What a write means, whom it needs and what answers amount to is decided by the machines that the
//! coordinator has, too ([`quorum`](ringkv_shared::quorum)), so the guarantees of a keyspace are the same as
//! through it. What does not go as usual goes through the coordinator: an owner that cannot be reached from here, a
//! write of which some replicas said no, a read whose replicas differ and have to be repaired.
//!
//! | file | idea |
//! |---|---|
//! | `view` | the picture of the cluster, with a connection to each node |
//! | `lease` | how long it holds, and how it is renewed |
//! | `numbers` | versions for writes, in groups, and what became of them |
//! | `pending` | where answers come in |
//! | `read`, `write` | a get and a put, from start to end |
//!
//! # Caveats
//!
//! It lives in a tokio runtime with time and net, which it was connected in. Every write asks the coordinator for its number: without it there are no writes, and when a lease is over no reads
//! either. `watch` hears of a write when the client tells of it, a few milliseconds after it was acknowledged; it
//! misses those of a client that died, or lost its coordinator, in between. Reads that went straight are not counted by
//! `stats` of the coordinator. Conditions, times to live and quorums of one request are asked for at the
//! coordinator's own methods.

mod lease;
mod numbers;
mod pending;
mod read;
mod view;
mod write;

use std::sync::Arc;
use std::time::Duration;

use ringkv_shared::causal::Context;
use ringkv_shared::limits::{check_key, check_value};
use ringkv_shared::net::Peer;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{ClusterGet, ClusterWrite, SiblingValue};
use tokio::sync::Semaphore;

pub use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, Version};

use lease::{Lease, Leases};
use numbers::Numbers;
use pending::Pending;
use view::Node;

/// How long a call to the coordinator may take; it answers much earlier, with what it knows.
const DEADLINE: Duration = Duration::from_secs(15);
/// How many acknowledged writes may wait for their last answers: each holds a value. Of one more the caller waits, too.
const SETTLING_MAX: usize = 1024;
/// How many reads are repaired at a time.
const REPAIRS_MAX: usize = 64;
/// How often a request is begun anew because the ring has changed meanwhile, before the coordinator is asked.
const TRIES: usize = 3;

/// A cluster, as seen from one keyspace of it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    keyspace: KeyspaceName,
}

/// What all clones share.
struct Shared {
    coordinator: Arc<Peer>,
    addr: String,
    leases: Leases,
    numbers: Arc<Numbers>,
    pending: Arc<Pending>,
    /// Room for writes that wait for their last answers.
    settling: Arc<Semaphore>,
    /// Room for repairs.
    repairs: Arc<Semaphore>,
}

/// What a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; of several, the one with the greatest version.
    pub value: Blob,
    /// Its version.
    pub version: Version,
    /// When it expires, in unix milliseconds; `None`: never.
    pub expires: Option<u64>,
    /// All values, when there are several: writes that had not seen each other.
    pub siblings: Vec<SiblingValue>,
    /// What the reader has seen, when that is more than the version: the context for a write that replaces all of it.
    pub context: Option<Context>,
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its version.
    pub version: Version,
    /// Whether there was a value before, as far as those know who had answered.
    pub existed: bool,
}

impl Client {
    /// A client of the cluster of the coordinator at `addr` (`host:port`), for the keyspace `default`.
    ///
    /// # Errors
    ///
    /// `UNREACHABLE`: nobody answers there. `STALE_EPOCH`: that coordinator was replaced.
    pub async fn connect(addr: impl Into<String>) -> Result<Self, Failure> {
        let addr = addr.into();
        let coordinator = Arc::new(Peer::new(&addr));
        let pending = Arc::<Pending>::default();
        let shared = Shared {
            leases: Leases::new(Arc::clone(&coordinator), &addr, Arc::clone(&pending)),
            numbers: Numbers::new(Arc::clone(&coordinator), &addr),
            pending,
            settling: Arc::new(Semaphore::new(SETTLING_MAX)),
            repairs: Arc::new(Semaphore::new(REPAIRS_MAX)),
            coordinator,
            addr,
        };
        let lease = shared.leases.current().await?;
        // Once connected, requests leave in the order in which they were made, the first ones too.
        let up = lease.view.nodes.iter().filter(|(id, _)| !lease.down.contains(*id));
        let meet = |node: &Arc<Node>| {
            let node = Arc::clone(node);
            tokio::spawn(async move { node.is_within_reach().await })
        };
        let meetings: Vec<_> = up.map(|(_, node)| meet(node)).collect();
        for meeting in meetings {
            // Who cannot be met is asked through the coordinator.
            let _ = meeting.await;
        }
        Ok(Self { shared: Arc::new(shared), keyspace: KeyspaceName::default() })
    }

    /// The same cluster, another keyspace. Whether there is one is seen by the first request.
    #[must_use]
    pub fn keyspace(&self, keyspace: KeyspaceName) -> Self {
        Self { shared: Arc::clone(&self.shared), keyspace }
    }

    /// Stores a value: acknowledged when W owners have it, as durably as each is set to. It replaces all that was
    /// acknowledged for the key before it began.
    ///
    /// # Errors
    ///
    /// Those of the coordinator's `put`. `NOT_APPLIED`, `UNREACHABLE`, `TOO_LARGE`: nothing was written.
    /// `NOT_ENOUGH_REPLICAS`: fewer than W have it. `OUTCOME_UNKNOWN`: nobody knows; read before writing again.
    pub async fn put(
        &self,
        key: impl Into<Blob>,
        value: impl Into<Blob>,
    ) -> Result<Written, Failure> {
        let (key, value) = (key.into(), value.into());
        check_key(&key)?;
        check_value(&key, &value)?;
        self.shared.write(&self.keyspace, key, Some(value)).await
    }

    /// Deletes a key: stores a tombstone, as [`put`](Self::put) stores a value.
    ///
    /// # Errors
    ///
    /// Those of [`put`](Self::put).
    pub async fn del(&self, key: impl Into<Blob>) -> Result<Written, Failure> {
        let key = key.into();
        check_key(&key)?;
        self.shared.write(&self.keyspace, key, None).await
    }

    /// Reads a key from R owners; `None`: there is no such key.
    ///
    /// # Errors
    ///
    /// Those of the coordinator's `get`: `UNREACHABLE`, `NOT_ENOUGH_REPLICAS`. They never mean that there is no
    /// such key.
    pub async fn get(&self, key: impl Into<Blob>) -> Result<Option<Entry>, Failure> {
        let key = key.into();
        check_key(&key)?;
        self.shared.read(&self.keyspace, key).await
    }

    /// Waits until nothing of the writes of this client and its clones is under way: all owners that are there have what
    /// was acknowledged, the others are owed it, and those who watch have heard of it.
    pub async fn flush(&self) {
        self.shared.numbers.flush().await;
    }
}

impl Shared {
    /// The lease that holds; `None`: the coordinator lends no more, and may be asked as anybody asks it.
    async fn lease(&self) -> Result<Option<Arc<Lease>>, Failure> {
        match self.leases.current().await {
            Err(failure) if failure.name == ErrorName::Busy => Ok(None),
            lease => lease.map(Some),
        }
    }

    /// `coordinator at 127.0.0.1:5000`, for errors.
    fn who(&self) -> String {
        coordinator_at(&self.addr)
    }
}

fn coordinator_at(addr: &str) -> String {
    format!("coordinator at {addr}")
}

impl From<ClusterWrite> for Written {
    fn from(reply: ClusterWrite) -> Self {
        Self { version: reply.version, existed: reply.status == Status::Ok }
    }
}

impl Entry {
    fn of(reply: ClusterGet) -> Option<Self> {
        let ClusterGet { value, version, expires, siblings, context, .. } = reply;
        Some(Self { value: value?, version: version?, expires, siblings, context })
    }
}
