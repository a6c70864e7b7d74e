//! `kv-coordinator`: the coordinator as a program of its own.

use clap::Parser;

/// The ringkv coordinator.
#[derive(Parser)]
#[command(name = "kv-coordinator", version, about)]
struct Cli {
    #[command(flatten)]
    args: ringkv_coordinator::CoordinatorArgs,
}

fn main() -> std::process::ExitCode {
    ringkv_coordinator::main_with(Cli::parse().args)
}
