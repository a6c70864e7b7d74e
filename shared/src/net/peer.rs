//! A server we talk to again and again: connects when needed, bounds every call by a deadline,
//! and throws the connection away after a transport error or a missed deadline, since after a
//! partition an old stream stays dead even when the network heals.
//!
//! A node is claimed first on every new connection of a coordinator, by the identity of its data directory: what
//! answers at an address may be another node since, or the same one with an empty directory, and
//! must get nothing that was meant for the first.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jsonrpsee::core::client::Error;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::api::NodeApiClient;
use super::claimant::Claimant;
use super::client::{self, Client, Company, Observer, connect_as, lost};
use super::errors::failure_from_object;
use super::link::Router;
use crate::{ErrorName, Failure};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection: certainly nothing was sent.
    #[error("cannot be reached ({0})")]
    Unreachable(io::Error),
    /// Sent, and no answer within the deadline: it may have been done.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection broke with the call in flight: it may have been done.
    #[error("connection lost ({0})")]
    Lost(String),
    /// The peer answered with an error.
    #[error("{0}")]
    Refused(Failure),
}

impl PeerError {
    /// The failure that tells of it, naming the peer as `who` (for example `n1 at 127.0.0.1:5001`).
    #[must_use]
    pub fn into_failure(self, who: &str) -> Failure {
        match self {
            Self::Refused(failure) => failure,
            Self::Unreachable(_) => Failure::new(ErrorName::Unreachable, format!("{who} {self}")),
            Self::TimedOut(_) | Self::Lost(_) => {
                Failure::new(ErrorName::OutcomeUnknown, format!("{who}: {self}"))
            }
        }
    }
}

/// One server, by address. Cheap to keep, connects on the first call.
pub struct Peer {
    addr: String,
    /// Whom it must be, if that matters.
    member: Option<Member>,
    /// As whom we come, and who else hears the answers.
    company: Company,
    connection: Mutex<Connection>,
    /// One at a time connects.
    connecting: tokio::sync::Mutex<()>,
    /// How many wait for a connection: nobody may overtake them.
    queued: AtomicUsize,
}

/// The connection in use, if there is one, and how many there were before.
#[derive(Default)]
struct Connection {
    client: Option<Arc<Client>>,
    number: u64,
}

/// A node of a cluster, as its coordinator knows it.
struct Member {
    /// The identity of the data directory that must be behind the address.
    uuid: String,
    /// The coordinator.
    claimant: Arc<Claimant>,
    /// Whether it is not the coordinator that asks, but a client of it.
    is_client: bool,
}

impl Member {
    /// Makes sure that it is that node and obeys this coordinator.
    async fn meet(&self, client: &Client) -> Result<(), PeerError> {
        if self.is_client { self.recognise(client).await } else { self.claim(client).await }
    }

    /// Who answers must be that node, and not obey another. An older epoch than the coordinator's is no matter: it is
    /// about to be claimed.
    async fn recognise(&self, client: &Client) -> Result<(), PeerError> {
        let stranger = |why: String| PeerError::Unreachable(io::Error::other(why));
        let found =
            NodeApiClient::size(client).await.map_err(|error| stranger(error.to_string()))?;
        if found.uuid != self.uuid {
            return Err(stranger(format!("another data directory, {}, answers there", found.uuid)));
        }
        if found.coordinator.as_ref() != Some(&self.claimant.coordinator) {
            return Err(stranger("the node obeys another coordinator".to_owned()));
        }
        Ok(())
    }

    async fn claim(&self, client: &Client) -> Result<(), PeerError> {
        let claim = self.claimant.claim(&self.uuid);
        let Err(error) = NodeApiClient::claim(client, claim).await else { return Ok(()) };
        let Error::Call(object) = error else {
            return Err(PeerError::Unreachable(io::Error::other(error)));
        };
        let failure = failure_from_object(&object);
        self.claimant.heard(&failure);
        match failure.name {
            ErrorName::StaleEpoch | ErrorName::DiskFull => Err(PeerError::Refused(failure)),
            // Whatever answers there, it is not that node.
            _ => Err(PeerError::Unreachable(io::Error::other(failure.message))),
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Peer {
    /// A peer at `addr` (`host:port`); nothing is sent yet.
    #[must_use]
    pub fn new(addr: impl Into<String>) -> Self {
        let (member, company) = (None, Company::default());
        let (connection, connecting, queued) = Default::default();
        Self { addr: addr.into(), member, company, connection, connecting, queued }
    }

    /// The storage node at `addr` whose data directory is `uuid`, as a coordinator asks it: it is claimed on each
    /// new connection, and has the epochs of the claimant with every request. Any other is not reached.
    #[must_use]
    pub fn of_member(
        addr: impl Into<String>,
        uuid: impl Into<String>,
        claimant: Arc<Claimant>,
    ) -> Self {
        let company = Company { claimant: Some(Arc::clone(&claimant)), ..Company::default() };
        let member = Member { uuid: uuid.into(), claimant, is_client: false };
        Self { member: Some(member), company, ..Self::new(addr) }
    }

    /// The same, as a client of that coordinator asks it: it claims nothing, but makes sure on each new connection
    /// that the node is the one that is meant, and has the same epochs with every request.
    #[must_use]
    pub fn as_client(mut self) -> Self {
        self.member.iter_mut().for_each(|member| member.is_client = true);
        self
    }

    /// The same, with somebody who takes answers without waiting for each, see [`Peer::route`].
    #[must_use]
    pub fn with_router(mut self, router: Arc<dyn Router>) -> Self {
        self.company.router = Some(router);
        self
    }

    /// A peer at `addr` whose every line `observer` sees; nothing is sent yet.
    #[must_use]
    pub fn observed(addr: impl Into<String>, observer: Arc<dyn Observer>) -> Self {
        let company = Company { onlooker: Some(observer), ..Company::default() };
        Self { company, ..Self::new(addr) }
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Makes one call, connecting first if necessary, all within `deadline`. Never retried.
    ///
    /// # Errors
    ///
    /// See [`PeerError`]: only `Unreachable` promises that nothing was sent.
    pub async fn call<T, F>(&self, deadline: Duration, call: F) -> Result<T, PeerError>
    where
        F: AsyncFnOnce(&Client) -> Result<T, Error>,
    {
        let by = Instant::now() + deadline;
        let client = match timeout_at(by, self.connected(deadline)).await {
            Ok(client) => client?,
            Err(_) => return Err(PeerError::Unreachable(io::ErrorKind::TimedOut.into())),
        };
        let error = match timeout_at(by, call(&client)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => self.why(error),
            Err(_) => PeerError::TimedOut(deadline),
        };
        if matches!(error, PeerError::Refused(_)) {
            return Err(error);
        }
        self.forget(&client);
        retire(client, deadline);
        Err(error)
    }

    /// What the answer to a routed call says; `None`: the connection was lost.
    ///
    /// # Errors
    ///
    /// Those of [`Peer::call`].
    pub fn read<T: DeserializeOwned>(&self, answer: Option<&[u8]>) -> Result<T, PeerError> {
        let answer = answer.map_or_else(|| Err(lost()), client::read_answer);
        answer.map_err(|error| self.why(error))
    }

    /// What an error of a call that was sent means.
    fn why(&self, error: Error) -> PeerError {
        let Error::Call(object) = error else { return PeerError::Lost(error.to_string()) };
        let failure = failure_from_object(&object);
        self.member.iter().for_each(|member| member.claimant.heard(&failure));
        PeerError::Refused(failure)
    }

    /// Whether there is a connection, and nobody waits for one.
    pub fn is_connected(&self) -> bool {
        self.queued.load(Ordering::Relaxed) == 0
            && self.lock().client.as_ref().is_some_and(|client| client.is_connected())
    }

    /// Connects, unless there is a connection.
    ///
    /// # Errors
    ///
    /// Nobody answers there within `deadline`, or somebody else than is meant.
    pub async fn meet(&self, deadline: Duration) -> Result<(), PeerError> {
        let met = timeout_at(Instant::now() + deadline, self.connected(deadline)).await;
        let met =
            met.unwrap_or_else(|_| Err(PeerError::Unreachable(io::ErrorKind::TimedOut.into())));
        met.map(drop)
    }

    /// Makes a call on the connection that there is, whose answer the router gets with this token; `params` writes
    /// the parameters as JSON. Its deadline is the caller's affair, see [`Peer::give_up`]. False: there is no
    /// connection, or too much waits there; nothing was sent.
    pub fn route(&self, token: u64, method: &str, params: impl FnOnce(&mut Vec<u8>)) -> bool {
        let connection = self.lock();
        connection.client.as_ref().is_some_and(|client| client.route(token, method, params))
    }

    /// The number of the connection in use.
    pub fn connection_number(&self) -> u64 {
        self.lock().number
    }

    /// The answer to a routed call did not come within `deadline`: if the connection of this number is still in use,
    /// the next call gets another.
    pub fn give_up(&self, number: u64, deadline: Duration) {
        let mut connection = self.lock();
        if connection.number == number
            && let Some(client) = connection.leave()
        {
            drop(connection);
            retire(client, deadline);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("no panic while the lock is held")
    }

    /// The connection, unless somebody waits for one: calls are sent in the order in which they were made.
    fn open(&self) -> Option<Arc<Client>> {
        if self.queued.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.lock().client.as_ref().filter(|client| client.is_connected()).cloned()
    }

    async fn connected(&self, timeout: Duration) -> Result<Arc<Client>, PeerError> {
        if let Some(client) = self.open() {
            return Ok(client);
        }
        let _queued = Queued::new(&self.queued);
        let _one = self.connecting.lock().await;
        if let Some(client) = self.lock().client.as_ref().filter(|client| client.is_connected()) {
            return Ok(client.clone());
        }
        let client = connect_as(&self.addr, timeout, self.company.clone()).await;
        let client = Arc::new(client.map_err(PeerError::Unreachable)?);
        if let Some(member) = &self.member {
            member.meet(&client).await?;
        }
        self.lock().client = Some(client.clone());
        Ok(client)
    }

    fn forget(&self, client: &Arc<Client>) {
        let mut connection = self.lock();
        if connection.client.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, client)) {
            // The caller has it, too: it does not end here.
            connection.leave();
        }
    }
}

impl Connection {
    fn leave(&mut self) -> Option<Arc<Client>> {
        self.number += 1;
        self.client.take()
    }
}

/// One who waits for a connection.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn new(queued: &'a AtomicUsize) -> Self {
        queued.fetch_add(1, Ordering::Relaxed);
        Self(queued)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps a connection that nobody is to use any more for those whose calls are under way on it: they have as long.
fn retire(client: Arc<Client>, deadline: Duration) {
    if client.is_connected() {
        tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            drop(client);
        });
    }
}
