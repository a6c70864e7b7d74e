//! What the answers of several replicas amount to.

mod tracker;
mod write;

pub use tracker::{Quorum, ReadState, ReadTracker, WriteTracker};
pub use write::{WriteOutcome, judge_write};
