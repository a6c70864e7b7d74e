//! What the answers of several replicas amount to, and what they make necessary.

mod get;
mod placed;
mod put;
mod tracker;
mod write;

pub use get::Get;
pub use put::{Put, PutStep};
pub use tracker::{Quorum, ReadState, ReadTracker, WriteTracker};
pub use write::WriteOutcome;
