//! Reads: from memory, or from the line that a value stands in.
//!
//! A value that was evicted is read back from its place. Compaction may have moved the
//! place meanwhile and deleted the file; then the map knows the new one.
//!
//! # Caveats
//!
//! Reading a value back waits for the disk, and with it all requests of the node. A page of values
//! that are all evicted waits for each of them.

use crate::StorageError;
use crate::answer::{Entry, Page};
use crate::engine::{Engine, Shared};
use crate::log::place::Place;
use crate::log::record::{BadLine, Op, Record};
use crate::log::value::Value;
use crate::store::{self, Content, FreezeError, FreezeId, PageRequest};

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
    /// What is held for a key, for who asked for it: its value stays in memory longer.
    ///
    /// # Errors
    ///
    /// The value is only on the disk and cannot be read back.
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, StorageError> {
        let now = self.now();
        let found = {
            let mut state = self.0.lock();
            state.depend_on(key);
            state.store.read(key, now).map(|entry| entry.copied())
        };
        let Some(found) = found else { return Ok(None) };
        let evicted = matches!(found.content, Content::Evicted { .. });
        let entry = self.0.load(key, found)?;
        if evicted && let Content::Value(value) = &entry.content {
            let mut state = self.0.lock();
            state.store.admit(key, entry.version, value);
            self.0.evict(&mut state);
        }
        Ok(Some(entry.into()))
    }

    /// What is held for a key, for who passes by.
    ///
    /// # Errors
    ///
    /// The value is only on the disk and cannot be read back.
    pub fn peek(&self, key: &[u8]) -> Result<Option<Entry>, StorageError> {
        let now = self.now();
        let found = {
            let mut state = self.0.lock();
            state.depend_on(key);
            state.store.get(key, now).map(|entry| entry.copied())
        };
        let loaded = found.map(|entry| self.0.load(key, entry)).transpose()?;
        Ok(loaded.map(Entry::from))
    }

    /// A page of entries.
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
        for (key, entry) in page.entries {
            let entry = self.0.load(&key, entry)?.into();
            entries.push((key, entry));
        }
        Ok(Page { entries, more: page.more })
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

impl Shared {
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
        // At time 0 nothing has expired: this asks for the entry, not for an answer.
        let now = self.lock().store.get(key, 0).map(|entry| entry.copied())?;
        (now.version == entry.version && now.place != entry.place).then_some(now)
    }
}
