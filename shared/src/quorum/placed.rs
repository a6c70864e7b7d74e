//! The quorums of a key, as the placements in force make them.

use super::get::Get;
use super::tracker::Quorum;
use crate::topology::{Topology, WriteSet};
use crate::{Keyspace, KeyspaceName};

impl Topology {
    /// The owners that must have a write, of both placements while a change is pending.
    #[must_use]
    pub fn write_quorums(&self, name: &KeyspaceName, set: &WriteSet, w: usize) -> Vec<Quorum> {
        let current = self.current.needed(name, w);
        let current = Quorum { owners: set.owners[..set.current].to_vec(), needed: current };
        let pending = self
            .pending
            .as_ref()
            .map(|pending| Quorum { owners: set.pending.clone(), needed: pending.needed(name, w) });
        let both = [Some(current), pending].into_iter().flatten();
        both.filter(|quorum| !quorum.owners.is_empty()).collect()
    }

    /// A read of R owners. While a change is pending, the next owners are asked last, or not at all: what they lack
    /// proves nothing.
    #[must_use]
    pub fn read(&self, keyspace: &Keyspace, set: WriteSet, r: usize) -> Get {
        let needed = self.current.needed(&keyspace.name, r).max(1);
        let proved = self.meets_every_write(keyspace, r);
        let (quorum, current) = (Quorum { owners: set.owners, needed }, set.current);
        Get::new(quorum, proved && r > 1).with_current(current, proved)
    }

    /// Whether every read of R owners meets every acknowledged write.
    #[must_use]
    pub fn meets_every_write(&self, keyspace: &Keyspace, r: usize) -> bool {
        // With fewer copies to come, those that are still in force count.
        let n = keyspace.n.max(self.current.n(&keyspace.name));
        r + keyspace.w > n && !keyspace.sloppy
    }
}
