//! Keyspaces: what holds for all keys in one. So far there is one, and it says how long values live
//! that are put without a time of their own.
//!
//! A time to live becomes an absolute expiry here, once for all replicas, so they agree on it.
//!
//! # Caveats
//!
//! Each node compares the expiry with its own clock. While their clocks differ by d, a value may be
//! gone at one replica and be there at another for d.

use ringkv_shared::limits::TTL_MS_MAX;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{KeyspaceChange, KeyspaceReply, KeyspaceRow};
use ringkv_shared::{ErrorName, Failure, Keyspace, KeyspaceName};

use crate::clock::unix_ms;
use crate::cluster::{Cluster, View};
use crate::state::Event;

/// The keyspace that there is.
pub(crate) const DEFAULT: &str = "default";

impl Cluster {
    /// Lists the keyspaces, after changing one if asked to.
    pub(crate) fn keyspace(
        &self,
        name: Option<&KeyspaceName>,
        change: Option<&KeyspaceChange>,
    ) -> Result<KeyspaceReply, Failure> {
        let default = KeyspaceName::default();
        self.view().keyspace(name.unwrap_or(&default))?;
        if let Some(ttl_ms) = change.and_then(|change| change.ttl_ms) {
            check(ttl_ms)?;
            self.commit(&Event::Keyspace { name: DEFAULT.to_owned(), ttl_ms })?;
        }
        let keyspace = self.view().keyspace(&default)?;
        let row = KeyspaceRow { keyspace, n_now: None, guarantee: String::new() };
        Ok(KeyspaceReply { status: Status::Ok, keyspaces: vec![row], dropped: Vec::new() })
    }
}

impl View {
    /// What holds for the keys of a keyspace.
    pub(crate) fn keyspace(&self, name: &KeyspaceName) -> Result<Keyspace, Failure> {
        if !name.is_default() {
            let message = format!("no keyspace {name}; nothing was done");
            return Err(Failure::new(ErrorName::BadArgument, message)
                .hint(format!("keyspace list shows them; keyspace create {name} makes it")));
        }
        let n = self.topology.newest().n(name);
        let ttl_ms = Some(self.ttl_ms).filter(|ttl_ms| *ttl_ms > 0);
        Ok(Keyspace { n, ttl_ms, ..Keyspace::new(name.clone()) })
    }
}

/// When a value expires that is put now with this time to live, or without one into a keyspace that
/// has this default; 0 is for ever.
pub(crate) fn expiry(ttl_ms: Option<u64>, default_ms: u64) -> Result<Option<u64>, Failure> {
    let ttl_ms = ttl_ms.unwrap_or(default_ms);
    check(ttl_ms)?;
    Ok((ttl_ms > 0).then(|| unix_ms() + ttl_ms))
}

fn check(ttl_ms: u64) -> Result<(), Failure> {
    if ttl_ms <= TTL_MS_MAX {
        return Ok(());
    }
    let message =
        format!("a time to live of {ttl_ms} ms; at most {TTL_MS_MAX} are taken (10 years)");
    Err(Failure::new(ErrorName::BadArgument, message).hint("for ever is: --ttl none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_its_own_beats_that_of_the_keyspace() {
        assert_eq!(expiry(None, 0).unwrap(), None);
        assert_eq!(expiry(Some(0), 1000).unwrap(), None);
        let before = unix_ms();
        let of_keyspace = expiry(None, 5_000).unwrap().unwrap();
        let of_its_own = expiry(Some(60_000), 5_000).unwrap().unwrap();
        assert!((before + 5_000..before + 60_000).contains(&of_keyspace), "{of_keyspace}");
        assert!(of_its_own >= before + 60_000);
        assert_eq!(expiry(Some(TTL_MS_MAX + 1), 0).unwrap_err().name, ErrorName::BadArgument);
    }
}
