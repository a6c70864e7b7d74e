//! A walk over all keys of the cluster in key order, a page a node at a time.

use std::collections::BTreeSet;

use futures::future::join_all;
use ringkv_shared::net::NodeApiClient;
use ringkv_shared::plan::Merge;
use ringkv_shared::protocol::node::{DumpReply, Record};
use ringkv_shared::{Blob, NodeId};

use crate::cluster::{Cluster, View};

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
}

/// The walk. A node that does not answer is left out from then on and named in `silent`.
pub(crate) struct Walk<'a> {
    cluster: &'a Cluster,
    view: &'a View,
    range: Range,
    merge: Merge,
    pub(crate) silent: BTreeSet<NodeId>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(cluster: &'a Cluster, view: &'a View, range: Range) -> Self {
        let merge = Merge::new(view.nodes.keys().cloned());
        Self { cluster, view, range, merge, silent: BTreeSet::new() }
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
                if let Some(page) = page {
                    self.merge.feed(node, page.items, page.next);
                } else {
                    self.silent.insert(node.clone());
                    self.merge.feed(node, Vec::new(), None);
                }
            }
        }
    }

    async fn page(&self, node: &NodeId, after: &Option<Blob>) -> Option<DumpReply> {
        let node = &self.view.nodes[node];
        if node.is_down() {
            return None;
        }
        let Range { prefix, after: start, keys_only, tombstones, page_keys } = self.range.clone();
        let after = after.clone().or(start);
        let call = node.peer.call(self.cluster.timeout(), async move |client| {
            let (keys_only, tombstones) = (Some(keys_only), Some(tombstones));
            NodeApiClient::dump(client, after, Some(page_keys), prefix, keys_only, tombstones).await
        });
        call.await.ok()
    }
}
