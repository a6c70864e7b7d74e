//! Anti-entropy: rounds that compare the replicas of all keys and mend what differs, and `check`.
//!
//! ```text
//!   digests of all parts          256 numbers a node; parts as they were when found in sync are done
//!   of each other part: its leaves 256 numbers a node, when no write from before is under way
//!   leaves that differ            the keys of these, without values, from every node
//!   keys that differ              copied to who lacks something; dropped where they do not belong
//!   once more, until in sync
//!   tombstones of parts in sync   collected, see `collect`
//! ```
//!
//! What is in sync, and what to look at next, decides [`Audit`](ringkv_shared::sync::Audit); what to do with a key
//! [`compare`].
//!
//! # Caveats
//!
//! A key that is written while it is compared is left to the next round. A note that is made while the overflow of
//! its target is struck off goes with it: the next round finds what it was of. While a change of the ring is
//! pending only the owners of the ring in force are compared, and nothing is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use ringkv_shared::merkle::{LEAVES, PARTS, leaf_of_key};
use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::plan::Holding;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{CheckReport, RebalanceState};
use ringkv_shared::protocol::node::{KeyVersion, Record, Via};
use ringkv_shared::sync::{Answers, Difference, compare};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, Line, NodeId, Version};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::cluster::{Cluster, Node, View};
use crate::events::counted;
use crate::transfer::{CALL_RECORDS, Way, bytes_of};
use crate::walk::{Range, Walk};

/// Differing keys gathered before they are mended.
const BATCH_KEYS: usize = 1000;
/// Differing keys that a report names.
const EXAMPLES_MAX: usize = 100;
/// How often a part is looked at until it is in sync.
const LOOKS_MAX: usize = 4;
/// How often, of these, keys that are being written are passed over.
const WAITS_MAX: usize = 2;
/// Bytes of one digest as it travels.
const DIGEST_BYTES: u64 = 19;

/// What a round may and does.
pub(crate) struct Round<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) view: Arc<View>,
    /// A change of the ring waits for its end.
    _user: TaskTrackerToken,
    pub(crate) space: KeyspaceName,
    repair: bool,
    /// It ends when it has moved so many bytes.
    bytes_max: u64,
    pub(crate) report: CheckReport,
    /// Keys mended, and how many of them each node lacked.
    mended: u64,
    lacked: BTreeMap<NodeId, u64>,
    /// Of the part that is looked at, the keys that were counted as different, and those mended.
    counted: BTreeSet<Blob>,
    mended_here: BTreeSet<Blob>,
    /// Why it ended early.
    cut_short: Option<&'static str>,
}

/// What the keys of some leaves came to.
#[derive(Default)]
struct Walked {
    /// Leaves with keys that differ, or that were written meanwhile.
    dirty: BTreeSet<u16>,
    /// Whether there were some of the latter, which were not looked at closely.
    passed_over: bool,
    copies: BTreeMap<(NodeId, NodeId), Vec<Blob>>,
    drops: BTreeMap<NodeId, Vec<KeyVersion>>,
}

/// Rounds until `shutdown`, with the pause of the setting `anti_entropy` between them; 0 is none.
pub(crate) async fn rounds(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let mut ended = Instant::now();
    loop {
        let pause = cluster.settings().anti_entropy();
        let due = async {
            match pause {
                Some(pause) => tokio::time::sleep_until(ended + pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cluster.sync.pause_changed.notified() => continue,
            () = cluster.sync.hurry.notified(), if pause.is_some() => {}
            () = due => {}
        }
        cluster.round_of_all().await;
        ended = Instant::now();
    }
}

impl Cluster {
    /// One round over all keyspaces within the byte budget.
    async fn round_of_all(&self) {
        let _alone = self.sync.round.lock().await;
        let (began_ms, mut left) = (self.now_ms(), self.settings().sync_budget());
        let view = self.view();
        for space in view.topology.current.copies.keys() {
            let mut round = Round::new(self, space.clone(), true, left);
            round.run().await;
            left = left.saturating_sub(round.report.bytes);
            if let Some(text) = round.mended_in_words() {
                self.events.tell(text);
            }
        }
        self.settle_overflows(&view, began_ms).await;
    }

    /// Compares the replicas of a keyspace now, all of them, and mends what differs if asked to.
    pub(crate) async fn check(
        &self,
        space: KeyspaceName,
        repair: bool,
    ) -> Result<CheckReport, Failure> {
        self.view().keyspace(&space)?;
        if self.is_rebalancing() {
            return Err(busy());
        }
        let _alone = self.sync.round.lock().await;
        let began_ms = self.now_ms();
        let mut round = Round::new(self, space, repair, u64::MAX);
        round.run().await;
        if round.cut_short.is_some() {
            return Err(busy());
        }
        if repair {
            self.settle_overflows(&round.view, began_ms).await;
        }
        Ok(round.report)
    }

    pub(crate) fn is_rebalancing(&self) -> bool {
        self.lock_job().report.state == RebalanceState::Running
    }

    /// Nodes whose notes were thrown away have all that they missed, once every part of every keyspace was verified
    /// since.
    async fn settle_overflows(&self, view: &View, began_ms: u64) {
        let verified = self.sync.verified_ms(view).is_some_and(|verified| verified >= began_ms);
        for (keeper, debts) in self.debts(view).into_iter().filter(|_| verified) {
            for debt in debts.iter().filter(|debt| debt.overflow && debt.keys == 0) {
                if let Err(failure) = self.strike_off(view, &keeper, &debt.to, None).await {
                    tracing::info!(%keeper, target = %debt.to, "overflow not struck off: {failure}");
                }
            }
        }
    }

    /// The digests of those who answer.
    pub(crate) async fn digests(
        &self,
        view: &View,
        space: &KeyspaceName,
        part: Option<u8>,
    ) -> Answers {
        let ask = async |node: &Arc<Node>| {
            let space = Some(space.clone());
            let call =
                async move |client: &Client| NodeApiClient::digests(client, space, part).await;
            let reply = self.batch(node, call).await.ok()?;
            let digests = reply.digests.iter().map(|text| text.parse().ok());
            let digests: Vec<_> = digests.collect::<Option<_>>()?;
            (digests.len() == PARTS).then(|| (node.id.clone(), digests))
        };
        join_all(view.nodes.values().map(ask)).await.into_iter().flatten().collect()
    }
}

impl<'a> Round<'a> {
    fn new(cluster: &'a Cluster, space: KeyspaceName, repair: bool, bytes_max: u64) -> Self {
        let report = CheckReport {
            status: Status::Ok,
            keyspace: space.clone(),
            different: 0,
            examples: Vec::new(),
            repaired: 0,
            failed: 0,
            dropped: 0,
            collected: 0,
            leaves: 0,
            bytes: 0,
            silent: Vec::new(),
        };
        let (view, _user) = cluster.enter();
        Self {
            cluster,
            view,
            _user,
            space,
            repair,
            bytes_max,
            report,
            mended: 0,
            lacked: BTreeMap::new(),
            counted: BTreeSet::new(),
            mended_here: BTreeSet::new(),
            cut_short: None,
        }
    }

    async fn run(&mut self) {
        let answers = self.digests(None).await;
        let silent = self.view.nodes.keys().filter(|node| !answers.contains_key(*node));
        self.report.silent = silent.cloned().collect();
        let now_ms = self.cluster.now_ms();
        let parts = self.audit(|audit| audit.parts(now_ms, &answers));
        self.report.leaves = (LEAVES - parts.len() * PARTS) as u64;
        for part in parts {
            let Some(_piece) = self.piece().await else { return };
            self.compare_part(part).await;
            self.counted.clear();
            self.mended += std::mem::take(&mut self.mended_here).len() as u64;
            self.report.leaves += PARTS as u64;
        }
        if self.repair && self.report.silent.is_empty() {
            self.collect().await;
        }
    }

    /// Waits for the turn of the next piece; `None` ends the round.
    pub(crate) async fn piece(&mut self) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        if self.report.bytes >= self.bytes_max {
            self.cut_short = Some("the rest is left to the next round");
            return None;
        }
        // Who waits for a rebalance to end would hold up the ring: it waits for this view.
        let piece = Arc::clone(&self.cluster.sync.piece).try_lock_owned().ok();
        let now = self.cluster.view();
        let same_ring = now.topology.epoch == self.view.topology.epoch;
        let free = piece.filter(|_| same_ring && now.keyspaces.contains_key(&self.space));
        if free.is_none() {
            self.cut_short = Some("the ring is being changed");
        }
        free
    }

    pub(crate) fn audit<T>(&self, work: impl FnOnce(&mut ringkv_shared::sync::Audit) -> T) -> T {
        self.cluster.sync.audit(&self.view, &self.space, work)
    }

    pub(crate) async fn digests(&mut self, part: Option<u8>) -> Answers {
        let answers = self.cluster.digests(&self.view, &self.space, part).await;
        self.report.bytes += answers.len() as u64 * PARTS as u64 * DIGEST_BYTES;
        answers
    }

    /// Compares a part, and mends it until it is in sync.
    async fn compare_part(&mut self, part: u8) {
        for look in 0..LOOKS_MAX {
            let (mark, under_way) = self.cluster.writes.mark();
            under_way.wait().await;
            let answers = self.digests(Some(part)).await;
            let found = self.audit(|audit| audit.look(part, &answers));
            let now_ms = self.cluster.now_ms();
            if found.walk.is_empty() {
                self.audit(|audit| audit.in_sync(part, &answers, now_ms));
                return;
            }
            let before = self.report.repaired + self.report.dropped;
            // What is above the mark so often was never numbered here: it is no write under way.
            let mark = if look < WAITS_MAX { mark } else { Version::new(u32::MAX, u64::MAX) };
            let Walked { dirty, passed_over, .. } = self.walk(&found.walk, mark).await;
            let clean: Vec<u16> =
                found.walk.iter().filter(|leaf| !dirty.contains(leaf)).copied().collect();
            let all_clean = self.audit(|audit| {
                clean.iter().for_each(|leaf| audit.walked(*leaf, &answers));
                let all_clean = audit.look(part, &answers).walk.is_empty();
                if all_clean {
                    audit.in_sync(part, &answers, now_ms);
                }
                all_clean
            });
            let idle = self.report.repaired + self.report.dropped == before;
            if all_clean || idle && !passed_over {
                return;
            }
        }
    }

    /// Compares the keys of these leaves and mends them. Writes numbered up to `mark` have ended.
    async fn walk(&mut self, leaves: &[u16], mark: Version) -> Walked {
        let view = Arc::clone(&self.view);
        let (keys_only, tombstones, page_keys) = (true, true, BATCH_KEYS);
        let (keyspace, leaves) = (self.space.clone(), Some(leaves.to_vec()));
        let range =
            Range { keys_only, tombstones, page_keys, keyspace, leaves, ..Range::default() };
        let mut walk = Walk::new(self.cluster, &view, range);
        let (mut walked, mut gathered) = (Walked::default(), 0);
        while let Some(group) = walk.next().await {
            self.report.bytes += group.iter().map(|(_, record)| bytes_of(record)).sum::<u64>();
            gathered += usize::from(self.judge(group, &walk.silent, mark, &mut walked));
            if gathered >= BATCH_KEYS {
                self.mend(&mut walked).await;
                gathered = 0;
            }
        }
        self.mend(&mut walked).await;
        walked
    }

    /// Looks at one key; true if something is to be done about it.
    fn judge(
        &mut self,
        group: Vec<(NodeId, Record)>,
        silent: &BTreeSet<NodeId>,
        mark: Version,
        walked: &mut Walked,
    ) -> bool {
        let topology = &self.view.topology;
        let Some(key) = group.first().map(|(_, record)| record.key.clone()) else { return false };
        let mut owners = topology.current.owners(&self.space, key.as_bytes());
        owners.retain(|owner| !silent.contains(owner));
        // Who is only to join has no say yet.
        let settled = topology.pending.is_none();
        let counts =
            |node: &NodeId| (settled && topology.current.has(node)) || owners.contains(node);
        let holdings: Vec<Holding> = group
            .into_iter()
            .filter(|(node, _)| counts(node))
            .map(|(node, held)| Holding { node, held })
            .collect();
        let Some(difference) = compare(&holdings, &owners) else { return false };
        walked.dirty.insert(leaf_of_key(key.as_bytes()));
        if holdings.iter().any(|holding| is_later(&holding.held, mark)) {
            walked.passed_over = true;
            return false;
        }
        self.count(&key, &difference);
        if !self.repair {
            return false;
        }
        let Difference { decision, .. } = difference;
        for link in &decision.copies {
            walked.copies.entry(link.clone()).or_default().push(key.clone());
        }
        // Nobody may be the last one who has it.
        if decision.copies.is_empty() && silent.is_empty() {
            for Holding { node, held } in &holdings {
                if decision.drop_at.contains(node) {
                    let context = (!held.is_plain()).then(|| decision.seen.clone());
                    let forget = KeyVersion { key: key.clone(), version: held.version, context };
                    walked.drops.entry(node.clone()).or_default().push(forget);
                }
            }
        }
        true
    }

    fn count(&mut self, key: &Blob, difference: &Difference) {
        if difference.lacks.is_empty() || !self.counted.insert(key.clone()) {
            return;
        }
        self.report.different += 1;
        self.cluster.counters.divergences.fetch_add(1, Ordering::Relaxed);
        if self.report.examples.len() < EXAMPLES_MAX {
            self.report.examples.push(difference.describe(key));
        }
    }

    /// Makes the copies and forgets what does not belong where it is.
    async fn mend(&mut self, walked: &mut Walked) {
        let view = Arc::clone(&self.view);
        let space = self.space.clone();
        for ((from, to), keys) in std::mem::take(&mut walked.copies) {
            let way = Way { view: &view, space: &space, from: &from, to: &to, via: Via::Sync };
            for keys in keys.chunks(CALL_RECORDS) {
                match self.cluster.transfer(way, keys).await {
                    Ok(copied) => {
                        self.report.repaired += copied.changed;
                        self.report.failed += copied.refused.len() as u64;
                        self.report.dropped += copied.dropped;
                        self.report.bytes += copied.bytes;
                        self.cluster.counters.repairs.fetch_add(copied.changed, Ordering::Relaxed);
                        *self.lacked.entry(to.clone()).or_default() += copied.changed;
                        if copied.changed > 0 {
                            self.mended_here.extend(copied.records.into_iter().map(|r| r.key));
                        }
                    }
                    Err(failure) => {
                        tracing::info!(%from, %to, "{} not mended: {failure}", keys.len());
                        self.report.failed += keys.len() as u64;
                    }
                }
            }
        }
        for (node, keys) in std::mem::take(&mut walked.drops) {
            for keys in keys.chunks(CALL_RECORDS) {
                match self.cluster.forget(&view.nodes[&node], &space, keys.to_vec()).await {
                    Ok(dropped) => self.report.dropped += dropped,
                    Err(failure) => tracing::info!(%node, "not dropped: {failure}"),
                }
            }
        }
    }

    /// `anti-entropy mended 12 keys (n2 lacked 12)`; `None` if nothing was mended.
    fn mended_in_words(&self) -> Option<String> {
        let lacked = self.lacked.iter().filter(|(_, keys)| **keys > 0);
        let lacked: Vec<String> =
            lacked.map(|(node, keys)| format!("{node} lacked {keys}")).collect();
        let keys = counted(self.mended, "key");
        let of = match self.space.is_default() {
            true => String::new(),
            false => format!(" of {}", self.space),
        };
        (!lacked.is_empty())
            .then(|| format!("anti-entropy mended {keys}{of} ({})", lacked.join(", ")))
    }
}

/// Whether something in a record was numbered after a mark: it is being written.
fn is_later(record: &Record, mark: Version) -> bool {
    record.versions().any(|version| version.line() == Line::Coordinators && version > mark)
}

fn busy() -> Failure {
    Failure::new(ErrorName::Busy, "a change of the ring is under way; not all was compared")
        .hint("wait until it has finished: progress tells")
}
