//! Group commit: one write and one sync for all that wait.
//!
//! A sync costs milliseconds whether it covers one line or a thousand. So the committer takes
//! whatever has gathered while the last sync ran, writes it with one call, syncs once, and lets all
//! those replies go. The busier the node, the larger the group; nobody waits for a timer.
//!
//! The committer is a task behind those that it is woken by, in the same thread: when its turn comes, all connections
//! that were ready have put in their lines. What is brief it writes there and then, see [`here`](crate::here); the rest
//! goes to a thread that may wait for the disk, and the next group gathers meanwhile.
//!
//! # Caveats
//!
//! A write or sync that fails is never tried again and never acknowledged: the error ends the
//! process. What the file then holds is for the next start to judge. Only a file system that turned
//! read-only, and so took nothing of a write, is asked again: until it takes the lines, whoever
//! depends on them waits, and everybody else can read.

mod beside;

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::StorageError;
use crate::engine::{Shared, State};
use crate::here::{Group, Syncs};
use crate::log::writer::Writer;
use crate::options::Durability;
use crate::space::RETRY_INTERVAL;

use self::beside::Beside;
pub(crate) use self::beside::Rotation;

/// So many looks at the network, which cost nothing beside a sync: with each, connections read what has arrived, and
/// what they had read with the one before is served.
const LOOKS: usize = 3;

/// Memory for lines that is kept between two groups, in bytes.
const SPARE_BYTES: usize = 256 * 1024;

/// The only one who writes to the active segment.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    /// `None` only while a blocking thread has it.
    writer: Option<Writer>,
    rotations: mpsc::Receiver<Rotation>,
    /// Who waits for the segment to be closed.
    asked: Option<Rotation>,
    /// What is done beside.
    beside: Beside,
    /// What failed elsewhere so that nothing more may be promised.
    failures: mpsc::Receiver<StorageError>,
    /// Last line written.
    written: u64,
    /// Bytes written since the last sync.
    unsynced: usize,
    /// How long syncs take.
    syncs: Syncs,
    /// Memory that lines were written from, for the next.
    spare: Vec<u8>,
    /// Cancelled when the node stops.
    stop: CancellationToken,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        writer: Writer,
        rotations: mpsc::Receiver<Rotation>,
        failures: mpsc::Receiver<StorageError>,
    ) -> Self {
        let (written, stop) = (shared.lock().tail.seq(), CancellationToken::new());
        let (writer, syncs, spare) = (Some(writer), Syncs::default(), Vec::new());
        let (asked, beside, unsynced) = (None, Beside::default(), 0);
        Self {
            shared,
            writer,
            rotations,
            asked,
            beside,
            failures,
            written,
            unsynced,
            syncs,
            spare,
            stop,
        }
    }

    /// Writes and syncs what waits, at once: for who runs a whole cluster in one thread.
    ///
    /// # Errors
    ///
    /// The disk failed; nothing more may be acknowledged.
    ///
    /// # Panics
    ///
    /// Never: nothing else has the writer.
    pub fn commit_now(&mut self) -> Result<(), StorageError> {
        let (lines, seq) = {
            let mut state = self.shared.lock();
            (state.tail.take(), state.tail.seq())
        };
        let writer = self.writer();
        if !lines.is_empty() {
            writer.write(&lines)?;
        }
        writer.sync(seq)?;
        self.publish(seq, true);
        Ok(())
    }

    /// Commits until `stop`, then writes and syncs what is left, and a `BYE`.
    ///
    /// # Errors
    ///
    /// The disk failed; nothing more may be acknowledged.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StorageError> {
        self.stop = stop.clone();
        let shared = Arc::clone(&self.shared);
        let mut clock = shared.sync_interval().map(tokio::time::interval);
        if let Some(clock) = &mut clock {
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let tick = async {
                match &mut clock {
                    Some(clock) => clock.tick().await,
                    None => std::future::pending().await,
                }
            };
            let may_sync = !self.beside.is_closing();
            tokio::select! {
                // In this order: while others write on, there is always work.
                biased;
                Some(failure) = self.failures.recv() => return Err(failure),
                () = stop.cancelled() => return self.end().await,
                Some(reply) = self.rotations.recv(), if self.asked.is_none() => {
                    self.asked = Some(reply);
                    self.begin_to_close();
                }
                next = self.beside.next() => self.close(next?).await?,
                () = shared.sync_due.notified(), if may_sync => self.commit(true).await?,
                _ = tick, if may_sync => self.commit(true).await?,
                () = shared.work.notified() => {
                    let sync = shared.options.durability == Durability::Always;
                    if sync {
                        for _ in 0..LOOKS {
                            tokio::task::yield_now().await;
                        }
                    }
                    self.commit(sync).await?;
                    if shared.lock().sizes.active >= shared.options.segment_bytes {
                        self.begin_to_close();
                    }
                }
            }
        }
    }

    /// Writes what waits; with `sync` also makes it durable.
    async fn commit(&mut self, sync: bool) -> Result<(), StorageError> {
        let (lines, seq, durable, group) = {
            let mut state = self.shared.lock();
            let lines = state.tail.exchange(std::mem::take(&mut self.spare));
            let group = self.group(&mut state, &lines, sync);
            (lines, state.tail.seq(), state.tail.durable(), group)
        };
        if lines.is_empty() && !(sync && durable < seq) {
            self.spare = lines;
            return Ok(());
        }
        let here = self.syncs.are_brief(group);
        self.write(lines, seq, sync, here).await?;
        self.reserve_ahead();
        Ok(())
    }

    fn group(&self, state: &mut State, lines: &[u8], sync: bool) -> Group {
        let (bytes, waiting) = (lines.len(), std::mem::take(&mut state.waiting));
        let passed = std::mem::take(&mut state.passed);
        let unsynced = sync.then_some(self.unsynced + bytes);
        Group { bytes, unsynced, waiting, passed }
    }

    /// The last commit. The line that says so is left out if there is no room for it, or if others
    /// came meanwhile: those are not written, and nobody is told that they were.
    async fn end(&mut self) -> Result<(), StorageError> {
        self.beside.end().await?;
        self.commit(true).await?;
        let bye = self.shared.lock().bye();
        if let Some((line, seq)) = bye {
            self.write(line, seq, true, false).await?;
        }
        let give_back = |writer: &mut Writer| {
            writer.give_back();
            Ok(())
        };
        self.blocking(give_back).await
    }

    /// Writes lines, the last of which is `seq`, `here` or on another thread, and tells who waits. While the file
    /// system is read-only this waits with them.
    async fn write(
        &mut self,
        mut lines: Vec<u8>,
        seq: u64,
        sync: bool,
        here: bool,
    ) -> Result<(), StorageError> {
        let mut waited = false;
        let sync_us = loop {
            let written = if here {
                write(self.writer(), &lines, seq, sync)?
            } else {
                let work = move |writer: &mut Writer| {
                    let written = write(writer, &lines, seq, sync)?;
                    Ok((written, lines))
                };
                let (written, back) = self.blocking(work).await?;
                lines = back;
                written
            };
            match written {
                Written::Done(sync_us) => break sync_us,
                Written::ReadOnly(error) => self.wait_until_writable(error).await?,
            }
            waited = true;
        };
        if waited {
            self.shared.lock().room.read_only(false);
        }
        self.unsynced = if sync { 0 } else { self.unsynced + lines.len() };
        if let Some(sync_us) = sync_us {
            self.syncs.took(sync_us);
            self.shared.lock().figures.last_sync_us = sync_us;
        }
        lines.clear();
        lines.shrink_to(SPARE_BYTES);
        self.spare = lines;
        self.publish(seq, sync);
        Ok(())
    }

    async fn wait_until_writable(&self, error: StorageError) -> Result<(), StorageError> {
        self.shared.lock().room.read_only(true);
        self.shared.space_short.notify_one();
        tokio::select! {
            () = self.stop.cancelled() => Err(error),
            () = tokio::time::sleep(RETRY_INTERVAL) => Ok(()),
        }
    }

    /// Tells who waits, and the compactor if it is due.
    fn publish(&mut self, seq: u64, synced: bool) {
        self.written = self.written.max(seq);
        let mut state = self.shared.lock();
        if synced {
            state.tail.made_durable(seq);
            state.figures.syncs += 1;
        }
        state.store.settle(self.written);
        state.acknowledged = self.written;
        let woken = state.reached();
        let due = self.shared.options.compaction.due(&state.since_compaction());
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        if due.is_some() {
            self.shared.compaction_due.notify_one();
        }
    }

    const fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("a blocking step that ended put it back")
    }

    /// Lends the writer to a thread that may wait for the disk.
    async fn blocking<T, F>(&mut self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writer) -> Result<T, StorageError> + Send + 'static,
    {
        let mut writer = self.writer.take().expect("a blocking step that ended put it back");
        let lent = tokio::task::spawn_blocking(move || {
            let result = work(&mut writer);
            (writer, result)
        });
        let (writer, result) = lent.await.expect("writing does not panic");
        self.writer = Some(writer);
        result
    }
}

enum Written {
    /// How long the sync took, in microseconds, if there was one.
    Done(Option<u64>),
    /// Nothing was written; it can be tried again.
    ReadOnly(StorageError),
}

fn write(writer: &mut Writer, lines: &[u8], seq: u64, sync: bool) -> Result<Written, StorageError> {
    if !lines.is_empty() {
        match writer.write(lines) {
            Err(error) if error.is_read_only() => return Ok(Written::ReadOnly(error)),
            written => written?,
        }
    }
    // Never tried again, whatever it says.
    let mut sync_us = None;
    if sync {
        let started = Instant::now();
        writer.sync(seq)?;
        sync_us = Some(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(Written::Done(sync_us))
}

#[cfg(test)]
mod tests;
