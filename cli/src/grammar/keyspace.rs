//! The words of `keyspace` and `setquorum`.
//!
//! # Caveats
//!
//! Whether R and W fit N is for the coordinator to say: N is known there.

use ringkv_shared::keyspace::Preset;
use ringkv_shared::{KeyspaceName, Policy};

use super::values::{Switch, Ttl, parse_copies, parse_ttl};

/// What to do with a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KeyspaceAction {
    /// Show all.
    List,
    /// Show it, or all.
    #[default]
    Show,
    /// Make it.
    Create,
    /// Change it.
    Set,
    /// End it, with all that is in it.
    Drop,
}

impl KeyspaceAction {
    /// Whether it may leave something changed.
    #[must_use]
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::Create | Self::Set | Self::Drop)
    }
}

/// What may stand after `keyspace`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct KeyspaceArgs {
    /// What to do; without a word, show.
    #[arg(value_name = "list|show|create|set|drop", hide_possible_values = true)]
    pub(crate) action: Option<KeyspaceAction>,
    /// Which.
    pub(crate) name: Option<KeyspaceName>,
    /// Copies of each key.
    #[arg(long, value_name = "N", value_parser = parse_copies)]
    pub(crate) n: Option<usize>,
    /// Replicas that must answer a read, at most N.
    #[arg(long, value_name = "R", value_parser = parse_replicas)]
    pub(crate) r: Option<usize>,
    /// Replicas that must have a write before it is acknowledged, at most N.
    #[arg(long, value_name = "W", value_parser = parse_replicas)]
    pub(crate) w: Option<usize>,
    /// What becomes of writes that knew nothing of each other: `siblings` keeps all, `lww` the last by
    /// the clock. Only with create.
    #[arg(long, value_name = "siblings|lww")]
    pub(crate) policy: Option<Policy>,
    /// Whether other nodes may stand in for owners that are away: on or off.
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub(crate) sloppy: Option<Switch>,
    /// How long values live that are put without a time of their own; `none`: for ever.
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(crate) ttl: Option<Ttl>,
}

/// The first word after `setquorum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuorumWord {
    /// R itself.
    R(usize),
    /// A name for both.
    Preset(Preset),
}

pub(super) fn parse_quorum(text: &str) -> Result<QuorumWord, String> {
    match text.parse() {
        Ok(r) => Ok(QuorumWord::R(r)),
        Err(_) => text.parse().map(QuorumWord::Preset).map_err(|_| {
            let names: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name()).collect();
            format!("{text:?} is no number of replicas and none of: {}", names.join(" "))
        }),
    }
}

pub(super) fn parse_replicas(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of replicas"))
}
