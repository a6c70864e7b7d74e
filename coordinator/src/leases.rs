//! Clients that go straight to the nodes: what they are lent, the numbers they are given, and what they tell.
//!
//! A client works from a view as a request of our own does, and it counts as one: a *lease* is a user of its view for a
//! while, and a *group* of writes that was numbered for a client is under way until the client says that all of it has
//! ended. So a change of the ring, a picture and the collection of tombstones wait for what clients do as they
//! wait for what we do, and nothing else has to know of clients.
//!
//! | what | is held for |
//! |---|---|
//! | lease | [`LEASE`], and [`GRACE`] for what has come late |
//! | group | as long as a request may take, or until the client says that it has ended |
//!
//! A client counts both from the moment in which it asked, so it stops before we do.
//!
//! # Caveats
//!
//! A client that dies holds up a change for as long as that. One that does not keep to its time (its machine stood
//! still between a look at the clock and the sending) is met by the nodes: they know the epochs, and the floors below which
//! nothing may be written.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ringkv_shared::limits::check_value;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::claim::Reign;
use ringkv_shared::protocol::cluster::{ClusterWrite, WriteOptions};
use ringkv_shared::protocol::lease::{
    LeaseReply, NUMBERS_MAX, NodeAt, NumberAsk, NumberReply, PlacementRow, RouteMap, ViewId,
};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::{ErrorName, Failure, KeyspaceName, Policy, Version};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::clock::unix_ms;
use crate::cluster::{Cluster, View};
use crate::keyspace::expiry;

/// How long a view is lent.
const LEASE: Duration = Duration::from_secs(1);
/// How much longer it is held.
const GRACE: Duration = Duration::from_millis(100);
/// How often it is looked at what is over.
const LOOK: Duration = Duration::from_millis(50);
/// The most leases and the most groups that are held.
const HELD_MAX: usize = 16_384;

/// What is held for clients.
#[derive(Default)]
pub(crate) struct Leases {
    held: Mutex<Held>,
    /// Told when there is something again.
    begun: Notify,
}

#[derive(Default)]
struct Held {
    /// Users of views, and until when.
    leases: Vec<(Instant, TaskTrackerToken)>,
    /// Groups of writes by their first versions.
    groups: BTreeMap<Version, Group>,
}

/// Writes that were numbered together.
struct Group {
    /// The first version behind it.
    end: Version,
    until: Instant,
    tokens: Tokens,
}

/// A user of the view, and writes under way.
type Tokens = (TaskTrackerToken, TaskTrackerToken);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no panic while the lock is held")
    }

    /// Lets go what is over, as long as there is something.
    pub(crate) async fn watch(cluster: Arc<Cluster>) {
        let leases = &cluster.leases;
        loop {
            while leases.lock().is_empty() {
                leases.begun.notified().await;
            }
            tokio::time::sleep(LOOK).await;
            leases.lock().let_go(Instant::now());
        }
    }

    fn lend(&self, until: Instant, token: TaskTrackerToken) -> Result<(), Failure> {
        let mut held = self.lock();
        if held.leases.len() >= HELD_MAX {
            return Err(too_many("views are lent"));
        }
        held.leases.push((until, token));
        drop(held);
        self.begun.notify_one();
        Ok(())
    }

    /// What keeps the group of a version under way; `None`: it has ended, or its time is over.
    fn tokens(&self, version: Version) -> Option<Tokens> {
        let held = self.lock();
        let (_, group) = held.groups.range(..=version).next_back()?;
        (version < group.end).then(|| group.tokens.clone())
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.groups.is_empty()
    }

    fn let_go(&mut self, now: Instant) {
        self.leases.retain(|(until, _)| *until > now);
        self.groups.retain(|_, group| group.until > now);
    }
}

fn too_many(what: &str) -> Failure {
    Failure::new(ErrorName::Busy, format!("{HELD_MAX} {what} already; nothing was done"))
        .hint("try again, or ask through the coordinator: put, get, del")
}

impl Cluster {
    /// Lends the view in force.
    ///
    /// # Errors
    ///
    /// Too many are lent.
    pub(crate) fn lease(&self, known: Option<ViewId>) -> Result<LeaseReply, Failure> {
        let (view, user) = self.enter();
        self.leases.lend(Instant::now() + LEASE + GRACE, user)?;
        let id = self.view_id(&view);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (timeout, hedge) = {
            let settings = self.settings();
            (settings.timeout(), settings.hedge())
        };
        let down = view.nodes.values().filter(|node| node.is_down());
        Ok(LeaseReply {
            status: Status::Ok,
            view: id,
            lasts_ms: ms(LEASE),
            timeout_ms: ms(timeout),
            hedge_ms: ms(hedge),
            down: down.map(|node| node.id.clone()).collect(),
            map: (known != Some(id)).then(|| self.route_map(&view)),
        })
    }

    fn view_id(&self, view: &View) -> ViewId {
        ViewId { epoch: self.boot_epoch(), number: view.number }
    }

    fn route_map(&self, view: &View) -> RouteMap {
        let node = |node: &Arc<crate::cluster::Node>| NodeAt {
            id: node.id.clone(),
            addr: node.member.addr.clone(),
            uuid: node.member.uuid.clone(),
        };
        RouteMap {
            coordinator: self.claimant.coordinator.clone(),
            reign: Reign { coordinator: self.boot_epoch(), ring: view.topology.epoch },
            nodes: view.nodes.values().map(node).collect(),
            current: PlacementRow::from(&view.topology.current),
            pending: view.topology.pending.as_ref().map(PlacementRow::from),
            keyspaces: view.keyspaces.values().cloned().collect(),
        }
    }

    /// Hears what became of writes, and numbers more.
    ///
    /// # Errors
    ///
    /// The view is not in force any more (what was told is taken, nothing is numbered), there is no such keyspace, or
    /// too much is asked for.
    pub(crate) fn number_for_client(&self, ask: NumberAsk) -> Result<NumberReply, Failure> {
        if ask.positions.len().max(ask.acknowledged.len()) > NUMBERS_MAX {
            let message = format!("at most {NUMBERS_MAX} writes at a time; nothing was done");
            return Err(Failure::new(ErrorName::BadArgument, message));
        }
        let NumberAsk { view: id, keyspace, positions, deletes, acknowledged, ended } = ask;
        for write in acknowledged {
            self.changes.tell(&write.keyspace.clone(), &write.into());
        }
        self.end_groups(&ended);
        let (view, user) = self.enter();
        let in_force = self.view_id(&view);
        if id != in_force {
            let message =
                format!("{id} is not what is in force, {in_force} is; nothing was numbered");
            return Err(Failure::new(ErrorName::StaleEpoch, message).hint("ask for a lease first"));
        }
        let keyspace = view.keyspace(&keyspace)?;
        let within = self.timeout();
        let count = positions.len() as u64;
        let stamps = match keyspace.policy {
            Policy::Lww => {
                let now_ms = unix_ms();
                positions.iter().map(|_| self.stamp(now_ms)).collect::<Result<_, _>>()?
            }
            Policy::Siblings => Vec::new(),
        };
        let expires = expiry(None, keyspace.ttl_ms.unwrap_or(0))?;
        let mut held = self.leases.lock();
        if held.groups.len() >= HELD_MAX {
            return Err(too_many("groups of writes are under way"));
        }
        let (first, under_way) = self.writes.begin_group(count);
        let version = |n: u64| Version::new(first.epoch, first.counter + n);
        let mut recent = self.recent();
        for (n, position) in (0..).zip(positions) {
            recent.note(position, version(n), None);
        }
        if count > 0 {
            let until = Instant::now() + within + GRACE;
            held.groups
                .insert(first, Group { end: version(count), until, tokens: (user, under_way) });
            self.leases.begun.notify_one();
        }
        self.counters.puts.fetch_add(count.saturating_sub(deletes), Ordering::Relaxed);
        self.counters.dels.fetch_add(deletes.min(count), Ordering::Relaxed);
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Ok(NumberReply { status: Status::Ok, first, stamps, expires, within_ms })
    }

    fn end_groups(&self, ended: &[Version]) {
        let ended: Vec<Group> = {
            let mut held = self.leases.lock();
            ended.iter().filter_map(|first| held.groups.remove(first)).collect()
        };
        drop(ended);
    }

    /// Carries a client's write to its end, under its number.
    ///
    /// # Errors
    ///
    /// It is not under way any more; else those of a `put`.
    pub(crate) async fn finish_for_client(
        self: &Arc<Self>,
        record: Record,
        keyspace: KeyspaceName,
    ) -> Result<ClusterWrite, Failure> {
        let Some(_tokens) = self.leases.tokens(record.version) else {
            let message = format!(
                "{} is not under way as {}: its time is over; nobody knows whether it was written",
                record.key, record.version
            );
            return Err(Failure::new(ErrorName::OutcomeUnknown, message)
                .hint("get it, then decide whether to write again"));
        };
        let options = WriteOptions { keyspace, ..WriteOptions::default() };
        let (key, value) = (record.key.clone(), record.value.clone());
        value.iter().try_for_each(|value| check_value(&key, value))?;
        self.write(key, value, &options, Some(record), |_| ()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;
    use crate::settings::Settings;
    use crate::state::State;
    use ringkv_shared::protocol::lease::Acknowledged;

    fn start(dir: &std::path::Path) -> Arc<Cluster> {
        let mut state = State::new();
        let log = Log::open(dir, &mut state).unwrap();
        let cluster = Cluster::new(state, log, Settings::default(), dir.to_owned(), None).unwrap();
        cluster.commit(&"ADD n1 127.0.0.1:1 1 u1".parse().unwrap()).unwrap();
        Arc::new(cluster)
    }

    fn ask(view: ViewId, count: u64) -> NumberAsk {
        let keyspace = KeyspaceName::default();
        let positions = (0..count).collect();
        NumberAsk {
            view,
            keyspace,
            positions,
            deletes: 0,
            acknowledged: Vec::new(),
            ended: Vec::new(),
        }
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_change_waits_for_a_lease_and_for_writes() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = start(dir.path());
        let watching = tokio::spawn(Leases::watch(Arc::clone(&cluster)));
        let lease = cluster.lease(None).unwrap();
        assert!(lease.map.is_some() && cluster.lease(Some(lease.view)).unwrap().map.is_none());
        let group = cluster.number_for_client(ask(lease.view, 3)).unwrap();
        cluster.publish_again();
        let begun = Instant::now();
        cluster.older_views_unused().await;
        let waited = begun.elapsed();
        assert!(
            waited >= Duration::from_millis(group.within_ms),
            "until the time is over: {waited:?}"
        );
        assert_eq!(cluster.writes.last(), Version::new(1, 3));
        watching.abort();
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_has_ended_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = start(dir.path());
        let view = cluster.view_id(&cluster.view());
        let group = cluster.number_for_client(ask(view, 2)).unwrap();
        assert!(cluster.leases.tokens(Version::new(1, 2)).is_some());
        assert!(cluster.leases.tokens(Version::new(1, 3)).is_none());
        let told = Acknowledged {
            keyspace: KeyspaceName::default(),
            key: "apple".into(),
            value: Some("red".into()),
            deleted: false,
            version: group.first,
        };
        let ended =
            NumberAsk { acknowledged: vec![told], ended: vec![group.first], ..ask(view, 0) };
        cluster.publish_again();
        // What it tells is taken, though its view is not in force any more.
        let stale = cluster.number_for_client(ended).unwrap_err();
        assert_eq!(stale.name, ErrorName::StaleEpoch);
        cluster.older_views_unused().await;
        let zero = Duration::ZERO;
        let seen = cluster.changes.after(Some("1.0"), &KeyspaceName::default(), b"", zero).await;
        assert_eq!(seen.changes.len(), 1);
        let record = Record::new("apple".into(), None, group.first);
        let late = cluster.finish_for_client(record, KeyspaceName::default()).await.unwrap_err();
        assert_eq!(late.name, ErrorName::OutcomeUnknown);
    }
}
