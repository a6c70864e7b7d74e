//! A coordinator as its nodes meet it: who it is, and under which epochs it asks.
//!
//! One claimant is shared by all connections of a coordinator. Each begins with a `claim`, and every line on it
//! has the epochs as they are when it leaves:
//!
//! ```text
//! {"jsonrpc":"2.0","epoch":"3.12","id":0,"method":"claim","params":[…]}
//! {"jsonrpc":"2.0","epoch":"3.12","id":1,"method":"write","params":[…]}
//! {"jsonrpc":"2.0","epoch":"3.13","id":2,"method":"write","params":[…]}
//! ```
//!
//! # Caveats
//!
//! The epoch of a line is that of the moment when it leaves, not that of the view its sender worked from: who raises
//! the ring's must first wait until nobody works from an older view.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::protocol::claim::{Claim, Reign};
use crate::{ErrorName, Failure};

/// A coordinator that claims nodes.
#[derive(Debug)]
pub struct Claimant {
    /// The identity of its data directory.
    pub coordinator: String,
    /// The coordinators that it takes over from, by their identities.
    pub after: Vec<String>,
    /// Its epoch.
    pub epoch: u32,
    /// The epoch of its ring. Monotonic.
    ring: AtomicU64,
    /// A node has refused it.
    refused: Notify,
}

impl Claimant {
    /// A coordinator that knows of no ring yet: its epoch is 0.
    pub fn new(coordinator: impl Into<String>, after: Vec<String>, epoch: u32) -> Self {
        let (coordinator, ring, refused) = (coordinator.into(), AtomicU64::new(0), Notify::new());
        Self { coordinator, after, epoch, ring, refused }
    }

    /// Waits until a node has refused something as stale, since this was last waited for: perhaps it obeys another.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Takes note of a refusal.
    pub(super) fn heard(&self, failure: &Failure) {
        if failure.name == ErrorName::StaleEpoch {
            self.refused.notify_one();
        }
    }

    /// Under which epochs it asks now.
    pub fn reign(&self) -> Reign {
        Reign { coordinator: self.epoch, ring: self.ring.load(Ordering::Acquire) }
    }

    /// Requests that leave from now on are made under this ring, unless they were under a later one already.
    pub fn set_ring(&self, epoch: u64) {
        self.ring.fetch_max(epoch, Ordering::AcqRel);
    }

    /// What it says to the node with this data directory.
    pub(super) fn claim(&self, node: &str) -> Claim {
        let Self { coordinator, after, epoch, .. } = self;
        Claim {
            node: node.to_owned(),
            coordinator: coordinator.clone(),
            epoch: *epoch,
            after: after.clone(),
        }
    }
}
