//! Carries a change of the ring out: what [`Run`] says is to be done, this does.
//!
//! | task | what it is |
//! |---|---|
//! | count | walk over all keys: what is to be copied, and who has to be there for it |
//! | log | a line of the coordinator's log, durable before anything after it |
//! | tell | the nodes adopt the map, and nobody works from an older one |
//! | copy, drop | the walks of `moving` |
//! | release | nodes that are on no ring any more obey nobody |
//!
//! It can be stopped anywhere, by a crash too: [`watch`] goes on with what the log says is not done. Anti-entropy
//! rests until it has ended or rests itself.
//!
//! # Caveats
//!
//! A run that fails is begun again by itself after a while, with all its walks. A node that leaves and is DOWN is
//! given up: its old copies stay on its disk.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::change::{Mark, Refusal, Run, Task};
use ringkv_shared::plan::{Ledger, Preview};
use ringkv_shared::protocol::cluster::{
    Health, RebalanceReport, RebalanceState, RebalanceStep, Stage,
};
use ringkv_shared::topology::differences;
use ringkv_shared::{ErrorName, Failure};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, View};
use crate::job::Job;
use crate::moving::Walked;
use crate::plan::may_run;
use crate::state::Event;

/// How long after a failure a run is begun again by itself; twice as long after each.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// And at the most.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(120);

impl Cluster {
    /// Starts a rebalance in the background. With `epoch` only if that is still the ring's: what was planned
    /// under another may not be what is done.
    pub(crate) fn rebalance(
        self: &Arc<Self>,
        dry_run: bool,
        epoch: Option<u64>,
    ) -> Result<RebalanceReport, Failure> {
        // Before it is said that one runs, which whoever asks may want to follow: it is of another plan.
        fits(epoch, &self.view())?;
        let alone = self.alone()?;
        let view = self.view();
        fits(epoch, &view)?;
        if view.paused && view.stage == Stage::Copying && !dry_run {
            return Err(Failure::new(
                ErrorName::Busy,
                "the change of the ring is paused; nothing was done",
            )
            .hint("to go on: resume; to go back to the ring as it was: cancel"));
        }
        let stage = if dry_run { Stage::Idle } else { view.stage };
        self.start_run(alone, Run::begin(stage, false), dry_run);
        Ok(self.lock_job().report(0))
    }

    /// Lets what is under way rest. What was committed stays: writes go to old and new owners.
    pub(crate) fn pause(self: &Arc<Self>) -> Result<RebalanceReport, Failure> {
        let mut job = self.lock_job();
        match job.run.pause() {
            Ok(()) => self.pump(&mut job)?,
            // One that failed: it is not begun again by itself then.
            Err(Refusal::Ended) if self.view().stage == Stage::Copying => {
                drop(job);
                // Or it is begun in this moment, by what the log said before.
                let _alone = self.alone()?;
                if !self.view().paused {
                    self.commit(&Event::Pause)?;
                }
                job = self.lock_job();
            }
            Err(refusal) => return Err(too_late("paused", refusal)),
        }
        self.said(&mut job, "rebalance paused");
        Ok(job.report(0))
    }

    /// Lets it go on.
    pub(crate) fn resume(self: &Arc<Self>) -> Result<RebalanceReport, Failure> {
        let mut job = self.lock_job();
        match job.run.resume() {
            Ok(()) => self.pump(&mut job)?,
            Err(Refusal::Ended) if self.view().stage == Stage::Copying => {
                drop(job);
                let alone = self.alone()?;
                if self.view().paused {
                    self.commit(&Event::Resume)?;
                }
                self.start_run(alone, Run::begin(Stage::Copying, false), false);
                job = self.lock_job();
            }
            Err(refusal) => return Err(too_late("resumed", refusal)),
        }
        self.said(&mut job, "rebalance resumed");
        Ok(job.report(0))
    }

    /// Takes it back: the ring is as it was.
    pub(crate) fn cancel(self: &Arc<Self>) -> Result<RebalanceReport, Failure> {
        let mut job = self.lock_job();
        match job.run.cancel() {
            Ok(()) => self.pump(&mut job)?,
            Err(Refusal::Ended) if self.view().stage == Stage::Copying => {
                drop(job);
                let alone = self.alone()?;
                let mut run = Run::begin(Stage::Copying, self.view().paused);
                run.cancel().map_err(|refusal| too_late("cancelled", refusal))?;
                self.start_run(alone, run, false);
                job = self.lock_job();
                self.pump(&mut job)?;
            }
            Err(Refusal::Ended) if self.view().stage == Stage::Staged => {
                let text =
                    "the change is only staged, nothing of it is done; nothing was cancelled";
                return Err(Failure::new(ErrorName::NotApplied, text).hint("plan clear"));
            }
            Err(refusal) => return Err(too_late("cancelled", refusal)),
        }
        self.said(&mut job, "rebalance cancelled");
        Ok(job.report(0))
    }

    /// How far it is, with the lines after that number. One that rests since another coordinator is paused, too.
    pub(crate) fn progress(&self, after: u64) -> RebalanceReport {
        let job = self.lock_job();
        let mut report = job.report(after);
        if !job.is_under_way() && self.stage() == (Stage::Copying, true) {
            report.state = RebalanceState::Paused;
            report.step = RebalanceStep::Copying;
        }
        report
    }

    fn said(&self, job: &mut MutexGuard<'_, Job>, text: &str) {
        if !job.report.dry_run {
            self.events.tell(text.to_owned());
        }
        self.run_changed.notify_one();
    }

    /// Puts in the log what the run wants there. Who asked for it hears when that failed.
    fn pump(&self, job: &mut Job) -> Result<(), Failure> {
        while let Task::Log(mark) = job.run.next() {
            let logged = self.commit(&event(mark));
            job.run.did(Task::Log(mark), logged.is_ok());
            logged?;
        }
        Ok(())
    }

    pub(crate) fn lock_job(&self) -> MutexGuard<'_, Job> {
        self.job.lock().expect("no panic while the lock is held")
    }

    fn start_run(self: &Arc<Self>, alone: OwnedMutexGuard<()>, run: Run, dry_run: bool) {
        *self.lock_job() = Job::start(run, dry_run);
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            let (state, error) = match dry_run {
                true => cluster.count_only().await,
                false => cluster.run_to_its_end().await,
            };
            let mut job = cluster.lock_job();
            if dry_run {
                job.run = Run::ended(state);
            }
            job.end(state, error);
            // Before it can be seen to have ended.
            drop(alone);
        });
    }

    async fn count_only(&self) -> (RebalanceState, Option<Failure>) {
        match self.count().await {
            Ok(()) => (RebalanceState::Complete, None),
            Err(failure) => (RebalanceState::Failed, Some(failure)),
        }
    }

    /// To its end; the failure is why it ended early.
    async fn run_to_its_end(&self) -> (RebalanceState, Option<Failure>) {
        let (mut error, mut piece) = (None, None);
        loop {
            let task = {
                let mut job = self.lock_job();
                if let Err(failure) = self.pump(&mut job) {
                    job.narrate(failure.message.clone());
                    error = Some(failure);
                }
                job.run.next()
            };
            let done = match task {
                Task::End(state) => {
                    return (state, error.filter(|_| state == RebalanceState::Failed));
                }
                Task::Rest => {
                    piece = None;
                    self.run_changed.notified().await;
                    continue;
                }
                task => {
                    if piece.is_none() {
                        piece = Some(self.sync.piece.lock().await);
                    }
                    self.do_task(task).await
                }
            };
            match done {
                Ok(Walked::All) => self.lock_job().run.did(task, true),
                Ok(Walked::Left) => {}
                Err(failure) => {
                    error = Some(failure);
                    self.lock_job().run.did(task, false);
                }
            }
        }
    }

    async fn do_task(&self, task: Task) -> Result<Walked, Failure> {
        let view = self.view();
        match task {
            Task::Count => self.count().await?,
            Task::Tell => {
                if view.topology.pending.is_none() {
                    // Who has begun by now may know only the ring of before, and copies are dropped next.
                    self.publish_again();
                }
                self.adopted().await?;
            }
            Task::Copy => return self.copy_checked(&view).await,
            Task::Drop => self.drop_all(&view).await,
            Task::Release => self.release_left(&view).await,
            Task::Log(_) | Task::Rest | Task::End(_) => {}
        }
        Ok(Walked::All)
    }

    /// Counts what is to be done, and whether it can be.
    async fn count(&self) -> Result<(), Failure> {
        let view = self.view();
        let target = view.topology.newest();
        may_run(&view, target, &Preview::default())?;
        let mut ledger = Ledger::default();
        let count = self
            .count_all(&view, target, |due| match due.key {
                Some(key) => ledger.plan(due.space, key, due.copies),
                None => ledger.plan_many(due.copies, due.keys),
            })
            .await?;
        let mut job = self.lock_job();
        job.counted(&count.preview);
        job.ledger = ledger;
        if job.report.dry_run {
            return Ok(());
        }
        drop(job);
        may_run(&view, target, &count.preview)?;
        count.refused.map_or(Ok(()), Err)
    }

    /// With a change pending, all copies must have been made.
    async fn copy_checked(&self, view: &View) -> Result<Walked, Failure> {
        // Those that failed in a walk that was left have their turn again.
        let before = self.lock_job().report.failed;
        let walked = self.copy_all(view).await?;
        if walked == Walked::All
            && view.topology.pending.is_some()
            && self.lock_job().report.failed > before
        {
            return Err(Failure::new(
                ErrorName::NotEnoughReplicas,
                "some copies could not be made, so the change of the ring still waits; nothing was removed",
            )
            .hint("see show, then: rebalance; or back to the ring as it was: cancel"));
        }
        Ok(walked)
    }

    /// Lets nodes go that are on no ring any more. One that has something left, or does not answer, keeps it.
    pub(crate) async fn release_left(&self, view: &View) {
        let left = view.leaving.values().map(|node| async move {
            if node.is_down() {
                let text = format!("{} is DOWN: its old copies stay on its disk", node.id);
                self.lock_job().narrate(text);
            } else if let Err(failure) = self.release(node).await {
                tracing::info!(node = %node.id, "not released: {failure}");
            }
        });
        join_all(left).await;
        self.lock_job().settle();
    }

    /// Whether a change that was committed waits for nobody but a run.
    fn waits_for_a_run(&self) -> bool {
        let view = self.view();
        let settled = || {
            let mut nodes = view.nodes.values().chain(view.leaving.values());
            nodes.all(|node| !matches!(node.opinion(0).health, Health::Suspect))
        };
        match view.stage {
            Stage::Copying => {
                let up = view.nodes.values().all(|node| node.opinion(0).health == Health::Up);
                !view.paused && up
            }
            Stage::Clearing => settled(),
            Stage::Idle | Stage::Staged => false,
        }
    }
}

/// Goes on with a change that is not done, after a start and some time after a failure, until `shutdown`.
pub(crate) async fn watch(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let mut patience = AGAIN_AFTER;
    loop {
        let rested = match cluster.lock_job().idle_for() {
            Some(idle) => idle >= patience,
            // None since the start.
            None => true,
        };
        if rested
            && cluster.waits_for_a_run()
            && let Ok(alone) = cluster.alone()
        {
            let (stage, paused) = cluster.stage();
            if cluster.lock_job().idle_for().is_some() {
                patience = (patience * 2).min(AGAIN_AFTER_MAX);
            }
            tracing::info!(?stage, "goes on with the change of the ring");
            cluster.start_run(alone, Run::begin(stage, paused), false);
        }
        if cluster.stage().0 == Stage::Idle {
            patience = AGAIN_AFTER;
        }
        let pause = cluster.settings().heartbeat();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

const fn event(mark: Mark) -> Event {
    match mark {
        Mark::Commit => Event::Commit,
        Mark::Pause => Event::Pause,
        Mark::Resume => Event::Resume,
        Mark::Cancel => Event::Cancel,
        Mark::Final => Event::Final,
        Mark::Done => Event::Done,
    }
}

fn too_late(what: &str, refusal: Refusal) -> Failure {
    let failure = Failure::new(ErrorName::NotApplied, format!("{refusal}; nothing was {what}"));
    match refusal {
        Refusal::Ended => failure.hint("plan shows what rebalance would do"),
        Refusal::InForce | Refusal::Cancelled => failure.hint("progress tells how far it is"),
    }
}

/// Refuses what was planned under another ring.
fn fits(seen: Option<u64>, view: &View) -> Result<(), Failure> {
    let topology = &view.topology;
    let epoch = topology.epoch;
    let Some(seen) = seen.filter(|seen| *seen != epoch) else { return Ok(()) };
    let changes = differences(&topology.current, topology.newest());
    let stage = if topology.pending.is_some() { "under way" } else { "staged" };
    let what = match changes.len() {
        0 => format!("nothing is {stage}"),
        1 => format!("1 change is {stage}"),
        many => format!("{many} changes are {stage}"),
    };
    let message = format!(
        "the plan you saw was of epoch {seen}, it is {epoch} now, and {what}; nothing was done"
    );
    Err(Failure::new(ErrorName::StaleEpoch, message).hint("look again: plan"))
}
