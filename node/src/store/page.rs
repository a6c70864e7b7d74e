//! The map in key order, a page at a time.
//!
//! # Caveats
//!
//! A page skips tombstones and what a picture does not have without a bound: a range of nothing but
//! these is walked in one call.

use std::cmp::Ordering;
use std::iter;
use std::ops::Bound;

use bytes::Bytes;
use ringkv_shared::Version;
use ringkv_shared::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};

use super::Store;
use super::entry::{Content, Entry};
use super::freeze::{FreezeError, FreezeId};
use super::slot::Slot;
use crate::log::value::Value;

/// Which keys a page should have.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Only keys after this one.
    pub after: Option<Bytes>,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// The most entries.
    pub keys_max: usize,
    /// The most bytes of keys and raw values; one entry is given even if it alone is larger.
    pub bytes_max: usize,
    /// Leave values out.
    pub keys_only: bool,
    /// Tombstones too.
    pub tombstones: bool,
    /// As the map was at this version, in this picture; `None`: as it is.
    pub at: Option<(FreezeId, Version)>,
}

impl PageRequest {
    /// All that is there now, tombstones too, from the start on, in pages of the usual size.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            after: None,
            prefix: Bytes::new(),
            keys_max: PAGE_KEYS_MAX,
            bytes_max: PAGE_BYTES_MAX,
            keys_only: false,
            tombstones: true,
            at: None,
        }
    }
}

/// Entries in key order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries; with `keys_only` a live one has an empty value.
    pub entries: Vec<(Bytes, Entry)>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl Store {
    /// A page of entries as they answer at `now`, in unix milliseconds. Not a read: what is in
    /// memory stays as it is.
    ///
    /// # Errors
    ///
    /// [`FreezeError::Gone`], if the request is for a picture that is.
    pub fn page(&self, request: &PageRequest, now: u64) -> Result<Page, FreezeError> {
        let from = request.from();
        let Some((id, version)) = request.at else {
            return Ok(request.fill(self.entries.from(from), now));
        };
        self.freezes.check(id)?;
        Ok(request.fill(self.picture(id, from, version), now))
    }

    /// Of each key, current or kept since the picture began, the newest slot up to a version.
    fn picture<'a>(
        &'a self,
        id: FreezeId,
        from: Bound<&'a [u8]>,
        version: Version,
    ) -> impl Iterator<Item = &'a Slot> {
        let mut current = self.entries.from(from).peekable();
        let mut kept = self.freezes.kept.range::<[u8], _>((from, Bound::Unbounded)).peekable();
        let each_key = iter::from_fn(move || {
            let order = match (current.peek(), kept.peek()) {
                (Some(now), Some((key, _))) => now.key().cmp(key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            let now = if order.is_le() { current.next() } else { None };
            let before = if order.is_ge() { kept.next() } else { None };
            let before = before.map_or(&[][..], |(_, slots)| slots);
            // Of one version that is there twice, the last wins: the current one.
            let before = before.iter().filter(|(left, _)| *left >= id).map(|(_, slot)| slot);
            let all = before.chain(now).filter(|slot| slot.version() <= version);
            Some(all.max_by_key(|slot| slot.version()))
        });
        each_key.flatten()
    }
}

impl PageRequest {
    fn from(&self) -> Bound<&[u8]> {
        match &self.after {
            Some(after) if *after >= self.prefix => Bound::Excluded(after),
            _ => Bound::Included(&self.prefix),
        }
    }

    fn fill<'a>(&self, slots: impl Iterator<Item = &'a Slot>, now: u64) -> Page {
        let (mut page, mut bytes) = (Page::default(), 0);
        for slot in slots {
            let (key, entry) = (slot.key(), slot.entry().at(now));
            if !key.starts_with(&self.prefix) {
                break;
            }
            if !entry.is_live() && !self.tombstones {
                continue;
            }
            bytes += key.len() + if self.keys_only { 0 } else { entry.len() };
            let full = page.entries.len() >= self.keys_max || bytes > self.bytes_max;
            if full && !page.entries.is_empty() {
                page.more = true;
                break;
            }
            let entry = if self.keys_only { without_value(entry) } else { entry.copied() };
            page.entries.push((Bytes::copy_from_slice(key), entry));
        }
        page
    }
}

fn without_value(entry: Entry<&[u8]>) -> Entry {
    let content = match entry.content {
        Content::Tombstone => Content::Tombstone,
        Content::Value(_) | Content::Evicted { .. } => Content::Value(Value::Plain(Bytes::new())),
    };
    let Entry { version, seq, place, expires, .. } = entry;
    Entry { content, version, seq, place, expires }
}
