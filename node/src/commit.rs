//! Group commit: one write and one sync for all that wait.
//!
//! A sync costs milliseconds whether it covers one line or a thousand. So the committer takes
//! whatever has gathered while the last sync ran, writes it with one call, syncs once, and lets all
//! those replies go. The busier the node, the larger the group; nobody waits for a timer.
//!
//! # Caveats
//!
//! A write or sync that fails is never tried again and never acknowledged: the error ends the
//! process. What the file then holds is for the next start to judge.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::StorageError;
use crate::engine::{Durability, Shared};
use crate::log::record::Header;
use crate::log::writer::Writer;

/// A request to close the active segment, answered with the header of the next.
pub(crate) type Rotation = oneshot::Sender<Header>;

/// The only one who writes to the active segment.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    /// `None` only while a blocking thread has it.
    writer: Option<Writer>,
    rotations: mpsc::Receiver<Rotation>,
    /// Last line written.
    written: u64,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        writer: Writer,
        rotations: mpsc::Receiver<Rotation>,
    ) -> Self {
        let written = shared.lock().tail.seq();
        Self { shared, writer: Some(writer), rotations, written }
    }

    /// Commits until `stop`, then writes and syncs what is left.
    ///
    /// # Errors
    ///
    /// The disk failed; nothing more may be acknowledged.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StorageError> {
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
            tokio::select! {
                biased;
                Some(reply) = self.rotations.recv() => self.rotate(reply).await?,
                () = shared.work.notified() => {
                    // Connections that are ready now join this group.
                    tokio::task::yield_now().await;
                    self.commit(shared.options.durability == Durability::Always).await?;
                }
                _ = tick => self.commit(true).await?,
                () = stop.cancelled() => return self.commit(true).await,
            }
        }
    }

    /// Writes what waits; with `sync` also makes it durable.
    async fn commit(&mut self, sync: bool) -> Result<(), StorageError> {
        let (lines, seq, durable) = {
            let mut state = self.shared.lock();
            (state.tail.take(), state.tail.seq(), state.tail.durable())
        };
        if lines.is_empty() && !(sync && durable < seq) {
            return Ok(());
        }
        self.blocking(move |writer| write(writer, &lines, seq, sync)).await?;
        self.publish(seq, sync);
        Ok(())
    }

    async fn rotate(&mut self, reply: Rotation) -> Result<(), StorageError> {
        let (rest, header, line, hook) = {
            let mut state = self.shared.lock();
            let (rest, header, line) = state.tail.rotate();
            state.closed_bytes += state.active_bytes;
            state.active_bytes = line.len() as u64;
            (rest, header, line, self.shared.options.hook.clone())
        };
        let seq = header.seq;
        let next = header.clone();
        self.blocking(move |writer| write(writer, &rest, seq, true)).await?;
        self.publish(seq, true);
        self.blocking(move |writer| writer.rotate(&next, &line, &hook)).await?;
        // The compactor may have been told to stop meanwhile; the segment is closed anyway.
        let _ = reply.send(header);
        Ok(())
    }

    /// Tells who waits.
    fn publish(&mut self, seq: u64, synced: bool) {
        self.written = self.written.max(seq);
        if synced {
            let mut state = self.shared.lock();
            state.tail.made_durable(seq);
            state.figures.syncs += 1;
        }
        self.shared.acknowledged.send_replace(self.written);
    }

    /// Lends the writer to a thread that may wait for the disk.
    async fn blocking<F>(&mut self, work: F) -> Result<(), StorageError>
    where
        F: FnOnce(&mut Writer) -> Result<(), StorageError> + Send + 'static,
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

fn write(writer: &mut Writer, lines: &[u8], seq: u64, sync: bool) -> Result<(), StorageError> {
    if !lines.is_empty() {
        writer.write(lines)?;
    }
    if sync { writer.sync(seq) } else { Ok(()) }
}
