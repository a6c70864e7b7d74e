//! Changing who owns what, and looking at it before, meanwhile and after.
//!
//! ```text
//! addnode removenode replacenode setweight setzone setreplica     stage a change
//! plan        what it would do          plan clear   take it back
//! rebalance   carry it out              progress pause resume cancel
//! what-if     without staging           doctor why-down
//! ```
//!
//! # Caveats
//!
//! `pause` and `resume` mean the rebalance, or, with a node's name, the process of that node.

use clap::Subcommand;
use ringkv_shared::protocol::cluster::Supposition;
use ringkv_shared::{NodeId, Zone};

use super::values::{parse_address, parse_copies};

/// A command about the ring.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Topology {
    /// Put a node on the ring; in a local cluster, start it too.
    #[command(
        after_help = "addnode n4 5004\naddnode big 10.0.0.7:5001 --weight 2\naddnode n5 5005 --zone rack-b"
    )]
    Addnode {
        /// Its name: a-z, 0-9 and '-'.
        id: NodeId,
        /// Where it answers: `port` (on 127.0.0.1) or `host:port`.
        #[arg(value_name = "[HOST:]PORT", value_parser = parse_address)]
        addr: String,
        /// Its share against the others', who have 1: 256 virtual nodes for each.
        #[arg(long, value_name = "W", value_parser = parse_weight)]
        weight: Option<u32>,
        /// What fails together with it: replicas of a key lie in distinct zones.
        #[arg(long, value_name = "Z")]
        zone: Option<Zone>,
    },
    /// Take a node off the ring; it keeps its data until a rebalance.
    #[command(after_help = "removenode n3")]
    Removenode {
        /// Its name.
        id: NodeId,
        /// Even when that loses the only copy of some keys.
        #[arg(long)]
        force: bool,
    },
    /// Put a new node in the place of one that leaves, so that only its keys move.
    #[command(after_help = "replacenode n1 n9 5009\nreplacenode n1 n9 10.0.0.7:5001")]
    Replacenode {
        /// Who leaves.
        old: NodeId,
        /// Who comes; in a local cluster it is started.
        new: NodeId,
        /// Where the new one answers.
        #[arg(value_name = "[HOST:]PORT", value_parser = parse_address)]
        addr: String,
    },
    /// Give a node another share of the ring.
    #[command(after_help = "setweight n1 2    (twice what a node of weight 1 has)")]
    Setweight {
        /// Its name.
        id: NodeId,
        /// Its share against the others'.
        #[arg(value_name = "W", value_parser = parse_weight)]
        weight: u32,
    },
    /// Say what fails together with a node; '-' is nothing.
    #[command(after_help = "setzone n1 rack-a\nsetzone n1 -    (in no zone any more)")]
    Setzone {
        /// Its name.
        id: NodeId,
        /// Its zone, or `-`.
        zone: ZoneWord,
    },
    /// How many nodes keep each key of the keyspace.
    #[command(after_help = "setreplica 2")]
    Setreplica {
        /// The number of copies.
        #[arg(value_name = "N", value_parser = parse_copies)]
        n: usize,
    },
    /// What a rebalance would do now: what moves where, the balance, why, what to mind.
    #[command(after_help = "plan\nplan clear    (take back what is staged)")]
    Plan {
        /// Take it back instead.
        #[arg(value_name = "clear", hide_possible_values = true)]
        word: Option<PlanWord>,
    },
    /// Carry out what is staged, and move keys to where the ring says.
    #[command(
        after_help = "rebalance --dry-run    (only count)\nrebalance\nrebalance --epoch 9    (only if the ring is still what plan showed)\nrebalance --detach     (do not wait for its end: see progress)"
    )]
    Rebalance {
        /// Only count what would move.
        #[arg(long)]
        dry_run: bool,
        /// Only if the ring has this epoch; after `plan`, a session asks for that one by itself.
        #[arg(long, value_name = "E", value_parser = parse_epoch)]
        epoch: Option<u64>,
        /// Start it and come back at once.
        #[arg(long, conflicts_with = "dry_run")]
        detach: bool,
    },
    /// How far the rebalance is: one look.
    #[command(after_help = "progress")]
    Progress,
    /// Let the rebalance rest, or freeze a node (local cluster).
    #[command(after_help = "pause       (the rebalance)\npause n1    (the node)")]
    Pause {
        /// A node: it keeps its connections and answers nothing. Without one, the rebalance.
        id: Option<NodeId>,
    },
    /// Let the rebalance go on, or a frozen node (local cluster).
    #[command(after_help = "resume       (the rebalance)\nresume n1    (the node)")]
    Resume {
        /// The node; without it, the rebalance.
        id: Option<NodeId>,
    },
    /// Take back the change that a rebalance is carrying out: the ring is as it was.
    #[command(after_help = "cancel")]
    Cancel,
    /// What would be if; nothing is changed.
    #[command(
        disable_help_subcommand = true,
        after_help = "what-if kill n2,n5             (which keys could not be read or written)\nwhat-if add n9 --weight 2      (what would move)\nwhat-if remove n2\nwhat-if weight n1 2"
    )]
    WhatIf {
        /// What to suppose.
        #[command(subcommand)]
        what: WhatIf,
    },
    /// What is wrong, and what would be if one more node died; exit code 6 when something fails now.
    #[command(after_help = "doctor")]
    Doctor,
    /// Why a node is UP, SUSPECT or DOWN: the probes that led to it.
    #[command(after_help = "why-down n2")]
    WhyDown {
        /// The node.
        id: NodeId,
    },
}

impl Topology {
    /// Whether it makes a plan that was seen before another one.
    #[must_use]
    pub(crate) const fn changes_the_plan(&self) -> bool {
        match self {
            Self::Addnode { .. }
            | Self::Removenode { .. }
            | Self::Replacenode { .. }
            | Self::Setweight { .. }
            | Self::Setzone { .. }
            | Self::Setreplica { .. }
            | Self::Cancel
            | Self::Plan { word: Some(PlanWord::Clear) } => true,
            Self::Plan { word: None }
            | Self::Rebalance { .. }
            | Self::Progress
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::WhatIf { .. }
            | Self::Doctor
            | Self::WhyDown { .. } => false,
        }
    }
}

/// What may stand after `plan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PlanWord {
    /// Take back what is staged.
    Clear,
}

/// What to suppose.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WhatIf {
    /// These nodes died.
    Kill {
        /// The nodes: `n2,n5`.
        #[arg(value_name = "ID", required = true, value_delimiter = ',')]
        nodes: Vec<NodeId>,
    },
    /// A node joined.
    Add {
        /// Its name.
        id: NodeId,
        /// Its share against the others'.
        #[arg(long, value_name = "W", value_parser = parse_weight)]
        weight: Option<u32>,
        /// Its zone.
        #[arg(long, value_name = "Z")]
        zone: Option<Zone>,
    },
    /// These nodes left in good order.
    Remove {
        /// The nodes: `n2,n5`.
        #[arg(value_name = "ID", required = true, value_delimiter = ',')]
        nodes: Vec<NodeId>,
    },
    /// A node had another weight.
    Weight {
        /// The node.
        id: NodeId,
        /// Its share against the others'.
        #[arg(value_name = "W", value_parser = parse_weight)]
        weight: u32,
    },
}

impl From<WhatIf> for Supposition {
    fn from(what: WhatIf) -> Self {
        match what {
            WhatIf::Kill { nodes } => Self::Kill { nodes },
            WhatIf::Add { id, weight, zone } => Self::Add { node: id, weight, zone },
            WhatIf::Remove { nodes } => Self::Remove { nodes },
            WhatIf::Weight { id, weight } => Self::Weight { node: id, weight },
        }
    }
}

/// A zone, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneWord(pub(crate) Option<Zone>);

impl std::str::FromStr for ZoneWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self(None));
        }
        let zone = text.parse().map_err(|bad: ringkv_shared::BadZone| bad.to_string());
        zone.map(|zone| Self(Some(zone)))
    }
}

fn parse_epoch(text: &str) -> Result<u64, String> {
    let bad = |_| format!("{text:?} is no epoch: write the number that plan showed");
    text.parse().map_err(bad)
}

fn parse_weight(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(weight @ 1..) => Ok(weight),
        _ => Err(format!("{text:?} is no weight: write a whole number, at least 1")),
    }
}
