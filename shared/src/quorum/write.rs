//! The verdict on a write. Three outcomes, never a fourth: it is done, it is certainly not done,
//! or nobody knows. Done in part is a kind of not done: those who have it are named.

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Acknowledged.
    Done,
    /// Fewer replicas than asked for have it for certain. It is not undone.
    Partial,
    /// Certainly applied nowhere.
    NotApplied,
    /// May be applied somewhere.
    Unknown,
}
