//! What all parts of the coordinator share: its log and what follows from it, the view in force, what it remembers.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ringkv_shared::causal::Recent;
use ringkv_shared::hlc::{Hlc, Stamp};
use ringkv_shared::net::Claimant;
use ringkv_shared::protocol::cluster::Stage;
use ringkv_shared::protocol::node::ClusterMap;
use ringkv_shared::{ErrorName, Failure, NodeId, Version};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::events::Events;
use crate::express::Express;
use crate::feed::Feed;
use crate::fence::Deposed;
use crate::heartbeat::Due;
use crate::herald::Herald;
use crate::job::Job;
use crate::lag::Lag;
use crate::latency::Latency;
use crate::leases::Leases;
use crate::log::{Log, LogError};
use crate::node::AsWhom;
pub(crate) use crate::node::{Node, Opinion, Standing};
use crate::picture::Pictures;
use crate::requests::Requests;
use crate::settings::Settings;
use crate::state::{Event, State};
use crate::sync::Sync;
pub(crate) use crate::view::View;
use crate::writes::Writes;
use crate::written::Written;

/// How many requests may have something left to do after their answer: each holds a value.
const BACKGROUND_MAX: usize = 1024;

/// How far ahead the log says up to when stamps are given, in milliseconds: after a restart they go on from
/// there, so less than what is believed of other clocks.
const CLOCK_AHEAD_MS: u64 = 30_000;

/// Requests counted since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) puts: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) dels: AtomicU64,
    pub(crate) partial_writes: AtomicU64,
    /// Reads in which one more replica was asked because somebody was slow.
    pub(crate) hedged: AtomicU64,
    /// Keys on which reads or anti-entropy found replicas to differ.
    pub(crate) divergences: AtomicU64,
    /// Copies that they made anew.
    pub(crate) repairs: AtomicU64,
}

/// The durable part: the machine and its log, changed together.
struct Durable {
    state: State,
    log: Log,
}

pub(crate) struct Cluster {
    durable: Mutex<Durable>,
    view: Mutex<Arc<View>>,
    /// Views that were replaced and may still be used.
    replaced: Mutex<Vec<TaskTracker>>,
    settings: Mutex<Settings>,
    pub(crate) writes: Writes,
    pub(crate) written: Written,
    recent: Mutex<Recent>,
    pub(crate) requests: Requests,
    pub(crate) changes: Feed,
    pub(crate) lag: Lag,
    hlc: Mutex<Hlc>,
    /// Room for what is left to do after an answer.
    background: Arc<Semaphore>,
    pub(crate) pictures: Pictures,
    pub(crate) sync: Sync,
    /// As whom nodes are asked.
    pub(crate) claimant: Arc<Claimant>,
    /// Requests that go as nearly all do.
    pub(crate) express: Arc<Express>,
    /// What is held for clients that go straight to the nodes.
    pub(crate) leases: Leases,
    /// Whether nodes obey another coordinator by now.
    pub(crate) deposed: Mutex<Option<Deposed>>,
    pub(crate) herald: Herald,
    pub(crate) due: Due,
    started: Instant,
    pub(crate) events: Events,
    pub(crate) counters: Counters,
    pub(crate) job: Mutex<Job>,
    /// Somebody let the rebalance rest, go on or go back.
    pub(crate) run_changed: tokio::sync::Notify,
    /// How long requests took.
    pub(crate) latency: Latency,
    /// One change of the ring at a time.
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
    /// One change of a keyspace at a time: what is checked holds until it is done.
    pub(crate) defining: tokio::sync::Mutex<()>,
    /// One at a time tells nodes of dropped keyspaces.
    pub(crate) telling: Arc<tokio::sync::Mutex<()>>,
    pub(crate) data: PathBuf,
    pub(crate) supervisor: Option<String>,
}

impl Cluster {
    /// The cluster as its log tells it, with this start noted.
    pub(crate) fn new(
        mut state: State,
        mut log: Log,
        settings: Settings,
        data: PathBuf,
        supervisor: Option<String>,
    ) -> Result<Self, LogError> {
        let identity = state.uuid.is_empty().then(new_identity);
        let boot = Event::Boot { epoch: state.boot_epoch + 1 };
        for event in identity.iter().chain([&boot]) {
            log.append(event)?;
            state.apply(event);
        }
        let (started, boot_epoch) = (Instant::now(), state.boot_epoch);
        let hlc = Hlc::after(Stamp { ms: state.clock_ms, count: 0 });
        let claimant = Arc::new(Claimant::new(&state.uuid, state.after.clone(), boot_epoch));
        // Nothing is under way from an older ring: this one can be told of at once.
        claimant.set_ring(state.topology.epoch);
        let express = Arc::<Express>::default();
        let as_whom = AsWhom { claimant, express };
        let view = View::of(&state, None, &as_whom, 0);
        let AsWhom { claimant, express } = as_whom;
        Ok(Self {
            claimant,
            express,
            leases: Leases::default(),
            deposed: Mutex::default(),
            herald: Herald::default(),
            due: Due::default(),
            durable: Mutex::new(Durable { state, log }),
            view: Mutex::new(Arc::new(view)),
            replaced: Mutex::default(),
            settings: Mutex::new(settings),
            writes: Writes::new(boot_epoch),
            written: Written::new(boot_epoch),
            recent: Mutex::new(Recent::new(boot_epoch)),
            requests: Requests::default(),
            changes: Feed::new(boot_epoch),
            lag: Lag::default(),
            hlc: Mutex::new(hlc),
            background: Arc::new(Semaphore::new(BACKGROUND_MAX)),
            pictures: Pictures::default(),
            sync: Sync::default(),
            started,
            events: Events::new(),
            counters: Counters::default(),
            job: Mutex::new(Job::idle()),
            run_changed: tokio::sync::Notify::new(),
            latency: Latency::default(),
            changing: Arc::default(),
            defining: tokio::sync::Mutex::default(),
            telling: Arc::default(),
            data,
            supervisor,
        })
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.lock().expect("no panic while the lock is held").clone()
    }

    /// The view for a request. Who changes the ring or drops a keyspace waits until the token is dropped; no
    /// such wait can begin and end between the view and its token.
    pub(crate) fn enter(&self) -> (Arc<View>, TaskTrackerToken) {
        let view = self.view.lock().expect("no panic while the lock is held");
        (Arc::clone(&view), view.users.token())
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().expect("no panic while the lock is held")
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.settings().timeout()
    }

    fn as_whom(&self) -> AsWhom {
        AsWhom { claimant: Arc::clone(&self.claimant), express: Arc::clone(&self.express) }
    }

    pub(crate) fn boot_epoch(&self) -> u32 {
        self.claimant.epoch
    }

    /// Milliseconds since the start: the detectors' clock.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Which numbers each key got lately.
    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("no panic while the lock is held")
    }

    /// The clock by which the last write wins.
    pub(crate) fn hlc(&self) -> MutexGuard<'_, Hlc> {
        self.hlc.lock().expect("no panic while the lock is held")
    }

    /// The stamp of a write, later than all that this cluster's coordinators have given, whatever the clock
    /// says. So that it holds after a restart, the log knows up to when stamps may have been given: a line in
    /// [`CLOCK_AHEAD_MS`].
    pub(crate) fn stamp(&self, now_ms: u64) -> Result<Stamp, Failure> {
        let stamp = self.hlc().tick(now_ms);
        if stamp.ms >= self.clock_ms() {
            // Not from the stamp on: restarts would drive it further and further ahead.
            self.commit(&Event::Clock { ms: (now_ms + CLOCK_AHEAD_MS).max(stamp.ms + 1) })?;
        }
        Ok(stamp)
    }

    /// Does what is left to do after an answer, in the background while there is room there; else who
    /// wants the answer has to wait for it.
    pub(crate) async fn background(&self, rest: impl Future<Output = ()> + Send + 'static) {
        match Arc::clone(&self.background).try_acquire_owned() {
            Ok(room) => drop(tokio::spawn(async move {
                rest.await;
                drop(room);
            })),
            Err(_) => rest.await,
        }
    }

    /// Makes a change: durable first, then in force as a new view.
    pub(crate) fn commit(&self, event: &Event) -> Result<Arc<View>, Failure> {
        let mut durable = self.durable.lock().expect("no panic while the lock is held");
        let noted = self.note(&mut durable, event);
        let fresh = self.publish(&durable.state);
        noted.map(|()| fresh)
    }

    /// The same, but only if no request is under way and no write was numbered after `last`: so nobody writes any
    /// more by what held before. False: nothing was done.
    pub(crate) fn commit_if_quiet(&self, event: &Event, last: Version) -> Result<bool, Failure> {
        let mut durable = self.durable.lock().expect("no panic while the lock is held");
        // Who enters waits until it is done.
        let mut view = self.view.lock().expect("no panic while the lock is held");
        if !view.users.is_empty() || self.writes.last() != last {
            return Ok(false);
        }
        let noted = self.note(&mut durable, event);
        let fresh = View::of(&durable.state, Some(&view), &self.as_whom(), self.now_ms());
        self.replace(&mut view, Arc::new(fresh));
        noted.map(|()| true)
    }

    /// What may be in the log and may not: a ring that was to be in force without copying. Until a restart has read
    /// the log, writes go to both rings, so that either has them.
    fn note(&self, durable: &mut Durable, event: &Event) -> Result<(), Failure> {
        let Durable { state, log } = durable;
        if let Err(error) = log.append(event) {
            if matches!((&error, event), (LogError::Unsure { .. }, Event::Final)) {
                state.topology.commit();
            }
            return Err(log_failure(error));
        }
        state.apply(event);
        if let Err(error) = log.compact_if_long(state) {
            tracing::warn!("the log is not compacted: {error}");
        }
        // Up to when stamps were given is told now and then: a map may be a little behind there.
        if !matches!(event, Event::Clock { .. }) {
            self.herald.has_news();
        }
        Ok(())
    }

    /// How far a change of the ring is, and whether it rests.
    pub(crate) fn stage(&self) -> (Stage, bool) {
        let view = self.view();
        (view.stage, view.paused)
    }

    /// The cluster as nodes are to be told of it.
    pub(crate) fn map(&self) -> ClusterMap {
        let durable = self.durable.lock().expect("no panic while the lock is held");
        let lines: String =
            durable.state.lines().iter().map(|event| format!("{event}\n")).collect();
        ClusterMap { ring_epoch: durable.state.topology.epoch, lines: lines.into() }
    }

    /// Every stamp that was given is from before this unix millisecond.
    pub(crate) fn clock_ms(&self) -> u64 {
        self.durable.lock().expect("no panic while the lock is held").state.clock_ms
    }

    /// Publishes the same again: who waits for the older views then waits for all requests that have
    /// begun until now.
    pub(crate) fn publish_again(&self) {
        let durable = self.durable.lock().expect("no panic while the lock is held");
        self.publish(&durable.state);
    }

    fn publish(&self, state: &State) -> Arc<View> {
        let old = self.view();
        let fresh = Arc::new(View::of(state, Some(&old), &self.as_whom(), self.now_ms()));
        self.replace(
            &mut self.view.lock().expect("no panic while the lock is held"),
            Arc::clone(&fresh),
        );
        fresh
    }

    fn replace(&self, view: &mut Arc<View>, fresh: Arc<View>) {
        let old = std::mem::replace(view, fresh);
        let stay = view.identities();
        let gone = |node: &Arc<Node>| !stay.contains(node.member.uuid.as_str());
        self.herald.are_gone(old.everybody().into_values().filter(gone));
        old.users.close();
        self.lock_replaced().push(old.users.clone());
    }

    /// Waits until no request works from an older view. Requests have deadlines, so this ends.
    pub(crate) async fn older_views_unused(&self) {
        // Taken off the list only when unused: a waiter that is dropped must not hide it from the next.
        let waited: Vec<TaskTracker> = self.lock_replaced().clone();
        for users in &waited {
            users.wait().await;
        }
        self.lock_replaced().retain(|users| !users.is_empty());
    }

    fn lock_replaced(&self) -> MutexGuard<'_, Vec<TaskTracker>> {
        self.replaced.lock().expect("no panic while the lock is held")
    }

    /// The node of that id.
    pub(crate) fn node(&self, id: &NodeId) -> Result<Arc<Node>, Failure> {
        let view = self.view();
        view.nodes.get(id).cloned().ok_or_else(|| {
            let known: Vec<&str> = view.nodes.keys().map(NodeId::as_str).collect();
            Failure::new(ErrorName::NodeNotFound, format!("no node {id} in the cluster")).hint(
                format!(
                    "nodes: {}",
                    if known.is_empty() { "none yet".into() } else { known.join(" ") }
                ),
            )
        })
    }
}

/// A name for a directory that has none yet.
pub(crate) fn new_identity() -> Event {
    Event::Coordinator { uuid: uuid::Uuid::new_v4().to_string() }
}

/// What a change that the log did not take has come to.
fn log_failure(error: LogError) -> Failure {
    let name = match &error {
        LogError::Unsure { .. } => ErrorName::OutcomeUnknown,
        LogError::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
            ErrorName::DiskFull
        }
        _ => ErrorName::NotApplied,
    };
    let message = format!("the coordinator's log did not take the change: {error}");
    Failure::new(name, message).hint(error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(dir: &std::path::Path) -> Cluster {
        let mut state = State::new();
        let log = Log::open(dir, &mut state).unwrap();
        Cluster::new(state, log, Settings::default(), dir.to_owned(), None).unwrap()
    }

    #[tokio::test]
    async fn of_a_ring_that_may_be_in_force_both_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = start(dir.path());
        cluster.commit(&"ADD n1 127.0.0.1:1 1 u1".parse().unwrap()).unwrap();
        cluster.durable.lock().unwrap().log.fail_syncs();
        let failure = cluster.commit_if_quiet(&Event::Final, cluster.writes.last()).unwrap_err();
        assert_eq!(failure.name, ErrorName::OutcomeUnknown, "{failure}");
        let view = cluster.view();
        let n1 = "n1".parse().unwrap();
        assert!(view.topology.pending.as_ref().is_some_and(|pending| pending.has(&n1)));
        assert_eq!(view.stage, Stage::Copying);
        let closed = cluster.commit(&Event::Cancel).err().unwrap();
        assert_eq!(closed.name, ErrorName::NotApplied, "{closed}");
    }

    #[test]
    fn a_stamp_is_later_than_those_of_before_a_restart_with_the_clock_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = Stamp::default();
        for now_ms in [1_000_000, 1_000_000, 1_029_999, 1_030_000, 900_000, 900_000, 1_000] {
            let cluster = start(dir.path());
            for ms in [0, 5_000, 40_000] {
                let stamp = cluster.stamp(now_ms + ms).unwrap();
                assert!(stamp > last, "{stamp} after {last}");
                last = stamp;
            }
        }
        assert!(last.ms < 1_030_000 + 40_000 + CLOCK_AHEAD_MS + 20, "{last} is not far ahead");
    }
}
