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

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use ringkv_shared::protocol::node::DiskState;
use ringkv_shared::told::KnownArcs;
use tokio::sync::{Notify, mpsc};

use crate::ballast::Ballast;
use crate::cluster::ClusterFile;
use crate::commit::{Committer, Rotation};
use crate::compact::{CompactRequest, Compactor};
use crate::log::files::DataDir;
use crate::log::last;
use crate::log::lines::Lines;
use crate::log::open::{self, Opened};
use crate::log::sizes::Sizes;
use crate::log::tail::Tail;
use crate::pictures::Pictures;
use crate::policy::{Reason, SinceCompaction};
use crate::replica::{Ledger, Obeys};
use crate::room::{Kind, Room, line_room};
use crate::space::Space;
use crate::store::{Reads, Store, Tally};
use crate::waiters::{Safe, Waiters};
use crate::{Durability, EngineOptions, StorageError};

/// How many compaction requests may wait; one more is told that the node is busy.
const COMPACT_REQUESTS_MAX: usize = 16;

/// The engine's figures; what each means stands at `NodeStats` of the protocol.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "documented once, at the protocol's NodeStats")]
pub struct Figures {
    pub keys: u64,
    pub tombstones: u64,
    pub log_bytes: u64,
    pub state: DiskState,
    pub sequence: u64,
    pub durable: u64,
    pub replayed: u64,
    pub replay_us: u64,
    pub syncs: u64,
    pub appends: u64,
    pub compactions: u64,
    pub swept: u64,
    pub collected: u64,
    pub discarded: u64,
    pub last_sync_us: u64,
    pub last_compaction: Option<(Instant, Reason)>,
    pub tally: Tally,
    pub reads: Reads,
}

/// Map and log; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Engine(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Arc<DataDir>,
    /// Where values are read back from.
    pub(crate) lines: Lines,
    pub(crate) options: EngineOptions,
    pub(crate) state: Mutex<State>,
    /// Wakes the committer.
    pub(crate) work: Notify,
    /// Wakes the committer for a sync, whatever the policy.
    pub(crate) sync_due: Notify,
    /// Wakes the compactor.
    pub(crate) compaction_due: Notify,
    /// Wakes the compactor, too: there is no room on the disk.
    pub(crate) space_short: Notify,
    pub(crate) rotations: mpsc::Sender<Rotation>,
    pub(crate) compactions: mpsc::Sender<CompactRequest>,
    /// What ends the committer, and with it the process, besides its own failures.
    pub(crate) failures: mpsc::Sender<StorageError>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    /// Floors and debts.
    pub(crate) ledger: Ledger,
    /// Whom the node obeys: what its file says.
    pub(crate) obeys: Obeys,
    pub(crate) cluster: ClusterFile,
    /// The last line that changed them: what an answer about them depends on. Monotonic.
    pub(crate) noted: u64,
    pub(crate) tail: Tail,
    /// The line that replies of the running burst depend on.
    pub(crate) barrier: u64,
    /// Up to which line replies may leave. Monotonic.
    pub(crate) acknowledged: u64,
    /// Who waits for lines.
    pub(crate) waiters: Waiters,
    /// Bursts that wait for lines, since the last group.
    pub(crate) waiting: usize,
    /// Bursts that waited for nothing, since the last group.
    pub(crate) passed: usize,
    /// Operations since the last compaction began.
    pub(crate) operations: u64,
    /// When it began, or this engine was opened.
    pub(crate) compacted_at: Instant,
    /// How long the last one took.
    pub(crate) compaction_took: Duration,
    /// Bytes in the files of the log.
    pub(crate) sizes: Sizes,
    /// Room for the next lines of the active segment.
    pub(crate) room: Room,
    /// The pictures that are being read.
    pub(crate) pictures: Pictures,
    /// The arcs that it was told of last.
    pub(crate) arcs: KnownArcs,
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
        let (mut cluster, obeys) = ClusterFile::open(&dir)?;
        let mut ballast = Ballast::new(Arc::clone(&dir));
        let open = || open::open(&dir, options.snapshots_kept, options.memory);
        let opened = match open() {
            // A start may need some room, too.
            Err(error) if error.is_full() && ballast.free_left_over() => open()?,
            opened => opened?,
        };
        cluster.take_room();
        let (rotations, rotations_rx) = mpsc::channel(1);
        let (compactions, compactions_rx) = mpsc::channel(COMPACT_REQUESTS_MAX);
        let (failures, failures_rx) = mpsc::channel(1);
        let (mut state, writer) = State::new(opened, (cluster, obeys), started);
        if let Err(error) = ballast.make() {
            state.room.lacks(&error);
        }
        let space = Space::new(ballast);
        let lines = Lines::new(Arc::clone(&dir));
        lines.opened(state.tail.file(), writer.file());
        let shared = Arc::new(Shared {
            dir,
            lines,
            options,
            state: Mutex::new(state),
            work: Notify::new(),
            sync_due: Notify::new(),
            compaction_due: Notify::new(),
            space_short: Notify::new(),
            rotations,
            compactions,
            failures,
        });
        let committer = Committer::new(Arc::clone(&shared), writer, rotations_rx, failures_rx);
        let compactor = Compactor::new(Arc::clone(&shared), compactions_rx, space);
        Ok((Self(shared), committer, compactor))
    }

    /// The options it was opened with.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.0.options
    }

    /// The time by which values expire.
    pub(crate) fn now(&self) -> u64 {
        self.0.options.clock.now_ms()
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

    /// The figures, and with them a dependence on all that they count.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut state = self.0.lock();
        // Lines may wait for as long as the file system is read-only; who asks how the node is
        // shall hear that, not wait with them.
        if state.room.state() != DiskState::ReadOnly {
            state.depend_on_all();
        }
        state.figures()
    }

    /// Takes the barrier now; the future ends when all that the burst told is safe.
    pub fn settle(&self) -> impl Future<Output = ()> + use<> {
        let due = self.0.lock().due();
        let shared = (due > 0).then(|| Arc::clone(&self.0));
        async move {
            if let Some(shared) = shared {
                shared.reached(Safe::Acknowledged(due)).await;
            }
        }
    }

    /// Up to which line answers may be told.
    pub(crate) fn settled(&self) -> u64 {
        self.0.lock().acknowledged
    }

    /// Waits until answers that depend on this line may be told.
    pub(crate) async fn settle_up_to(&self, due: u64) {
        self.0.reached(Safe::Acknowledged(due)).await;
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the engine")
    }

    /// Waits until the log is durable up to a line, even where the policy syncs later or never.
    pub(crate) async fn durable(&self, seq: u64) {
        self.sync_due.notify_one();
        self.reached(Safe::Durable(seq)).await;
    }

    /// Waits until a line is safe.
    async fn reached(&self, until: Safe) {
        let mut place = None;
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.is_reached(until) {
                return Poll::Ready(());
            }
            state.waiters.join(until, &mut place, cx);
            Poll::Pending
        })
        .await;
    }

    /// Drops some values from memory, if there are too many.
    pub(crate) fn evict(&self, state: &mut State) {
        if let Some(budget) = &self.options.memory {
            state.store.evict(budget);
        }
    }

    /// How often the log is synced by the clock.
    pub(crate) fn sync_interval(&self) -> Option<Duration> {
        (self.options.durability == Durability::Interval).then_some(Duration::from_secs(1))
    }
}

impl State {
    fn new(
        opened: Opened,
        (cluster, obeys): (ClusterFile, Obeys),
        started: Instant,
    ) -> (Self, crate::log::writer::Writer) {
        let Opened { store, ledger, tail, writer, replayed, since_snapshot, .. } = opened;
        let replay_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let state = Self {
            store,
            ledger,
            obeys,
            cluster,
            noted: 0,
            acknowledged: tail.seq(),
            tail,
            barrier: 0,
            waiters: Waiters::default(),
            waiting: 0,
            passed: 0,
            operations: since_snapshot,
            compacted_at: Instant::now(),
            compaction_took: Duration::ZERO,
            room: Room::new(writer.file(), opened.sizes.active),
            sizes: opened.sizes,
            pictures: Pictures::default(),
            arcs: KnownArcs::default(),
            figures: Figures { replayed, replay_us, ..Figures::default() },
        };
        (state, writer)
    }

    /// Takes the barrier of the burst that has just been served; 0 if all that it told is safe.
    pub(crate) fn due(&mut self) -> u64 {
        let due = std::mem::take(&mut self.barrier);
        let passes = due <= self.acknowledged;
        self.passed += usize::from(passes);
        self.waiting += usize::from(!passes);
        if passes { 0 } else { due }
    }

    pub(crate) fn depend_on(&mut self, key: &[u8]) {
        self.barrier = self.barrier.max(self.store.depends_on(key));
    }

    /// The line of a stop in good order and its number, if all lines before it are durable and
    /// there is room for it.
    pub(crate) fn bye(&mut self) -> Option<(Vec<u8>, u64)> {
        if self.tail.durable() < self.tail.seq() {
            return None;
        }
        let end = self.sizes.active;
        self.room.admit(end, line_room(0, None, 0), Kind::Delete, || ()).ok()?;
        self.tail.bye();
        self.sizes.active += self.tail.waiting_bytes() as u64;
        Some((self.tail.take(), self.tail.seq()))
    }

    pub(crate) const fn is_reached(&self, until: Safe) -> bool {
        until.is_reached(self.acknowledged, self.tail.durable())
    }

    /// Takes out whom to wake, now that more is safe.
    pub(crate) fn reached(&mut self) -> Vec<Waker> {
        self.waiters.take(self.acknowledged, self.tail.durable())
    }

    /// What is told depends on floors or debts.
    pub(crate) fn depend_on_notes(&mut self) {
        self.barrier = self.barrier.max(self.noted);
    }

    pub(crate) fn depend_on_all(&mut self) {
        self.barrier = self.barrier.max(self.tail.seq());
    }

    pub(crate) fn since_compaction(&self) -> SinceCompaction {
        SinceCompaction {
            operations: self.operations,
            live: self.store.tally().live,
            log_bytes: self.sizes.since_snapshot(),
            snapshot_bytes: self.sizes.snapshot,
            elapsed: self.compacted_at.elapsed(),
            took: self.compaction_took,
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            keys: self.store.tally().live,
            tombstones: self.store.tally().tombstones,
            tally: *self.store.tally(),
            reads: self.store.reads(),
            log_bytes: self.sizes.total(),
            state: self.room.state(),
            sequence: self.tail.seq(),
            durable: self.tail.durable(),
            ..self.figures
        }
    }
}
