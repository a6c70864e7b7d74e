//! The process: open, replay, bind, serve, and stop in an orderly way.
//!
//! The standard output has one line, `{"ready":"127.0.0.1:5001","pid":4711}`, when the node serves;
//! everything else is log, or the `error: …` that ended it, and goes to standard error. SIGTERM and SIGINT stop it: connections end
//! after the replies that are due, the log is written and synced, the directory released.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | stopped as told |
//! | 1 | could not start: address taken or not allowed, directory of another node |
//! | 2 | settings |
//! | 73 | data directory in use |
//! | 74 | storage damaged or failing |

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use ringkv_shared::NodeId;
use ringkv_shared::net::{
    ServerLimits, check_listen, listen, make_room_for, print_ready, run_process, serve, tell_end,
};
use tokio::task::spawn_local;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::args::NodeArgs;
use crate::engine::Engine;
use crate::options::{Durability, EngineOptions};
use crate::policy::CompactionPolicy;
use crate::store::Budget;
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
    /// When to compact.
    pub compaction: CompactionPolicy,
    /// How much of the values may be in memory; `None`: all of them are.
    pub memory: Option<Budget>,
    /// How many snapshots stay; at least 1.
    pub snapshots_kept: usize,
    /// Where a segment of the log is closed, in bytes.
    pub segment_bytes: u64,
    /// Connections at a time.
    pub connections_max: usize,
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
    check_listen(config.listen)?;
    make_room_for(config.connections_max);
    let (engine, committer, compactor) = Engine::open(options(&config))?;
    let (listener, local) = listen(config.listen).await?;
    let figures = engine.figures();
    info!(id = %config.id, %local, replayed = figures.replayed, keys = figures.keys, "node serves");
    on_ready(local);

    let serving = shutdown.child_token();
    let storage_stop = CancellationToken::new();
    let _end_connections_with_storage = serving.clone().drop_guard();
    let sweeper = engine.clone();
    let limits =
        ServerLimits { connections_max: config.connections_max, ..ServerLimits::default() };
    let network = async {
        serve(listener, NodeService::new(engine), limits, serving).await;
        storage_stop.cancel();
        Ok(())
    };
    // A task of its own, so that its turn is behind that of the connections that are ready.
    let storage = AbortOnDropHandle::new(spawn_local(committer.run(storage_stop.clone())));
    let storage = async { storage.await.expect("committing does not panic") };
    let sweep = async {
        sweeper.run_sweep(storage_stop.clone()).await;
        Ok(())
    };
    tokio::try_join!(network, storage, compactor.run(storage_stop.clone()), sweep)?;
    info!(id = %config.id, "node stopped");
    Ok(())
}

fn options(config: &NodeConfig) -> EngineOptions {
    EngineOptions {
        durability: config.durability,
        compaction: config.compaction,
        memory: config.memory,
        snapshots_kept: config.snapshots_kept,
        segment_bytes: config.segment_bytes,
        ..EngineOptions::new(config.id.clone(), config.data.clone())
    }
}

/// A node as a whole process: logs, signals, ready line, last words, exit code.
#[must_use]
pub fn main_with(args: NodeArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell_end(&error, error.hint().as_deref(), error.exit_code()),
    }
}

fn start(args: NodeArgs) -> Result<(), NodeError> {
    let config = args.into_config()?;
    let stop_on_eof = config.stop_on_eof;
    run_process(stop_on_eof, async |shutdown| run(config, shutdown, print_ready).await)
}
