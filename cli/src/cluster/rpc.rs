//! The supervisor's endpoint: JSON-RPC over the same transport as everything else.
//!
//! | method | parameter | answer |
//! |---|---|---|
//! | `act` | action (see [`Action`]), id | what was done, see [`Report`] |
//! | `spawn` | id, port | the address of the node, which is started unless it runs there already |
//! | `status` | – | every child, see [`ClusterFile`] |
//! | `shutdown` | – | stops a detached cluster; refused for one that belongs to a shell |
//!
//! # Caveats
//!
//! Calls on one connection run one after another; on two connections they may meet, and then the
//! child's own lock lets one through at a time.

use std::sync::Arc;

use jsonrpsee::Methods;
use jsonrpsee::core::async_trait;
use jsonrpsee::proc_macros::rpc;
use jsonrpsee::types::ErrorObjectOwned;
use ringkv_shared::NodeId;
use ringkv_shared::net::{Service, failure_into_object};

use super::life::{Action, Report};
use super::state::ClusterFile;
use super::supervisor::Supervisor;

/// What the supervisor does on request.
#[rpc(server, client)]
pub(super) trait ControlApi {
    /// Does something to a child: a node's id, or `coordinator`.
    #[method(name = "act", param_kind = map)]
    async fn act(&self, action: Action, id: NodeId) -> Result<Report, ErrorObjectOwned>;
    /// Starts a node and tells its address.
    #[method(name = "spawn", param_kind = map)]
    async fn spawn(&self, id: NodeId, port: u16) -> Result<String, ErrorObjectOwned>;
    /// Every child.
    #[method(name = "status")]
    async fn status(&self) -> Result<ClusterFile, ErrorObjectOwned>;
    /// Ends a detached cluster; the answer comes before the end.
    #[method(name = "shutdown")]
    async fn shutdown(&self) -> Result<(), ErrorObjectOwned>;
}

/// The endpoint of one supervisor.
#[derive(Clone)]
pub(super) struct Endpoint {
    methods: Methods,
}

impl Endpoint {
    /// The methods, acting on `supervisor`.
    pub(super) fn new(supervisor: Arc<Supervisor>) -> Self {
        Self { methods: Handler { supervisor }.into_rpc().into() }
    }
}

impl Service for Endpoint {
    fn methods(&self) -> &Methods {
        &self.methods
    }

    async fn settle(&self) {}

    fn is_barrier(&self, _method: &str) -> bool {
        true
    }
}

struct Handler {
    supervisor: Arc<Supervisor>,
}

#[async_trait]
impl ControlApiServer for Handler {
    async fn act(&self, action: Action, id: NodeId) -> Result<Report, ErrorObjectOwned> {
        self.supervisor.act(action, id.as_str()).await.map_err(failure_into_object)
    }

    async fn spawn(&self, id: NodeId, port: u16) -> Result<String, ErrorObjectOwned> {
        self.supervisor.spawn(&id, port).await.map_err(failure_into_object)
    }

    async fn status(&self) -> Result<ClusterFile, ErrorObjectOwned> {
        Ok(self.supervisor.picture().await)
    }

    async fn shutdown(&self) -> Result<(), ErrorObjectOwned> {
        self.supervisor.request_end().map_err(failure_into_object)
    }
}
