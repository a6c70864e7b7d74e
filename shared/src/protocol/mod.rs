//! What travels: parameters and results of every method, as plain data.
//!
//! [`record`] is what a replica holds for a key. [`node`] is the replica's side (the ancestor's `put get del size dump` and what the
//! coordinator needs beside them), [`claim`] whom it obeys, [`lease`] what a client
//! needs that goes straight to the nodes, [`cluster`] the coordinator's, named as the commands, [`change`] what
//! is about changes of the ring, [`outlook`] what is wrong or would be.
//! Results keep the ancestor's shape, `{"status":"ok",…}`, with more members. A receiver ignores
//! members it does not know; a parameter object with an unknown member is refused.

pub mod census;
pub mod change;
pub mod claim;
pub mod cluster;
pub mod data;
pub mod keyspaces;
pub mod lease;
pub mod node;
pub mod outlook;
pub mod record;
pub mod replicas;

use serde::{Deserialize, Serialize};

/// The first member of every result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Done.
    Ok,
    /// There is no such key (or it was deleted).
    NotFound,
}
