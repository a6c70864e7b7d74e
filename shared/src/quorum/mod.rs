//! What the answers of several replicas amount to.

mod write;

pub use write::{WriteOutcome, judge_write};
