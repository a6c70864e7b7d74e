//! Keyspaces: made, changed and dropped, and what holds for the keys of each.
//!
//! What a keyspace is stands in the log, as the placements do. Its N is part of them: a new
//! keyspace has its copies at once, for nothing is in it; another N of one that is there is staged and waits
//! for `rebalance`. How a dropped keyspace goes is in [`crate::dropped`].
//!
//! A time to live becomes an absolute expiry here, once for all replicas, so they agree on it.
//!
//! # Caveats
//!
//! Each node compares the expiry with its own clock. While their clocks differ by d, a value may be
//! gone at one replica and be there at another for d.

use ringkv_shared::limits::TTL_MS_MAX;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    DroppedKeyspace, KeyspaceChange, KeyspaceReply, KeyspaceRow,
};
use ringkv_shared::{ErrorName, Failure, Keyspace, KeyspaceName, NodeId, nearest};

use crate::changes::check_copies;
use crate::clock::unix_ms;
use crate::cluster::{Cluster, View};
use crate::state::Event;

/// The most keyspaces, `default` among them.
const KEYSPACES_MAX: usize = 64;

impl Cluster {
    /// Lists the keyspaces, or the one that is named, after changing it if asked to. A change that
    /// names none is of `default`.
    pub(crate) async fn keyspace(
        &self,
        name: Option<&KeyspaceName>,
        change: Option<&KeyspaceChange>,
    ) -> Result<KeyspaceReply, Failure> {
        let Some(change) = change else { return self.view().keyspaces(name) };
        let name = name.cloned().unwrap_or_default();
        match (change.create, change.drop) {
            (true, true) => {
                return Err(bad("a keyspace is made or dropped, not both; nothing was done"));
            }
            (true, false) => self.create_keyspace(&name, change).await?,
            (false, true) => return self.drop_keyspace(&name).await,
            (false, false) => self.set_keyspace(&name, change).await?,
        }
        self.view().keyspaces(Some(&name))
    }

    async fn create_keyspace(
        &self,
        name: &KeyspaceName,
        change: &KeyspaceChange,
    ) -> Result<(), Failure> {
        let _one = self.defining.lock().await;
        let _alone = self.alone()?;
        let view = self.view();
        if view.keyspaces.contains_key(name) {
            return Err(bad(format!("there is a keyspace {name} already; nothing was done"))
                .hint(format!("keyspace show {name}; to change it: keyspace set {name}")));
        }
        if let Some(unheard) = view.dropped.get(name) {
            return Err(not_forgotten(name, unheard.iter()));
        }
        if view.keyspaces.len() >= KEYSPACES_MAX {
            let message = format!(
                "there are {KEYSPACES_MAX} keyspaces, the most there can be; nothing was done"
            );
            return Err(bad(message).hint("keyspace list shows them, keyspace drop ends one"));
        }
        let n = change.n.unwrap_or(1);
        check_copies(n, view.topology.newest().ring.members().len())?;
        let policy = change.policy.unwrap_or_default();
        let fresh = Keyspace { n, policy, ..Keyspace::new(name.clone()) };
        self.commit(&Event::Keyspace(changed(&fresh, change)?))?;
        self.events.tell(format!("keyspace {name} created"));
        Ok(())
    }

    async fn set_keyspace(
        &self,
        name: &KeyspaceName,
        change: &KeyspaceChange,
    ) -> Result<(), Failure> {
        let _one = self.defining.lock().await;
        let view = self.view();
        let before = view.keyspace(name)?;
        if change.policy.is_some_and(|policy| policy != before.policy) {
            let message = format!(
                "keyspace {name} has the policy {}, which is fixed when it is made; nothing was done",
                before.policy
            );
            return Err(bad(message).hint("make another keyspace, and load an export into it"));
        }
        let n = change.n.unwrap_or(before.n);
        let after = changed(&Keyspace { n, ..before.clone() }, change)?;
        let moved = n != before.n;
        let _alone = moved.then(|| self.may_stage()).transpose()?;
        if moved {
            check_copies(n, view.topology.newest().ring.members().len())?;
        }
        // R and W fit N after each line: the log may end behind the first.
        if n > before.n {
            self.stage_copies(name, n).await?;
        }
        if (Keyspace { n: before.n, ..after.clone() }) != before {
            self.commit(&Event::Keyspace(after))?;
        }
        if n < before.n {
            self.stage_copies(name, n).await?;
        }
        Ok(())
    }
}

impl View {
    /// What holds for the keys of a keyspace.
    pub(crate) fn keyspace(&self, name: &KeyspaceName) -> Result<Keyspace, Failure> {
        self.keyspaces.get(name).cloned().ok_or_else(|| self.no_keyspace(name))
    }

    fn no_keyspace(&self, name: &KeyspaceName) -> Failure {
        let names = self.keyspaces.keys().map(KeyspaceName::as_str);
        let hint = match nearest(name.as_str(), names) {
            Some(guess) => format!("did you mean: {guess}"),
            None => format!("keyspace list shows them; keyspace create {name} makes it"),
        };
        bad(format!("no keyspace {name}; nothing was done")).hint(hint)
    }

    /// All keyspaces, or the one that is named.
    pub(crate) fn keyspaces(&self, name: Option<&KeyspaceName>) -> Result<KeyspaceReply, Failure> {
        let keyspaces = match name {
            Some(name) => vec![self.row(self.keyspace(name)?)],
            None => self.keyspaces.values().map(|keyspace| self.row(keyspace.clone())).collect(),
        };
        let dropped = if name.is_some() { Vec::new() } else { self.dropped_keyspaces(|_| true) };
        Ok(KeyspaceReply { status: Status::Ok, keyspaces, dropped })
    }

    pub(crate) fn dropped_keyspaces(
        &self,
        wanted: impl Fn(&KeyspaceName) -> bool,
    ) -> Vec<DroppedKeyspace> {
        let dropped = self.dropped.iter().filter(|(name, _)| wanted(name));
        dropped
            .map(|(name, unheard)| DroppedKeyspace {
                name: name.clone(),
                unheard: unheard.iter().cloned().collect(),
            })
            .collect()
    }

    /// A keyspace and what it promises, now and when a pending change of N is in force.
    pub(crate) fn row(&self, keyspace: Keyspace) -> KeyspaceRow {
        let n = self.topology.current.n(&keyspace.name);
        let n_now = (n != keyspace.n).then_some(n);
        let mut guarantee = keyspace.guarantee();
        if let Some(n) = n_now {
            // Of a placement with fewer copies no more are waited for than there are.
            let (r, w) = (keyspace.r.min(n), keyspace.w.min(n));
            let now = Keyspace { n, r, w, ..keyspace.clone() }.guarantee();
            guarantee = format!("Until rebalance: {now} Then: {guarantee}");
        }
        KeyspaceRow { keyspace, n_now, guarantee }
    }
}

/// A keyspace with R, W, stand-ins and time to live as asked for, when they fit its N.
fn changed(keyspace: &Keyspace, change: &KeyspaceChange) -> Result<Keyspace, Failure> {
    let KeyspaceChange { r, w, sloppy, ttl_ms, .. } = change;
    if let Some(ttl_ms) = ttl_ms {
        check(*ttl_ms)?;
    }
    let after = Keyspace {
        r: r.unwrap_or(keyspace.r),
        w: w.unwrap_or(keyspace.w),
        sloppy: sloppy.unwrap_or(keyspace.sloppy),
        ttl_ms: ttl_ms.map_or(keyspace.ttl_ms, |ttl_ms| Some(ttl_ms).filter(|ttl_ms| *ttl_ms > 0)),
        ..keyspace.clone()
    };
    check_quorums(&after)?;
    Ok(after)
}

/// R and W are from 1 to N.
pub(crate) fn check_quorums(keyspace: &Keyspace) -> Result<(), Failure> {
    let Keyspace { name, n, r, w, .. } = keyspace;
    if (1..=*n).contains(r) && (1..=*n).contains(w) {
        return Ok(());
    }
    let message = format!(
        "keyspace {name} cannot have R={r} W={w} with N={n}: both are from 1 to N; nothing was done"
    );
    let (r, w) = ((*r).clamp(1, *n), (*w).clamp(1, *n));
    Err(bad(message).hint(format!("setquorum {r} {w}, or keep more copies: setreplica")))
}

fn not_forgotten<'a>(name: &KeyspaceName, unheard: impl Iterator<Item = &'a NodeId>) -> Failure {
    let names: Vec<&str> = unheard.map(NodeId::as_str).collect();
    let message = format!(
        "a keyspace {name} was dropped, and {} may still hold something of it; nothing was done",
        names.join(" ")
    );
    Failure::new(ErrorName::NotApplied, message)
        .hint("start what is DOWN, or take it off the ring (removenode); then again")
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(ErrorName::BadArgument, message)
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
    Err(bad(message).hint("for ever is: --ttl none"))
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

    #[test]
    fn what_is_not_named_stays() {
        let before = Keyspace {
            n: 3,
            r: 2,
            w: 3,
            sloppy: true,
            ttl_ms: Some(5),
            ..Keyspace::new("orders".parse().unwrap())
        };
        let with = |change: KeyspaceChange| changed(&before, &change);
        let none = KeyspaceChange::default;
        assert_eq!(with(none()).unwrap(), before);
        let all = KeyspaceChange {
            r: Some(1),
            w: Some(1),
            sloppy: Some(false),
            ttl_ms: Some(0),
            ..none()
        };
        assert_eq!(with(all).unwrap(), Keyspace { n: 3, ..Keyspace::new(before.name.clone()) });
        for wrong in [
            KeyspaceChange { r: Some(0), ..none() },
            KeyspaceChange { r: Some(4), ..none() },
            KeyspaceChange { w: Some(0), ..none() },
            KeyspaceChange { w: Some(4), ..none() },
            KeyspaceChange { ttl_ms: Some(TTL_MS_MAX + 1), ..none() },
        ] {
            assert_eq!(with(wrong.clone()).unwrap_err().name, ErrorName::BadArgument, "{wrong:?}");
        }
        let failure = check_quorums(&Keyspace { n: 2, ..before.clone() }).unwrap_err();
        assert_eq!(
            failure.message,
            "keyspace orders cannot have R=2 W=3 with N=2: both are from 1 to N; nothing was done"
        );
        assert!(failure.hint.unwrap().starts_with("setquorum 2 2, "));
    }
}
