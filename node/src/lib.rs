//! A storage node: an in-memory map, persisted by an append-only text log.
//!
//! ```text
//!   JSON-RPC ── api ──► Engine ──► Store          the map, changed at once
//!                         │  └───► log::Tail      the same change as a line, waiting
//!                         ▼
//!                     Committer ── one write, one sync for all that wait ──► data.log
//!                     Compactor ── when enough changed ──► snap-000041.log
//! ```
//!
//! A request changes the map and appends to the log in one step; its reply is held until that
//! line is durable. So the network may be as parallel as it likes: there is one order of writes,
//! the order of the lines, and a person can read it with `cat data.log`.
//!
//! - [`store`] — the map: packed entries, expiry, eviction, pictures of it at one version; pure
//! - [`disk`] — what a disk promises; the real one, and one that fails on request
//! - [`log`] — lines, segments, recovery; the format is described in [`log::record`]
//! - [`replica`] — what it keeps as one of several replicas: digests, floors, debts, whom it obeys; pure
//! - [`inspect`] — looking into a data directory without its node, and rescuing what is good of one
//! - [`Engine`], [`Committer`] — map and log together, group commit
//! - [`Compactor`] — snapshots
//! - [`NodeService`] — the methods on the wire
//! - [`run`], [`main_with`], [`NodeArgs`] — the process
//!
//! # Caveats
//!
//! All keys live in memory, and the values unless told otherwise. One node is one thread
//! of work plus those that wait for the disk. A node takes at least 9 MiB of disk: room that it
//! reserves, for its log and for when the disk is full.

pub mod disk;
pub mod inspect;
pub mod log;
pub mod replica;
pub mod store;

mod answer;
mod api;
mod args;
mod ballast;
mod behind;
mod checks;
mod clock;
mod cluster;
mod collect;
mod commit;
mod compact;
mod engine;
mod error;
mod forget;
mod handoff;
mod here;
mod marks;
mod moves;
mod obedience;
mod options;
mod pictures;
mod policy;
mod quick;
mod read;
mod refusals;
mod room;
mod server;
mod service;
mod space;
mod step;
mod sweep;
mod waiters;
mod write;

pub use answer::Page;
pub use args::{NodeArgs, parse_size};
pub use clock::{Clock, SystemClock};
pub use cluster::BadCluster;
pub use commit::Committer;
pub use compact::{Compacted, Compactor};
pub use engine::{Engine, Figures};
pub use error::{NodeError, StorageError};
pub use forget::Condition;
pub use handoff::Owed;
pub use obedience::NotDone;
pub use options::{Durability, EngineOptions};
pub use policy::{CompactionPolicy, Reason, SinceCompaction};
pub use read::PageError;
pub use room::Refused;
pub use server::{NodeConfig, main_with, run};
pub use service::NodeService;
pub use step::{Step, StepHook};
pub use store::{PageRequest, Standing, Store};
pub use write::{Merged, WriteOutcome};
