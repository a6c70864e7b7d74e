//! What may stand after `kv` on the command line: the commands of the grammar, and what only makes
//! sense there.
//!
//! # Caveats
//!
//! `kv help` lists what the shell takes, `kv --help` all; `kv help demo` knows both.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ringkv_shared::KeyspaceName;

use crate::bench::BenchArgs;
use crate::exit;
use crate::grammar::{CheckArgs, Command};
use crate::servers::Server;

/// How to measure what.
const BENCH_EXAMPLES: &str = "\
kv bench                                        (50 connections, half reads, 5 s, through the coordinator)
kv bench --reads 0 --pipeline 16 --to n1        (puts only, 16 at once, straight to a node)
kv bench --rate 20000 --for 10s                 (open loop: what users feel)
kv bench --keys zipf --kill n2 --for 10s        (n2 dies in the middle)
kv bench --peer redis://127.0.0.1:6379          (the same load on redis)

It writes keys key:000000000000 and so on: not for a cluster whose keys are called so. Exit code 6: a value \
that was read is none that it may be; 5: errors, or keys that could not be read back.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "kv", version, about = "A distributed key-value store that you can see inside")]
#[command(disable_help_subcommand = true, after_help = exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Run these commands, parted by ';', up to the first that fails.
    #[arg(short = 'e', long = "execute", value_name = "COMMANDS")]
    pub(crate) execute: Option<String>,
    #[command(subcommand)]
    pub(crate) form: Option<Form>,
}

/// Options of every form.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The coordinator to talk to (without it: 127.0.0.1:5000).
    #[arg(long, global = true, env = "KV_CONNECT", value_name = "HOST:PORT")]
    pub(crate) connect: Option<String>,
    /// The keyspace of commands that name none.
    #[arg(long, global = true, env = "KV_KEYSPACE", value_name = "NAME")]
    pub(crate) keyspace: Option<KeyspaceName>,
    /// One JSON object a command, errors too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The shell's sentences rather than the bare result.
    #[arg(long, global = true)]
    pub(crate) narrate: bool,
    /// Colour: on a terminal, always or never; NO_COLOR is heeded.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

/// The first word.
#[derive(Debug, Subcommand)]
pub(crate) enum Form {
    /// A local cluster: real processes on this machine.
    Demo(Demo),
    /// Play a script.
    Run {
        /// The script.
        file: PathBuf,
        /// Wait for Enter before each command.
        #[arg(long)]
        step: bool,
        /// Wait so long before each command, in milliseconds.
        #[arg(long, value_name = "MS")]
        delay: Option<u64>,
    },
    /// Play scripts and compare what they print, or, without one, compare all replicas; exit code 6
    /// when something differs.
    Check {
        /// The scripts.
        #[arg(conflicts_with = "repair")]
        files: Vec<PathBuf>,
        /// Write what was printed into the scripts.
        #[arg(long, requires = "files")]
        update: bool,
        #[command(flatten)]
        replicas: CheckArgs,
    },
    /// Put load on a cluster, a node or another store; tell rate, latencies and CPU time, and read back
    /// what was put.
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Box<BenchArgs>),
    /// Print the completions for a shell.
    #[command(after_help = "kv completions bash > ~/.local/share/bash-completion/completions/kv")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page of kv, or of one of its commands.
    #[command(after_help = "kv man | man -l -\nkv man put | man -l -")]
    Man {
        /// The command.
        command: Option<String>,
    },
    #[command(flatten)]
    Server(Server),
    #[command(flatten)]
    Command(Command),
}

/// Options of a local cluster.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) nodes: usize,
    /// How many copies of each key.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) replicas: usize,
    /// Keep the data here; without it, in a temporary folder that is deleted at the end.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The coordinator's port; the nodes have the next ones.
    #[arg(long, value_name = "BASE")]
    pub(crate) port: Option<u16>,
    /// How much of the values each node keeps in memory, such as 64MiB; without it, all.
    #[arg(long, value_name = "SIZE", value_parser = ringkv_node::parse_size)]
    pub(crate) memory_max: Option<u64>,
    /// Print one JSON line and run on until `kv demo stop`.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Be the process behind `--detach`: own the cluster until it is asked to end.
    #[arg(long, hide = true)]
    pub(crate) supervise: bool,
    /// When a port is taken, use the next free one.
    #[arg(long, hide = true)]
    pub(crate) free_ports: bool,
    #[command(subcommand)]
    pub(crate) action: Option<DemoAction>,
}

/// What else to do with a local cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum DemoAction {
    /// Stop the detached one.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_form_parses() {
        Cli::command().debug_assert();
        for line in [
            "kv",
            "kv put a 1",
            "kv put a 1 --json",
            "kv --connect h:1 get a",
            "kv get a --connect h:1",
            "kv demo",
            "kv demo --nodes 5 --replicas 2 --detach",
            "kv demo stop --data d",
            "kv demo --data d",
            "kv run f --step",
            "kv check a b --update",
            "kv check",
            "kv check --repair",
            "kv bench",
            "kv bench -c 1 -P 16 --reads 0 --ops 1000 --keys zipf --to n1 --json",
            "kv bench --rate 1000 --for 10s --warm-up 1s --kill n2 --kill-at 3s",
            "kv bench --peer redis://127.0.0.1:6379?wait=1 --server-pid 1 --server-pid 2",
            "kv explain put a 1 --w 2",
            "kv --color never show",
            "kv help put",
            "kv stop n1",
            "kv put n -5",
            "kv --keyspace orders put a 1",
            "kv scan --keyspace orders",
            "kv keyspace create orders --n 2",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(Cli::try_parse_from(&words).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["kv", "-e", "put a 1; get a"]).is_ok());
        for line in [
            "kv check --update",
            "kv check a --repair",
            "kv bench --rate 1 -P 2",
            "kv bench --kill-at 1s",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
