//! What travels in the simulated cluster.

use ringkv_shared::protocol::cluster::ReplicaOutcome;
use ringkv_shared::protocol::node::{Record, ReplicaWrite, SpaceKey, Via};
use ringkv_shared::{Blob, NodeId};
use serde::de::DeserializeOwned;
use serde_json::json;

pub(crate) type Outcome = ReplicaOutcome;

/// A request to a node.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Write(ReplicaWrite),
    Get(Blob),
    /// Straight from a client: the node numbers it.
    Put(Blob, Blob),
    Apply(Vec<Record>, Via),
    Fetch(Vec<Blob>),
    Owe(NodeId, Vec<SpaceKey>),
    /// Any other, with its parameters.
    Other(&'static str, serde_json::Value),
}

impl Call {
    /// The method and its parameters.
    pub(crate) fn request(&self) -> (&'static str, serde_json::Value) {
        match self {
            Self::Write(write) => ("write", json!([write])),
            Self::Get(key) => ("get", json!([key])),
            Self::Put(key, value) => ("put", json!([key, value])),
            Self::Apply(records, via) => ("apply", json!([records, null, via])),
            Self::Fetch(keys) => ("fetch", json!([keys])),
            Self::Owe(to, keys) => ("owe", json!([to, keys])),
            Self::Other(method, params) => (method, params.clone()),
        }
    }
}

/// What a node answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    pub(crate) result: serde_json::Value,
}

impl Reply {
    pub(crate) fn failed(outcome: Outcome) -> Self {
        Self { outcome, result: serde_json::Value::Null }
    }

    pub(crate) fn ok<T: DeserializeOwned>(&self) -> Option<T> {
        (self.outcome == Outcome::Ok).then(|| serde_json::from_value(self.result.clone()).unwrap())
    }
}
