//! What a node keeps because it is one of several replicas; pure.
//!
//! | file | idea |
//! |---|---|
//! | `digests` | what is held, in few numbers: replicas that differ find out where |
//! | `floors` | what counts as replaced where nothing is held: tombstones that were collected |
//! | `debts` | which keys other nodes have missed: hinted handoff |
//! | `leaves` | which leaves of the digests a page of keys is of |
//! | `obeys` | whom the node obeys, what it was told of its cluster, and what it refuses therefore |
//! | `ledger` | floors and debts together, as lines of the log say them |
//!
//! Digests follow from the map and are nowhere on the disk. Floors and debts are lines of the log,
//! and part of each snapshot: [`log::note`](crate::log::note). Whom the node obeys is in a file of its own.
//!
//! # Caveats
//!
//! None of these is about single connections or requests: what a coordinator makes of them, and
//! when, is its own.

mod debts;
mod digests;
mod floors;
mod leaves;
mod ledger;
mod obeys;

pub use debts::{AGE_MS_MAX, BYTES_MAX, Debts, KEYS_MAX, Noting};
pub use digests::{Digests, hash, hash_plain};
pub use floors::Floors;
pub use leaves::Leaves;
pub use ledger::{Cursor, Ledger};
pub use obeys::{Disobeyed, Obeys};
