//! What a rebalance has done so far, for whoever polls `progress`.
//!
//! # Caveats
//!
//! How fast a link is is told by its last five seconds, and how long it will take by that: while the pace changes
//! both are behind.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ringkv_shared::change::{Run, Task};
use ringkv_shared::pace::Pace;
use ringkv_shared::plan::{Ledger, Link, Load, Preview};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    LinkReport, NarrationLine, RebalanceReport, RebalanceState, RebalanceStep,
};
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use tokio::time::Instant;

/// Narration kept for pollers.
const LINES_KEPT: usize = 1000;
/// So much of the past tells how fast a link is.
const LATELY: Duration = Duration::from_secs(5);
/// Copies so close together are counted as one moment.
const STEP: Duration = Duration::from_millis(20);

/// The rebalance that runs, or the last one that ran.
pub(crate) struct Job {
    pub(crate) report: RebalanceReport,
    /// Where it stands and what is to be done next.
    pub(crate) run: Run,
    /// What was counted and not yet done.
    pub(crate) ledger: Ledger,
    pub(crate) pace: Pace,
    /// How long links held back, added up.
    pub(crate) waited: Duration,
    lines: VecDeque<NarrationLine>,
    told: u64,
    /// The number of the last line that pollers may see, see [`Job::settle`].
    settled: u64,
    links: BTreeMap<Link, LinkState>,
    started: Instant,
    ended: Option<Instant>,
}

/// What is known of a link.
#[derive(Default)]
struct LinkState {
    done: Load,
    planned: u64,
    arrived: u64,
    extra: u64,
    /// When copies were made, and how many, lately.
    lately: VecDeque<(Instant, u64)>,
}

impl Job {
    pub(crate) fn idle() -> Self {
        let mut job = Self::start(Run::ended(RebalanceState::Idle), false);
        job.report.state = RebalanceState::Idle;
        job
    }

    pub(crate) fn start(run: Run, dry_run: bool) -> Self {
        let report = RebalanceReport {
            status: Status::Ok,
            state: RebalanceState::Running,
            dry_run,
            step: RebalanceStep::default(),
            planned: 0,
            arrived: 0,
            extra: 0,
            bytes: 0,
            waited_ms: 0,
            eta_ms: None,
            scanned: 0,
            total: 0,
            copied: 0,
            removed: 0,
            failed: 0,
            links: Vec::new(),
            lines: Vec::new(),
            elapsed_ms: 0,
            error: None,
        };
        Self {
            report,
            run,
            ledger: Ledger::default(),
            pace: Pace::default(),
            waited: Duration::ZERO,
            lines: VecDeque::new(),
            told: 0,
            settled: 0,
            links: BTreeMap::new(),
            started: Instant::now(),
            ended: None,
        }
    }

    /// Whether it has not ended yet; it may rest.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.run.next(), Task::End(_))
    }

    /// How long since it has ended; `None` while it is under way.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        self.ended.map(|ended| ended.elapsed()).filter(|_| !self.is_under_way())
    }

    /// The time of its pace.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn narrate(&mut self, text: String) {
        self.told += 1;
        self.lines.push_back(NarrationLine { number: self.told, text });
        if self.lines.len() > LINES_KEPT {
            self.lines.pop_front();
        }
    }

    /// Puts the lines since the last time in order, by what was done and then by key, and lets
    /// pollers see them: links work side by side, and the same rebalance is told the same way
    /// every time.
    pub(crate) fn settle(&mut self) {
        let settled = self.settled;
        let lines = self.lines.make_contiguous();
        let new = lines.partition_point(|line| line.number <= settled);
        let new = &mut lines[new..];
        let first = new.first().map_or(0, |line| line.number);
        new.sort_by(|a, b| a.text.cmp(&b.text));
        new.iter_mut().zip(first..).for_each(|(line, number)| line.number = number);
        self.settled = self.told;
    }

    /// What it is going to do was counted. A dry run has then done, in thought, all there is to do.
    pub(crate) fn counted(&mut self, preview: &Preview) {
        self.report.planned = preview.copies().keys;
        self.report.scanned += preview.keys();
        // This walk, one that copies and one that drops.
        self.report.total = preview.keys() * if self.report.dry_run { 1 } else { 3 };
        for (link, load) in &preview.links {
            let state = self.links.entry(link.clone()).or_default();
            state.planned = load.keys;
            if self.report.dry_run {
                state.done = *load;
            }
        }
        if self.report.dry_run {
            let Load { keys, bytes } = preview.copies();
            (self.report.copied, self.report.bytes) = (keys, bytes);
            self.report.removed = preview.removed();
        }
    }

    /// These were sent, so many bytes, and `changed` of them brought something new. The others had arrived.
    pub(crate) fn copied(
        &mut self,
        space: &KeyspaceName,
        keys: &[&Blob],
        link: &Link,
        changed: u64,
        bytes: u64,
    ) {
        let changed = changed.min(keys.len() as u64);
        self.report.copied += changed;
        self.report.bytes += bytes;
        self.links.entry(link.clone()).or_default().copied(Instant::now(), changed, bytes);
        (changed..keys.len() as u64).for_each(|_| self.arrived(link));
        let (of, to) = (of(space), &link.1);
        if changed == keys.len() as u64 {
            keys.iter().for_each(|key| self.narrate(format!("Copied key '{key}'{of} to {to}")));
        } else if changed > 0 {
            // The node says how many, not which.
            let all = keys.len();
            self.narrate(format!(
                "Copied {changed} of {all} keys{of} to {to}, which had the others"
            ));
        }
    }

    /// A copy that was planned is not needed any more.
    pub(crate) fn arrived(&mut self, link: &Link) {
        self.arrived_many(link, 1);
    }

    fn arrived_many(&mut self, link: &Link, keys: u64) {
        self.report.arrived += keys;
        self.links.entry(link.clone()).or_default().arrived += keys;
    }

    /// A copy is tried; one that was not planned is one more.
    pub(crate) fn tried(&mut self, space: &KeyspaceName, key: &Blob, link: &Link) {
        if !self.ledger.tried(space, key, link) {
            self.report.extra += 1;
            self.links.entry(link.clone()).or_default().extra += 1;
        }
    }

    /// So many copies are tried of keys that are not named.
    pub(crate) fn tried_many(&mut self, keys: u64, link: &Link) {
        let extra = keys - self.ledger.tried_many(link, keys);
        self.report.extra += extra;
        self.links.entry(link.clone()).or_default().extra += extra;
    }

    /// So many were sent, and `changed` of them brought something new.
    pub(crate) fn copied_many(
        &mut self,
        space: &KeyspaceName,
        link: &Link,
        keys: u64,
        changed: u64,
        bytes: u64,
    ) {
        let changed = changed.min(keys);
        self.report.copied += changed;
        self.report.bytes += bytes;
        self.links.entry(link.clone()).or_default().copied(Instant::now(), changed, bytes);
        self.arrived_many(link, keys - changed);
        if changed > 0 {
            self.narrate(format!("Copied {changed} keys{} to {}", of(space), link.1));
        }
    }

    /// So many were removed.
    pub(crate) fn removed_many(&mut self, space: &KeyspaceName, keys: u64, from: &NodeId) {
        self.report.removed += keys;
        if keys > 0 {
            self.narrate(format!("Removed {keys} keys{} from {from}", of(space)));
        }
    }

    /// All keys have had their turn.
    pub(crate) fn close_ledger(&mut self) {
        let left = self.ledger.close();
        left.iter().for_each(|(link, keys)| self.arrived_many(link, *keys));
    }

    pub(crate) fn removed(&mut self, space: &KeyspaceName, key: &Blob, from: &NodeId) {
        self.report.removed += 1;
        self.narrate(format!("Removed key '{key}'{} from {from}", of(space)));
    }

    /// It has ended so.
    pub(crate) fn end(&mut self, state: RebalanceState, error: Option<Failure>) {
        self.report.elapsed_ms = millis(self.started.elapsed());
        self.report.step = self.run.step();
        self.settle();
        self.report.state = state;
        self.report.error = error;
        self.ledger = Ledger::default();
        self.ended = Some(Instant::now());
    }

    /// What to tell a poller that has seen the lines up to `after`.
    pub(crate) fn report(&self, after: u64) -> RebalanceReport {
        let mut report = self.report.clone();
        let now = Instant::now();
        report.links = self.links.iter().map(|(link, state)| state.report(link, now)).collect();
        if report.state == RebalanceState::Running {
            report.elapsed_ms = millis(self.started.elapsed());
            report.step = self.run.step();
            if self.run.rests() {
                report.state = RebalanceState::Paused;
            } else if report.step == RebalanceStep::Copying {
                report.eta_ms = eta(&report.links);
            }
        }
        let is_new = |line: &&NarrationLine| line.number > after && line.number <= self.settled;
        report.lines = self.lines.iter().filter(is_new).cloned().collect();
        report
    }
}

impl LinkState {
    fn copied(&mut self, now: Instant, keys: u64, bytes: u64) {
        self.done.keys += keys;
        self.done.bytes += bytes;
        // In steps, so that it stays short.
        match self.lately.back_mut().filter(|(at, _)| *at + STEP > now) {
            Some((_, count)) => *count += keys,
            None => self.lately.push_back((now, keys)),
        }
        while self.lately.front().is_some_and(|(at, _)| *at + LATELY < now) {
            self.lately.pop_front();
        }
    }

    fn report(&self, (from, to): &Link, now: Instant) -> LinkReport {
        let lately = self.lately.iter().filter(|(at, _)| *at + LATELY >= now);
        let (mut count, mut first) = (0, None);
        for (at, copies) in lately {
            count += copies;
            first = first.or(Some(*at));
        }
        let span = first.map_or(Duration::ZERO, |first| now - first);
        let keys_per_s = rate(count, span);
        let left = (self.planned + self.extra).saturating_sub(self.done.keys + self.arrived);
        LinkReport {
            from: from.clone(),
            to: to.clone(),
            keys: self.done.keys,
            planned: self.planned,
            arrived: self.arrived,
            extra: self.extra,
            bytes: self.done.bytes,
            keys_per_s,
            eta_ms: eta_of(left, keys_per_s),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate that people read")]
fn rate(count: u64, span: Duration) -> f64 {
    // What was done in the first moments says little.
    count as f64 / span.as_secs_f64().max(0.1)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn eta_of(left: u64, keys_per_s: f64) -> Option<u64> {
    (keys_per_s > 0.0).then(|| (left as f64 / keys_per_s * 1000.0) as u64)
}

/// Of all links together: as if those that are done helped the others no more.
fn eta(links: &[LinkReport]) -> Option<u64> {
    let open = links.iter().filter(|link| link.keys + link.arrived < link.planned + link.extra);
    open.map(|link| link.eta_ms).try_fold(0, |most, eta| Some(most.max(eta?)))
}

/// ` of orders`, behind a key of that keyspace; nothing behind one of `default`.
pub(crate) fn of(space: &KeyspaceName) -> String {
    if space.is_default() { String::new() } else { format!(" of {space}") }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shared::plan::Planned;
    use ringkv_shared::protocol::cluster::Stage;

    fn job() -> Job {
        Job::start(Run::begin(Stage::Staged, false), false)
    }

    fn told(job: &Job, after: u64) -> String {
        let lines = job.report(after).lines;
        lines.iter().map(|line| format!("{} {}\n", line.number, line.text)).collect()
    }

    #[test]
    fn lines_are_told_in_order_a_batch_at_a_time() {
        let mut job = job();
        ["b", "c", "a"].iter().for_each(|line| job.narrate((*line).to_owned()));
        assert_eq!(told(&job, 0), "");
        job.settle();
        assert_eq!(told(&job, 0), "1 a\n2 b\n3 c\n");
        ["z", "x"].iter().for_each(|line| job.narrate((*line).to_owned()));
        assert_eq!(told(&job, 2), "3 c\n");
        job.end(RebalanceState::Complete, None);
        assert_eq!(told(&job, 2), "3 c\n4 x\n5 z\n");
        job.settle();
        assert_eq!(told(&job, 0), "1 a\n2 b\n3 c\n4 x\n5 z\n");
    }

    #[test]
    fn a_link_tells_how_fast_it_is_and_how_long_it_takes() {
        let link: Link = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut state = LinkState { planned: 100, ..LinkState::default() };
        let start = Instant::now();
        let told = |state: &LinkState, at: u64| {
            let link = state.report(&link, start + Duration::from_secs(at));
            (link.keys, link.arrived, link.extra, link.keys_per_s.round(), link.eta_ms)
        };
        assert_eq!(told(&state, 0), (0, 0, 0, 0.0, None));
        for second in 0..4 {
            state.copied(start + Duration::from_secs(second), 10, 100);
        }
        state.arrived = 10;
        assert_eq!(told(&state, 4), (40, 10, 0, 10.0, Some(5000)));
        state.extra = 1;
        assert_eq!(told(&state, 4), (40, 10, 1, 10.0, Some(5100)));
        assert_eq!(told(&state, 10), (40, 10, 1, 0.0, None), "nothing was copied lately");
    }

    #[test]
    fn planned_and_extra_is_made_and_arrived() {
        let (mut job, space) = (job(), KeyspaceName::default());
        let link: Link = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut preview = Preview::new(true);
        preview.links.insert(link.clone(), Load { keys: 4, bytes: 40 });
        job.counted(&preview);
        let (from, to) = link.clone();
        let planned = [Planned { from, to, bytes: 10 }];
        ["w", "x", "y", "z"]
            .iter()
            .for_each(|key| job.ledger.plan(&space, &(*key).into(), &planned));
        for key in ["x", "new", "w"] {
            job.tried(&space, &key.into(), &link);
            job.copied(&space, &[&key.into()], &link, 1, 10);
        }
        job.tried(&space, &"z".into(), &link);
        job.copied(&space, &[&"z".into()], &link, 0, 10);
        job.ledger.arrived(&space, &"y".into(), &[]).iter().for_each(|link| job.arrived(link));
        job.close_ledger();
        let RebalanceReport { planned, arrived, extra, copied, bytes, .. } = job.report(0);
        assert_eq!((planned, extra, copied, arrived, bytes), (4, 1, 3, 2, 40));
    }
}
