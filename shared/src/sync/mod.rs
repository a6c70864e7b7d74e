//! What brings replicas back together: hand-off of hints, comparison by digests, collection of tombstones.
//!
//! ```text
//!   a node missed a write ──► whoever has it keeps a note (a hint) ──► [`Handoff`]: it is back, give it
//!   notes got lost, or     ──► digests of parts, of leaves          ──► [`Audit`]: where do they differ
//!   somebody broke a disk       records of keys                     ──► [`compare`]: who lacks what
//!   a delete is everywhere ──► digests alike, nobody away           ──► [`collection`]: forget it
//! ```
//!
//! All of it is pure: fed with what nodes answered and with the time, it says what to do next. The
//! unit is a *leaf* of [`merkle`](crate::merkle); whose it is, [`Leaves`] knows.
//!
//! Invariants: what is copied is merged, so it can only add; a copy is dropped only where the node is
//! no owner and every owner has seen all of it, or where all of it counts as deleted; a tombstone is forgotten only
//! while all members are there, and by all owners of its leaf, behind a floor that keeps older
//! writes out.
//!
//! # Caveats
//!
//! A leaf that a token cuts between two sets of owners is compared key by key, whenever it has
//! changed, and its tombstones are kept: a floor would also cover keys that the node does not own.

mod audit;
mod collection;
mod compare;
mod handoff;
mod leaves;

pub use audit::{Answers, Audit, Found};
pub use collection::{Standing, blockers, collection};
pub use compare::{Difference, compare};
pub use handoff::{Drained, Handoff, Outcome, Step};
pub use leaves::Leaves;
