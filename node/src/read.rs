//! Reads: from memory, or from the line that a value stands in.
//!
//! A value that was evicted is read back from its place. Compaction may have moved the
//! place meanwhile and deleted the file; then the map knows the new one.
//!
//! # Caveats
//!
//! Reading a value back waits for the disk, and with it all requests of the node. A page of values
//! that are all evicted waits for each of them.

use std::sync::Arc;

use bytes::Bytes;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::protocol::node::Record as Copied;

use crate::StorageError;
use crate::answer::{Page, record};
use crate::engine::{Engine, Shared, State};
use crate::inspect::{LogFiles, history};
use crate::log::place::Place;
use crate::log::record::{BadLine, Op, Record};
use crate::log::value::Value;
use crate::store::{self, Census, Content, FreezeError, FreezeId, Held, PageRequest, Seat};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It was to be of a picture that is gone.
    #[error(transparent)]
    Picture(#[from] FreezeError),
    /// A value cannot be read back.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Engine {
    /// All that is held for a stored key, for who asked for it: its value stays in memory longer.
    ///
    /// # Errors
    ///
    /// A value is only on the disk and cannot be read back.
    pub fn get(&self, key: &[u8]) -> Result<Option<Copied>, StorageError> {
        let now = self.now();
        let found = {
            let mut state = self.0.lock();
            let seat = state.store.seek(key);
            state.look(seat, key, now, |held| held.map(Held::copied))
        };
        found.map(|found| self.loaded(key, found)).transpose()
    }

    /// What was found for a key, with its values in memory, as it travels.
    pub(crate) fn loaded(&self, key: &[u8], found: Held) -> Result<Copied, StorageError> {
        let evicted = matches!(found.entry.content, Content::Evicted { .. });
        let held = self.0.load_all(key, found)?;
        if evicted && let Content::Value(value) = &held.entry.content {
            let mut state = self.0.lock();
            state.store.admit(key, held.entry.version, value);
            self.0.evict(&mut state);
        }
        Ok(record(key, held, true))
    }

    /// All that is held for a stored key, for who passes by.
    ///
    /// # Errors
    ///
    /// A value is only on the disk and cannot be read back.
    pub fn peek(&self, key: &[u8]) -> Result<Option<Copied>, StorageError> {
        let now = self.now();
        let found = {
            let mut state = self.0.lock();
            state.depend_on(key);
            state.store.get(key, now).map(|held| held.copied())
        };
        let loaded = found.map(|held| self.0.load_all(key, held)).transpose()?;
        Ok(loaded.map(|held| record(key, held, true)))
    }

    /// A page of keys with all that is held for each.
    ///
    /// # Errors
    ///
    /// The picture is gone, or a value of the page cannot be read back.
    pub fn page(&self, request: &PageRequest) -> Result<Page, PageError> {
        let now = self.now();
        let page = {
            let mut state = self.0.lock();
            state.depend_on_all();
            state.store.page(request, now)?
        };
        let mut entries = Vec::with_capacity(page.entries.len());
        for (key, held) in page.entries {
            let record = record(&key, self.0.load_all(&key, held)?, !request.keys_only);
            entries.push((key, record));
        }
        Ok(Page { entries, sizes: page.sizes, more: page.more, reached: page.reached })
    }

    /// Counts the keys of a request by the arcs on which they lie.
    #[must_use]
    pub fn census(&self, request: &PageRequest, arcs: &Arcs, marks: bool) -> Census {
        let now = self.now();
        let mut state = self.0.lock();
        state.depend_on_all();
        state.store.census(request, arcs, now, marks)
    }

    /// The log's lines about a stored key, the oldest first; see [`history`]. Reads
    /// files, on a thread that may wait for the disk.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub(crate) async fn history(&self, key: Bytes) -> Result<Vec<String>, StorageError> {
        let shared = Arc::clone(&self.0);
        let read = move || {
            let log = LogFiles::open(&*shared.options.disk, &shared.options.data)?;
            history(&log, &key)
        };
        let lines =
            tokio::task::spawn_blocking(read).await.expect("reading the log does not panic");
        // Lines in the files may not be safe yet.
        self.0.lock().depend_on_all();
        self.settle().await;
        lines
    }

    /// Begins a picture of the map: pages can be had of it, for as long as not too much changes.
    ///
    /// # Errors
    ///
    /// Too many are being taken.
    pub fn freeze(&self) -> Result<FreezeId, FreezeError> {
        self.0.lock().store.freeze()
    }

    /// Ends a picture.
    pub fn thaw(&self, id: FreezeId) {
        self.0.lock().store.thaw(id);
    }
}

impl State {
    /// Tells what is held for a key to who asked for it; what is told depends on it.
    pub(crate) fn look<T>(
        &mut self,
        seat: Seat,
        key: &[u8],
        now: u64,
        tell: impl FnOnce(Option<&Held<&[u8]>>) -> T,
    ) -> T {
        let found = self.store.read_at(seat, key, now);
        let told = tell(found.as_ref());
        match found {
            // Without another look. What is safe already holds nobody up.
            Some(Held { entry, more: None }) => self.barrier = self.barrier.max(entry.seq),
            _ => self.depend_on(key),
        }
        told
    }
}

impl Shared {
    /// The same with all values in memory, wherever they were.
    pub(crate) fn load_all(&self, key: &[u8], held: Held) -> Result<Held, StorageError> {
        held.try_map(|entry| self.load(key, entry))
    }

    /// The entry with its value in memory, wherever that was.
    pub(crate) fn load(
        &self,
        key: &[u8],
        mut entry: store::Entry,
    ) -> Result<store::Entry, StorageError> {
        while let Content::Evicted { .. } = entry.content {
            let place = entry.place.expect("only what has a place is evicted");
            match self.value_at(key, &entry, place) {
                Ok(value) => entry.content = Content::Value(value),
                Err(error) => entry = self.moved(key, &entry).ok_or(error)?,
            }
        }
        Ok(entry)
    }

    fn value_at(
        &self,
        key: &[u8],
        entry: &store::Entry,
        place: Place,
    ) -> Result<Value, StorageError> {
        match self.lines.read(place)? {
            Record { key: found, op: Op::Put { value, .. }, version, .. }
                if found == key && version == entry.version =>
            {
                Ok(value)
            }
            _ => Err(self.lines.unreadable(place, BadLine::Misplaced("the line of another write"))),
        }
    }

    /// The same entry, if its line stands elsewhere by now.
    fn moved(&self, key: &[u8], entry: &store::Entry) -> Option<store::Entry> {
        let now = self.lock().store.find(key, entry.version)?.copied();
        (now.place != entry.place).then_some(now)
    }
}
