//! The one grammar: what may stand on a line of the REPL, after `kv`, in `-e`, in a script.
//!
//! A line is split into words as a shell does (quotes keep spaces and newlines together), and the
//! words go through one clap parser. `kv put apple 123` and `kv> put apple 123` are the same
//! [`Command`]. Words that start with a dot belong to the shell itself ([`Client`]): they change
//! how it prints, never the cluster.
//!
//! ```text
//! put <key> <value|->    get <key> [--all]     del <key>         scan [prefix]
//! addnode <id> <port>    removenode <id>       setreplica <N>    rebalance [--dry-run]
//! ```
//!
//! # Caveats
//!
//! A value that starts with `-` and is no number needs `--` before it: `put k -- -x`. So a
//! mistyped option is an error and never becomes a value. The value `-` itself is standard input
//! unless a `--` stands before it; quotes do not help, for the shell that called `kv` takes them
//! away.

mod keyspace;
mod values;

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ringkv_shared::{KeyspaceName, NodeId};

pub(crate) use keyspace::{KeyspaceAction, KeyspaceArgs, QuorumWord};
use keyspace::{parse_quorum, parse_replicas};
pub(crate) use values::{FileForm, Format, Switch, Ttl, WalView};
use values::{parse_address, parse_copies, parse_ttl};

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
    Command(Command),
    /// For the shell.
    #[command(flatten)]
    Client(Client),
}

/// A command for the cluster: the same in every form.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Command {
    /// Store a value at all owners of its key.
    #[command(
        after_help = "put apple 123\nput apple 123 --ttl 10s  (gone in ten seconds; ms, s, m, h, d)\nput \"two words\" \"a value\"\nput pic - < cat.jpg    (value from standard input, byte for byte; one-shot form)\nput sign -- -          (after -- every word is itself: stores a dash)"
    )]
    Put {
        /// The key.
        key: String,
        /// The value; `-` reads it from standard input, `-- -` is a dash.
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// How long it lives: `10s`, `1h 30m`, `7d`; `none`: for ever. Without it, as the keyspace says.
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        ttl: Option<Ttl>,
        /// Whether a value `-` is a dash: see [`Command::heed_escape`].
        #[arg(skip)]
        literal: bool,
    },
    /// Read a value from the first owner that answers.
    #[command(
        after_help = "get apple\nget apple --all    (every replica's copy, with its version)\nget pic > cat.jpg  (bytes that are no text come as they are, without a newline)"
    )]
    Get {
        /// The key.
        key: String,
        /// Ask every replica and show each copy.
        #[arg(long)]
        all: bool,
    },
    /// Delete a key at all its owners.
    #[command(after_help = "del apple")]
    Del {
        /// The key.
        key: String,
    },
    /// Put a node on the ring; in a local cluster, start it too.
    #[command(after_help = "addnode n4 5004\naddnode big 10.0.0.7:5001 --weight 2")]
    Addnode {
        /// Its name: a-z, 0-9 and '-'.
        id: NodeId,
        /// Where it answers: `port` (on 127.0.0.1) or `host:port`.
        #[arg(value_name = "[HOST:]PORT", value_parser = parse_address)]
        addr: String,
        /// Its share against the others', who have 1: 256 virtual nodes for each.
        #[arg(long, value_name = "W")]
        weight: Option<u32>,
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
    /// How many nodes keep each key of the keyspace.
    #[command(after_help = "setreplica 2")]
    Setreplica {
        /// The number of copies.
        #[arg(value_name = "N", value_parser = parse_copies)]
        n: usize,
    },
    /// Move keys to where the ring says.
    #[command(after_help = "rebalance --dry-run    (only count)\nrebalance")]
    Rebalance {
        /// Only count what would move.
        #[arg(long)]
        dry_run: bool,
    },
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
    /// Freeze a node: it keeps its connections and answers nothing (local cluster).
    Pause {
        /// The node.
        id: NodeId,
    },
    /// Let a paused node go on (local cluster).
    Resume {
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

impl Command {
    /// Notes what the parser does not tell: that `--` stood before the value. `words` are those
    /// that were parsed.
    pub(crate) fn heed_escape(&mut self, words: &[impl AsRef<OsStr>]) {
        if let Self::Put { literal, .. } = self {
            let at = |wanted: &str| words.iter().position(|word| word.as_ref() == wanted);
            *literal = at("--").is_some_and(|escape| at("-").is_none_or(|dash| escape < dash));
        }
    }
}

/// A setting of the shell itself, or leaving it.
#[derive(Debug, Subcommand)]
pub(crate) enum Client {
    /// Say how long each command took.
    #[command(name = ".timing")]
    Timing {
        /// Without a word: on.
        #[arg(default_value = "on")]
        switch: Switch,
    },
    /// How results are written.
    #[command(name = ".output")]
    Output {
        /// The form.
        format: Format,
    },
    /// Show the JSON-RPC messages sent and received.
    #[command(name = ".trace")]
    Trace {
        /// Without a word: on.
        #[arg(default_value = "on")]
        switch: Switch,
    },
    /// On: only summaries. Off: every line of narration. At first: up to 20 lines.
    #[command(name = ".brief")]
    Brief {
        /// Without a word: on.
        #[arg(default_value = "on")]
        switch: Switch,
    },
    /// The lines typed so far.
    #[command(name = ".history")]
    History,
    /// Clear the screen.
    #[command(name = ".clear")]
    Clear,
    /// Leave; a local cluster stops.
    #[command(visible_alias = "quit")]
    Exit,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Word, clap::Error> {
        Line::try_parse_from(words).map(|line| line.word)
    }

    #[test]
    fn every_line_of_the_contract_parses() {
        let table = [
            "put apple 123",
            "put n -5",
            "put a -",
            "put a 1 --ttl 10s",
            "put a 1 --ttl none",
            "keyspace",
            "keyspace show default",
            "keyspace set default --ttl 1h",
            "keyspace list",
            "keyspace create orders --n 3 --r 2 --w 2 --policy lww --sloppy on --ttl 5s",
            "keyspace set orders --sloppy off",
            "keyspace drop orders",
            "setquorum 2 2",
            "setquorum strong-read",
            "use orders",
            "get apple",
            "get apple --all",
            "get --all apple",
            "del apple",
            "addnode n4 5004",
            "addnode n4 host:5004 --weight 2",
            "removenode n3",
            "removenode n3 --force",
            "setreplica 2",
            "rebalance",
            "rebalance --dry-run",
            "show",
            "stats",
            "stats n1",
            "where apple",
            "locate apple",
            "ring",
            "ring --tokens",
            "scan",
            "scan user: --limit 3",
            "count",
            "count user:",
            "load a.csv",
            "load -",
            "load - --as csv",
            "export -",
            "wal n1",
            "wal n1 --tail 3",
            "wal n1 tail 3",
            "wal ./n1 cat",
            "wal n1/data.log verify",
            "wal n1 blame cat",
            "salvage n1",
            "salvage ./n1 --into x --id n1",
            "compact n1",
            "rpc coordinator info",
            "rpc n1 get [\"apple\"]",
            "config",
            "config a",
            "config a 1",
            "source f",
            "kill n1",
            "stop n1",
            "start n1",
            "restart n1",
            "pause n1",
            "resume n1",
            "help",
            "help put",
            "exit",
            "quit",
            ".timing on",
            ".timing",
            ".output json",
            ".trace off",
            ".brief",
            ".history",
            ".clear",
            "put -- k -x",
        ];
        for line in table {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(parse(&words).is_ok(), "{line}: {:?}", parse(&words).err());
        }
    }

    #[test]
    fn what_is_not_in_the_grammar_is_refused() {
        for line in [
            "pput a 1",
            "put a",
            "put a 1 2",
            "get",
            "get a --jsno",
            "addnode N1 5001",
            "addnode n1 0",
            "addnode n1 :5",
            "addnode n1 70000",
            "setreplica x",
            ".timing maybe",
            "put a --ttl",
            "put a 1 --ttl 0s",
            "put a 1 --ttl 10",
            "put a 1 --ttl -5s",
            "keyspace drup default",
            "keyspace create Orders",
            "keyspace create orders --policy last",
            "keyspace create orders --n x",
            "setquorum",
            "setquorum strong",
            "setquorum 1 x",
            "use",
            "use a/b",
            "kill",
            "show n1",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(parse(&words).is_err(), "{line}");
        }
    }

    #[test]
    fn after_two_dashes_a_dash_is_a_dash() {
        for (line, expected) in
            [("put k -", false), ("put k -- -", true), ("put -- k -", true), ("put -- - v", true)]
        {
            let words: Vec<&str> = line.split(' ').collect();
            let Ok(Word::Command(mut command)) = parse(&words) else { panic!("{line}") };
            command.heed_escape(&words);
            let Command::Put { literal, .. } = command else { panic!("{line}") };
            assert_eq!(literal, expected, "{line}");
        }
    }

    #[test]
    fn a_port_alone_is_on_this_machine() {
        assert_eq!(parse_address("5004").as_deref(), Ok("127.0.0.1:5004"));
        assert_eq!(parse_address("[::1]:5004").as_deref(), Ok("[::1]:5004"));
    }
}
