//! Whom a node obeys, and what it was told of its cluster: the rules; pure.
//!
//! | a coordinator claims the node | |
//! |---|---|
//! | which obeys nobody | yes |
//! | which obeys it already | unless its epoch is older than known: a later start of it is at work |
//! | which obeys another one | only if it says that it takes over from that one, under a greater epoch |
//!
//! | a request under epochs `3.12` | |
//! |---|---|
//! | of an older coordinator's epoch than claimed | refused |
//! | of that epoch, and of an older ring's than told in it | refused |
//! | else, or without epochs | done |
//!
//! What a node was told of its cluster, the *map*, counts with the epochs it was told under, so that a coordinator
//! that was rebuilt, and may know of an older ring, tells it anew.
//!
//! # Caveats
//!
//! A request does not say who sent it: a coordinator whose connections outlive the release of a node, and whose
//! epoch is not lower than that of the next one to claim it, is not told apart from that one.

use std::sync::Arc;

use ringkv_shared::protocol::node::Reign;
use uuid::Uuid;

/// Whom a node obeys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obeys {
    /// The coordinator's identity; `None`: nobody's.
    coordinator: Option<Uuid>,
    /// The greatest epoch under which it claimed the node. Monotonic until the node is released.
    epoch: u32,
    /// Under which epochs the map was told. Monotonic until the node is released.
    told: Reign,
    /// The cluster: lines of its coordinator's log.
    map: Option<Arc<str>>,
}

/// Why a node does not obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disobeyed {
    /// It obeys another coordinator, from which the one that asks does not take over.
    Another(Uuid),
    /// The same, from which it does take over, but not under a greater epoch than this.
    NotGreater(Uuid, u32),
    /// A later start of the coordinator has claimed the node, under this epoch.
    LaterStart(u32),
    /// The request was made under older epochs than these, which the node knows.
    Stale(Reign),
    /// Only the coordinator that the node obeys may ask this, under the epoch with which it has claimed it.
    NotClaimed,
}

impl Obeys {
    /// What was written down.
    #[must_use]
    pub const fn of(
        coordinator: Option<Uuid>,
        epoch: u32,
        told: Reign,
        map: Option<Arc<str>>,
    ) -> Self {
        Self { coordinator, epoch, told, map }
    }

    /// The coordinator's identity; `None`: nobody's.
    #[must_use]
    pub const fn coordinator(&self) -> Option<Uuid> {
        self.coordinator
    }

    /// Requests under older epochs than these are refused.
    #[must_use]
    pub const fn reign(&self) -> Reign {
        let ring = if self.told.coordinator == self.epoch { self.told.ring } else { 0 };
        Reign { coordinator: self.epoch, ring }
    }

    /// Under which epochs the map was told.
    #[must_use]
    pub const fn told(&self) -> Reign {
        self.told
    }

    /// What the node was told of its cluster.
    #[must_use]
    pub const fn map(&self) -> Option<&Arc<str>> {
        self.map.as_ref()
    }

    /// What a claim leaves.
    ///
    /// # Errors
    ///
    /// The node obeys another coordinator, or a later start of this one.
    pub fn claim(&self, by: Uuid, epoch: u32, after: &[Uuid]) -> Result<Self, Disobeyed> {
        match self.coordinator {
            Some(same) if same == by && epoch < self.epoch => {
                return Err(Disobeyed::LaterStart(self.epoch));
            }
            Some(other) if other != by && !after.contains(&other) => {
                return Err(Disobeyed::Another(other));
            }
            Some(other) if other != by && epoch <= self.epoch => {
                return Err(Disobeyed::NotGreater(other, self.epoch));
            }
            Some(_) | None => {}
        }
        Ok(Self { coordinator: Some(by), epoch, ..self.clone() })
    }

    /// Whether a request under these epochs is done.
    ///
    /// # Errors
    ///
    /// They are older than those that the node knows.
    pub fn admit(&self, under: Reign) -> Result<(), Disobeyed> {
        let known = self.reign();
        if under < known { Err(Disobeyed::Stale(known)) } else { Ok(()) }
    }

    /// Whether a request is done that only the coordinator may make.
    ///
    /// # Errors
    ///
    /// Its epochs are older than known, or not those of a coordinator that has claimed the node.
    pub fn admit_coordinator(&self, under: Option<Reign>) -> Result<(), Disobeyed> {
        let under = under.ok_or(Disobeyed::NotClaimed)?;
        self.admit(under)?;
        let claimed = self.coordinator.is_some() && under.coordinator == self.epoch;
        if claimed { Ok(()) } else { Err(Disobeyed::NotClaimed) }
    }

    /// What is left when the coordinator has told the cluster as it is under a ring's epoch.
    ///
    /// # Errors
    ///
    /// The node obeys nobody, or was told of a later ring already.
    pub fn adopt(&self, ring: u64, map: &str) -> Result<Self, Disobeyed> {
        let told = Reign { coordinator: self.epoch, ring };
        self.admit_coordinator(Some(told))?;
        Ok(Self { told, map: Some(Arc::from(map)), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);
    const C: Uuid = Uuid::from_u128(0xc);

    fn reign(text: &str) -> Reign {
        text.parse().unwrap()
    }

    /// A node that obeys A under epoch 3, and was told of the ring 12 in it.
    fn obeys_a() -> Obeys {
        Obeys::default().claim(A, 3, &[]).unwrap().adopt(12, "map\n").unwrap()
    }

    #[test]
    fn who_is_obeyed() {
        use Disobeyed::{Another, LaterStart, NotGreater};
        let nobody = Obeys::default();
        for (node, by, epoch, after, expected) in [
            (nobody.clone(), A, 1, &[][..], Ok("1.0")),
            (nobody.clone(), A, 0, &[], Ok("0.0")),
            (nobody, A, 7, &[B], Ok("7.0")),
            (obeys_a(), A, 3, &[], Ok("3.12")),
            (obeys_a(), A, 4, &[], Ok("4.0")),
            (obeys_a(), A, 4, &[B], Ok("4.0")),
            (obeys_a(), A, 2, &[], Err(LaterStart(3))),
            (obeys_a(), A, 2, &[A], Err(LaterStart(3))),
            (obeys_a(), B, 4, &[], Err(Another(A))),
            (obeys_a(), B, 99, &[C], Err(Another(A))),
            (obeys_a(), B, 4, &[A], Ok("4.0")),
            (obeys_a(), B, 4, &[C, A], Ok("4.0")),
            (obeys_a(), B, 3, &[A], Err(NotGreater(A, 3))),
            (obeys_a(), B, 2, &[A], Err(NotGreater(A, 3))),
        ] {
            let shown = format!("{by} claims under {epoch} after {after:?}");
            let claimed = node.claim(by, epoch, after);
            assert_eq!(claimed.clone().map(|node| node.reign()), expected.map(reign), "{shown}");
            if let Ok(claimed) = claimed {
                assert_eq!(claimed.coordinator(), Some(by), "{shown}");
                assert_eq!((claimed.map(), claimed.told()), (node.map(), node.told()), "{shown}");
            }
        }
    }

    #[test]
    fn which_requests_are_done() {
        let stale = |known: &str| Err(Disobeyed::Stale(reign(known)));
        let taken_over = obeys_a().claim(B, 4, &[A]).unwrap();
        for (node, under, expected) in [
            (Obeys::default(), "0.0", Ok(())),
            (Obeys::default(), "9.1", Ok(())),
            (obeys_a(), "3.12", Ok(())),
            (obeys_a(), "3.13", Ok(())),
            (obeys_a(), "4.0", Ok(())),
            (obeys_a(), "3.11", stale("3.12")),
            (obeys_a(), "2.13", stale("3.12")),
            (taken_over.clone(), "3.12", stale("4.0")),
            (taken_over.clone(), "3.99", stale("4.0")),
            // It may know of an older ring than the one it took over from.
            (taken_over, "4.10", Ok(())),
        ] {
            assert_eq!(node.admit(reign(under)), expected, "{under}");
        }
    }

    #[test]
    fn only_the_coordinator_tells_of_the_cluster() {
        let not_claimed = Err(Disobeyed::NotClaimed);
        for (node, under, expected) in [
            (obeys_a(), Some("3.12"), Ok(())),
            (obeys_a(), Some("3.11"), Err(Disobeyed::Stale(reign("3.12")))),
            (obeys_a(), Some("4.0"), not_claimed),
            (obeys_a(), None, not_claimed),
            (Obeys::default(), Some("0.0"), not_claimed),
            (Obeys::default(), None, not_claimed),
        ] {
            assert_eq!(node.admit_coordinator(under.map(reign)), expected, "{under:?}");
        }
    }

    #[test]
    fn a_node_is_never_told_of_an_older_ring_under_the_same_epoch() {
        let node = obeys_a();
        assert_eq!(node.adopt(11, "old\n"), Err(Disobeyed::Stale(reign("3.12"))));
        assert_eq!(node.adopt(12, "again\n").unwrap().map().unwrap().as_ref(), "again\n");
        let node = node.adopt(15, "new\n").unwrap().claim(B, 4, &[A]).unwrap();
        let node = node.adopt(10, "less\n").unwrap();
        assert_eq!((node.reign(), node.told()), (reign("4.10"), reign("4.10")));
        assert_eq!(Obeys::default().adopt(1, "map\n"), Err(Disobeyed::NotClaimed));
    }
}
