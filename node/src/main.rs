//! `kv-node`: one storage node as a process.

use clap::Parser;
use ringkv_node::{NodeArgs, main_with};

/// A ringkv storage node.
#[derive(Parser)]
#[command(name = "kv-node", version)]
struct Cli {
    #[command(flatten)]
    node: NodeArgs,
}

fn main() -> std::process::ExitCode {
    main_with(Cli::parse().node)
}
