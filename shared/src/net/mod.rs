//! JSON-RPC 2.0 over newline-delimited TCP: the only socket code of the project.

mod api;
mod calls;
mod claimant;
mod client;
mod config;
mod connection;
mod dispatch;
mod errors;
mod link;
mod listen;
mod mailbox;
mod methods;
mod open_files;
mod peer;
mod process;
mod quick;
mod seat;
mod server;
mod turn;
mod wire;

pub use api::{ClusterApiClient, ClusterApiServer, NodeApiClient, NodeApiServer};
pub use claimant::Claimant;
pub use client::{Client, Observer, connect, read_answer};
pub use config::{ConfigError, read_settings};
pub use dispatch::answer_too_big;
pub use errors::{failure_from_object, failure_into_object};
pub use link::Router;
pub use listen::{ListenError, check_listen, listen};
pub use mailbox::{Mailbox, Ticket};
pub use methods::{CLUSTER_METHODS, NODE_METHODS, takes};
pub use open_files::make_room_for;
pub use peer::{Peer, PeerError};
pub use process::{print_ready, run_process, tell_end};
pub use quick::{
    Found, Piece, QuickCall, QuickPage, Scan, Spell, Taken, ask_get, ask_write, plain_text,
};
pub use server::{ServerLimits, Service, serve};
pub use turn::Burst;
