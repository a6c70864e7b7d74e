//! Flags, environment and configuration file of a node.
//!
//! A flag beats its environment variable, that beats the file, that beats the default. The
//! file is TOML with the flags' names as keys (`compact-after = 1000`); an unknown key is an error.
//!
//! # Caveats
//!
//! The file is read once, at start.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ringkv_shared::NodeId;
use serde::Deserialize;

use crate::options::{COMPACT_AFTER_DEFAULT, Durability, SNAPSHOTS_KEPT_DEFAULT};
use crate::policy::CompactionPolicy;
use crate::server::NodeConfig;
use crate::store::Budget;

const LISTEN_DEFAULT: &str = "127.0.0.1:5001";

/// What a node is told when it starts.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NodeArgs {
    /// Name of this node: 1 to 32 of a-z, 0-9 and '-'
    #[arg(long, env = "KV_ID", value_name = "ID")]
    pub id: Option<NodeId>,
    /// Address to serve on [default: 127.0.0.1:5001; port 0 takes a free one]
    #[arg(long, env = "KV_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Directory for the log; made if it is not there
    #[arg(long, env = "KV_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// When a write is acknowledged [default: always]
    #[arg(long, env = "KV_DURABILITY", value_name = "POLICY")]
    pub durability: Option<Durability>,
    /// Compact when this many operations, and as many as there are keys, have passed [default: 100]
    #[arg(long, env = "KV_COMPACT_AFTER", value_name = "N")]
    pub compact_after: Option<u64>,
    /// Compact at least this often, in seconds, if anything changed [default: never for age]
    #[arg(long, env = "KV_COMPACT_EVERY", value_name = "SECONDS")]
    pub compact_every: Option<NonZeroU64>,
    /// Bytes of values to keep in memory; others are read back from the log [default: all of them]
    #[arg(long, env = "KV_MEMORY_MAX", value_name = "BYTES")]
    pub memory_max: Option<u64>,
    /// How many values to keep in memory [default: all of them]
    #[arg(long, env = "KV_MAX_MEM_ITEMS", value_name = "N")]
    pub max_mem_items: Option<u64>,
    /// How many snapshots stay; the newest is the one that counts [default: 3]
    #[arg(long, env = "KV_SNAPSHOTS_KEPT", value_name = "K")]
    pub snapshots_kept: Option<NonZeroUsize>,
    /// Stop when standard input ends: how a child follows its parent
    #[arg(long, env = "KV_STOP_ON_EOF", value_parser = clap::builder::FalseyValueParser::new())]
    pub stop_on_eof: bool,
    /// TOML file with any of these settings
    #[arg(long, env = "KV_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// Why the settings do not do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither flag nor environment nor file has it.
    #[error("no {what}: give --{flag}, {env} or a key `{flag}` in the configuration file")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// The flag, and key, that gives it.
        flag: &'static str,
        /// The variable that gives it.
        env: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file has a mistake; the text names key and place.
    #[error("in configuration file {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The mistake.
        source: Box<toml::de::Error>,
    },
}

impl NodeArgs {
    /// The settings with file and defaults filled in.
    ///
    /// # Errors
    ///
    /// The file is wrong, or id or data directory are given nowhere.
    pub fn into_config(self) -> Result<NodeConfig, ConfigError> {
        let file = self.file()?;
        let missing = |what, flag, env| ConfigError::Missing { what, flag, env };
        let listen = self.listen.or(file.listen);
        let every = self.compact_every.or(file.compact_every);
        let bytes = self.memory_max.or(file.memory_max);
        let values = self.max_mem_items.or(file.max_mem_items);
        let kept = self.snapshots_kept.or(file.snapshots_kept);
        Ok(NodeConfig {
            id: self.id.or(file.id).ok_or(missing("node id", "id", "KV_ID"))?,
            listen: listen.unwrap_or(LISTEN_DEFAULT.parse().expect("a socket address")),
            data: self.data.or(file.data).ok_or(missing("data directory", "data", "KV_DATA"))?,
            durability: self.durability.or(file.durability).unwrap_or_default(),
            compaction: CompactionPolicy {
                after: self.compact_after.or(file.compact_after).unwrap_or(COMPACT_AFTER_DEFAULT),
                every: every.map(|seconds| Duration::from_secs(seconds.get())),
            },
            memory: (bytes.is_some() || values.is_some())
                .then(|| Budget { bytes: bytes.unwrap_or(u64::MAX), values }),
            snapshots_kept: kept.map_or(SNAPSHOTS_KEPT_DEFAULT, NonZeroUsize::get),
            stop_on_eof: self.stop_on_eof || file.stop_on_eof,
        })
    }

    fn file(&self) -> Result<Self, ConfigError> {
        let Some(path) = self.config.clone() else { return Ok(Self::default()) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        let parsed = toml::from_str(&text);
        parsed.map_err(|source| ConfigError::Malformed { path, source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str) -> Result<NodeConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let id = Some("n1".parse().unwrap());
        NodeArgs { id, config: Some(path), ..NodeArgs::default() }.into_config()
    }

    #[test]
    fn flag_then_file_then_default() {
        let config =
            with_file("id = \"n9\"\ndata = \"/tmp/x\"\ndurability = \"os\"\ncompact-after = 7\nsnapshots-kept = 1")
                .unwrap();
        assert_eq!((config.id.as_str(), config.compaction.after), ("n1", 7));
        assert_eq!((config.snapshots_kept, config.compaction.every), (1, None));
        assert_eq!(config.durability, Durability::Os);
        assert_eq!(config.listen.to_string(), LISTEN_DEFAULT);
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = with_file("data = \"x\"\nspeed = 9").unwrap_err().to_string();
        assert!(unknown.contains("speed"), "{unknown}");
        let missing = NodeArgs::default().into_config().unwrap_err().to_string();
        assert!(missing.contains("--id") && missing.contains("KV_ID"), "{missing}");
    }
}
