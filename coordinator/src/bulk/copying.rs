//! Loads of records that go from an owner to who is to be one, as they are.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::future::join_all;
use jsonrpsee::core::client::ClientT as _;
use jsonrpsee::core::params::ArrayParams;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::change::Task;
use ringkv_shared::limits::PAGE_KEYS_MAX;
use ringkv_shared::net::Client;
use ringkv_shared::pace::BATCHES_MOST;
use ringkv_shared::plan::{Copies, Link, copies};
use ringkv_shared::protocol::node::{BatchReply, PictureAt, Record, Via};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Pass, STRETCHES};
use crate::cluster::{Cluster, View};
use crate::moving::Walked;
use crate::plan::everything;
use crate::survey::{Ground, Span, Step, Survey, Surveyed};
use crate::transfer::{as_it_is, known, without_values};
use crate::walk::Range;

/// A page of records, not read.
#[derive(Deserialize)]
struct RawPage {
    items: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<Blob>,
}

/// Copies of some sorts of a stretch along a link.
struct Load {
    link: Link,
    sorts: BTreeSet<u16>,
    keys: u64,
}

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
}
