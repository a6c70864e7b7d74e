//! `kv coordinator` and `kv node`: the servers, embedded in the one program.
//!
//! # Caveats
//!
//! They make their own runtime and own the process, so they are called before anything else.

use std::process::ExitCode;

use clap::Subcommand;

/// A server to run in this process.
#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Run the coordinator.
    Coordinator(ringkv_coordinator::CoordinatorArgs),
    /// Run a storage node.
    Node(ringkv_node::NodeArgs),
}

/// Runs it until it ends.
pub(crate) fn run(server: Server) -> ExitCode {
    match server {
        Server::Coordinator(args) => ringkv_coordinator::main_with(args),
        Server::Node(args) => ringkv_node::main_with(args),
    }
}
