//! The process: open the log, greet the nodes, bind, serve, stop.
//!
//! The standard output has one line, `{"ready":"127.0.0.1:5000","pid":4711}`, when it serves.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | stopped as told |
//! | 1 | could not start: address taken or not allowed |
//! | 73 | data directory in use |
//! | 74 | log damaged or failing |
//!
//! # Caveats
//!
//! Only loopback addresses are served, because there is no way yet to ask a caller for a token.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use jsonrpsee::Methods;
use ringkv_shared::net::{
    ClusterApiServer, ServerLimits, Service, print_ready, run_process, serve,
};
use ringkv_shared::ring::VNODES_DEFAULT;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::heartbeat;
use crate::log::{Log, LogError};
use crate::state::State;

/// What a coordinator is told when it starts.
#[derive(Clone, Debug, clap::Args)]
pub struct CoordinatorArgs {
    /// Address to serve on; port 0 takes a free one
    #[arg(long, env = "KV_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Directory for the coordinator's log; made if it is not there
    #[arg(long, env = "KV_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Virtual nodes for each unit of weight; must stay what it was for a data directory
    #[arg(long, env = "KV_VNODES", value_name = "N", default_value_t = VNODES_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub vnodes: u32,
    /// Stop when standard input ends: how a child follows its parent
    #[arg(long, env = "KV_STOP_ON_EOF", value_parser = clap::builder::FalseyValueParser::new())]
    pub stop_on_eof: bool,
    /// Address of the supervisor of a local cluster, told to shells that ask
    #[arg(long, hide = true)]
    pub supervisor: Option<String>,
}

/// Why the coordinator stopped, other than being told to.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Bind { addr: SocketAddr, source: io::Error },
    #[error(
        "{0} is not a loopback address: serving others needs a token, which is not supported yet; use 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Log(LogError::InUse(_)) => 73,
            Self::Log(_) => 74,
            _ => 1,
        }
    }
}

/// A coordinator as a whole process: logs, signals, ready line, exit code.
#[must_use]
pub fn main_with(args: CoordinatorArgs) -> ExitCode {
    let stop_on_eof = args.stop_on_eof;
    match run_process(stop_on_eof, async |shutdown| run(args, shutdown).await) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(args: CoordinatorArgs, shutdown: CancellationToken) -> Result<(), StartError> {
    let addr = args.listen;
    if !addr.ip().is_loopback() {
        return Err(StartError::NotLoopback(addr));
    }
    let mut state = State::new(args.vnodes);
    let log = Log::open(&args.data, &mut state)?;
    let listener =
        TcpListener::bind(addr).await.map_err(|source| StartError::Bind { addr, source })?;
    let local = listener.local_addr()?;
    let cluster = Arc::new(Cluster::new(state, log, args.data, args.supervisor)?);
    heartbeat::beat(&cluster).await;
    tracing::info!(%local, epoch = cluster.boot_epoch(), "coordinator serves");
    let watching = tokio::task::spawn_local(heartbeat::watch(cluster.clone(), shutdown.clone()));
    tokio::task::spawn_local(end_waits(cluster.clone(), shutdown.clone()));
    print_ready(local);
    let service = Coordinator { methods: Api(cluster).into_rpc().into() };
    serve(listener, service, ServerLimits::default(), shutdown).await;
    watching.abort();
    Ok(())
}

/// Lets the shells go that wait for events, once the server is to stop.
async fn end_waits(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    cluster.events.end();
}

#[derive(Clone)]
struct Coordinator {
    methods: Methods,
}

impl Service for Coordinator {
    fn methods(&self) -> &Methods {
        &self.methods
    }

    /// An answer is made when the replicas have answered: there is nothing more to wait for.
    async fn settle(&self) {}

    /// What changes the ring or a setting stands in program order with the writes around it.
    fn is_barrier(&self, method: &str) -> bool {
        matches!(method, "addnode" | "removenode" | "setreplica" | "rebalance" | "config")
    }
}
