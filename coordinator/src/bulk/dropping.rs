//! What strays hold as the owners do, forgotten there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::join_all;
use ringkv_shared::plan::{Drops, Found, drops};
use ringkv_shared::protocol::node::{ShedReply, SortCount};
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use tokio::time::Instant;

use super::{Pass, STRETCHES};
use crate::cluster::{Cluster, View};
use crate::moving::{Strays, strays_of};
use crate::plan::everything;
use crate::survey::{Ground, Owned, Span, Step, Survey, Surveyed};
use crate::transfer::without_values;
use crate::walk::Range;

impl Cluster {
    /// Drops copies of a keyspace at nodes that are no owners, where all owners have them. Says whether it is worth
    /// while to do it once more.
    pub(crate) async fn drop_space(&self, view: &View, space: &KeyspaceName) -> bool {
        let now = &view.topology.current;
        let Some(survey) = Survey::begin(self, view, space, (now, now)).await else {
            return self.drop_range(view, everything(space)).await;
        };
        let pass = Pass::over(&survey);
        let dropped = async |step| match step {
            Step::Rest(after) => self.drop_range(view, Range { after, ..everything(space) }).await,
            Step::Stretch(surveyed) => {
                let started = Instant::now();
                let passed_over = self.drop_stretch(&pass, surveyed).await;
                let rest_for = {
                    let (limits, mut job) = (self.limits(), self.lock_job());
                    let now = job.elapsed();
                    job.pace.look(now, &limits, || self.latency.p99(Instant::now()));
                    job.pace.rest(started.elapsed())
                };
                tokio::time::sleep(rest_for).await;
                passed_over
            }
        };
        let steps = self.steps(survey, &pass);
        let passed_over = steps.map(dropped).buffer_unordered(STRETCHES);
        let passed_over = passed_over.fold(false, async |any, one| any | one).await;
        self.lock_job().settle();
        passed_over
    }

    /// Says whether copies were passed over.
    async fn drop_stretch(&self, pass: &Pass<'_>, surveyed: Surveyed) -> bool {
        let (ground, keys) = (&pass.ground, surveyed.keys());
        let Surveyed { span, held } = surveyed;
        let (mut unclear, mut due) = (BTreeSet::new(), Vec::new());
        let mut whole: BTreeMap<NodeId, BTreeMap<u16, SortCount>> = BTreeMap::new();
        let mut apart: BTreeMap<NodeId, BTreeSet<u16>> = BTreeMap::new();
        for (number, held) in held {
            match drops(ground.sort(number), &held) {
                Drops::None => {}
                Drops::Unclear => {
                    unclear.insert(number);
                    for (node, _) in held {
                        apart.entry(node).or_default().insert(number);
                    }
                }
                Drops::At { alike, others, count } => {
                    for stray in alike {
                        whole.entry(stray).or_default().insert(number, count);
                    }
                    if !others.is_empty() {
                        for stray in &others {
                            apart.entry(stray.clone()).or_default().insert(number);
                        }
                        due.push((number, others, count));
                    }
                }
            }
        }
        self.lock_job().report.scanned += keys;
        let whole = whole.iter().map(|(stray, sorts)| {
            let owned = Owned::Sorts(sorts.values().copied().collect());
            let these = sorts.keys().copied().collect();
            let apart = apart.get(stray).cloned().unwrap_or_default();
            let sorts = ground.along(&these, &apart, |sort| !sort.now.contains(stray));
            let span = &span;
            async move { self.shed_at(ground, span, stray, &sorts, owned).await }
        });
        let mut passed_over = join_all(whole).await.contains(&true);
        for (owner, sorts) in asked(ground, due) {
            let seen = sorts.iter().map(|(number, (_, count))| (*number, *count)).collect();
            let Some(at) = ground.view.anybody(&owner) else { continue };
            let Some(marks) = ground.marks(at, &span, &seen).await else {
                unclear.extend(seen.keys());
                continue;
            };
            let mut strays: BTreeMap<NodeId, BTreeSet<u16>> = BTreeMap::new();
            for (number, (nodes, _)) in sorts {
                for node in nodes {
                    strays.entry(node).or_default().insert(number);
                }
            }
            for (stray, sorts) in strays {
                let owned = Owned::Marks(marks.clone());
                passed_over |= self.shed_at(ground, &span, &stray, &sorts, owned).await;
            }
        }
        match ground.rest(&span, &unclear) {
            Some(range) => self.drop_range(ground.view, range).await || passed_over,
            None => passed_over,
        }
    }

    async fn shed_at(
        &self,
        ground: &Ground<'_>,
        span: &Span,
        stray: &NodeId,
        sorts: &BTreeSet<u16>,
        owned: Owned,
    ) -> bool {
        let Some(at) = ground.view.anybody(stray) else { return false };
        let shed = ground.shed(at, span, sorts, owned).await;
        let left = self.note_shed(ground.space, stray, shed);
        left > 0 && self.drop_left(ground, span, stray, sorts).await
    }

    /// Says how many keys are left there.
    fn note_shed(
        &self,
        space: &KeyspaceName,
        stray: &NodeId,
        shed: Result<ShedReply, Failure>,
    ) -> u64 {
        let mut job = self.lock_job();
        match shed {
            Ok(shed) => {
                job.removed_many(space, shed.changed, stray);
                job.settle();
                shed.left
            }
            Err(failure) => {
                job.report.failed += 1;
                job.narrate(format!("Not removed from {stray}: {failure}"));
                0
            }
        }
    }

    /// What a stray holds other than its owners: looked at key by key. Says whether some was passed over.
    async fn drop_left(
        &self,
        ground: &Ground<'_>,
        span: &Span,
        stray: &NodeId,
        sorts: &BTreeSet<u16>,
    ) -> bool {
        let Ground { view, space, .. } = *ground;
        let Some(found) = self.held_elsewhere(ground, span, stray, sorts).await else {
            return true;
        };
        let (mut passed_over, mut wanted) = (false, Strays::new());
        for found in found {
            let strays = strays_of(&found, &view.topology.current, space);
            passed_over |= strays.is_none();
            for (node, forget) in strays.into_iter().flatten() {
                wanted.entry(node).or_default().push(forget);
            }
        }
        self.drop_copies(view, space, wanted).await;
        passed_over
    }

    /// What all nodes hold of the keys that a stray has of these sorts; `None` if one does not answer.
    async fn held_elsewhere(
        &self,
        ground: &Ground<'_>,
        span: &Span,
        stray: &NodeId,
        sorts: &BTreeSet<u16>,
    ) -> Option<Vec<Vec<Found>>> {
        let Ground { view, space, .. } = *ground;
        let only = BTreeMap::from([(stray.clone(), Arc::clone(view.anybody(stray)?))]);
        let mut walk = crate::walk::Walk::of(self, &only, ground.rest(span, sorts)?, None);
        let mut keys = Vec::new();
        while let Some(found) = walk.next_found().await {
            keys.push(found[0].record.key.clone());
        }
        let everybody = view.everybody();
        let asked = everybody.values().map(|node| self.fetch_all(node, space, &keys));
        let mut all: BTreeMap<Blob, Vec<Found>> = BTreeMap::new();
        for (node, records) in everybody.keys().zip(join_all(asked).await) {
            for record in records.ok()? {
                let found = Found { node: node.clone(), record: without_values(&record), bytes: 0 };
                all.entry(record.key.clone()).or_default().push(found);
            }
        }
        walk.silent.is_empty().then(|| all.into_values().collect())
    }
}

/// Who holds a sort and should not, and what its owners hold.
type Due = (Vec<NodeId>, SortCount);

/// For each sort which of its owners is asked what it holds: as few as can be.
fn asked(
    ground: &Ground<'_>,
    due: Vec<(u16, Vec<NodeId>, SortCount)>,
) -> BTreeMap<NodeId, BTreeMap<u16, Due>> {
    let mut often: BTreeMap<&NodeId, u64> = BTreeMap::new();
    for (number, _, count) in &due {
        for owner in &ground.sort(*number).now {
            *often.entry(owner).or_default() += count.keys;
        }
    }
    let mut asked: BTreeMap<NodeId, BTreeMap<u16, Due>> = BTreeMap::new();
    for (number, strays, count) in &due {
        let owners = ground.sort(*number).now.iter();
        let owner = owners.max_by_key(|owner| often[owner]).expect("they hold it");
        asked.entry(owner.clone()).or_default().insert(*number, (strays.clone(), *count));
    }
    asked
}
