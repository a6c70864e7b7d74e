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

use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{Change, ChangesReply};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::{ErrorName, Failure, KeyspaceName};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::unix_ms;

/// How many writes are kept.
const KEPT: usize = 10_000;
/// Values up to this size are kept with them.
const VALUE_BYTES_MAX: usize = 4096;
/// The most writes in an answer.
const PAGE_MAX: usize = 500;

/// The feed.
pub(crate) struct Feed {
    epoch: u32,
    kept: Mutex<VecDeque<(u64, Change)>>,
    /// The newest number.
    last: watch::Sender<u64>,
    ended: CancellationToken,
}

impl Feed {
    pub(crate) fn new(epoch: u32) -> Self {
        let (last, ended) = (watch::Sender::new(0), CancellationToken::new());
        Self { epoch, kept: Mutex::default(), last, ended }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Change)>> {
        self.kept.lock().expect("no panic while the lock is held")
    }

    /// A write was acknowledged.
    pub(crate) fn tell(&self, keyspace: &KeyspaceName, record: &Record) {
        let mut kept = self.lock();
        let number = *self.last.borrow() + 1;
        let change = Change {
            keyspace: keyspace.clone(),
            key: record.key.clone(),
            value: record.value.clone().filter(|value| value.len() <= VALUE_BYTES_MAX),
            deleted: record.deleted,
            version: record.version,
            at_ms: unix_ms(),
            // Made when somebody asks.
            position: String::new(),
        };
        kept.push_back((number, change));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        self.last.send_replace(number);
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
        let newest = *last.borrow();
        let known = after.map_or(Some(newest), |after| self.number(after).filter(|n| *n <= newest));
        let oldest = self.lock().front().map_or(newest + 1, |(number, _)| *number);
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
        let start = kept.partition_point(|(number, _)| *number <= from);
        for (number, change) in kept.range(start..) {
            if changes.len() == PAGE_MAX {
                break;
            }
            seen = *number;
            if change.keyspace == *keyspace && change.key.as_bytes().starts_with(prefix) {
                changes.push(Change { position: self.position(*number), ..change.clone() });
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
    use ringkv_shared::Version;

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
