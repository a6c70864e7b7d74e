//! JSON-RPC 2.0 over newline-delimited TCP: the only socket code of the project.

mod api;
mod client;
mod dispatch;
mod errors;
mod peer;
mod process;
mod server;
mod wire;

pub use api::{ClusterApiClient, ClusterApiServer, NodeApiClient, NodeApiServer};
pub use client::{Client, Observer, connect};
pub use errors::{failure_from_object, failure_into_object};
pub use peer::{Peer, PeerError};
pub use process::{print_ready, run_process};
pub use server::{ServerLimits, Service, serve};
