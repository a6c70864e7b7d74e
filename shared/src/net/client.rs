//! jsonrpsee's client traits over our own link.
//!
//! Use a [`Client`] with the `…Client` traits of this module. Calls are multiplexed on one connection, see
//! [`link`](super::link).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::client::{BatchResponse, ClientT, Error};
use jsonrpsee::core::params::BatchRequestBuilder;
use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee::types::ErrorObjectOwned;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::claimant::Claimant;
use super::link::{Link, Router, Unsent, Waiting, read_answers, write_gathered};
use super::quick::Spell as _;

/// Sees each line of a connection as it is on the wire, without its newline, while it passes.
///
/// Both are called on the tasks that carry the lines, so they must be quick and must not block.
pub trait Observer: Send + Sync {
    /// A request leaves.
    fn sent(&self, line: &str);
    /// An answer has come; bytes that are no UTF-8 are replaced.
    fn received(&self, line: &str);
}

/// Nobody, or somebody who looks on.
pub(super) type Onlooker = Option<Arc<dyn Observer>>;

/// A connected client. Dropped, it ends the connection when what was sent is written.
pub struct Client {
    link: Arc<Link>,
    reading: AbortHandle,
}

/// As whom a client comes, and who looks on or takes answers.
#[derive(Clone, Default)]
pub(super) struct Company {
    /// The coordinator that asks.
    pub(super) claimant: Option<Arc<Claimant>>,
    pub(super) onlooker: Onlooker,
    pub(super) router: Option<Arc<dyn Router>>,
}

/// Connects to `addr` (`host:port`) within `timeout`.
///
/// # Errors
///
/// That of the connection attempt; [`io::ErrorKind::TimedOut`] after `timeout`.
pub async fn connect(addr: &str, timeout: Duration) -> io::Result<Client> {
    connect_as(addr, timeout, Company::default()).await
}

pub(super) async fn connect_as(
    addr: &str,
    timeout: Duration,
    company: Company,
) -> io::Result<Client> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(addr)).await??;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let Company { claimant, onlooker, router } = company;
    let link = Arc::new(Link::new(claimant, onlooker, router));
    tokio::spawn(write_gathered(Arc::clone(&link), writer));
    let reading = tokio::spawn(read_answers(Arc::clone(&link), reader)).abort_handle();
    Ok(Client { link, reading })
}

impl Client {
    /// Whether calls can still be made.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_open()
    }

    /// Makes a call whose answer the connection's router gets, with this token; `params` writes the parameters as
    /// JSON. False: nothing was sent, and no answer will come.
    pub fn route(&self, token: u64, method: &str, params: impl FnOnce(&mut Vec<u8>)) -> bool {
        let rest = |out: &mut Vec<u8>| {
            out.raw(PARAMS);
            params(out);
        };
        self.link.call(method, Some(Waiting::Router(token)), rest).is_ok()
    }

    /// Makes a call; `params` writes the parameters as JSON. The answer is the whole line, see [`read_answer`].
    ///
    /// # Errors
    ///
    /// The connection was lost.
    pub async fn ask(
        &self,
        method: &str,
        params: impl Fn(&mut Vec<u8>),
    ) -> Result<Box<[u8]>, Error> {
        let rest = |out: &mut Vec<u8>| {
            out.raw(PARAMS);
            params(out);
        };
        self.call(method, rest).await
    }

    /// Makes a call; the line of its answer.
    async fn call(&self, method: &str, rest: impl Fn(&mut Vec<u8>)) -> Result<Box<[u8]>, Error> {
        let mut answer = None;
        let waiting = || {
            let (waiting, coming) = oneshot::channel();
            answer = Some(coming);
            Some(Waiting::Future(waiting))
        };
        self.send(method, rest, waiting).await?;
        answer.ok_or_else(lost)?.await.map_err(|_| lost())
    }

    /// Sends a call, whose members behind the method `rest` writes; `waiting` makes who waits for its answer, if
    /// somebody does.
    async fn send(
        &self,
        method: &str,
        rest: impl Fn(&mut Vec<u8>),
        mut waiting: impl FnMut() -> Option<Waiting>,
    ) -> Result<(), Error> {
        loop {
            // Before it is tried, so that nothing is missed in between.
            let emptied = self.link.emptied();
            match self.link.call(method, waiting(), &rest) {
                Ok(()) => return Ok(()),
                Err(Unsent::Closed(error)) => return Err(Error::Transport(error.into())),
                Err(Unsent::Full) => emptied.await,
            }
        }
    }
}

/// Writes the parameters of a call, if it has any.
fn rest_of(params: impl ToRpcParams) -> Result<impl Fn(&mut Vec<u8>), Error> {
    let params = params.to_rpc_params()?;
    Ok(move |out: &mut Vec<u8>| {
        if let Some(params) = &params {
            out.raw(PARAMS).raw(params.get());
        }
    })
}

const PARAMS: &str = ",\"params\":";

impl Drop for Client {
    fn drop(&mut self) {
        self.reading.abort();
        self.link.close(io::ErrorKind::ConnectionAborted, "the client has ended it");
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("open", &self.is_connected()).finish_non_exhaustive()
    }
}

pub(super) fn lost() -> Error {
    let why = "the connection was closed";
    Error::Transport(io::Error::new(io::ErrorKind::UnexpectedEof, why).into())
}

/// The parts of an answer.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorObjectOwned>,
}

/// What a line answers, as that type.
///
/// # Errors
///
/// That which it tells, or it is not of that type.
pub fn read_answer<R: DeserializeOwned>(line: &[u8]) -> Result<R, Error> {
    let answer: Answer<'_> = serde_json::from_slice(line)?;
    match answer {
        Answer { error: Some(error), .. } => Err(Error::Call(error)),
        Answer { result: Some(result), .. } => Ok(serde_json::from_str(result.get())?),
        Answer { .. } => Ok(serde_json::from_str("null")?),
    }
}

impl ClientT for Client {
    async fn notification<P: ToRpcParams + Send>(
        &self,
        method: &str,
        params: P,
    ) -> Result<(), Error> {
        self.send(method, rest_of(params)?, || None).await
    }

    async fn request<R: DeserializeOwned, P: ToRpcParams + Send>(
        &self,
        method: &str,
        params: P,
    ) -> Result<R, Error> {
        read_answer(&self.call(method, rest_of(params)?).await?)
    }

    /// Not done: calls on one connection travel together without being a batch.
    async fn batch_request<'a, R: DeserializeOwned + fmt::Debug + 'a>(
        &self,
        _batch: BatchRequestBuilder<'a>,
    ) -> Result<BatchResponse<'a, R>, Error> {
        Err(Error::HttpNotImplemented)
    }
}
