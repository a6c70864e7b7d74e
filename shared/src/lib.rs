//! The core that coordinator, nodes and clients share.
//!
//! *Machines decide, shells act*: everything here but [`net`] is pure. No socket, clock, thread,
//! file, random source or hash-map order; time and randomness come in as arguments. That is what
//! lets a seeded simulator run a whole cluster in one thread.
//!
//! - names and data: [`NodeId`], [`Blob`], [`Version`], [`keyspace`], [`Failure`], [`limits`]
//! - which writes have seen which: [`causal`]; which was last, by the clock: [`hlc`]
//! - who owns what: [`ring`], [`topology`], [`arcs`], [`told`]; what answers amount to: [`quorum`]; who is alive:
//!   [`detector`], [`probes`]; what a rebalance does: [`plan`]; what replicas differ in: [`merkle`]
//! - what travels: [`protocol`]
//! - the only socket code, behind the feature `net`: [`net`]

pub mod arcs;
pub mod availability;
pub mod causal;
pub mod change;
pub mod detector;
pub mod doctor;
pub mod heal;
pub mod hlc;
pub mod keyspace;
pub mod limits;
pub mod merkle;
#[cfg(feature = "net")]
pub mod net;
pub mod pace;
pub mod plan;
pub mod probes;
pub mod protocol;
pub mod quorum;
pub mod ring;
pub mod sync;
pub mod told;
pub mod topology;
pub mod zones;

mod blob;
mod failure;
mod id;
mod nearest;
mod text;
mod version;

pub use blob::{Blob, disturbs_terminal};
pub use failure::{ErrorName, Failure};
pub use id::{BadNodeId, BadZone, NODE_ID_BYTES_MAX, NodeId, Zone};
pub use keyspace::{Keyspace, KeyspaceName, Policy};
pub use nearest::nearest;
pub use version::{BadVersion, Line, NODE_EPOCH, Version};
