//! The words of `kv bench`.
//!
//! # Caveats
//!
//! What the words mean together is checked where they are used: a peer has no nodes to kill, and so on.

use std::time::Duration;

use clap::Args;
use ringkv_shared::NodeId;

use super::peer::Peer;
use super::values::VALUE_BYTES_MIN;
use crate::grammar::parse_span;

/// Words of a measurement.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// How many connections.
    #[arg(long, short = 'c', default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(super) connections: u32,
    /// Requests that each connection writes at once; it reads all their answers, then writes the next.
    #[arg(long, short = 'P', default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) pipeline: u32,
    /// Bytes in a value.
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(VALUE_BYTES_MIN..=1024 * 1024))]
    pub(super) value_size: u32,
    /// How many keys: key:000000000000 and so on, 16 bytes each.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(super) key_count: u32,
    /// How many requests of a hundred are reads: 0 is puts only, 100 gets only.
    #[arg(long, default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) reads: u8,
    /// Which keys: each as often, or a few very often (Zipf, exponent 0.99).
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(super) keys: Distribution,
    /// Runs so long before it measures.
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = parse_span)]
    pub(super) warm_up: Duration,
    /// Where the choice of keys and the filling of values begin: the same seed, the same requests.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) seed: u64,
    /// Ends after so many requests.
    #[arg(long, value_name = "N", conflicts_with = "lasting", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) ops: Option<u64>,
    /// Ends after this time; 5s when neither is said.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    pub(super) lasting: Option<Duration>,
    /// Open loop: so many requests a second, each sent at its planned moment, which its latency is
    /// counted from, however late the answers before it are.
    #[arg(long, value_name = "OPS", conflicts_with = "pipeline", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) rate: Option<u32>,
    /// Straight to a node, without the coordinator.
    #[arg(long, value_name = "ID|HOST:PORT", conflicts_with = "peer")]
    pub(super) to: Option<String>,
    /// Through the client library, which goes straight to the owners of each key: -c times -P callers of one client.
    #[arg(long, conflicts_with_all = ["to", "peer"])]
    pub(super) client: bool,
    /// Another store instead: redis://HOST:PORT (?wait=1: each SET waits for a replica),
    /// memcached://HOST:PORT, etcd://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub(super) peer: Option<Peer>,
    /// A process of the server, whose CPU time is to be counted; may be said several times. Without
    /// it, those of our cluster, or who listens at the peer's port.
    #[arg(long = "server-pid", value_name = "PID")]
    pub(super) server_pids: Vec<u32>,
    /// Ends this node at once, as a crash would, in the middle of the measured part (local cluster).
    #[arg(long, value_name = "ID", conflicts_with = "peer")]
    pub(super) kill: Option<NodeId>,
    /// When, from the beginning of the measured part; without it, half of --for.
    #[arg(long, value_name = "TIME", requires = "kill", value_parser = parse_span)]
    pub(super) kill_at: Option<Duration>,
    /// Connections that are open beside the load and say nothing.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) idle: u32,
    /// Does not put every key first: they are there from another run.
    #[arg(long)]
    pub(super) no_load: bool,
    /// Which keys to read back at the end.
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    pub(super) verify: Verify,
}

/// How keys are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Distribution {
    /// Each as often.
    #[default]
    Uniform,
    /// The n-th most wanted 1/n^0.99 as often as the most wanted.
    Zipf,
}

/// Which keys are read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Verify {
    /// Up to 10,000, by the seed.
    #[default]
    Sample,
    /// Every one.
    All,
    /// None.
    None,
}

impl BenchArgs {
    /// How long the measured part lasts; `None`: until `--ops` requests are done.
    #[must_use]
    pub(super) fn lasting(&self) -> Option<Duration> {
        match (self.ops, self.lasting) {
            (Some(_), _) => None,
            (None, lasting) => Some(lasting.unwrap_or(Duration::from_secs(5))),
        }
    }

    /// When the node is to be killed, from the beginning of the measured part.
    #[must_use]
    pub(super) fn kill_at(&self) -> Duration {
        let half = self.lasting().unwrap_or(Duration::from_secs(2)) / 2;
        self.kill_at.unwrap_or(half)
    }
}
