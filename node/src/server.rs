//! The process: open, replay, bind, serve, and stop in an orderly way.
//!
//! The standard output has one line, `{"ready":"127.0.0.1:5001","pid":4711}`, when the node serves;
//! everything else is log and goes to standard error. SIGTERM and SIGINT stop it: connections end
//! after the replies that are due, the log is written and synced, the directory released.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | stopped as told |
//! | 1 | could not start: address taken or not allowed, directory of another node |
//! | 2 | settings |
//! | 73 | data directory in use |
//! | 74 | storage damaged or failing |
//!
//! # Caveats
//!
//! Only loopback addresses are served, because there is no way yet to ask a caller for a token.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use ringkv_shared::NodeId;
use ringkv_shared::net::{ServerLimits, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::args::NodeArgs;
use crate::engine::{Durability, Engine, EngineOptions, StepHook};
use crate::{NodeError, NodeService};

/// A node's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its id.
    pub id: NodeId,
    /// Where it serves; a loopback address.
    pub listen: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Compact after this many operations.
    pub compact_after: u64,
    /// Stop when standard input ends.
    pub stop_on_eof: bool,
}

/// Runs a node until `shutdown`; `on_ready` is told the address when it serves. Must run inside
/// a `LocalSet` on a current-thread runtime.
///
/// # Errors
///
/// It could not start, or its disk failed.
pub async fn run(
    config: NodeConfig,
    shutdown: CancellationToken,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<(), NodeError> {
    let addr = config.listen;
    if !addr.ip().is_loopback() {
        return Err(NodeError::NotLoopback { addr });
    }
    let (engine, committer, compactor) = Engine::open(options(&config))?;
    let bind = |source| NodeError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bind)?;
    let local = listener.local_addr().map_err(bind)?;
    let figures = engine.figures();
    info!(id = %config.id, %local, replayed = figures.replayed, keys = figures.keys, "node serves");
    on_ready(local);

    let serving = shutdown.child_token();
    let storage_stop = CancellationToken::new();
    let _end_connections_with_storage = serving.clone().drop_guard();
    let network = async {
        serve(listener, NodeService::new(engine), ServerLimits::default(), serving).await;
        storage_stop.cancel();
        Ok(())
    };
    let storage = committer.run(storage_stop.clone());
    tokio::try_join!(network, storage, compactor.run(storage_stop.clone()))?;
    info!(id = %config.id, "node stopped");
    Ok(())
}

fn options(config: &NodeConfig) -> EngineOptions {
    EngineOptions {
        id: config.id.clone(),
        data: config.data.clone(),
        durability: config.durability,
        compact_after: config.compact_after,
        hook: StepHook::default(),
    }
}

/// A node as a whole process: logs, signals, ready line, exit code.
#[must_use]
pub fn main_with(args: NodeArgs) -> ExitCode {
    let filter = EnvFilter::try_from_env("KV_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A process that embeds several servers has set up its logs already.
    let _ = logs.try_init();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start(args: NodeArgs) -> Result<(), NodeError> {
    let config = args.into_config()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(NodeError::Start)?;
    let shutdown = CancellationToken::new();
    if config.stop_on_eof {
        stop_on_eof(shutdown.clone());
    }
    let result = tokio::task::LocalSet::new().block_on(&runtime, async {
        stop_on_signal(&shutdown).map_err(NodeError::Start)?;
        run(config, shutdown, print_ready).await
    });
    runtime.shutdown_background();
    result
}

fn print_ready(addr: SocketAddr) {
    let line = serde_json::json!({"ready": addr, "pid": std::process::id()});
    // Who does not read the line does not need it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn stop_on_signal(shutdown: &CancellationToken) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, shutdown) = (signal(kind)?, shutdown.clone());
        tokio::task::spawn_local(async move {
            signals.recv().await;
            shutdown.cancel();
        });
    }
    Ok(())
}

fn stop_on_eof(shutdown: CancellationToken) {
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        let mut input = std::io::stdin().lock();
        while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
        shutdown.cancel();
    });
}
