//! Tombstones are forgotten, by all owners, once nothing older can come back.
//!
//! What stands against it and what exactly is forgotten decides
//! [`collection`]; here is what asks for it: the same rounds that compare
//! replicas, of parts that they found in sync.
//!
//! A node refuses when its leaf has changed since the digest was seen, be it by a write or because a power cut has
//! taken something from it: a floor over what it lost would delete that everywhere. It is not asked again with
//! another digest; the next round finds out anew.
//!
//! # Caveats
//!
//! Who refused, or did not answer, keeps tombstones that others have forgotten behind a floor. The next
//! round offers them to those, hears that they are deleted, and drops them.

use std::collections::BTreeMap;

use futures::future::join_all;
use ringkv_shared::merkle::{Digest, leaf_of_key};
use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::protocol::cluster::Stage;
use ringkv_shared::protocol::node::{Collection, Record};
use ringkv_shared::sync::{Standing, collection};
use ringkv_shared::{Blob, Failure, NodeId, Version};
use tokio::time::Instant;

use crate::cluster::{Cluster, View};
use crate::entropy::Round;
use crate::transfer::bytes_of;

/// Keys a page.
const PAGE_KEYS: usize = 1000;
/// The most tombstones of a leaf that are collected at once, and those of several leaves at which they are.
const BATCH_KEYS: usize = 2000;

impl Cluster {
    /// How the cluster stands, as far as tombstones have to know; waits for writes under way.
    pub(crate) async fn standing(&self, view: &View) -> Standing {
        // Asked before and after: a request may begin again in between.
        let open = self.requests.oldest_open(Instant::now());
        let (mark, under_way) = self.writes.mark();
        under_way.wait().await;
        let open = open.into_iter().chain(self.requests.oldest_open(Instant::now()));
        let before = open.filter_map(Version::previous);
        let mark = before.chain([mark]).min().unwrap_or(mark);
        let silent = view.nodes.values().filter(|node| node.is_down());
        let silent = silent.map(|node| node.id.clone()).collect();
        let pending = matches!(view.stage, Stage::Copying | Stage::Clearing);
        Standing { pending, silent, mark }
    }
}

impl Round<'_> {
    /// Collects the tombstones of all parts in sync that were not looked through since they changed.
    pub(crate) async fn collect(&mut self) {
        let sizes = self.cluster.sizes(&self.view).await;
        if sizes.iter().flatten().all(|size| size.tombstones == 0) {
            return;
        }
        for part in self.audit(|audit| audit.unswept()) {
            let Some(_piece) = self.piece().await else { return };
            match self.sweep(part).await {
                Ok(true) => self.audit(|audit| audit.swept(part)),
                Ok(false) => {}
                Err(failure) => tracing::info!(part, "tombstones not collected: {failure}"),
            }
        }
    }

    /// Collects those of one part; true if none is left that can be.
    async fn sweep(&mut self, part: u8) -> Result<bool, Failure> {
        let view = self.view.clone();
        let standing = self.cluster.standing(&view).await;
        if standing.pending || !standing.silent.is_empty() {
            return Ok(false);
        }
        let answers = self.digests(Some(part)).await;
        if !self.audit(|audit| audit.is_complete(&answers)) {
            return Ok(false);
        }
        let found = self.audit(|audit| audit.look(part, &answers));
        // Each leaf is read at one of its owners: all have the same.
        let mut readers: BTreeMap<NodeId, Vec<(u16, Digest)>> = BTreeMap::new();
        self.audit(|audit| {
            for (leaf, digest) in found.alike {
                if let Some(first) = audit.leaves().owners(leaf).and_then(<[NodeId]>::first) {
                    readers.entry(first.clone()).or_default().push((leaf, digest));
                }
            }
        });
        let (mut all, mut batch) = (found.walk.is_empty(), Vec::new());
        for (reader, leaves) in readers {
            let records = self.tombstones(&reader, leaves.iter().map(|(leaf, _)| *leaf)).await?;
            for (leaf, digest) in leaves {
                let here = |r: &&Record| leaf_of_key(r.key.as_bytes()) == leaf;
                let of_leaf: Vec<&Record> = records.iter().filter(here).collect();
                let taken = of_leaf.iter().copied().take(BATCH_KEYS);
                let Some(collection) = collection(leaf, digest, standing.mark, taken) else {
                    all &= of_leaf.is_empty();
                    continue;
                };
                all &= collection.keys.len() == of_leaf.len();
                batch.push(collection);
                if batch.iter().map(|leaf| leaf.keys.len()).sum::<usize>() >= BATCH_KEYS {
                    all &= self.collect_leaves(std::mem::take(&mut batch)).await?;
                }
            }
        }
        Ok(self.collect_leaves(batch).await? && all)
    }

    /// The tombstones that a node holds in these leaves.
    async fn tombstones(
        &mut self,
        node: &NodeId,
        leaves: impl Iterator<Item = u16>,
    ) -> Result<Vec<Record>, Failure> {
        let leaves: Vec<u16> = leaves.collect();
        let (mut records, mut after) = (Vec::new(), None::<Blob>);
        loop {
            let (leaves, space) = (Some(leaves.clone()), Some(self.space.clone()));
            let call = async move |client: &Client| {
                let (limit, yes) = (Some(PAGE_KEYS), Some(true));
                NodeApiClient::dump(
                    client, after, limit, None, yes, yes, None, space, leaves, None, None,
                )
                .await
            };
            let page = self.cluster.batch(&self.view.nodes[node], call).await?;
            self.report.bytes += page.items.iter().map(bytes_of).sum::<u64>();
            records.extend(page.items.into_iter().filter(|record| record.deleted));
            after = page.next;
            if after.is_none() {
                return Ok(records);
            }
        }
    }

    /// Has all owners of these leaves forget their tombstones; true if all have.
    async fn collect_leaves(&mut self, batch: Vec<Collection>) -> Result<bool, Failure> {
        let keys: usize = batch.iter().map(|leaf| leaf.keys.len()).sum();
        let mut asked: BTreeMap<NodeId, Asked> = BTreeMap::new();
        self.audit(|audit| {
            for leaf in &batch {
                for owner in audit.leaves().owners(leaf.leaf).into_iter().flatten() {
                    let asked = asked.entry(owner.clone()).or_default();
                    asked.due += leaf.keys.len() as u64;
                    asked.leaves.push(leaf.clone());
                }
            }
        });
        let answers =
            join_all(asked.iter().map(|(owner, asked)| self.collect_at(owner, asked))).await;
        let mut all = true;
        for (asked, answer) in asked.values().zip(answers) {
            all &= answer? >= asked.due;
        }
        self.report.collected += if all { keys as u64 } else { 0 };
        Ok(all)
    }

    async fn collect_at(&self, node: &NodeId, asked: &Asked) -> Result<u64, Failure> {
        let (leaves, space) = (asked.leaves.clone(), Some(self.space.clone()));
        let call = async move |client: &Client| NodeApiClient::collect(client, leaves, space).await;
        Ok(self.cluster.batch(&self.view.nodes[node], call).await?.changed)
    }
}

/// What an owner is to forget.
#[derive(Default)]
struct Asked {
    leaves: Vec<Collection>,
    /// Tombstones in them.
    due: u64,
}
