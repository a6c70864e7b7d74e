//! A walk over all keys of the cluster in key order, a page a node at a time.

use std::collections::BTreeSet;

use futures::future::join_all;
use ringkv_shared::net::{NodeApiClient, PeerError};
use ringkv_shared::plan::Merge;
use ringkv_shared::protocol::node::{DumpReply, Record};
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};

use crate::cluster::{Cluster, View};
use crate::picture::Picture;

/// What a walk looks at.
#[derive(Clone, Default)]
pub(crate) struct Range {
    pub(crate) prefix: Option<Blob>,
    /// Only keys greater than this.
    pub(crate) after: Option<Blob>,
    pub(crate) keys_only: bool,
    pub(crate) tombstones: bool,
    /// Keys a page.
    pub(crate) page_keys: usize,
    pub(crate) keyspace: KeyspaceName,
    /// Only keys in these leaves of the digests.
    pub(crate) leaves: Option<Vec<u16>>,
}

/// The walk. A node that does not answer is left out from then on and named in `silent`.
pub(crate) struct Walk<'a> {
    cluster: &'a Cluster,
    view: &'a View,
    range: Range,
    merge: Merge,
    /// What the pages are of, when not of what is there now.
    picture: Option<&'a Picture>,
    pub(crate) silent: BTreeSet<NodeId>,
    /// Why a node gave no page of the picture, if one refused: there is none of the whole, then.
    pub(crate) refused: Option<Failure>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(cluster: &'a Cluster, view: &'a View, range: Range) -> Self {
        Self::of(cluster, view, range, None)
    }

    /// A walk over what a picture has, or over what is there now.
    pub(crate) fn of(
        cluster: &'a Cluster,
        view: &'a View,
        range: Range,
        picture: Option<&'a Picture>,
    ) -> Self {
        let merge = Merge::new(view.nodes.keys().cloned());
        Self { cluster, view, range, merge, picture, silent: BTreeSet::new(), refused: None }
    }

    /// The next key with every answering node's record of it; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<(NodeId, Record)>> {
        loop {
            if let Some(group) = self.merge.next_key() {
                return Some(group);
            }
            let wanted = self.merge.wanted();
            if wanted.is_empty() {
                return None;
            }
            let pages = join_all(wanted.iter().map(|(node, after)| self.page(node, after))).await;
            for ((node, _), page) in wanted.iter().zip(pages) {
                let Ok(page) = page else {
                    if let Err(Some(failure)) = page {
                        self.refused = Some(failure);
                    }
                    self.silent.insert(node.clone());
                    self.merge.feed(node, Vec::new(), None);
                    continue;
                };
                self.merge.feed(node, page.items, page.next);
            }
        }
    }

    /// A page of a node; the error is why it refused one of the picture, if it did.
    async fn page(
        &self,
        node: &NodeId,
        after: &Option<Blob>,
    ) -> Result<DumpReply, Option<Failure>> {
        let node = &self.view.nodes[node];
        let at = self.picture.map(|picture| picture.at(&node.id));
        if node.is_down() || at == Some(None) {
            return Err(None);
        }
        let at = at.flatten();
        let Range { prefix, after: start, keys_only, tombstones, page_keys, keyspace, leaves } =
            self.range.clone();
        let after = after.clone().or(start);
        let call = node.peer.call(self.cluster.timeout(), async move |client| {
            let (keys_only, tombstones) = (Some(keys_only), Some(tombstones));
            let limit = Some(page_keys);
            let space = Some(keyspace);
            NodeApiClient::dump(
                client, after, limit, prefix, keys_only, tombstones, at, space, leaves,
            )
            .await
        });
        call.await.map_err(|error| match error {
            PeerError::Refused(failure) if self.picture.is_some() => Some(failure),
            _ => None,
        })
    }
}
