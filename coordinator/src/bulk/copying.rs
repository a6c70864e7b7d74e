//! Loads of records that go from an owner to who is to be one, as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use futures::stream::StreamExt as _;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::change::Task;
use ringkv_shared::limits::PAGE_KEYS_MAX;
use ringkv_shared::net::{Client, Spell as _, read_answer};
use ringkv_shared::pace::BATCHES_MOST;
use ringkv_shared::plan::{Copies, Link, copies};
use ringkv_shared::protocol::node::{BatchReply, Record};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName};
use tokio::time::Instant;

use super::page::Page;
use super::{Pass, STRETCHES};
use crate::cluster::{Cluster, View};
use crate::moving::Walked;
use crate::plan::everything;
use crate::survey::{Ground, Span, Step, Survey, Surveyed, by_name};
use crate::transfer::{as_it_is, known, without_values};
use crate::walk;

/// Copies of some sorts of a stretch along a link.
struct Load {
    link: Link,
    sorts: BTreeSet<u16>,
    keys: u64,
}

/// A parameter that is left out.
const NONE: Option<()> = None;

/// How carrying a load has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    /// All went, or it was told why not.
    All,
    /// Something is too large for its target: it has to go key by key.
    Refused,
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

    async fn copy_step(&self, pass: &Pass<'_>, step: Step) -> Result<Walked, Failure> {
        let (view, space) = (pass.ground.view, pass.ground.space);
        let rest = match step {
            Step::Rest(after) => Some(walk::Range { after, ..everything(space) }),
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
    async fn copy_stretch(&self, pass: &Pass<'_>, surveyed: Surveyed) -> Option<walk::Range> {
        let (ground, keys) = (&pass.ground, surveyed.keys());
        let Surveyed { span, held } = surveyed;
        let (mut unclear, mut mixed) = (BTreeSet::new(), BTreeSet::new());
        let there: BTreeSet<u16> = held.keys().copied().collect();
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
        let carried = join_all(loads.iter().map(|load| {
            let (from, to) = &load.link;
            let area = ground.along(&load.sorts, &there, |sort| sort.goes(from, to));
            self.carry(pass, &span, load, ground.area(&area))
        }));
        let carried = carried.await;
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

    /// Copies all of a load, which is on these arcs, a page at a time.
    async fn carry(&self, pass: &Pass<'_>, span: &Span, load: &Load, area: Arcs) -> Carried {
        let (mut after, mut left) = (span.after.clone(), load.keys);
        loop {
            if pass.is_stopped() || self.has_left(Task::Copy) {
                pass.stop();
                return Carried::All;
            }
            let carried = match self.page_of(pass, span, &after, &area, load).await {
                Ok(page) => {
                    let (count, carried) = self.carry_page(pass, load, &page).await;
                    left = left.saturating_sub(count);
                    carried.map(|()| page.next)
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

    async fn page_of(
        &self,
        pass: &Pass<'_>,
        span: &Span,
        after: &Option<Blob>,
        area: &Arcs,
        load: &Load,
    ) -> Result<Page, Failure> {
        let Ground { view, space, .. } = *pass.ground;
        // In the spelling that a node reads fastest, by the places of the parameters.
        let from = known(view, &load.link.0)?;
        let ask = |told| {
            let (limit, until) = (PAGE_KEYS_MAX, &span.until);
            let ask = (after, limit, NONE, NONE, true, NONE, space, NONE, until, told);
            let ask = serde_json::to_string(&ask).expect("keys and arcs can be written");
            let call = async move |client: &Client| {
                let ask = |out: &mut Vec<u8>| out.extend_from_slice(ask.as_bytes());
                Page::read(client.ask("dump", ask).await?)
            };
            self.batch(from, call)
        };
        by_name(area, ask).await
    }

    /// Copies a page, some batches at a time, at the pace that is set; says how many records went.
    async fn carry_page(
        &self,
        pass: &Pass<'_>,
        load: &Load,
        page: &Page,
    ) -> (u64, Result<(), Failure>) {
        let next = AtomicUsize::new(0);
        let hands = (0..BATCHES_MOST).map(|_| self.carry_batches(pass, load, page, &next));
        let (mut all, mut outcome) = (0, Ok(()));
        for (count, carried) in join_all(hands).await {
            all += count;
            outcome = outcome.and(carried);
        }
        (all, outcome)
    }

    /// One of several hands that take batches of a page, one after the other, up to the last or the first that fails.
    async fn carry_batches(
        &self,
        pass: &Pass<'_>,
        load: &Load,
        page: &Page,
        next: &AtomicUsize,
    ) -> (u64, Result<(), Failure>) {
        let mut count = 0;
        loop {
            let room = self.lock_job().pace.room(&self.limits());
            let share = u32::try_from(BATCHES_MOST / room.batches.max(1)).unwrap_or(1);
            let turn = pass.turns.acquire_many(share).await;
            let turn = turn.expect("it is never closed");
            // Nobody else takes one meanwhile: nothing is waited for.
            let records = page.batch(next.load(Ordering::Relaxed), room.keys, room.bytes);
            next.store(records.end, Ordering::Relaxed);
            if records.is_empty() {
                return (count, Ok(()));
            }
            let bytes = page.text(&records).len() as u64;
            if pass.is_stopped() || self.wait_for_turn(bytes).await == Walked::Left {
                pass.stop();
                return (count, Ok(()));
            }
            let (batch, started) = (records.len() as u64, Instant::now());
            if let Err(failure) = self.carry_batch(pass, load, page, records, bytes).await {
                next.store(page.len(), Ordering::Relaxed);
                return (count, Err(failure));
            }
            count += batch;
            let rest_for = self.lock_job().pace.rest(started.elapsed());
            self.hold_back(rest_for).await;
            drop(turn);
        }
    }

    async fn carry_batch(
        &self,
        pass: &Pass<'_>,
        load: &Load,
        page: &Page,
        records: Range<usize>,
        bytes: u64,
    ) -> Result<(), Failure> {
        let (Ground { view, space, .. }, (from, to)) = (&*pass.ground, &load.link);
        let text = page.text(&records);
        let tell = |out: &mut Vec<u8>| {
            out.raw("[[").extend_from_slice(text);
            out.raw("],\"").raw(space.as_str()).raw("\",\"move\"]");
        };
        let call = async |client: &Client| read_answer(&client.ask("apply", tell).await?);
        let reply: BatchReply = self.batch(known(view, to)?, call).await?;
        let BatchReply { changed, deleted, .. } = reply;
        let mut removed = 0;
        if !deleted.is_empty() {
            // They count as deleted there: what is at the source is stale, if it is still what was sent.
            let read = |at| serde_json::from_slice::<Record>(page.text(&(at..at + 1))).ok();
            let stale = records.clone().filter_map(read).map(|record| without_values(&record));
            let stale = stale.filter(|record| deleted.contains(&record.key));
            removed = self
                .forget(known(view, from)?, space, stale.map(|r| as_it_is(&r)).collect())
                .await?;
        }
        let mut job = self.lock_job();
        let made = (records.len() - deleted.len()) as u64;
        job.tried_many(records.len() as u64, &load.link);
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
}
