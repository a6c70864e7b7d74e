//! Versions for writes, in groups, and what became of them.
//!
//! The coordinator gives all versions, for it alone can say which write came last. It is asked for many at once: while one
//! call is under way, the writes that begin meanwhile gather for the next. With the same call it is told which
//! writes were acknowledged and which groups have ended.
//!
//! ```text
//!   put a ─┐                       ┌► 3.17   to the owners of a ─► acknowledged ─┐
//!   put b ─┼─► number [a b c] ─────┼► 3.18   to the owners of b ─► acknowledged ─┼─► told with the next number
//!   put c ─┘                       └► 3.19   to the owners of c ─► acknowledged ─┘
//! ```
//!
//! # Caveats
//!
//! What was to be told is lost when that call fails.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ringkv_shared::hlc::Stamp;
use ringkv_shared::limits::PAGE_BYTES_MAX;
use ringkv_shared::net::{Client as Connection, ClusterApiClient, Peer};
use ringkv_shared::protocol::lease::{Acknowledged, NUMBERS_MAX, NumberAsk, NumberReply, ViewId};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, Version};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::{DEADLINE, coordinator_at};

/// What is to be told waits so long for a call that is made anyway.
const TOLD_SOON: Duration = Duration::from_millis(2);
/// While more acknowledged writes than this wait to be told, no more are numbered: with large values they take more calls
/// to tell than to number.
const UNTOLD_MAX: usize = 4 * NUMBERS_MAX;

/// Who gets numbers and tells what became of them.
pub(crate) struct Numbers {
    coordinator: Arc<Peer>,
    addr: String,
    state: Mutex<State>,
    /// Told when a number is wanted.
    wanted: Notify,
    /// Told when nothing is left to be told.
    told: Notify,
}

#[derive(Default)]
struct State {
    wanted: VecDeque<Wanted>,
    /// Each without a value that is too large to be watched: any fits a line.
    acknowledged: VecDeque<Acknowledged>,
    ended: Vec<Version>,
    /// Writes that have a number and have not ended.
    under_way: usize,
    /// The picture that was gone by last.
    view: Option<ViewId>,
    /// Whether somebody is at work on it.
    is_running: bool,
}

/// A write that wants a number.
pub(crate) struct Wanted {
    pub(crate) view: ViewId,
    pub(crate) keyspace: KeyspaceName,
    pub(crate) position: u64,
    pub(crate) is_delete: bool,
    answer: Option<oneshot::Sender<Result<Numbered, Failure>>>,
}

/// A write that has a number, and is under way until it is dropped. Unless it was said to be over by then, nobody
/// knows what became of it, and the coordinator waits as long as it may take.
pub(crate) struct Numbered {
    pub(crate) version: Version,
    pub(crate) stamp: Option<Stamp>,
    /// When its value expires.
    pub(crate) expires: Option<u64>,
    /// When its time is over.
    pub(crate) by: Instant,
    group: Arc<Group>,
    is_over: bool,
}

/// Writes that were numbered together.
struct Group {
    numbers: Arc<Numbers>,
    first: Version,
    /// How many of them are not over for certain.
    open: AtomicUsize,
}

/// What one call is to say.
struct Batch {
    wanted: Vec<Wanted>,
    acknowledged: Vec<Acknowledged>,
    ended: Vec<Version>,
    view: ViewId,
}

impl Wanted {
    pub(crate) fn new(
        view: ViewId,
        keyspace: &KeyspaceName,
        position: u64,
        is_delete: bool,
    ) -> Self {
        Self { view, keyspace: keyspace.clone(), position, is_delete, answer: None }
    }
}

impl Numbers {
    pub(crate) fn new(coordinator: Arc<Peer>, addr: &str) -> Arc<Self> {
        let (addr, state) = (addr.to_owned(), Mutex::default());
        let (wanted, told) = (Notify::new(), Notify::new());
        Arc::new(Self { coordinator, addr, state, wanted, told })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the lock is held")
    }

    /// Gives a write its number.
    ///
    /// # Errors
    ///
    /// Nothing was numbered. `STALE_EPOCH`: its picture is not in force any more.
    pub(crate) async fn number(self: &Arc<Self>, mut wanted: Wanted) -> Result<Numbered, Failure> {
        let (answer, coming) = oneshot::channel();
        wanted.answer = Some(answer);
        {
            let mut state = self.lock();
            state.view = Some(wanted.view);
            state.wanted.push_back(wanted);
            self.run(&mut state);
        }
        self.wanted.notify_one();
        coming.await.unwrap_or_else(|_| {
            let message = "the client has ended; nothing was written";
            Err(Failure::new(ErrorName::NotApplied, message))
        })
    }

    /// A write was acknowledged: those who watch are to hear of it.
    pub(crate) fn acknowledged(self: &Arc<Self>, write: Acknowledged) {
        let mut state = self.lock();
        state.acknowledged.push_back(write);
        self.run(&mut state);
    }

    /// Waits until nothing is under way, and all is told.
    pub(crate) async fn flush(&self) {
        loop {
            let told = self.told.notified();
            let is_quiet = {
                let state = self.lock();
                state.under_way == 0 && !state.is_running
            };
            if is_quiet {
                return;
            }
            told.await;
        }
    }

    /// A write that had a number is under way no more.
    fn left(self: &Arc<Self>, group: &Group, is_over: bool) {
        let mut state = self.lock();
        state.under_way -= 1;
        if is_over && group.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            state.ended.push(group.first);
            self.run(&mut state);
        } else if state.under_way == 0 {
            self.told.notify_waiters();
        }
    }

    fn run(self: &Arc<Self>, state: &mut State) {
        if !state.is_running {
            state.is_running = true;
            tokio::spawn(Arc::clone(self).make_calls());
        }
    }

    /// Makes one call after another, until there is nothing left to ask or to tell.
    async fn make_calls(self: Arc<Self>) {
        loop {
            if self.lock().wanted.is_empty() {
                // Who was just answered is about to want the next number.
                let _ = timeout(TOLD_SOON, self.wanted.notified()).await;
            }
            let batch = {
                let mut state = self.lock();
                let Some(batch) = state.batch() else {
                    state.is_running = false;
                    break;
                };
                batch
            };
            self.make_call(batch).await;
        }
        self.told.notify_waiters();
    }

    async fn make_call(self: &Arc<Self>, batch: Batch) {
        let Batch { wanted, acknowledged, ended, view } = batch;
        let keyspace = wanted.first().map(|first| first.keyspace.clone()).unwrap_or_default();
        let ask = NumberAsk {
            view,
            keyspace,
            positions: wanted.iter().map(|wanted| wanted.position).collect(),
            deletes: wanted.iter().filter(|wanted| wanted.is_delete).count() as u64,
            acknowledged,
            ended,
        };
        let asked = Instant::now();
        let call = async |c: &Connection| ClusterApiClient::number(c, ask).await;
        match self.coordinator.call(DEADLINE, call).await {
            Ok(reply) => self.give(wanted, &reply, asked),
            Err(error) => {
                // Numbers that were given and did not arrive are not used: no write has them.
                let failure = error.into_failure(&coordinator_at(&self.addr));
                refuse(wanted, &failure);
            }
        }
    }

    fn give(self: &Arc<Self>, wanted: Vec<Wanted>, reply: &NumberReply, asked: Instant) {
        let by = asked + Duration::from_millis(reply.within_ms);
        let (first, open) = (reply.first, AtomicUsize::new(wanted.len()));
        self.lock().under_way += wanted.len();
        let group = Arc::new(Group { numbers: Arc::clone(self), first, open });
        for (n, wanted) in wanted.into_iter().enumerate() {
            let numbered = Numbered {
                version: Version::new(first.epoch, first.counter + n as u64),
                stamp: reply.stamps.get(n).copied(),
                expires: reply.expires.filter(|_| !wanted.is_delete),
                by,
                group: Arc::clone(&group),
                is_over: false,
            };
            wanted.tell(Ok(numbered));
        }
    }
}

impl State {
    /// The next call: numbers for the first that wants one and for all others by the same picture and of the same
    /// keyspace, and what is to be told, as far as it fits a line.
    fn batch(&mut self) -> Option<Batch> {
        let view = self.wanted.front().map_or(self.view, |first| Some(first.view))?;
        let wanted = self.next_wanted();
        let mut bytes = 0;
        let fits = |write: &&Acknowledged| {
            bytes += write.key.len() + write.value.as_ref().map_or(0, Blob::len);
            bytes <= PAGE_BYTES_MAX
        };
        let told = self.acknowledged.iter().take(NUMBERS_MAX).take_while(fits).count();
        let acknowledged: Vec<Acknowledged> = self.acknowledged.drain(..told).collect();
        let ended = std::mem::take(&mut self.ended);
        if wanted.is_empty() && acknowledged.is_empty() && ended.is_empty() {
            return None;
        }
        Some(Batch { wanted, acknowledged, ended, view })
    }

    fn next_wanted(&mut self) -> Vec<Wanted> {
        let mut next: Vec<Wanted> = Vec::new();
        if self.acknowledged.len() > UNTOLD_MAX {
            return next;
        }
        for wanted in std::mem::take(&mut self.wanted) {
            let is_alike = next.first().is_none_or(|first| {
                (wanted.view, &wanted.keyspace) == (first.view, &first.keyspace)
            });
            if is_alike && next.len() < NUMBERS_MAX {
                next.push(wanted);
            } else {
                self.wanted.push_back(wanted);
            }
        }
        next
    }
}

impl Numbered {
    /// Nothing of it is under way any more.
    pub(crate) fn is_over(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.group.numbers.left(&self.group, self.is_over);
    }
}

fn refuse(wanted: Vec<Wanted>, failure: &Failure) {
    for wanted in wanted {
        let message = format!("no number for a write: {}; nothing was written", failure.message);
        let name = match failure.name {
            // A number that nobody has uses harms nobody.
            ErrorName::OutcomeUnknown => ErrorName::Unreachable,
            name => name,
        };
        let hint = failure.hint.clone();
        wanted.tell(Err(Failure { hint, ..Failure::new(name, message) }));
    }
}

impl Wanted {
    fn tell(mut self, answer: Result<Numbered, Failure>) {
        if let Some(waits) = self.answer.take() {
            // Who does not wait any more sends nothing: its group ends with its time.
            drop(waits.send(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: ViewId = ViewId { epoch: 1, number: 1 };

    fn wants(state: &mut State, keyspaces: &[&str]) {
        for (position, name) in (0..).zip(keyspaces) {
            let keyspace = name.parse().expect("a name");
            state.wanted.push_back(Wanted::new(VIEW, &keyspace, position, false));
        }
    }

    fn acknowledge(state: &mut State, count: usize, bytes: usize) {
        let write = |n: u64| Acknowledged {
            keyspace: KeyspaceName::default(),
            key: "k".into(),
            value: Some(vec![b'v'; bytes].into()),
            deleted: false,
            version: Version::new(1, n),
        };
        state.acknowledged.extend((1..=count as u64).map(write));
    }

    #[test]
    fn a_call_is_of_one_keyspace_and_keeps_the_order_of_each() {
        let mut state = State::default();
        wants(&mut state, &["carts", "users", "carts", "users", "users"]);
        let mut taken = Vec::new();
        while let Some(batch) = state.batch() {
            taken.push(batch.wanted.iter().map(|wanted| wanted.position).collect::<Vec<_>>());
        }
        assert_eq!(taken, [vec![0, 2], vec![1, 3, 4]]);
    }

    #[test]
    fn what_is_told_fits_a_line_and_nothing_of_it_is_lost() {
        let mut state = State { view: Some(VIEW), ..State::default() };
        acknowledge(&mut state, UNTOLD_MAX + 1, 4000);
        wants(&mut state, &["default"]);
        let (mut told, mut numbered_after) = (0, None);
        while let Some(batch) = state.batch() {
            let bytes: usize = batch.acknowledged.iter().map(|write| write.key.len() + 4000).sum();
            assert!(bytes <= PAGE_BYTES_MAX && batch.acknowledged.len() <= NUMBERS_MAX);
            if !batch.wanted.is_empty() {
                numbered_after = Some(told);
            }
            told += batch.acknowledged.len();
        }
        assert_eq!(told, UNTOLD_MAX + 1);
        assert!(numbered_after.is_some_and(|told| told > 0), "first some is told");
    }
}
