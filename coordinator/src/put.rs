//! put and del: what is asked for is checked, numbered, carried out, and judged.
//!
//! How a write gets to the replicas is told in [`sending`](crate::sending).
//!
//! # Caveats
//!
//! Writes are never sent again because an answer is missing: what is unknown is said to be unknown.
//! Only when a node is found to hold a number that was never given here (somebody wrote to it
//! directly, under a version of their choice) the write is numbered above that and sent once more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringkv_shared::causal::Context;
use ringkv_shared::limits::{check_key, check_value};
use ringkv_shared::protocol::cluster::{ClusterWrite, ReplicaReport, WriteOptions};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::quorum::WriteOutcome;
use ringkv_shared::{Blob, ErrorName, Failure, Keyspace, Policy, Version};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::checks::{check_context, check_quorum};
use crate::clock::unix_ms;
use crate::cluster::Cluster;
use crate::keyspace::expiry;
use crate::replies::describe;
use crate::sending::Sending;

/// How long a writer may ask to wait for replicas beyond W.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(60);

/// A write, before it is sent.
#[derive(Clone)]
pub(crate) enum Intent {
    /// It is to get a number.
    New {
        key: Blob,
        /// `None` is a delete.
        value: Option<Blob>,
        /// Unix milliseconds.
        expires: Option<u64>,
        /// What the writer has seen; `None`: all that coordinators have taken.
        seen: Option<Context>,
    },
    /// It was sent before, just so.
    Again(Record),
}

impl Intent {
    pub(crate) const fn key(&self) -> &Blob {
        match self {
            Self::New { key, .. } | Self::Again(Record { key, .. }) => key,
        }
    }

    /// The same write, to get another number. Where it was taken under the one that it had, it is replaced.
    fn anew(self, had: Version) -> Self {
        let (key, value, expires, mut seen) = match self {
            Self::Again(Record { key, value, expires, context, .. }) => {
                (key, value, expires, context)
            }
            Self::New { key, value, expires, seen } => (key, value, expires, seen),
        };
        seen.iter_mut().for_each(|seen| seen.add(had));
        Self::New { key, value, expires, seen }
    }
}

impl Cluster {
    pub(crate) async fn put(
        self: &Arc<Self>,
        key: Blob,
        value: Blob,
        options: WriteOptions,
    ) -> Result<ClusterWrite, Failure> {
        self.counters.puts.fetch_add(1, Ordering::Relaxed);
        check_value(&key, &value)?;
        self.requested(key, Some(value), options).await
    }

    pub(crate) async fn del(
        self: &Arc<Self>,
        key: Blob,
        options: WriteOptions,
    ) -> Result<ClusterWrite, Failure> {
        self.counters.dels.fetch_add(1, Ordering::Relaxed);
        self.requested(key, None, options).await
    }

    /// Carries out a write; `again` is what an earlier try of the same request sent. `sent` is told
    /// what this one sends.
    pub(crate) async fn write(
        self: &Arc<Self>,
        key: Blob,
        value: Option<Blob>,
        options: &WriteOptions,
        again: Option<Record>,
        mut sent: impl FnMut(&Record) + Send,
    ) -> Result<ClusterWrite, Failure> {
        check_key(&key)?;
        let (view, _user) = self.enter();
        let keyspace = view.keyspace(&options.keyspace)?;
        let w = check_quorum('W', options.w, keyspace.n)?.unwrap_or(keyspace.w);
        let how = How::of(options, keyspace, w, self.settings().linger());
        let intent = match again {
            Some(record) => Intent::Again(record),
            None => self.intent(key, value, options, &how.keyspace).await?,
        };
        let sending = Sending::start(self, view, intent.clone(), &how)?;
        sent(&sending.write.record);
        self.finish(sending, intent, &how, sent).await
    }

    /// Carries out the rest of a write that is being sent.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        mut sending: Sending,
        intent: Intent,
        how: &How,
        mut sent: impl FnMut(&Record) + Send,
    ) -> Result<ClusterWrite, Failure> {
        sending.wait(how.linger).await;
        if let Some(found) = sending.foreign_number()? {
            // Somebody wrote to a node under a number of their choice. What is acknowledged must win
            // over that, too.
            self.writes.skip_to(found);
            let (view, _user) = self.enter();
            view.keyspace(&how.keyspace.name)?;
            let had = sending.write.record.version;
            sending = Sending::start(self, view, intent.anew(had), how)?;
            sent(&sending.write.record);
            sending.wait(how.linger).await;
        }
        sending.end(how).await
    }

    /// What is to be written, once its condition is met.
    async fn intent(
        self: &Arc<Self>,
        key: Blob,
        value: Option<Blob>,
        options: &WriteOptions,
        keyspace: &Keyspace,
    ) -> Result<Intent, Failure> {
        let expires = match value {
            Some(_) => expiry(options.ttl_ms, keyspace.ttl_ms.unwrap_or(0))?,
            None => None,
        };
        let mut seen = options.context.clone();
        if let Some(seen) = &seen {
            check_context(seen, self.writes.last())?;
        }
        if options.if_absent || options.if_version.is_some() {
            seen = Some(self.check_condition(&key, options, seen).await?);
        }
        Ok(Intent::New { key, value, expires, seen })
    }
}

/// How a write is to be done.
pub(crate) struct How {
    pub(crate) keyspace: Keyspace,
    pub(crate) w: usize,
    pub(crate) sloppy: bool,
    pub(crate) linger: Duration,
    pub(crate) explain: bool,
}

impl How {
    fn of(options: &WriteOptions, keyspace: Keyspace, w: usize, linger: Duration) -> Self {
        let linger = options.linger_ms.map_or(linger, Duration::from_millis).min(LINGER_MAX);
        let sloppy = options.sloppy.unwrap_or(keyspace.sloppy);
        Self { keyspace, w, sloppy, linger, explain: options.explain }
    }
}

impl Cluster {
    /// What a write travels as; it is under way until the token is dropped.
    ///
    /// # Errors
    ///
    /// The log did not take that stamps are given up to now; nothing was numbered.
    pub(crate) fn number(
        &self,
        intent: Intent,
        hash: u64,
        policy: Policy,
    ) -> Result<(Record, TaskTrackerToken), Failure> {
        let (key, value, expires, seen) = match intent {
            Intent::Again(record) => return Ok((record, self.writes.join())),
            Intent::New { key, value, expires, seen } => (key, value, expires, seen),
        };
        let stamp = match policy {
            Policy::Lww => Some(self.stamp(unix_ms())?),
            Policy::Siblings => None,
        };
        let (version, under_way) = self.writes.begin();
        let context = self.recent().note(hash, version, seen.as_ref());
        // Where the last write wins, it does not matter what its writer has seen.
        let context = context.filter(|_| policy == Policy::Siblings);
        let record = Record { expires, context, stamp, ..Record::new(key, value, version) };
        Ok((record, under_way))
    }
}

/// Turns what became of a write into its verdict; `refusal` is why the first one refused that did.
pub(crate) fn judge(
    key: &Blob,
    outcome: WriteOutcome,
    replicas: &[ReplicaReport],
    refusal: Option<&Failure>,
) -> Result<(), Failure> {
    let each = describe(replicas);
    let failure = match outcome {
        WriteOutcome::Done => return Ok(()),
        WriteOutcome::Partial => Failure::new(
            ErrorName::NotEnoughReplicas,
            format!("{key} is on fewer replicas than asked for: {each}"),
        )
        .hint("it stays there; put again when more nodes are up, or accept fewer: setquorum"),
        WriteOutcome::Unknown => Failure::new(
            ErrorName::OutcomeUnknown,
            format!("nobody knows whether {key} was written: {each}"),
        )
        .hint("get it, then decide whether to write again"),
        WriteOutcome::NotApplied => match refusal {
            Some(refusal) => {
                let message = format!("{key} was not written: {each}");
                let hint = refusal.hint.clone();
                Failure { hint, ..Failure::new(ErrorName::NotApplied, message) }
            }
            None => Failure::new(
                ErrorName::Unreachable,
                format!("{key} was not written: no replica can be reached ({each})"),
            )
            .hint("show lists the nodes; restart one of them, then try again"),
        },
    };
    Err(failure.detail(serde_json::json!({ "replicas": replicas })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_another_number_it_replaces_what_it_was() {
        let had = Version::new(1, 7);
        let seen: Context = "1.3".parse().unwrap();
        let record = Record { context: Some(seen.clone()), ..Record::new("k".into(), None, had) };
        let new = |seen| Intent::New { key: "k".into(), value: None, expires: None, seen };
        let plain = Record::new("k".into(), None, had);
        let table = [
            (Intent::Again(record), Some("1.3,+1.7")),
            (new(Some(seen)), Some("1.3,+1.7")),
            (Intent::Again(plain), None),
            (new(None), None),
        ];
        for (intent, expected) in table {
            let Intent::New { seen, .. } = intent.anew(had) else { panic!("it is to be new") };
            assert_eq!(seen.map(|seen| seen.to_string()).as_deref(), expected);
        }
    }
}
