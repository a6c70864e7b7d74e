//! Copies from one node to another: fetched where they are, merged where they are lacking.
//!
//! Hand-off, anti-entropy and rebalance all copy this way and differ only in why. When the target says
//! of a key that all that came counts as deleted there (its tombstone was collected), then the copy at the
//! source is stale, and is dropped there, too, if it is still what was sent.
//!
//! # Caveats
//!
//! One call at a time on each way; it holds at most half a megabyte.

use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::plan::RECORD_BYTES;
use ringkv_shared::protocol::node::{KeyVersion, Record, Via};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId};

use crate::cluster::{Cluster, Node, View};

/// Records fetched and applied in one call.
pub(crate) const CALL_RECORDS: usize = 500;
/// A batch has this many times as long as a single request: it may hold half a megabyte to be
/// synced.
const BATCH_DEADLINES: u32 = 5;

/// From where to where, and why.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) view: &'a View,
    pub(crate) space: &'a KeyspaceName,
    pub(crate) from: &'a NodeId,
    pub(crate) to: &'a NodeId,
    pub(crate) via: Via,
}

/// What was copied.
#[derive(Default)]
pub(crate) struct Copied {
    /// What was sent, without values.
    pub(crate) records: Vec<Record>,
    /// How many of them brought something new.
    pub(crate) changed: u64,
    /// Those that counted as deleted at the target.
    pub(crate) stale: Vec<Blob>,
    /// How many of these were still as they were sent, and are gone at the source.
    pub(crate) dropped: u64,
    /// Those that the target cannot take, for they have grown too large there. They hold up nobody else.
    pub(crate) refused: Vec<Blob>,
    /// Bytes that travelled, about: from the source, and to the target.
    pub(crate) bytes: u64,
}

impl Copied {
    fn add(&mut self, other: Self) {
        self.changed += other.changed;
        self.stale.extend(other.stale);
        self.dropped += other.dropped;
        self.refused.extend(other.refused);
        self.bytes += other.bytes;
        self.records.extend(other.records);
    }
}

impl Cluster {
    /// Copies what the source has of these keys, in as many calls as it takes. Keys that it does not
    /// have are left out.
    pub(crate) async fn transfer(&self, way: Way<'_>, keys: &[Blob]) -> Result<Copied, Failure> {
        let (mut rest, mut all) = (keys, Copied::default());
        while !rest.is_empty() {
            let page = &rest[..rest.len().min(CALL_RECORDS)];
            let copied = match self.copy_page(way, page.to_vec()).await {
                Err(failure) if failure.name == ErrorName::TooLarge => {
                    self.copy_each(way, page).await?
                }
                copied => copied?,
            };
            // A page may be cut short by its byte budget: go on behind the last one.
            let sent = copied.records.last().map(|record| &record.key);
            let last = sent.filter(|_| copied.refused.is_empty());
            let last = last.and_then(|last| page.iter().position(|key| key == last));
            rest = &rest[last.map_or(page.len(), |last| last + 1)..];
            all.add(copied);
        }
        Ok(all)
    }

    /// One key a call, so that the one that is too large stands in nobody's way.
    async fn copy_each(&self, way: Way<'_>, keys: &[Blob]) -> Result<Copied, Failure> {
        let mut all = Copied::default();
        for key in keys {
            match self.copy_page(way, vec![key.clone()]).await {
                Err(failure) if failure.name == ErrorName::TooLarge => {
                    tracing::warn!(%key, from = %way.from, to = %way.to, "not copied: {failure}; a put without a context makes it small again");
                    all.refused.push(key.clone());
                }
                copied => all.add(copied?),
            }
        }
        Ok(all)
    }

    async fn copy_page(&self, way: Way<'_>, keys: Vec<Blob>) -> Result<Copied, Failure> {
        let Way { view, space, from, to, via } = way;
        let records = self.fetch(known(view, from)?, space, keys).await?;
        if records.is_empty() {
            return Ok(Copied::default());
        }
        let bytes = records.iter().map(bytes_of).sum::<u64>() * 2;
        let without: Vec<Record> = records.iter().map(without_values).collect();
        let name = Some(space.clone());
        let apply = async move |client: &Client| {
            NodeApiClient::apply(client, records, name, Some(via)).await
        };
        let reply = self.batch(known(view, to)?, apply).await?;
        let stale = reply.deleted;
        let gone = without.iter().filter(|record| stale.contains(&record.key));
        let dropped = self.forget(known(view, from)?, space, gone.map(as_it_is).collect()).await?;
        let (changed, refused) = (reply.changed, Vec::new());
        Ok(Copied { records: without, changed, stale, dropped, refused, bytes })
    }

    /// What a node holds of these keys, as far as it fits one answer.
    pub(crate) async fn fetch(
        &self,
        node: &Node,
        space: &KeyspaceName,
        keys: Vec<Blob>,
    ) -> Result<Vec<Record>, Failure> {
        let space = Some(space.clone());
        let fetch = async move |client: &Client| NodeApiClient::fetch(client, keys, space).await;
        Ok(self.batch(node, fetch).await?.records)
    }

    /// All that a node holds of these keys.
    pub(crate) async fn fetch_all(
        &self,
        node: &Node,
        space: &KeyspaceName,
        keys: &[Blob],
    ) -> Result<Vec<Record>, Failure> {
        let (mut rest, mut all) = (keys, Vec::new());
        while !rest.is_empty() {
            let page = &rest[..rest.len().min(CALL_RECORDS)];
            let records = self.fetch(node, space, page.to_vec()).await?;
            let last = records.last().and_then(|last| page.iter().position(|key| *key == last.key));
            // Behind the last one there is nothing, or it did not fit the answer: it is asked for again.
            rest = &rest[last.map_or(page.len(), |last| last + 1)..];
            all.extend(records);
        }
        Ok(all)
    }

    /// Has a node forget keys; says how many were still as they are said to be.
    pub(crate) async fn forget(
        &self,
        node: &Node,
        space: &KeyspaceName,
        keys: Vec<KeyVersion>,
    ) -> Result<u64, Failure> {
        if keys.is_empty() {
            return Ok(0);
        }
        let space = Some(space.clone());
        let call = async move |client: &Client| NodeApiClient::drop_keys(client, keys, space).await;
        Ok(self.batch(node, call).await?.changed)
    }

    /// One call with a batch; a node that has gone DOWN since is not waited for again. What works in the background
    /// ends here, too, when this coordinator is not the one any more: it would move keys by a ring of before.
    pub(crate) async fn batch<T, F>(&self, node: &Node, call: F) -> Result<T, Failure>
    where
        F: AsyncFnOnce(&Client) -> Result<T, jsonrpsee::core::client::Error>,
    {
        self.reigns()?;
        if node.is_down() {
            return Err(Failure::new(ErrorName::Unreachable, format!("{} is DOWN", node.name())));
        }
        let answer = node.bulk.call(self.timeout() * BATCH_DEADLINES, call).await;
        answer.map_err(|error| error.into_failure(&node.name()))
    }
}

/// A member, or a node that is leaving.
pub(crate) fn known<'a>(view: &'a View, id: &NodeId) -> Result<&'a Node, Failure> {
    let gone = || Failure::new(ErrorName::NodeNotFound, format!("{id} is not in the cluster"));
    view.anybody(id).map(AsRef::as_ref).ok_or_else(gone)
}

/// About how many bytes a record has on its way.
pub(crate) fn bytes_of(record: &Record) -> u64 {
    let values = record.values().filter_map(|sibling| sibling.value.map(|value| value.len()));
    (record.key.len() + values.sum::<usize>()) as u64 + RECORD_BYTES
}

/// Names a record so that it is forgotten only if it is still what it was.
pub(crate) fn as_it_is(record: &Record) -> KeyVersion {
    let context = (!record.is_plain()).then(|| record.seen());
    KeyVersion { key: record.key.clone(), version: record.version, context }
}

pub(crate) fn without_values(record: &Record) -> Record {
    let mut record = Record { value: None, ..record.clone() };
    record.siblings.iter_mut().for_each(|sibling| sibling.value = None);
    record
}
