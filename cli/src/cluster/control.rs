//! The client of a supervisor: what `kill`, `restart` and the like of the shell call.
//!
//! # Caveats
//!
//! A supervisor that does not answer leaves open whether it has done what was asked; `show` tells.

use std::path::PathBuf;
use std::time::Duration;

use jsonrpsee::core::ClientError;
use ringkv_shared::net::{Client, NodeApiClient, Peer, PeerError};
use ringkv_shared::{ErrorName, Failure, NodeId};

use super::life::{Action, COORDINATOR, Report};
use super::process::READY_DEADLINE;
use super::rpc::ControlApiClient;
use super::state::ClusterFile;

/// How long an action may take: up to two waits for a process, and a margin.
const ACTION_DEADLINE: Duration = Duration::from_secs(3 * READY_DEADLINE.as_secs());
/// How long a started node may take to say how many keys it has.
const SIZE_DEADLINE: Duration = Duration::from_secs(2);

/// A supervisor at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Control {
    peer: Peer,
}

impl Control {
    /// The supervisor at `addr`, as the coordinator's `info` tells it; connects with the first call.
    #[must_use]
    pub(crate) fn new(addr: String) -> Self {
        Self { peer: Peer::new(addr) }
    }

    /// Does something to a process: a node's id, or `coordinator`. The sentence says what was done.
    ///
    /// # Errors
    ///
    /// No such process, the action does not fit its state, it does not come up, or the supervisor
    /// is gone.
    pub(crate) async fn act(&self, action: Action, id: &NodeId) -> Result<String, Failure> {
        let report =
            self.call(async |c| ControlApiClient::act(c, action, id.clone()).await).await?;
        let keys = keys(&report).await;
        Ok(report.sentence(keys))
    }

    /// Makes sure that the node `id` runs at `port` of this machine, and gives its address.
    ///
    /// # Errors
    ///
    /// The port is taken, the node runs at another, or it does not come up.
    pub(crate) async fn spawn(&self, id: &NodeId, port: u16) -> Result<String, Failure> {
        self.call(async |c| ControlApiClient::spawn(c, id.clone(), port).await).await
    }

    /// Every process of the cluster.
    pub(super) async fn status(&self) -> Result<ClusterFile, Failure> {
        self.call(async |c| ControlApiClient::status(c).await).await
    }

    /// The data directory of a node, if it is one of the cluster's processes.
    ///
    /// # Errors
    ///
    /// The supervisor is gone.
    pub(crate) async fn data_of(&self, id: &NodeId) -> Result<Option<PathBuf>, Failure> {
        let nodes = self.status().await?.nodes;
        Ok(nodes.into_iter().find(|node| node.id == id.as_str()).map(|node| node.data))
    }

    /// Asks a detached cluster to end.
    pub(super) async fn shutdown(&self) -> Result<(), Failure> {
        self.call(async |c| ControlApiClient::shutdown(c).await).await
    }

    async fn call<T>(
        &self,
        request: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        self.peer.call(ACTION_DEADLINE, request).await.map_err(|error| match error {
            PeerError::Unreachable(_) => {
                let who = format!("the supervisor at {}", self.peer.addr());
                error.into_failure(&who).hint("it ended, and its processes with it: kv demo")
            }
            other => other.into_failure("the supervisor"),
        })
    }
}

/// How many keys a node has that was just started; `None` for everything else.
async fn keys(report: &Report) -> Option<u64> {
    if !matches!(report.action, Action::Start | Action::Restart) || report.id == COORDINATOR {
        return None;
    }
    let node = Peer::new(&report.addr);
    let size = node.call(SIZE_DEADLINE, async |c: &Client| NodeApiClient::size(c).await).await;
    size.ok().map(|size| size.size)
}

/// The failure for a cluster that is not there.
pub(super) fn no_cluster(what: &str) -> Failure {
    Failure::new(ErrorName::Unreachable, format!("no detached cluster {what}"))
        .hint("start one: kv demo --detach")
}
