//! The map: what a node holds, in memory, without files or clocks.
//!
//! Every key has one [`Entry`]: a value or the tombstone of a delete, the version of that write,
//! and the log line that made it. Writes are decided by version: newer wins, the same again
//! changes nothing, older loses. So writes may come twice and in any order, and all
//! replicas that saw the same writes hold the same.
//!
//! Versions that this node gives itself are the next after the highest it has seen.
//!
//! # Caveats
//!
//! Two different values under one version are not told apart: the first stays. Who numbers
//! writes must not use a number twice. Tombstones stay until they are dropped by name.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use ringkv_shared::Version;

use crate::log::record::{Op, Record};

/// What is held for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The version of the write.
    pub version: Version,
    /// The log line that made it; 0 when it was read at start (and so is durable).
    pub seq: u64,
}

/// How a write stands to what is held for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It wins.
    Newer,
    /// It is held already.
    Same,
    /// It loses to the version given.
    Older(Version),
}

/// Which keys a page should have.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Only keys after this one.
    pub after: Option<Bytes>,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// The most entries.
    pub keys_max: usize,
    /// The most bytes of keys and values; one entry is given even if it alone is larger.
    pub bytes_max: usize,
    /// Leave values out.
    pub keys_only: bool,
    /// Tombstones too.
    pub tombstones: bool,
}

/// Entries in key order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries; with `keys_only` a live one has an empty value.
    pub entries: Vec<(Bytes, Entry)>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// The map and its counts.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// The entries in key order.
    entries: BTreeMap<Bytes, Entry>,
    /// How many are tombstones.
    tombstones: u64,
    /// The highest version ever seen. Monotonic.
    highest: Version,
    /// The last line that forgot a key; what an absent key depends on. Monotonic.
    dropped_seq: u64,
}

impl Store {
    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Keys with a value.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.entries.len() as u64 - self.tombstones
    }

    /// Tombstones.
    #[must_use]
    pub const fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// The version for a write that brought none.
    #[must_use]
    pub const fn next_version(&self) -> Version {
        self.highest.next()
    }

    /// The log line that the answer to a read of this key depends on.
    #[must_use]
    pub fn depends_on(&self, key: &[u8]) -> u64 {
        self.get(key).map_or(self.dropped_seq, |entry| entry.seq)
    }

    /// How a write of this version stands to what is held.
    #[must_use]
    pub fn standing(&self, key: &[u8], version: Version) -> Standing {
        match self.get(key) {
            Some(entry) if entry.version == version => Standing::Same,
            Some(entry) if entry.version > version => Standing::Older(entry.version),
            _ => Standing::Newer,
        }
    }

    /// Does what a record says, as at its time or on replay. True if it changed something.
    pub fn apply(&mut self, record: &Record) -> bool {
        self.highest = self.highest.max(record.version);
        let value = match &record.op {
            Op::Put { value, .. } => Some(value.to_bytes()),
            Op::Del => None,
            Op::Drop => return self.forget(record),
        };
        let newer = self.standing(&record.key, record.version) == Standing::Newer;
        if newer {
            let entry = Entry { value, version: record.version, seq: record.seq };
            self.insert(record.key.clone(), entry);
        }
        newer
    }

    /// Says that all entries are durable as they are: none depends on a log line any more.
    pub fn settle_all(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.seq = 0);
        self.dropped_seq = 0;
    }

    fn insert(&mut self, key: Bytes, entry: Entry) {
        self.tombstones += u64::from(entry.value.is_none());
        let before = self.entries.insert(key, entry);
        self.tombstones -= u64::from(before.is_some_and(|entry| entry.value.is_none()));
    }

    fn forget(&mut self, record: &Record) -> bool {
        let same = self.standing(&record.key, record.version) == Standing::Same;
        if same {
            let gone = self.entries.remove(&record.key);
            self.tombstones -= u64::from(gone.is_some_and(|entry| entry.value.is_none()));
            self.dropped_seq = record.seq;
        }
        same
    }

    /// A page of entries.
    #[must_use]
    pub fn page(&self, request: &PageRequest) -> Page {
        let (mut page, mut bytes) = (Page::default(), 0);
        for (key, entry) in self.range(request) {
            if !key.starts_with(&request.prefix) {
                break;
            }
            if entry.value.is_none() && !request.tombstones {
                continue;
            }
            let entry = if request.keys_only { without_value(entry) } else { entry.clone() };
            bytes += key.len() + entry.value.as_ref().map_or(0, Bytes::len);
            let full = page.entries.len() >= request.keys_max || bytes > request.bytes_max;
            if full && !page.entries.is_empty() {
                page.more = true;
                break;
            }
            page.entries.push((key.clone(), entry));
        }
        page
    }

    fn range(&self, request: &PageRequest) -> impl Iterator<Item = (&Bytes, &Entry)> {
        let from = match &request.after {
            Some(after) if *after >= request.prefix => Bound::Excluded(after),
            _ => Bound::Included(&request.prefix),
        };
        self.entries.range::<Bytes, _>((from, Bound::Unbounded))
    }
}

fn without_value(entry: &Entry) -> Entry {
    let value = entry.value.as_ref().map(|_| Bytes::new());
    Entry { value, ..entry.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::value::Value;

    fn record(key: &str, op: Op, counter: u64) -> Record {
        let key = Bytes::copy_from_slice(key.as_bytes());
        Record { key, op, version: Version::new(0, counter), seq: counter, durable: 0 }
    }

    fn put(store: &mut Store, key: &str, value: &'static str, counter: u64) -> bool {
        store.apply(&record(
            key,
            Op::write(Some(Value::new(Bytes::from_static(value.as_bytes())))),
            counter,
        ))
    }

    fn all() -> PageRequest {
        PageRequest {
            after: None,
            prefix: Bytes::new(),
            keys_max: 100,
            bytes_max: 1000,
            keys_only: false,
            tombstones: false,
        }
    }

    fn keys(page: &Page) -> Vec<&[u8]> {
        page.entries.iter().map(|(key, _)| key.as_ref()).collect()
    }

    #[test]
    fn the_newest_version_wins_in_any_order() {
        let mut store = Store::default();
        assert!(put(&mut store, "a", "2", 2));
        assert!(!put(&mut store, "a", "1", 1));
        assert!(!put(&mut store, "a", "again", 2));
        assert_eq!(store.get(b"a").unwrap().value.as_deref(), Some(&b"2"[..]));
        assert_eq!(store.next_version(), Version::new(0, 3));
        assert!(store.apply(&record("a", Op::Del, 3)));
        assert_eq!((store.live(), store.tombstones()), (0, 1));
        assert!(put(&mut store, "a", "4", 4));
        assert_eq!((store.live(), store.tombstones()), (1, 0));
    }

    #[test]
    fn drop_forgets_only_the_version_it_names() {
        let mut store = Store::default();
        put(&mut store, "a", "1", 5);
        assert!(!store.apply(&record("a", Op::Drop, 4)));
        assert!(store.apply(&record("a", Op::Drop, 5)));
        assert_eq!((store.live(), store.depends_on(b"a")), (0, 5));
        assert!(put(&mut store, "a", "0", 1), "nothing is left to lose to");
    }

    #[test]
    fn pages_go_through_all_keys_once() {
        let mut store = Store::default();
        for (n, key) in ["a", "b1", "b2", "b3", "c"].into_iter().enumerate() {
            put(&mut store, key, "x", n as u64 + 1);
        }
        store.apply(&record("b2", Op::Del, 9));
        let mut request = PageRequest { prefix: Bytes::from_static(b"b"), keys_max: 1, ..all() };
        let page = store.page(&request);
        assert_eq!((keys(&page), page.more), (vec![&b"b1"[..]], true));
        request.after = Some(Bytes::from_static(b"b1"));
        let page = store.page(&request);
        assert_eq!((keys(&page), page.more), (vec![&b"b3"[..]], false));
        let page = store.page(&PageRequest { tombstones: true, ..all() });
        assert_eq!(page.entries.len(), 5);
    }

    #[test]
    fn a_page_keeps_its_byte_budget_but_always_moves_on() {
        let mut store = Store::default();
        put(&mut store, "a", "0123456789", 1);
        put(&mut store, "b", "1", 2);
        let page = store.page(&PageRequest { bytes_max: 5, ..all() });
        assert_eq!((keys(&page), page.more), (vec![&b"a"[..]], true));
        let page = store.page(&PageRequest { bytes_max: 5, keys_only: true, ..all() });
        assert_eq!((keys(&page).len(), page.more), (2, false));
    }
}
