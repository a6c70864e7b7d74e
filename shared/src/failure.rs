//! What can go wrong, named once for wire, terminal and exit code.
//!
//! A [`Failure`] says whose fault it is and whether anything was applied by its [`ErrorName`],
//! what happened by its message and what to do next by its hint. Over JSON-RPC it is an error
//! object whose `data` is `{"name", "hint", …}`; the names are stable, the messages are not.
//!
//! A key that is not there is no failure: it is the answer `not_found`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The stable names of the contract. The JSON-RPC code of each is its place in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorName {
    /// No node of that id.
    NodeNotFound = 1,
    /// That id or address is taken.
    NodeExists = 2,
    /// Nobody answers there; nothing was sent.
    Unreachable = 3,
    /// The write may or may not have happened. Read, then decide.
    OutcomeUnknown = 4,
    /// The write certainly did not happen. Safe to retry.
    NotApplied = 5,
    /// Some replicas have the write, fewer than were asked for; `data.replicas` says which.
    NotEnoughReplicas = 6,
    /// A condition on the stored version did not hold.
    Conflict = 7,
    /// The request was made under an older ring.
    StaleEpoch = 8,
    /// The request itself is wrong.
    BadArgument = 9,
    /// A key, value, line or batch is over its limit.
    TooLarge = 10,
    /// No room to write.
    DiskFull = 11,
    /// Still starting, or already stopping.
    NotReady = 12,
    /// A queue is full; nothing was applied.
    Overloaded = 13,
    /// No or wrong credentials.
    Unauthorized = 14,
    /// Another operation of this kind runs.
    Busy = 15,
}

impl ErrorName {
    /// Every name, in the order of the codes.
    pub const ALL: [Self; 15] = [
        Self::NodeNotFound,
        Self::NodeExists,
        Self::Unreachable,
        Self::OutcomeUnknown,
        Self::NotApplied,
        Self::NotEnoughReplicas,
        Self::Conflict,
        Self::StaleEpoch,
        Self::BadArgument,
        Self::TooLarge,
        Self::DiskFull,
        Self::NotReady,
        Self::Overloaded,
        Self::Unauthorized,
        Self::Busy,
    ];

    /// The JSON-RPC error code.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The exit code of a one-shot command that ends with this failure.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BadArgument => 2,
            Self::NodeNotFound => 3,
            Self::Unreachable => 4,
            Self::OutcomeUnknown | Self::NotEnoughReplicas => 5,
            Self::Conflict => 7,
            _ => 1,
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_value(self).expect("a unit variant is a string");
        f.write_str(json.as_str().expect("a unit variant is a string"))
    }
}

/// A failure as people and programs see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Which kind; decides code, exit code and whether a retry is safe.
    pub name: ErrorName,
    /// What happened, to which key or node; one line, lower case.
    pub message: String,
    /// What to do next, if there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// More for programs: for a write, what became of each replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<Value>>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(name: ErrorName, message: impl Into<String>) -> Self {
        Self { name, message: message.into(), hint: None, detail: None }
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with more for programs.
    #[must_use]
    pub fn detail(mut self, detail: impl Serialize) -> Self {
        self.detail = serde_json::to_value(detail).ok().map(Box::new);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_the_contract() {
        let table: Vec<String> =
            ErrorName::ALL.iter().map(|n| format!("{n} {} {}", n.code(), n.exit_code())).collect();
        assert_eq!(
            table.join("\n"),
            "\
NODE_NOT_FOUND 1 3
NODE_EXISTS 2 1
UNREACHABLE 3 4
OUTCOME_UNKNOWN 4 5
NOT_APPLIED 5 1
NOT_ENOUGH_REPLICAS 6 5
CONFLICT 7 7
STALE_EPOCH 8 1
BAD_ARGUMENT 9 2
TOO_LARGE 10 1
DISK_FULL 11 1
NOT_READY 12 1
OVERLOADED 13 1
UNAUTHORIZED 14 1
BUSY 15 1"
        );
    }
}
