//! A walk over all keys of a keyspace in key order, a page a node at a time; and what all holders of
//! a key together hold.
//!
//! A walk over everything asks for the next page of a node when it gets one, so that nodes read while it is looked at
//! what they gave. With many nodes pages are smaller: all together have so many keys at the most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, MaybeDone, join_all, maybe_done};
use ringkv_shared::arcs::Arcs;
use ringkv_shared::net::{NodeApiClient, PeerError};
use ringkv_shared::plan::{Found, Merge};
use ringkv_shared::protocol::node::{DumpReply, Record, Sibling};
use ringkv_shared::told::Told;
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};

use crate::cluster::{Cluster, Node, View};
use crate::picture::Picture;

/// Keys in the pages of all nodes together, where there are that many nodes: about 20 MB.
const HELD_KEYS: usize = 64_000;
/// Keys in a page, at least.
const PAGE_KEYS_LEAST: usize = 64;

/// What a walk looks at.
#[derive(Clone, Default)]
pub(crate) struct Range {
    pub(crate) keyspace: KeyspaceName,
    pub(crate) prefix: Option<Blob>,
    /// Only keys greater than this.
    pub(crate) after: Option<Blob>,
    pub(crate) keys_only: bool,
    pub(crate) tombstones: bool,
    /// Keys a page; fewer when there are many nodes.
    pub(crate) page_keys: usize,
    /// Whether pages are asked for before they are needed: whoever walks wants them all.
    pub(crate) ahead: bool,
    /// Only keys in these leaves of the digests.
    pub(crate) leaves: Option<Vec<u16>>,
    /// No keys greater than this.
    pub(crate) until: Option<Blob>,
    /// Only keys on arcs of a sort other than 0.
    pub(crate) arcs: Option<Arcs>,
}

/// A page that was asked for, or why a node refused one of the picture, if it did.
type Asked<'a> = MaybeDone<BoxFuture<'a, Result<DumpReply, Option<Failure>>>>;

/// The walk. A node that does not answer is left out from then on and named in `silent`.
pub(crate) struct Walk<'a> {
    cluster: &'a Cluster,
    nodes: &'a BTreeMap<NodeId, Arc<Node>>,
    range: Range,
    merge: Merge,
    /// What the pages are of, when not of what is there now.
    picture: Option<&'a Picture>,
    /// The pages behind those that are being walked.
    asked: BTreeMap<NodeId, Asked<'a>>,
    pub(crate) silent: BTreeSet<NodeId>,
    /// Why a node gave no page of the picture, if one refused: there is none of the whole, then.
    pub(crate) refused: Option<Failure>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(cluster: &'a Cluster, view: &'a View, range: Range) -> Self {
        Self::of(cluster, &view.nodes, range, None)
    }

    /// A walk over what these nodes hold in a picture, or now.
    pub(crate) fn of(
        cluster: &'a Cluster,
        nodes: &'a BTreeMap<NodeId, Arc<Node>>,
        mut range: Range,
        picture: Option<&'a Picture>,
    ) -> Self {
        let merge = Merge::new(nodes.keys().cloned());
        let (asked, silent) = (BTreeMap::new(), BTreeSet::new());
        let room = (HELD_KEYS / nodes.len().max(1)).max(PAGE_KEYS_LEAST);
        range.page_keys = range.page_keys.min(room);
        Self { cluster, nodes, range, merge, picture, asked, silent, refused: None }
    }

    /// The next key with every answering node's record of it; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<(NodeId, Record)>> {
        let found = self.next_found().await?;
        Some(found.into_iter().map(|found| (found.node, found.record)).collect())
    }

    /// The same with the bytes of each record, where values are left out.
    pub(crate) async fn next_found(&mut self) -> Option<Vec<Found>> {
        loop {
            if let Some(group) = self.merge.next_key() {
                return Some(group);
            }
            let wanted = self.merge.wanted();
            if wanted.is_empty() {
                return None;
            }
            let known = |(node, after): &(NodeId, Option<Blob>)| {
                self.asked.remove(node).unwrap_or_else(|| self.ask(node, after.clone()))
            };
            let mut asked: Vec<Asked<'_>> = wanted.iter().map(known).collect();
            join_all(&mut asked).await;
            for ((node, _), mut page) in wanted.into_iter().zip(asked) {
                let page = std::pin::Pin::new(&mut page).take_output().expect("it was waited for");
                self.feed(&node, page).await;
            }
            if self.range.ahead {
                // Pages may come as fast as they are looked at; others want to go on, too.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn feed(&mut self, node: &NodeId, page: Result<DumpReply, Option<Failure>>) {
        match page {
            Ok(page) => {
                if self.range.ahead && page.next.is_some() {
                    let mut next = self.ask(node, page.next.clone());
                    // So that it is sent.
                    let _ = futures::poll!(&mut next);
                    self.asked.insert(node.clone(), next);
                }
                self.merge.feed(node, page.items, &page.sizes, page.next);
            }
            Err(refused) => {
                self.refused = refused.or(self.refused.take());
                self.silent.insert(node.clone());
                self.merge.feed(node, Vec::new(), &[], None);
            }
        }
    }

    /// Asks a node for the page after a key.
    fn ask(&self, node: &NodeId, after: Option<Blob>) -> Asked<'a> {
        let node = Arc::clone(&self.nodes[node]);
        let at = self.picture.map(|picture| picture.at(&node.id));
        let (cluster, range) = (self.cluster, self.range.clone());
        let page = async move {
            if node.is_down() || at == Some(None) {
                return Err(None);
            }
            let (pictured, at) = (at.is_some(), at.flatten());
            let Range {
                keyspace,
                prefix,
                after: start,
                keys_only,
                tombstones,
                page_keys,
                leaves,
                until,
                arcs,
                ..
            } = range;
            let after = after.or(start);
            let call = node.peer.call(cluster.timeout(), async move |client| {
                let (keys_only, tombstones) = (Some(keys_only), Some(tombstones));
                let (limit, space) = (Some(page_keys), Some(keyspace));
                let arcs = arcs.map(Told::Arcs);
                NodeApiClient::dump(
                    client, after, limit, prefix, keys_only, tombstones, at, space, leaves, until,
                    arcs,
                )
                .await
            });
            call.await.map_err(|error| match error {
                PeerError::Refused(failure) if pictured => Some(failure),
                _ => None,
            })
        };
        maybe_done(page.boxed())
    }
}

/// What all holders of a key together hold: `group` as [`Walk::next`] gives it.
pub(crate) fn merged(group: &[(NodeId, Record)]) -> Option<Record> {
    let records: Vec<&Record> = group.iter().map(|(_, record)| record).collect();
    Record::merged(records)
}

/// A key as a reader of all keys sees it: the value of the greatest version that lives, with the other
/// values that live beside it; `None` if none does.
pub(crate) fn shown(record: Record) -> Option<Record> {
    if record.is_plain() {
        return (!record.deleted).then_some(record);
    }
    let mut live: Vec<Sibling> = record.values().filter(|sibling| !sibling.deleted).collect();
    let Sibling { value, deleted, version, expires, stamp } = live.pop()?;
    let context = Some(record.past());
    Some(Record {
        key: record.key,
        value,
        deleted,
        version,
        expires,
        stamp,
        context,
        siblings: live,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shared::Version;

    /// A record as `2` (a value, plain), `2-1` (its writer had seen 1 only), `2d` (a tombstone).
    fn record(text: &str) -> Record {
        let (what, seen) = text.split_once('-').map_or((text, None), |(w, seen)| (w, Some(seen)));
        let (counter, value) = match what.strip_suffix('d') {
            Some(counter) => (counter, None),
            None => (what, Some(format!("v{what}").as_str().into())),
        };
        let version = Version::new(1, counter.parse().unwrap());
        let context = seen.map(|seen| format!("1.{seen}").parse().unwrap());
        Record { context, ..Record::new("k".into(), value, version) }
    }

    #[test]
    fn a_key_is_there_if_any_value_of_it_lives() {
        for (held, value, others) in [
            ("1 1", Some("v1"), ""),
            ("1 2", Some("v2"), ""),
            ("2 1", Some("v2"), ""),
            ("1 2d", None, ""),
            ("1d 2", Some("v2"), ""),
            // 3 and 2 had both seen 1 only: both stay.
            ("2-1 3-1", Some("v3"), "v2"),
            ("3-1 2-1 1", Some("v3"), "v2"),
            ("2-1 3d-1", Some("v2"), ""),
            ("2d-1 3d-1", None, ""),
            ("2-1 3-1 4", Some("v4"), ""),
        ] {
            let nodes = ["a", "b", "c"].map(|id| id.parse().unwrap());
            let group: Vec<_> = nodes.into_iter().zip(held.split(' ').map(record)).collect();
            let shown = merged(&group).and_then(shown);
            let values = |siblings: &[Sibling]| {
                let values = siblings.iter().filter_map(|sibling| sibling.value.clone());
                values.map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
            };
            let seen = shown.as_ref().and_then(|record| record.value.clone());
            assert_eq!(seen.map(|value| value.to_string()).as_deref(), value, "{held}");
            assert_eq!(shown.map_or(String::new(), |r| values(&r.siblings)), others, "{held}");
        }
    }

    #[test]
    fn of_values_with_stamps_only_the_last_is_shown() {
        let stamped = |text: &str, stamp: &str| {
            let stamp = Some(stamp.parse().unwrap());
            ("a".parse().unwrap(), Record { stamp, ..record(text) })
        };
        let group = vec![stamped("2-1", "9.0"), stamped("3-1", "5.0")];
        let shown = merged(&group).and_then(shown).unwrap();
        assert_eq!((shown.value, shown.siblings.len()), (Some("v2".into()), 0));
    }
}
