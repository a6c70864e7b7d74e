//! The two passes of a rebalance over keys that are alike, many at a time.
//!
//! ```text
//!   copy   survey ─ all owners of now hold the same, a new owner does not ─► dump at one of them ─ as it is ─► apply
//!   drop   survey ─ all owners hold the same, a stray has something ─► marks of one owner ─► shed at the stray
//!   both   survey ─ else ─► the walk key by key, over these sorts of this stretch only
//! ```
//!
//! A page that is copied is not read on its way: its records go on as they came. A new owner that had something before
//! may hold what nobody else does, since somebody wrote to it: it is looked at once more afterwards.
//!
//! # Caveats
//!
//! Who follows hears of numbers of keys, not of each. An owner that is written to between its count and its marks makes
//! its keys of that stretch be walked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream;
use jsonrpsee::core::client::ClientT as _;
use jsonrpsee::core::params::ArrayParams;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::change::Task;
use ringkv_shared::limits::PAGE_KEYS_MAX;
use ringkv_shared::net::Client;
use ringkv_shared::pace::BATCHES_MOST;
use ringkv_shared::plan::{Copies, Drops, Found, Link, copies, drops};
use ringkv_shared::protocol::node::{BatchReply, PictureAt, Record, ShedReply, SortCount, Via};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cluster::{Cluster, View};
use crate::moving::{Strays, Walked, strays_of};
use crate::plan::everything;
use crate::survey::{Ground, Span, Step, Survey, Surveyed};
use crate::transfer::{as_it_is, known, without_values};
use crate::walk::Range;

/// Stretches that are looked at at once: while a node works on one, the next is on its way. With more, requests of others
/// would wait behind all of them.
const STRETCHES: usize = 2;

/// A page of records, not read.
#[derive(Deserialize)]
struct RawPage {
    items: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<Blob>,
}

/// What all stretches of a pass share.
struct Pass<'a> {
    ground: Arc<Ground<'a>>,
    /// Something failed, or it is to be left: no stretch is begun any more.
    stop: AtomicBool,
    /// One batch takes one, several when only few may be under way.
    turns: Semaphore,
}

/// Copies of some sorts of a stretch along a link.
struct Load {
    link: Link,
    sorts: BTreeSet<u16>,
    keys: u64,
}

impl<'a> Pass<'a> {
    fn over(survey: &Survey<'a>) -> Self {
        let ground = Arc::clone(&survey.ground);
        Self { ground, stop: AtomicBool::new(false), turns: Semaphore::new(BATCHES_MOST) }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Cluster {
    /// Copies what owners of the newest placement lack of a keyspace.
    pub(crate) async fn copy_space(
        &self,
        view: &View,
        space: &KeyspaceName,
    ) -> Result<Walked, Failure> {
        let between = (&view.topology.current, view.topology.newest());
        let Some(survey) = Survey::begin(self, view, space, between).await else {
            return self.copy_range(view, everything(space)).await;
        };
        let pass = Pass::over(&survey);
        let copied = |step| self.copy_step(&pass, step);
        let all: Vec<_> =
            self.steps(survey, &pass).map(copied).buffer_unordered(STRETCHES).collect().await;
        self.lock_job().settle();
        let mut walked = Walked::All;
        for one in all {
            if one? == Walked::Left {
                walked = Walked::Left;
            }
        }
        Ok(if self.has_left(Task::Copy) { Walked::Left } else { walked })
    }

    /// The steps of a survey, until the pass is stopped.
    fn steps<'s>(
        &'s self,
        survey: Survey<'s>,
        pass: &'s Pass<'_>,
    ) -> impl stream::Stream<Item = Step> + 's {
        stream::unfold(survey, async |mut survey| {
            if pass.is_stopped() {
                return None;
            }
            survey.next().await.map(|step| (step, survey))
        })
    }

    async fn copy_step(&self, pass: &Pass<'_>, step: Step) -> Result<Walked, Failure> {
        let (view, space) = (pass.ground.view, pass.ground.space);
        let rest = match step {
            Step::Rest(after) => Some(Range { after, ..everything(space) }),
            Step::Stretch(surveyed) => self.copy_stretch(pass, surveyed).await,
        };
        let walked = match rest {
            Some(range) if !self.has_left(Task::Copy) => self.copy_range(view, range).await,
            _ if self.has_left(Task::Copy) => Ok(Walked::Left),
            _ => Ok(Walked::All),
        };
        if !matches!(walked, Ok(Walked::All)) {
            pass.stop();
        }
        walked
    }

    /// Copies what is alike; says what is left to be walked.
    async fn copy_stretch(&self, pass: &Pass<'_>, surveyed: Surveyed) -> Option<Range> {
        let (ground, keys) = (&pass.ground, surveyed.keys());
        let Surveyed { span, held } = surveyed;
        let (mut unclear, mut mixed) = (BTreeSet::new(), BTreeSet::new());
        let mut loads: BTreeMap<Link, Load> = BTreeMap::new();
        for (number, held) in held {
            match copies(ground.sort(number), &held) {
                Copies::None => {}
                Copies::Unclear => drop(unclear.insert(number)),
                Copies::All { from, to, count, mixed: is_mixed } => {
                    if is_mixed {
                        mixed.insert(number);
                    }
                    for to in to {
                        let link = (from.clone(), to);
                        let load = loads.entry(link.clone()).or_insert_with(|| {
                            let (sorts, keys) = (BTreeSet::new(), 0);
                            Load { link, sorts, keys }
                        });
                        load.sorts.insert(number);
                        load.keys += count.keys;
                    }
                }
            }
        }
        let loads: Vec<Load> = loads.into_values().collect();
        let carried = join_all(loads.iter().map(|load| self.carry(pass, &span, load))).await;
        for (load, walked) in loads.iter().zip(carried) {
            if walked == Carried::Refused {
                unclear.extend(&load.sorts);
            }
        }
        if !mixed.is_empty() && !pass.is_stopped() {
            let now = ground.again(&span, &mixed).await.unwrap_or_default();
            let is_settled = |number: &&u16| {
                let held = now.get(number);
                held.is_some_and(|held| copies(ground.sort(**number), held) == Copies::None)
            };
            unclear.extend(mixed.iter().filter(|number| !is_settled(number)));
        }
        self.lock_job().report.scanned += keys;
        ground.rest(&span, &unclear)
    }

    /// Copies all of a load, a page at a time.
    async fn carry(&self, pass: &Pass<'_>, span: &Span, load: &Load) -> Carried {
        let area = pass.ground.area(&load.sorts);
        let (mut after, mut left) = (span.after.clone(), load.keys);
        loop {
            if pass.is_stopped() || self.has_left(Task::Copy) {
                pass.stop();
                return Carried::All;
            }
            let carried = match self.raw_page(pass, span, &after, &area, load).await {
                Ok(page) => {
                    self.carry_page(pass, load, &page.items, &mut left).await.map(|()| page.next)
                }
                Err(failure) => Err(failure),
            };
            match carried {
                Ok(None) => return Carried::All,
                Ok(next) => after = next,
                Err(failure) if failure.name == ErrorName::TooLarge => return Carried::Refused,
                Err(failure) => {
                    pass.stop();
                    self.note_many_failed(&load.link, left, &failure);
                    return Carried::All;
                }
            }
        }
    }

    async fn raw_page(
        &self,
        pass: &Pass<'_>,
        span: &Span,
        after: &Option<Blob>,
        area: &Arcs,
        load: &Load,
    ) -> Result<RawPage, Failure> {
        let Ground { view, space, .. } = *pass.ground;
        // In the spelling that a node reads fastest, by the places of the parameters.
        let ask = || -> Result<ArrayParams, serde_json::Error> {
            let mut params = ArrayParams::new();
            params.insert(after)?;
            params.insert(PAGE_KEYS_MAX)?;
            params.insert(None::<Blob>)?;
            params.insert(None::<bool>)?;
            params.insert(true)?;
            params.insert(None::<PictureAt>)?;
            params.insert(space)?;
            params.insert(None::<Vec<u16>>)?;
            params.insert(&span.until)?;
            params.insert(area)?;
            Ok(params)
        };
        let call = async |client: &Client| client.request("dump", ask()?).await;
        self.batch(known(view, &load.link.0)?, call).await
    }

    /// Copies a page, a batch at a time, at the pace that is set.
    async fn carry_page(
        &self,
        pass: &Pass<'_>,
        load: &Load,
        page: &[Box<RawValue>],
        left: &mut u64,
    ) -> Result<(), Failure> {
        let mut rest = page;
        while !rest.is_empty() {
            let room = self.lock_job().pace.room(&self.limits());
            let share = u32::try_from(BATCHES_MOST / room.batches.max(1)).unwrap_or(1);
            let turn = pass.turns.acquire_many(share).await;
            let turn = turn.expect("it is never closed");
            let mut bytes = 0;
            let fits = rest.iter().take(room.keys).take_while(|record| {
                bytes += record.get().len() as u64;
                bytes <= room.bytes
            });
            let (batch, behind) = rest.split_at(fits.count().max(1));
            rest = behind;
            let bytes = batch.iter().map(|record| record.get().len() as u64).sum();
            if pass.is_stopped() || self.wait_for_turn(bytes).await == Walked::Left {
                pass.stop();
                return Ok(());
            }
            let started = Instant::now();
            self.carry_batch(pass, load, batch, bytes).await?;
            *left = left.saturating_sub(batch.len() as u64);
            let rest_for = self.lock_job().pace.rest(started.elapsed());
            self.hold_back(rest_for).await;
            drop(turn);
        }
        Ok(())
    }

    async fn carry_batch(
        &self,
        pass: &Pass<'_>,
        load: &Load,
        batch: &[Box<RawValue>],
        bytes: u64,
    ) -> Result<(), Failure> {
        let (Ground { view, space, .. }, (from, to)) = (&*pass.ground, &load.link);
        let tell = || -> Result<ArrayParams, serde_json::Error> {
            let mut params = ArrayParams::new();
            params.insert(batch)?;
            params.insert(space)?;
            params.insert(Via::Move)?;
            Ok(params)
        };
        let call = async |client: &Client| client.request::<BatchReply, _>("apply", tell()?).await;
        let BatchReply { changed, deleted, .. } = self.batch(known(view, to)?, call).await?;
        let mut removed = 0;
        if !deleted.is_empty() {
            // They count as deleted there: what is at the source is stale, if it is still what was sent.
            let read = |record: &RawValue| serde_json::from_str::<Record>(record.get()).ok();
            let stale = batch
                .iter()
                .filter_map(|record| read(record))
                .map(|record| without_values(&record));
            let stale = stale.filter(|record| deleted.contains(&record.key));
            removed = self
                .forget(known(view, from)?, space, stale.map(|r| as_it_is(&r)).collect())
                .await?;
        }
        let mut job = self.lock_job();
        let made = (batch.len() - deleted.len()) as u64;
        job.tried_many(batch.len() as u64, &load.link);
        job.copied_many(space, &load.link, made, changed, bytes);
        job.removed_many(space, removed, from);
        job.settle();
        Ok(())
    }

    fn note_many_failed(&self, link: &Link, keys: u64, failure: &Failure) {
        let (mut job, (from, to)) = (self.lock_job(), link);
        // At least one, so that it is seen to have failed.
        let keys = keys.max(1);
        job.report.failed += keys;
        job.tried_many(keys, link);
        job.narrate(format!("Not copied from {from} to {to}: {keys} keys, {failure}"));
    }

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
        for (number, held) in held {
            match drops(ground.sort(number), &held) {
                Drops::None => {}
                Drops::Unclear => drop(unclear.insert(number)),
                Drops::At(strays, count) => due.push((number, strays, count)),
            }
        }
        self.lock_job().report.scanned += keys;
        let mut passed_over = false;
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
                passed_over |= self.shed_at(ground, &span, &stray, &sorts, marks.clone()).await;
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
        marks: String,
    ) -> bool {
        let Some(at) = ground.view.anybody(stray) else { return false };
        let shed = ground.shed(at, span, sorts, marks).await;
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

/// How carrying a load has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    /// All went, or it was told why not.
    All,
    /// Something is too large for its target: it has to go key by key.
    Refused,
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
