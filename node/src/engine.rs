//! Map and log as one: what a request does, and when its reply may leave.
//!
//! ```text
//!   put ──► store.apply ─┐
//!                        ├─ one step under the lock, so log order = map order = arrival order
//!           tail.append ─┘
//!   … more requests of this burst …
//!   settle() ── waits until the committer has made the last needed line durable ──► replies
//! ```
//!
//! Every request raises the *barrier* to the log line that its reply depends on: a write its own
//! line, a read the line of the entry that it saw, if that is not durable yet. [`Engine::settle`]
//! takes the barrier and waits for it. So nothing is ever told that a crash could take back, and a
//! read of settled data waits for nobody.
//!
//! | policy | acknowledged when | what can be lost |
//! |---|---|---|
//! | `always` | synced | nothing |
//! | `interval` | written; synced each second | the last second, if the machine stops |
//! | `os` | written; the operating system syncs when it likes | what it had not, if the machine stops |
//!
//! A process that is killed loses nothing that was written, under any policy.
//!
//! # Caveats
//!
//! `settle` must be called right after the burst, without an `await` between: another
//! connection's `settle` would take the barrier, and the reply would leave too early.
//! After a failed write or sync `settle` never returns, because nothing can be promised any more.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringkv_shared::Version;
use tokio::sync::{Notify, mpsc, watch};

use crate::commit::{Committer, Rotation};
use crate::compact::{CompactRequest, Compactor};
use crate::log::files::DataDir;
use crate::log::last;
use crate::log::open::{self, Opened};
use crate::log::record::Op;
use crate::log::sizes::Sizes;
use crate::log::tail::Tail;
use crate::log::value::Value;
use crate::policy::{Reason, SinceCompaction};
use crate::store::{PageRequest, Standing, Store};
use crate::{Durability, EngineOptions, Entry, Page, StorageError};

/// The time that the map is asked at: no write has an expiry yet, so any will do.
const NOW: u64 = 0;

/// How many compaction requests may wait; one more is told that the node is busy.
const COMPACT_REQUESTS_MAX: usize = 16;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The version that is stored now.
    pub version: Version,
    /// True if that is a newer one, and this write changed nothing.
    pub superseded: bool,
    /// Whether there was a value before. A write that comes again counts as the first one did.
    pub existed: bool,
}

/// The engine's figures; what each means stands at `NodeStats` of the protocol.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "documented once, at the protocol's NodeStats")]
pub struct Figures {
    pub keys: u64,
    pub tombstones: u64,
    pub log_bytes: u64,
    pub sequence: u64,
    pub durable: u64,
    pub replayed: u64,
    pub replay_us: u64,
    pub syncs: u64,
    pub appends: u64,
    pub compactions: u64,
    pub last_compaction: Option<(Instant, Reason)>,
}

/// Map and log; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Engine(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Arc<DataDir>,
    pub(crate) options: EngineOptions,
    pub(crate) state: Mutex<State>,
    /// Wakes the committer.
    pub(crate) work: Notify,
    /// Wakes the compactor.
    pub(crate) compaction_due: Notify,
    /// Up to which line replies may leave.
    pub(crate) acknowledged: watch::Sender<u64>,
    pub(crate) rotations: mpsc::Sender<Rotation>,
    pub(crate) compactions: mpsc::Sender<CompactRequest>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) tail: Tail,
    /// The line that replies of the running burst depend on.
    barrier: u64,
    /// Operations since the last compaction began.
    pub(crate) operations: u64,
    /// When it began, or this engine was opened.
    pub(crate) compacted_at: Instant,
    /// Bytes in the files of the log.
    pub(crate) sizes: Sizes,
    /// The counters; the rest is filled in when asked for.
    pub(crate) figures: Figures,
}

impl Engine {
    /// Opens the data directory and reads the log.
    ///
    /// # Errors
    ///
    /// In use, another node's, damaged, or the operating system.
    pub fn open(options: EngineOptions) -> Result<(Self, Committer, Compactor), StorageError> {
        let started = Instant::now();
        let dir = Arc::new(DataDir::open(Arc::clone(&options.disk), &options.data, &options.id)?);
        let opened = open::open(&dir, options.snapshots_kept)?;
        let (rotations, rotations_rx) = mpsc::channel(1);
        let (compactions, compactions_rx) = mpsc::channel(COMPACT_REQUESTS_MAX);
        let acknowledged = watch::Sender::new(opened.tail.seq());
        let (state, writer) = State::new(opened, started);
        let shared = Arc::new(Shared {
            dir,
            options,
            state: Mutex::new(state),
            work: Notify::new(),
            compaction_due: Notify::new(),
            acknowledged,
            rotations,
            compactions,
        });
        let committer = Committer::new(Arc::clone(&shared), writer, rotations_rx);
        let compactor = Compactor::new(Arc::clone(&shared), compactions_rx);
        Ok((Self(shared), committer, compactor))
    }

    /// The options it was opened with.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.0.options
    }

    /// Identity of the data directory.
    #[must_use]
    pub fn uuid(&self) -> uuid::Uuid {
        self.0.dir.uuid()
    }

    /// The path of the active segment.
    #[must_use]
    pub fn active_path(&self) -> PathBuf {
        self.0.dir.active()
    }

    /// Up to so many last lines of the active segment, and with them a dependence on all of it.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn last_lines(&self, lines_max: usize) -> Result<Vec<String>, StorageError> {
        self.0.lock().depend_on_all();
        last::lines(&self.0.dir, lines_max)
    }

    /// Stores a value (`Some`) or a tombstone, under the given or the next version.
    pub fn write(
        &self,
        key: Bytes,
        value: Option<Bytes>,
        version: Option<Version>,
    ) -> WriteOutcome {
        let mut state = self.0.lock();
        let version = version.unwrap_or_else(|| state.store.next_version());
        let existed = state.store.get(&key, NOW).is_some_and(|entry| entry.is_live());
        let op = Op::write(value.map(Value::new));
        let outcome = |version, superseded, existed| WriteOutcome { version, superseded, existed };
        match state.store.standing(&key, version, &op) {
            Standing::Newer => {
                self.append(&mut state, key, op, version);
                outcome(version, false, existed)
            }
            Standing::Same => {
                state.depend_on(&key);
                outcome(version, false, true)
            }
            Standing::Older(stored) => {
                state.depend_on(&key);
                outcome(stored, true, existed)
            }
        }
    }

    /// Stores what another replica has, if it is newer; true if it was.
    pub fn merge(&self, key: Bytes, value: Option<Bytes>, version: Version) -> bool {
        let mut state = self.0.lock();
        state.depend_on(&key);
        let op = Op::write(value.map(Value::new));
        let newer = state.store.standing(&key, version, &op) == Standing::Newer;
        if newer {
            self.append(&mut state, key, op, version);
        }
        newer
    }

    /// Forgets a key if it has exactly this version; true if so.
    pub fn forget(&self, key: Bytes, version: Version) -> bool {
        let mut state = self.0.lock();
        state.depend_on(&key);
        let same = state.store.standing(&key, version, &Op::<Bytes>::Drop) == Standing::Same;
        if same {
            self.append(&mut state, key, Op::Drop, version);
        }
        same
    }

    /// What is held for a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        let mut state = self.0.lock();
        state.depend_on(key);
        state.store.read(key, NOW).map(|entry| entry.copied().into())
    }

    /// A page of entries.
    #[must_use]
    pub fn page(&self, request: &PageRequest) -> Page {
        let mut state = self.0.lock();
        state.depend_on_all();
        let page = state.store.page(request, NOW);
        page.expect("only a picture can be gone, and none is taken").into()
    }

    /// The figures, and with them a dependence on all that they count.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut state = self.0.lock();
        state.depend_on_all();
        state.figures()
    }

    /// Takes the barrier now; the future ends when all that the burst told is safe.
    pub fn settle(&self) -> impl Future<Output = ()> + use<> {
        let barrier = std::mem::take(&mut self.0.lock().barrier);
        let mut acknowledged = self.0.acknowledged.subscribe();
        let shared = Arc::clone(&self.0);
        async move {
            let reached = acknowledged.wait_for(|safe| *safe >= barrier).await;
            reached.expect("the sender lives as long as this engine");
            drop(shared);
        }
    }

    fn append(&self, state: &mut State, key: Bytes, op: Op, version: Version) {
        let before = state.tail.waiting_bytes();
        let record = state.tail.append(key, op, version);
        state.sizes.active += (state.tail.waiting_bytes() - before) as u64;
        state.store.apply(&record, None);
        state.barrier = record.seq;
        state.figures.appends += 1;
        state.operations += 1;
        self.0.work.notify_one();
        if self.0.options.compaction.due(&state.since_compaction()).is_some() {
            self.0.compaction_due.notify_one();
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the engine")
    }

    /// How often the log is synced by the clock.
    pub(crate) fn sync_interval(&self) -> Option<Duration> {
        (self.options.durability == Durability::Interval).then_some(Duration::from_secs(1))
    }
}

impl State {
    fn new(opened: Opened, started: Instant) -> (Self, crate::log::writer::Writer) {
        let Opened { store, tail, writer, replayed, since_snapshot, .. } = opened;
        let replay_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let state = Self {
            store,
            tail,
            barrier: 0,
            operations: since_snapshot,
            compacted_at: Instant::now(),
            sizes: opened.sizes,
            figures: Figures { replayed, replay_us, ..Figures::default() },
        };
        (state, writer)
    }

    fn depend_on(&mut self, key: &[u8]) {
        self.barrier = self.barrier.max(self.store.depends_on(key));
    }

    fn depend_on_all(&mut self) {
        self.barrier = self.tail.seq();
    }

    pub(crate) fn since_compaction(&self) -> SinceCompaction {
        SinceCompaction {
            operations: self.operations,
            live: self.store.tally().live,
            log_bytes: self.sizes.since_snapshot(),
            snapshot_bytes: self.sizes.snapshot,
            elapsed: self.compacted_at.elapsed(),
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            keys: self.store.tally().live,
            tombstones: self.store.tally().tombstones,
            log_bytes: self.sizes.total(),
            sequence: self.tail.seq(),
            durable: self.tail.durable(),
            ..self.figures
        }
    }
}
