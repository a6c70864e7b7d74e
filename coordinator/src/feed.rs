//! The writes that were acknowledged lately, for whoever watches: the last [`KEPT`], with positions to go
//! on from.
//!
//! # Caveats
//!
//! The feed has what this coordinator has acknowledged since it started, not what was written to a
//! node directly. A position of another coordinator, or one that is not kept any more, is answered with `missed`: who
//! wants all has to scan then.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ringkv_shared::limits::WATCHED_BYTES_MAX;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{Change, ChangesReply};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, Version};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::unix_ms;

/// How many writes are kept.
const KEPT: usize = 10_000;
/// The most writes in an answer.
const PAGE_MAX: usize = 500;

/// The feed.
pub(crate) struct Feed {
    epoch: u32,
    kept: Mutex<Kept>,
    /// The newest number, for who waits for it; not told while nobody does.
    last: watch::Sender<u64>,
    ended: CancellationToken,
}

#[derive(Default)]
struct Kept {
    told: VecDeque<Told>,
    /// The newest number. Monotonic.
    last: u64,
}

/// A write as it is kept. When it leaves, its memory is that of the next: so to tell takes none.
struct Told {
    number: u64,
    keyspace: KeyspaceName,
    version: Version,
    at_ms: u64,
    deleted: bool,
    /// The key, and the value behind it if it is kept.
    bytes: Vec<u8>,
    key_len: usize,
    has_value: bool,
}

impl Told {
    fn new(number: u64, keyspace: &KeyspaceName, record: &Record) -> Self {
        let mut told = Self {
            number,
            keyspace: keyspace.clone(),
            version: record.version,
            at_ms: 0,
            deleted: false,
            bytes: Vec::new(),
            key_len: 0,
            has_value: false,
        };
        told.set(number, keyspace, record);
        told
    }

    fn set(&mut self, number: u64, keyspace: &KeyspaceName, record: &Record) {
        let (key, value) = (record.key.as_bytes(), record.value.as_ref());
        let value = value.filter(|value| value.len() <= WATCHED_BYTES_MAX);
        if self.keyspace != *keyspace {
            self.keyspace = keyspace.clone();
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.map_or(&[], Blob::as_bytes));
        (self.number, self.version, self.at_ms) = (number, record.version, unix_ms());
        (self.key_len, self.has_value, self.deleted) = (key.len(), value.is_some(), record.deleted);
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len]
    }

    fn change(&self, position: String) -> Change {
        let value = self.has_value.then(|| self.bytes[self.key_len..].to_vec().into());
        Change {
            keyspace: self.keyspace.clone(),
            key: self.key().to_vec().into(),
            value,
            deleted: self.deleted,
            version: self.version,
            at_ms: self.at_ms,
            position,
        }
    }
}

impl Feed {
    pub(crate) fn new(epoch: u32) -> Self {
        let (last, ended) = (watch::Sender::new(0), CancellationToken::new());
        Self { epoch, kept: Mutex::default(), last, ended }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic while the lock is held")
    }

    /// A write was acknowledged.
    pub(crate) fn tell(&self, keyspace: &KeyspaceName, record: &Record) {
        let mut kept = self.lock();
        kept.last += 1;
        let number = kept.last;
        let oldest = if kept.told.len() < KEPT { None } else { kept.told.pop_front() };
        let told = match oldest {
            None => Told::new(number, keyspace, record),
            Some(mut told) => {
                told.set(number, keyspace, record);
                told
            }
        };
        kept.told.push_back(told);
        // Who subscribes after this sees it in what is kept.
        if self.last.receiver_count() > 0 {
            self.last.send_replace(number);
        }
    }

    /// What was acknowledged after a position, of keys of a keyspace that begin so; waits for the
    /// first. Without a position: what comes from now on.
    pub(crate) async fn after(
        &self,
        after: Option<&str>,
        keyspace: &KeyspaceName,
        prefix: &[u8],
        wait: Duration,
    ) -> ChangesReply {
        let until = Instant::now() + wait;
        let mut last = self.last.subscribe();
        let (newest, oldest) = {
            let kept = self.lock();
            (kept.last, kept.told.front().map_or(kept.last + 1, |told| told.number))
        };
        let known = after.map_or(Some(newest), |after| self.number(after).filter(|n| *n <= newest));
        let missed = known.is_none_or(|known| known + 1 < oldest);
        let mut from = if missed { oldest - 1 } else { known.unwrap_or(newest) };
        loop {
            let (changes, seen) = self.page(from, keyspace, prefix);
            if !changes.is_empty() || missed {
                let position = self.position(seen);
                return ChangesReply { status: Status::Ok, changes, position, missed };
            }
            from = seen;
            let more = tokio::select! {
                more = timeout_at(until, last.wait_for(|last| *last > from)) => more.is_ok(),
                () = self.ended.cancelled() => false,
            };
            if !more {
                let position = self.position(from);
                return ChangesReply { status: Status::Ok, changes, position, missed };
            }
        }
    }

    /// Up to a page of those wanted after a number, and up to which number was looked.
    fn page(&self, from: u64, keyspace: &KeyspaceName, prefix: &[u8]) -> (Vec<Change>, u64) {
        let kept = self.lock();
        let (mut changes, mut seen) = (Vec::new(), from);
        let start = kept.told.partition_point(|told| told.number <= from);
        for told in kept.told.range(start..) {
            if changes.len() == PAGE_MAX {
                break;
            }
            seen = told.number;
            if told.keyspace == *keyspace && told.key().starts_with(prefix) {
                changes.push(told.change(self.position(told.number)));
            }
        }
        (changes, seen)
    }

    /// A text must be a position of some coordinator.
    pub(crate) fn check(position: &str) -> Result<(), Failure> {
        let numbers = position.split_once('.');
        let numbers = numbers.map(|(epoch, n)| (epoch.parse::<u32>(), n.parse::<u64>()));
        if let Some((Ok(_), Ok(_))) = numbers {
            return Ok(());
        }
        Err(Failure::new(ErrorName::BadArgument, format!("{position:?} is no position"))
            .hint("use the one that was told last, or none: from now on"))
    }

    fn position(&self, number: u64) -> String {
        format!("{}.{number}", self.epoch)
    }

    /// The number of a position of this feed.
    fn number(&self, position: &str) -> Option<u64> {
        let (epoch, number) = position.split_once('.')?;
        (epoch.parse() == Ok(self.epoch)).then(|| number.parse().ok())?
    }

    /// Answers who waits, now and later, at once.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(feed: &Feed, key: &str, counter: u64) {
        let record = Record::new(key.into(), Some("v".into()), Version::new(3, counter));
        feed.tell(&KeyspaceName::default(), &record);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_watcher_goes_on_where_it_stopped() {
        let (feed, space, wait) = (Feed::new(3), KeyspaceName::default(), Duration::from_secs(30));
        told(&feed, "a1", 1);
        told(&feed, "b1", 2);
        told(&feed, "a2", 3);
        let first = feed.after(Some("3.0"), &space, b"a", Duration::ZERO).await;
        let keys: Vec<String> = first.changes.iter().map(|c| c.key.to_string()).collect();
        assert_eq!((keys.join(" ").as_str(), first.missed), ("a1 a2", false));
        let later = feed.after(Some(&first.position), &space, b"a", wait);
        let (later, ()) = tokio::join!(later, async {
            told(&feed, "b2", 4);
            told(&feed, "a3", 5);
        });
        assert_eq!((later.changes.len(), later.position.as_str()), (1, "3.5"));
        assert_eq!(feed.after(None, &space, b"", Duration::ZERO).await.changes, []);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_missed_is_said() {
        let (feed, space) = (Feed::new(3), KeyspaceName::default());
        (1..=KEPT as u64 + 10).for_each(|n| told(&feed, "k", n));
        for position in ["3.9", "2.5", "3.99999999"] {
            let reply = feed.after(Some(position), &space, b"", Duration::ZERO).await;
            assert!(reply.missed && reply.changes.len() == PAGE_MAX, "{position}");
        }
        assert!(!feed.after(Some("3.10"), &space, b"", Duration::ZERO).await.missed);
    }
}
