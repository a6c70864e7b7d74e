//! The process: open the log, greet the nodes, bind, serve, stop.
//!
//! The standard output has one line, `{"ready":"127.0.0.1:5000","pid":4711}`, when it serves.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | stopped as told |
//! | 1 | could not start: address taken or not allowed, nothing to recover from |
//! | 2 | settings |
//! | 73 | data directory in use |
//! | 74 | log damaged or failing |

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use jsonrpsee::Methods;
use ringkv_shared::net::{
    CLUSTER_METHODS, ClusterApiServer, ListenError, Mailbox, ServerLimits, Service, check_listen,
    listen, make_room_for, print_ready, run_process, serve, takes, tell_end,
};
use ringkv_shared::ring::VNODES_DEFAULT;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::args::{BadSettings, Config, CoordinatorArgs};
use crate::cluster::Cluster;
use crate::express::Express;
use crate::leases::Leases;
use crate::log::{Log, LogError};
use crate::recover::{RecoverError, recover};
use crate::state::{Event, State};
use crate::{autoheal, entropy, handoff, heartbeat, herald, rebalance};

/// Why the coordinator stopped, other than being told to.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error(transparent)]
    Settings(#[from] BadSettings),
    #[error("{} was made with {found} virtual nodes for each unit of weight, not {asked}", data.display())]
    OtherRing { data: PathBuf, found: u32, asked: u32 },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot recover: {0}")]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl EndError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(BadSettings::Config(error)) => Some(error.hint()),
            Self::Settings(BadSettings::Value(failure)) => failure.hint.clone(),
            Self::OtherRing { found, .. } => {
                Some(format!("start with --vnodes {found}, or without, or with another --data"))
            }
            Self::Log(error) => Some(error.hint().to_owned()),
            Self::Recover(error) => Some(error.hint()),
            Self::Listen(error) => Some(error.hint()),
            Self::Start(_) => None,
        }
    }

    const fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::OtherRing { .. } => 2,
            Self::Log(LogError::Exists(_))
            | Self::Recover(RecoverError::Log(LogError::Exists(_))) => 1,
            Self::Log(error) | Self::Recover(RecoverError::Log(error)) => match error {
                LogError::InUse(_) => 73,
                _ => 74,
            },
            Self::Recover(_) | Self::Listen(_) | Self::Start(_) => 1,
        }
    }
}

/// A coordinator as a whole process: logs, signals, ready line, last words, exit code.
#[must_use]
pub fn main_with(args: CoordinatorArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell_end(&error, error.hint().as_deref(), error.exit_code()),
    }
}

fn start(args: CoordinatorArgs) -> Result<(), EndError> {
    let config = args.into_config()?;
    run_process(config.stop_on_eof, async |shutdown| run(config, shutdown).await)
}

async fn run(config: Config, shutdown: CancellationToken) -> Result<(), EndError> {
    check_listen(config.listen)?;
    make_room_for(config.connections_max);
    let mut bound = None;
    if let Some(recovery) = &config.recovery {
        // Before anything is made: a directory that was rebuilt and cannot serve would only be in the way.
        bound = Some(listen(config.listen).await?);
        recover(&config.data, recovery).await?;
    }
    let mut state = State::new();
    let mut log = Log::open(&config.data, &mut state)?;
    fix_ring(&config, &mut state, &mut log)?;
    let (listener, local) = match bound {
        Some(bound) => bound,
        None => listen(config.listen).await?,
    };
    let Config { settings, data, supervisor, connections_max, .. } = config;
    let cluster = Arc::new(Cluster::new(state, log, settings, data, supervisor)?);
    heartbeat::beat(&cluster, Instant::now()).await;
    cluster.notice_if_put_back();
    cluster.tell_now().await;
    tracing::info!(%local, epoch = cluster.boot_epoch(), "coordinator serves");
    let watching = tokio::task::spawn_local(heartbeat::watch(cluster.clone(), shutdown.clone()));
    let delivering = tokio::task::spawn_local(handoff::deliver(cluster.clone(), shutdown.clone()));
    let comparing = tokio::task::spawn_local(entropy::rounds(cluster.clone(), shutdown.clone()));
    let telling = tokio::task::spawn_local(herald::tell(cluster.clone(), shutdown.clone()));
    let healing = tokio::task::spawn_local(autoheal::watch(cluster.clone(), shutdown.clone()));
    let moving = tokio::task::spawn_local(rebalance::watch(cluster.clone(), shutdown.clone()));
    tokio::task::spawn_local(cluster.clone().heed_refusals(shutdown.clone()));
    tokio::task::spawn_local(end_waits(cluster.clone(), shutdown.clone()));
    print_ready(local);
    let watching_flights = tokio::task::spawn_local(Express::watch(Arc::clone(&cluster)));
    let watching_leases = tokio::task::spawn_local(Leases::watch(Arc::clone(&cluster)));
    let methods = Api(Arc::clone(&cluster)).into_rpc().into();
    let service = Coordinator { methods, cluster };
    let limits = ServerLimits { connections_max, ..ServerLimits::default() };
    serve(listener, service, limits, shutdown).await;
    let background = [
        watching,
        delivering,
        comparing,
        telling,
        healing,
        moving,
        watching_flights,
        watching_leases,
    ];
    background.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Notes how fine a new ring is; with another number every key would have other owners.
fn fix_ring(config: &Config, state: &mut State, log: &mut Log) -> Result<(), EndError> {
    match config.vnodes {
        asked if state.boot_epoch == 0 => {
            let ring = Event::Ring { vnodes: asked.unwrap_or(VNODES_DEFAULT) };
            log.append(&ring)?;
            state.apply(&ring);
            Ok(())
        }
        Some(asked) if asked != state.vnodes => {
            let (data, found) = (config.data.clone(), state.vnodes);
            Err(EndError::OtherRing { data, found, asked })
        }
        _ => Ok(()),
    }
}

/// Lets the shells go that wait for events, once the server is to stop.
async fn end_waits(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    cluster.events.end();
    cluster.changes.end();
}

#[derive(Clone)]
struct Coordinator {
    methods: Methods,
    cluster: Arc<Cluster>,
}

impl Service for Coordinator {
    fn methods(&self) -> &Methods {
        &self.methods
    }

    fn quick(&self, lines: &[&[u8]], _out: &mut Vec<u8>, mailbox: &Mailbox) -> usize {
        self.cluster.express.take(&self.cluster, lines, mailbox)
    }

    /// An answer is made when the replicas have answered: there is nothing more to wait for.
    async fn settle(&self) {}

    fn takes(&self, method: &str) -> Option<&'static str> {
        takes(&CLUSTER_METHODS, method)
    }

    /// What changes the ring or a setting stands in program order with the writes around it.
    fn is_barrier(&self, method: &str) -> bool {
        matches!(
            method,
            "addnode"
                | "removenode"
                | "replacenode"
                | "setweight"
                | "setzone"
                | "setreplica"
                | "plan"
                | "rebalance"
                | "pause"
                | "resume"
                | "cancel"
                | "config"
                | "keyspace"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn every_method_says_what_it_takes() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::new();
        let log = Log::open(dir.path(), &mut state).unwrap();
        let settings = Settings::default();
        let cluster = Cluster::new(state, log, settings, dir.path().to_owned(), None).unwrap();
        let mut names: Vec<_> = Api(Arc::new(cluster)).into_rpc().method_names().collect();
        names.sort_unstable();
        assert_eq!(names, CLUSTER_METHODS.map(|(name, _)| name));
    }
}
