//! Flags, environment and configuration file of a coordinator.
//!
//! A flag beats its environment variable, that beats the file, that beats the default; see
//! [`ringkv_shared::net::read_settings`].
//!
//! # Caveats
//!
//! The file is read once, at start. What `config` sets while the coordinator runs is forgotten
//! when it stops; what must last stands here.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use ringkv_shared::limits::CONNECTIONS_MAX_DEFAULT;
use ringkv_shared::net::{ConfigError, read_settings};
use ringkv_shared::{ErrorName, Failure};

use crate::recover::Recovery;
use crate::settings::Settings;

const LISTEN_DEFAULT: &str = "127.0.0.1:5000";

/// What a coordinator is told when it starts.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CoordinatorArgs {
    /// Address to serve on [default: 127.0.0.1:5000; port 0 takes a free one]
    #[arg(long, env = "KV_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Directory for the coordinator's log; made if it is not there
    #[arg(long, env = "KV_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Virtual nodes for each unit of weight, fixed when the directory is made [default: 256]
    #[arg(long, env = "KV_VNODES", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub vnodes: Option<u32>,
    /// Milliseconds between heartbeats [default: 500]
    #[arg(long, env = "KV_HEARTBEAT", value_name = "MS")]
    pub heartbeat: Option<u64>,
    /// Heartbeats missed in a row until a node is DOWN [default: 3]
    #[arg(long, env = "KV_DOWN_AFTER", value_name = "N")]
    pub down_after: Option<u64>,
    /// Milliseconds a replica has for an answer [default: 2000]
    #[arg(long, env = "KV_TIMEOUT", value_name = "MS")]
    pub timeout: Option<u64>,
    /// Milliseconds until a read asks one more replica because somebody is slow [default: 100]
    #[arg(long, env = "KV_HEDGE", value_name = "MS")]
    pub hedge: Option<u64>,
    /// Milliseconds an acknowledged write waits for the other replicas [default: 1000]
    #[arg(long, env = "KV_LINGER", value_name = "MS")]
    pub linger: Option<u64>,
    /// KiB a second that a rebalance may copy [default: 0, no limit]
    #[arg(long, env = "KV_REBALANCE_RATE", value_name = "KIB")]
    pub rebalance_rate: Option<u64>,
    /// A rebalance holds back while requests take longer than so many milliseconds [default: 50; 0: never]
    #[arg(long, env = "KV_YIELD_ABOVE", value_name = "MS")]
    pub yield_above: Option<u64>,
    /// Seconds that a node must be DOWN until it is taken off the ring [default: 0, never]
    #[arg(long, env = "KV_AUTOHEAL", value_name = "S")]
    pub autoheal: Option<u64>,
    /// Connections at a time; one more is told that the server is busy [default: 10000]. Each is an
    /// open file: the soft limit of these is raised as far as the hard one allows
    #[arg(long, env = "KV_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,
    /// Rebuild a lost coordinator in an empty --data from what the nodes of --node know, then serve
    #[arg(long, env = "KV_RECOVER", value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub recover: Option<bool>,
    /// Where nodes answer that --recover asks first; they name the others
    #[arg(long, env = "KV_NODE", value_name = "HOST:PORT", value_delimiter = ',')]
    pub node: Vec<String>,
    /// Let --recover go on without members that do not answer, while a majority does
    #[arg(long, env = "KV_FORCE", value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub force: Option<bool>,
    /// Stop when standard input ends: how a child follows its parent
    #[arg(long, env = "KV_STOP_ON_EOF", value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub stop_on_eof: Option<bool>,
    /// TOML file with any of these settings
    #[arg(long, env = "KV_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the supervisor of a local cluster, told to shells that ask
    #[arg(long, hide = true)]
    pub supervisor: Option<String>,
}

/// A coordinator's settings, complete.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) data: PathBuf,
    /// Whether the log is to be rebuilt first, and from what.
    pub(crate) recovery: Option<Recovery>,
    /// `None`: as the directory has it, or the default for a new one.
    pub(crate) vnodes: Option<u32>,
    /// What can be changed while it runs.
    pub(crate) settings: Settings,
    /// Connections at a time.
    pub(crate) connections_max: usize,
    pub(crate) stop_on_eof: bool,
    pub(crate) supervisor: Option<String>,
}

/// Why the settings do not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSettings {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Value(Failure),
}

impl CoordinatorArgs {
    /// The settings with file and defaults filled in.
    pub(crate) fn into_config(self) -> Result<Config, BadSettings> {
        let file: Self = read_settings(self.config.as_deref())?;
        let data = self.data.or(file.data);
        let mut settings = Settings::default();
        for (name, value) in [
            ("heartbeat", self.heartbeat.or(file.heartbeat)),
            ("down_after", self.down_after.or(file.down_after)),
            ("timeout", self.timeout.or(file.timeout)),
            ("hedge", self.hedge.or(file.hedge)),
            ("linger", self.linger.or(file.linger)),
            ("rebalance_rate", self.rebalance_rate.or(file.rebalance_rate)),
            ("yield_above", self.yield_above.or(file.yield_above)),
            ("autoheal", self.autoheal.or(file.autoheal)),
        ] {
            if let Some(value) = value {
                settings.start_with(name, value).map_err(BadSettings::Value)?;
            }
        }
        let nodes = if self.node.is_empty() { file.node } else { self.node };
        let recovery = Recovery {
            nodes,
            force: self.force.or(file.force).unwrap_or(false),
            timeout: settings.timeout(),
        };
        let recovery = asked(self.recover.or(file.recover).unwrap_or(false), recovery)?;
        let listen = self.listen.or(file.listen);
        let connections = self.max_connections.or(file.max_connections);
        Ok(Config {
            recovery,
            listen: listen.unwrap_or(LISTEN_DEFAULT.parse().expect("a socket address")),
            data: data.ok_or(ConfigError::Missing { what: "data directory", flag: "data" })?,
            vnodes: self.vnodes.or(file.vnodes),
            settings,
            connections_max: connections.map_or(CONNECTIONS_MAX_DEFAULT, NonZeroUsize::get),
            stop_on_eof: self.stop_on_eof.or(file.stop_on_eof).unwrap_or(false),
            supervisor: self.supervisor,
        })
    }
}

/// What is to be recovered, when that and all it takes was given.
fn asked(recover: bool, recovery: Recovery) -> Result<Option<Recovery>, BadSettings> {
    let bad = |message: &str, hint: &str| {
        Err(BadSettings::Value(Failure::new(ErrorName::BadArgument, message).hint(hint)))
    };
    match (recover, recovery.nodes.is_empty()) {
        (true, true) => bad(
            "--recover needs nodes to ask",
            "kv coordinator --recover --data NEWDIR --node HOST:PORT,…",
        ),
        (true, false) => Ok(Some(recovery)),
        (false, true) if !recovery.force => Ok(None),
        (false, _) => bad(
            "--node and --force go with --recover",
            "a coordinator that runs takes nodes by addnode",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_starts_and_the_rest_is_default() {
        let given = CoordinatorArgs {
            data: Some("d".into()),
            heartbeat: Some(50),
            ..CoordinatorArgs::default()
        };
        let config = given.into_config().unwrap();
        assert_eq!((config.listen.to_string().as_str(), config.vnodes), (LISTEN_DEFAULT, None));
        let origin = |name| config.settings.list(Some(name)).unwrap()[0].origin.clone();
        assert_eq!((origin("heartbeat"), origin("hedge")), ("start".into(), "default".into()));
        let slow = CoordinatorArgs { heartbeat: Some(1), ..CoordinatorArgs::default() };
        let told = slow.into_config().unwrap_err().to_string();
        assert!(told.starts_with("heartbeat cannot be \"1\": it is a number from 20"), "{told}");
    }

    #[test]
    fn a_recovery_is_asked_for_with_its_nodes() {
        let given = |recover, node: &[&str], force| CoordinatorArgs {
            data: Some("d".into()),
            recover,
            node: node.iter().map(|&node| node.to_owned()).collect(),
            force,
            ..CoordinatorArgs::default()
        };
        let recovery = given(Some(true), &["a:1", "b:2"], None).into_config().unwrap().recovery;
        let Recovery { nodes, force, .. } = recovery.unwrap();
        assert_eq!((nodes, force), (vec!["a:1".to_owned(), "b:2".to_owned()], false));
        for bad in [
            given(Some(true), &[], None),
            given(None, &["a:1"], None),
            given(Some(false), &[], Some(true)),
        ] {
            assert!(matches!(bad.into_config(), Err(BadSettings::Value(_))));
        }
    }
}
