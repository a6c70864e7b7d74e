//! Writes with a name, so that a client may try again: the same write under the same name is one
//! write.
//!
//! What a name stands for is what was sent. A write that comes again while the first is under way
//! waits for it; one that comes after it was acknowledged gets the same answer; one that comes
//! after an unknown outcome is sent again as it was, under the same number, which changes nothing where
//! it has arrived.
//!
//! # Caveats
//!
//! Names are kept for ten minutes, the last 10,000 of them, in the memory of this coordinator: after its restart the
//! same name is a new write.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ringkv_shared::protocol::cluster::{ClusterWrite, WriteOptions};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, Version};
use tokio::time::Instant;

use crate::cluster::Cluster;

/// How many names are kept.
const NAMES_MAX: usize = 10_000;
/// For how long.
const KEPT: Duration = Duration::from_secs(600);
/// The most bytes in a name.
const NAME_BYTES_MAX: usize = 64;

/// The names that are kept.
#[derive(Default)]
pub(crate) struct Requests(Mutex<Names>);

#[derive(Default)]
struct Names {
    requests: HashMap<String, Arc<Request>>,
    /// In the order in which they came.
    order: VecDeque<(String, Instant)>,
}

/// What a name stands for.
struct Request {
    what: What,
    /// Locked while a try is under way.
    done: tokio::sync::Mutex<Option<ClusterWrite>>,
    /// What the last try sent.
    sent: Mutex<Option<Record>>,
}

#[derive(PartialEq, Eq)]
struct What {
    keyspace: KeyspaceName,
    key: Blob,
    value: Option<Blob>,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Names> {
        self.0.lock().expect("no panic while the lock is held")
    }

    /// The request of that name, which must be the same write if it was here before.
    fn request(&self, name: &str, what: What) -> Result<Arc<Request>, Failure> {
        let mut names = self.lock();
        let now = Instant::now();
        names.forget_old(now);
        if let Some(known) = names.requests.get(name) {
            return if known.what == what { Ok(Arc::clone(known)) } else { Err(known.taken(name)) };
        }
        let request = Request { what, done: tokio::sync::Mutex::default(), sent: Mutex::default() };
        let request = Arc::new(request);
        names.order.push_back((name.to_owned(), now));
        names.requests.insert(name.to_owned(), Arc::clone(&request));
        Ok(request)
    }
}

impl Requests {
    /// A keyspace is gone: what was written there is not there any more, should one of that name be made
    /// again.
    pub(crate) fn forget_keyspace(&self, keyspace: &KeyspaceName) {
        let mut names = self.lock();
        names.requests.retain(|_, request| request.what.keyspace != *keyspace);
        let Names { requests, order } = &mut *names;
        order.retain(|(name, _)| requests.contains_key(name));
    }

    /// The least number of a request that has no answer yet: it may be sent again under it, as long as its
    /// name is kept.
    pub(crate) fn oldest_open(&self, now: Instant) -> Option<Version> {
        let mut names = self.lock();
        names.forget_old(now);
        // One that is locked is under way.
        let is_open =
            |request: &&Arc<Request>| request.done.try_lock().map_or(true, |done| done.is_none());
        let numbered = |request: &Arc<Request>| request.sent().as_ref().map(|sent| sent.version);
        names.requests.values().filter(is_open).filter_map(numbered).min()
    }
}

impl Names {
    /// Makes room for one more, and forgets those that were kept long enough.
    fn forget_old(&mut self, now: Instant) {
        let over = |(_, at): &(String, Instant)| now.duration_since(*at) > KEPT;
        while self.order.len() >= NAMES_MAX || self.order.front().is_some_and(over) {
            let Some((oldest, _)) = self.order.pop_front() else { break };
            self.requests.remove(&oldest);
        }
    }
}

impl Request {
    fn taken(&self, name: &str) -> Failure {
        let message = format!(
            "the request {name:?} was another write, of {}; nothing was written",
            self.what.key
        );
        Failure::new(ErrorName::BadArgument, message).hint("give every write its own name")
    }

    fn sent(&self) -> MutexGuard<'_, Option<Record>> {
        self.sent.lock().expect("no panic while the lock is held")
    }
}

impl Cluster {
    /// A write that may have a name.
    pub(crate) async fn requested(
        self: &Arc<Self>,
        key: Blob,
        value: Option<Blob>,
        options: WriteOptions,
    ) -> Result<ClusterWrite, Failure> {
        let Some(name) = &options.request else {
            return self.write(key, value, &options, None, |_| ()).await;
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let message =
                format!("a request's name has 1 to {NAME_BYTES_MAX} bytes; nothing was written");
            return Err(Failure::new(ErrorName::BadArgument, message));
        }
        let what =
            What { keyspace: options.keyspace.clone(), key: key.clone(), value: value.clone() };
        let request = self.requests.request(name, what)?;
        let mut done = request.done.lock().await;
        if let Some(done) = &*done {
            return Ok(done.clone());
        }
        let again = request.sent().clone();
        let sent = |record: &Record| *request.sent() = Some(record.clone());
        let answer = self.write(key, value, &options, again, sent).await?;
        *done = Some(answer.clone());
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(keyspace: &str) -> What {
        let keyspace = keyspace.parse().unwrap();
        What { keyspace, key: "k".into(), value: Some("v".into()) }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_that_is_over_is_not_open() {
        let (requests, version) = (Requests::default(), Version::new(1, 7));
        let request = requests.request("once", what("default")).unwrap();
        *request.sent() = Some(Record::new("k".into(), Some("v".into()), version));
        let later = Instant::now() + KEPT;
        assert_eq!(requests.oldest_open(later - Duration::from_secs(60)), Some(version));
        assert_eq!(requests.oldest_open(later + Duration::from_secs(1)), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn names_go_with_their_keyspace() {
        let requests = Requests::default();
        let of_clicks = requests.request("a", what("clicks")).unwrap();
        let other = requests.request("b", what("default")).unwrap();
        requests.forget_keyspace(&"clicks".parse().unwrap());
        let again = |name, space| requests.request(name, what(space)).unwrap();
        assert!(!Arc::ptr_eq(&again("a", "clicks"), &of_clicks));
        assert!(Arc::ptr_eq(&again("b", "default"), &other));
        assert_eq!(requests.lock().order.len(), 2);
    }
}
