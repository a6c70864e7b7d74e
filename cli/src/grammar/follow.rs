//! Following what happens, and asking why: `watch`, `events`, `why`, `check`.
//!
//! # Caveats
//!
//! `kv check FILE…` on the command line compares transcripts, `kv check` alone compares replicas: there
//! the word is taken by [`Form`](crate::forms::Form), so the parser of the others does not know it.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::parse_span;

/// A command that follows or asks.
#[derive(Debug, Subcommand)]
pub(crate) enum Follow {
    /// Follow what is written, as it is acknowledged, until Ctrl-C.
    #[command(
        after_help = "watch\nwatch user: --count 10\nwatch --from 3.17    (go on behind that position)"
    )]
    Watch {
        /// Only keys that start so.
        prefix: Option<String>,
        /// A position that an earlier watch told; without it, what comes from now on.
        #[arg(long, value_name = "POSITION")]
        from: Option<String>,
        #[command(flatten)]
        until: UntilArgs,
    },
    /// What happened in the cluster: nodes that went and came, changes of the ring.
    #[command(after_help = "events\nevents --follow")]
    Events {
        /// Go on with what comes, until Ctrl-C.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        until: UntilArgs,
    },
    /// Why a key is there, or is not: its writes and deletes at every replica.
    #[command(after_help = "why apple")]
    Why {
        /// The key.
        key: String,
    },
    /// Compare all replicas with each other; exit code 6 when they differ and were not mended.
    #[command(skip)]
    Check(CheckArgs),
}

/// When following ends by itself.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct UntilArgs {
    /// Ends after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    pub(crate) lasting: Option<Duration>,
    /// Ends after so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

impl UntilArgs {
    /// Whether only Ctrl-C ends it.
    #[must_use]
    pub(crate) const fn is_open(&self) -> bool {
        self.lasting.is_none() && self.count.is_none()
    }
}

/// Words of a check of the replicas.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct CheckArgs {
    /// Mend what differs.
    #[arg(long)]
    pub(crate) repair: bool,
}
