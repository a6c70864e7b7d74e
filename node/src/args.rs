//! Flags, environment and configuration file of a node.
//!
//! A flag beats its environment variable, that beats the file, that beats the default; see
//! [`ringkv_shared::net::read_settings`].
//!
//! # Caveats
//!
//! The file is read once, at start.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ringkv_shared::NodeId;
use ringkv_shared::limits::CONNECTIONS_MAX_DEFAULT;
use ringkv_shared::net::{ConfigError, read_settings};

use crate::options::{
    COMPACT_AFTER_DEFAULT, Durability, SEGMENT_BYTES_DEFAULT, SNAPSHOTS_KEPT_DEFAULT,
};
use crate::policy::CompactionPolicy;
use crate::server::NodeConfig;
use crate::store::Budget;

/// The smallest segment: with smaller ones a directory would be all headers.
const SEGMENT_BYTES_MIN: u64 = 4096;
const LISTEN_DEFAULT: &str = "127.0.0.1:5001";

/// What a node is told when it starts.
#[derive(Clone, Debug, Default, clap::Args)]
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
    /// Compact at least this often, if anything changed: 10m, 1h [default: never for age]
    #[arg(long, env = "KV_COMPACT_EVERY", value_name = "TIME", value_parser = parse_time)]
    pub compact_every: Option<Duration>,
    /// Close a segment of the log at this size: 64MiB; at least 4KiB [default: 64MiB]
    #[arg(long, env = "KV_SEGMENT_MAX", value_name = "SIZE", value_parser = parse_segment)]
    pub segment_max: Option<u64>,
    /// How much of the values to keep in memory: 512MiB; the others are read back from the log
    /// [default: all of them]
    #[arg(long, env = "KV_MEMORY_MAX", value_name = "SIZE", value_parser = parse_size)]
    pub memory_max: Option<u64>,
    /// How many values to keep in memory [default: all of them]
    #[arg(long, env = "KV_MAX_MEM_ITEMS", value_name = "N")]
    pub max_mem_items: Option<u64>,
    /// How many snapshots stay; the newest is the one that counts [default: 3]
    #[arg(long, env = "KV_SNAPSHOTS_KEPT", value_name = "K")]
    pub snapshots_kept: Option<NonZeroUsize>,
    /// Connections at a time; one more is told that the server is busy [default: 10000]. Each is an
    /// open file: the soft limit of these is raised as far as the hard one allows
    #[arg(long, env = "KV_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,
    /// Stop when standard input ends: how a child follows its parent
    #[arg(long, env = "KV_STOP_ON_EOF", value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub stop_on_eof: Option<bool>,
    /// TOML file with any of these settings
    #[arg(long, env = "KV_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl NodeArgs {
    /// The settings with file and defaults filled in.
    ///
    /// # Errors
    ///
    /// The file is wrong, or id or data directory are given nowhere.
    pub fn into_config(self) -> Result<NodeConfig, ConfigError> {
        let file: Self = read_settings(self.config.as_deref())?;
        let missing = |what, flag| ConfigError::Missing { what, flag };
        let listen = self.listen.or(file.listen);
        let segment = self.segment_max.or(file.segment_max);
        let bytes = self.memory_max.or(file.memory_max);
        let values = self.max_mem_items.or(file.max_mem_items);
        let kept = self.snapshots_kept.or(file.snapshots_kept);
        let connections = self.max_connections.or(file.max_connections);
        Ok(NodeConfig {
            id: self.id.or(file.id).ok_or(missing("node id", "id"))?,
            listen: listen.unwrap_or(LISTEN_DEFAULT.parse().expect("a socket address")),
            data: self.data.or(file.data).ok_or(missing("data directory", "data"))?,
            durability: self.durability.or(file.durability).unwrap_or_default(),
            compaction: CompactionPolicy {
                after: self.compact_after.or(file.compact_after).unwrap_or(COMPACT_AFTER_DEFAULT),
                every: self.compact_every.or(file.compact_every),
            },
            memory: (bytes.is_some() || values.is_some())
                .then(|| Budget { bytes: bytes.unwrap_or(u64::MAX), values }),
            segment_bytes: segment.unwrap_or(SEGMENT_BYTES_DEFAULT),
            snapshots_kept: kept.map_or(SNAPSHOTS_KEPT_DEFAULT, NonZeroUsize::get),
            connections_max: connections.map_or(CONNECTIONS_MAX_DEFAULT, NonZeroUsize::get),
            stop_on_eof: self.stop_on_eof.or(file.stop_on_eof).unwrap_or(false),
        })
    }
}

/// A size as people write it, in bytes.
///
/// # Errors
///
/// What would be one.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let size = text.parse::<bytesize::ByteSize>();
    size.map(|size| size.as_u64())
        .map_err(|_| format!("{text:?} is no size: write 64MiB, 1GB or 4096"))
}

fn parse_segment(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes < SEGMENT_BYTES_MIN => Err(format!("{text:?} is less than 4KiB")),
        bytes => Ok(bytes),
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(format!("{text:?} is no time: write 90s, 10m or 1h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_written_as_people_do() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1GB", 1_000_000_000), ("4096", 4096)] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        assert_eq!(parse_size("big").unwrap_err(), "\"big\" is no size: write 64MiB, 1GB or 4096");
        assert_eq!(parse_segment("1KiB").unwrap_err(), "\"1KiB\" is less than 4KiB");
        assert_eq!(parse_time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_time("0s").unwrap_err(), "\"0s\" is no time: write 90s, 10m or 1h");
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        let given = NodeArgs {
            id: Some("n1".parse().unwrap()),
            data: Some("d".into()),
            ..NodeArgs::default()
        };
        let config = given.into_config().unwrap();
        assert_eq!(config.listen.to_string(), LISTEN_DEFAULT);
        assert_eq!(
            (config.durability, config.compaction.after, config.stop_on_eof),
            (Durability::Always, COMPACT_AFTER_DEFAULT, false)
        );
        let missing = NodeArgs::default().into_config().unwrap_err();
        assert_eq!(missing.to_string(), "no node id was given");
    }
}
