//! The one grammar: what may stand on a line of the REPL, after `kv`, in `-e`, in a script.
//!
//! A line is split into words as a shell does (quotes keep spaces and newlines together), and the
//! words go through one clap parser. `kv put apple 123` and `kv> put apple 123` are the same
//! [`Command`]. Words that start with a dot belong to the shell itself ([`Client`]): they change
//! how it prints, never the cluster.
//!
//! ```text
//! put <key> <value|->    get <key> [--all]     del <key>         scan [prefix]
//! addnode <id> <port>    removenode <id>       plan              rebalance [--dry-run]
//! explain put|get|del …  watch [prefix]        why <key>         check [--repair]
//! ```
//!
//! # Caveats
//!
//! A value that starts with `-` and is no number needs `--` before it: `put k -- -x`. So a
//! mistyped option is an error and never becomes a value. The value `-` itself is standard input
//! unless a `--` stands before it; quotes do not help, for the shell that called `kv` takes them
//! away.

mod client;
mod data;
mod follow;
mod keyspace;
mod topology;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ringkv_shared::{KeyspaceName, NodeId};

pub(crate) use client::Client;
pub(crate) use data::{Data, DelArgs, Explained, GetArgs, KeyArgs, PutArgs, ReadArgs};
pub(crate) use follow::{CheckArgs, Follow, UntilArgs};
pub(crate) use keyspace::{KeyspaceAction, KeyspaceArgs, QuorumWord};
use keyspace::{parse_quorum, parse_replicas};
pub(crate) use topology::{PlanWord, Topology, WhatIf};
pub(crate) use values::{FileForm, Format, Switch, Ttl, WalView, parse_span};

/// A whole line.
#[derive(Debug, Parser)]
#[command(name = "kv", multicall = true, disable_help_subcommand = true, disable_help_flag = true)]
pub(crate) struct Line {
    /// Its one command.
    #[command(subcommand)]
    pub(crate) word: Word,
}

/// What a line may start with: a command, or a setting of the shell.
#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// For the cluster.
    #[command(flatten)]
    Command(Box<Command>),
    /// Compare all replicas with each other; exit code 6 when they differ and were not mended.
    #[command(after_help = "check\ncheck --repair    (mend what differs)")]
    Check(CheckArgs),
    /// For the shell.
    #[command(flatten)]
    Client(Client),
}

/// A command for the cluster: the same in every form.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Command {
    /// Reading and writing keys.
    #[command(flatten)]
    Data(Data),
    /// Following and asking why.
    #[command(flatten)]
    Follow(Follow),
    /// Changing the ring, and what is thought of it.
    #[command(flatten)]
    Topology(Topology),
    /// The nodes: address, status, keys, share of the ring.
    Show,
    /// Totals and balance, or the figures of one node.
    #[command(
        after_help = "stats\nstats n1    (values in memory, reads, compression, compactions)"
    )]
    Stats {
        /// The node.
        id: Option<NodeId>,
    },
    /// Why a key is where it is, and who has it now.
    #[command(name = "where", visible_alias = "locate", after_help = "where apple")]
    Where {
        /// The key.
        key: String,
    },
    /// The ring, drawn.
    #[command(after_help = "ring\nring --tokens")]
    Ring {
        /// Every token, in order.
        #[arg(long)]
        tokens: bool,
    },
    /// Keys and values in key order, over all nodes, each once.
    #[command(after_help = "scan\nscan user: --limit 10")]
    Scan {
        /// Only keys that start so.
        prefix: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// How many keys there are.
    #[command(after_help = "count\ncount user:")]
    Count {
        /// Only keys that start so.
        prefix: Option<String>,
    },
    /// Put many keys from a file: csv, jsonl, a plain word list, or a log.
    #[command(
        after_help = "load users.csv     (key,value)\nload export.jsonl  ({\"key\":…,\"value\":…})\nload words.txt     (one key a line; its value is the line's number)\nload old/data.log  (a log or snapshot of any node; also bare PUT k v, DEL k)\nload - < b.jsonl   (standard input, in the one-shot form)"
    )]
    Load {
        /// The file; its name's ending says which form it has. `-` is standard input.
        file: PathBuf,
        /// The form, when the name does not say it; of standard input it is jsonl.
        #[arg(long = "as", value_name = "FORM")]
        form: Option<FileForm>,
    },
    /// Write every key and value at one moment to a file, one JSON object a line.
    #[command(after_help = "export backup.jsonl\nexport -    (standard output)")]
    Export {
        /// The file; `-` is standard output.
        file: PathBuf,
        /// Even when nodes are silent that may hold the only copy of some keys.
        #[arg(long)]
        partial: bool,
    },
    /// A node's log: its last lines, all of it, whether it is whole, or what became of a key.
    #[command(
        after_help = "wal n1 tail 5\nwal n1 cat            (all that a start would read)\nwal n1 verify         (what is damaged, and where; exit code 6 if something is)\nwal n1 blame apple    (every line that is about a key)\nwal ./data/n1 verify  (a directory, or a file of it; its node may run or not)"
    )]
    Wal {
        /// A node, or its data directory, or a file of that: `n1`, `./n1`, `n1/data.log`.
        #[arg(value_name = "ID|PATH")]
        target: String,
        /// What to see; without a word, the last lines.
        #[arg(value_name = "cat|verify|tail|blame", hide_possible_values = true)]
        view: Option<WalView>,
        /// For `tail` how many lines, for `blame` the key.
        #[arg(value_name = "N|KEY")]
        subject: Option<String>,
        /// How many last lines.
        #[arg(long, value_name = "N")]
        tail: Option<usize>,
    },
    /// Write what is good of a damaged data directory to a new one.
    #[command(
        after_help = "salvage ./data/n1                   (into ./data/n1-salvaged)\nsalvage ./data/n1 --into ./data/n5"
    )]
    Salvage {
        /// The damaged directory, or the stopped node of a local cluster whose it is.
        #[arg(value_name = "ID|DIR")]
        target: String,
        /// The new directory; without it, the old name and `-salvaged`.
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// Whose it is, when the damaged one does not tell.
        #[arg(long, value_name = "ID")]
        id: Option<NodeId>,
    },
    /// Compact a node's log now.
    #[command(after_help = "compact n1")]
    Compact {
        /// The node.
        id: NodeId,
    },
    /// One raw JSON-RPC call; both lines are shown.
    #[command(
        after_help = "rpc n1 size\nrpc n1 get '[\"apple\"]'\nrpc coordinator where '{\"key\":\"apple\"}'"
    )]
    Rpc {
        /// `coordinator`, or a node's name.
        #[arg(value_name = "COORDINATOR|ID")]
        target: String,
        /// The method.
        method: String,
        /// Its parameters: a JSON array or object.
        #[arg(value_name = "JSON")]
        params: Option<String>,
    },
    /// List settings of the cluster, or set one.
    #[command(after_help = "config\nconfig NAME\nconfig NAME VALUE")]
    Config {
        /// Which setting.
        key: Option<String>,
        /// Its new value.
        #[arg(allow_negative_numbers = true)]
        value: Option<String>,
    },
    /// What holds for all keys of a keyspace: copies, quorums, conflicts, how long values live.
    #[command(
        after_help = "keyspace\nkeyspace create orders --n 3 --r 2 --w 2\nkeyspace create clicks --n 2 --policy lww --sloppy on\nkeyspace set default --ttl 1h    (for what is put from now on)\nkeyspace drop clicks             (with all that is in it)"
    )]
    Keyspace(KeyspaceArgs),
    /// How many replicas must answer a read and take a write.
    #[command(
        after_help = "setquorum 2 2         (R and W)\nsetquorum strong-read (a majority of both: a read meets the last acknowledged write)\nsetquorum read-heavy  (R=1 W=N)\nsetquorum write-heavy (R=N W=1)\nsetquorum available   (R=1 W=1, others stand in for owners that are away)"
    )]
    Setquorum {
        /// Replicas that must answer a read; or strong-read, read-heavy, write-heavy, available.
        #[arg(value_name = "R|PRESET", value_parser = parse_quorum)]
        r: QuorumWord,
        /// Replicas that must have a write before it is acknowledged.
        #[arg(value_name = "W", value_parser = parse_replicas)]
        w: Option<usize>,
    },
    /// Work in a keyspace from now on, in this session.
    #[command(after_help = "use orders\nuse default")]
    Use {
        /// Its name.
        name: KeyspaceName,
    },
    /// End a node at once, as a crash would (local cluster).
    Kill {
        /// The node.
        id: NodeId,
    },
    /// End a node in good order (local cluster).
    Stop {
        /// The node.
        id: NodeId,
    },
    /// Start a stopped node on its own data (local cluster).
    Start {
        /// The node.
        id: NodeId,
    },
    /// End a node at once if it runs, and start it on its own data (local cluster).
    Restart {
        /// The node.
        id: NodeId,
    },
    /// Run the lines of a file here, stopping at the first error.
    #[command(after_help = "source setup.kv")]
    Source {
        /// The file.
        file: PathBuf,
    },
    /// All commands, or one of them.
    #[command(after_help = "help\nhelp put")]
    Help {
        /// Which.
        command: Option<String>,
    },
}

#[cfg(test)]
mod tests;
