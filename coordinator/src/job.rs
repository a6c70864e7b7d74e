//! What a rebalance has done so far, for whoever polls `progress`.

use std::collections::{BTreeMap, VecDeque};

use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    LinkReport, NarrationLine, RebalanceReport, RebalanceState, RebalanceStep,
};
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use tokio::time::Instant;

/// Narration kept for pollers.
const LINES_KEPT: usize = 1000;

/// The rebalance that runs, or the last one that ran.
pub(crate) struct Job {
    pub(crate) report: RebalanceReport,
    lines: VecDeque<NarrationLine>,
    told: u64,
    /// The number of the last line that pollers may see, see [`Job::settle`].
    settled: u64,
    links: BTreeMap<(NodeId, NodeId), u64>,
    started: Instant,
}

impl Job {
    pub(crate) fn idle() -> Self {
        Self::new(RebalanceState::Idle, false, 0)
    }

    pub(crate) fn start(dry_run: bool, total: u64) -> Self {
        Self::new(RebalanceState::Running, dry_run, total)
    }

    fn new(state: RebalanceState, dry_run: bool, total: u64) -> Self {
        let report = RebalanceReport {
            status: Status::Ok,
            state,
            dry_run,
            step: RebalanceStep::default(),
            planned: 0,
            arrived: 0,
            bytes: 0,
            waited_ms: 0,
            eta_ms: None,
            scanned: 0,
            total,
            copied: 0,
            removed: 0,
            failed: 0,
            links: Vec::new(),
            lines: Vec::new(),
            elapsed_ms: 0,
            error: None,
        };
        let (lines, links) = (VecDeque::new(), BTreeMap::new());
        Self { report, lines, told: 0, settled: 0, links, started: Instant::now() }
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

    pub(crate) fn copied(&mut self, space: &KeyspaceName, key: &Blob, from: &NodeId, to: &NodeId) {
        self.report.copied += 1;
        *self.links.entry((from.clone(), to.clone())).or_default() += 1;
        if !self.report.dry_run {
            self.narrate(format!("Copied key '{key}'{} to {to}", of(space)));
        }
    }

    pub(crate) fn removed(&mut self, space: &KeyspaceName, key: &Blob, from: &NodeId) {
        self.report.removed += 1;
        self.narrate(format!("Removed key '{key}'{} from {from}", of(space)));
    }

    pub(crate) fn end(&mut self, result: Result<(), Failure>) {
        self.report.elapsed_ms = elapsed_ms(self.started);
        self.settle();
        match result {
            Ok(()) => self.report.state = RebalanceState::Complete,
            Err(failure) => {
                self.report.state = RebalanceState::Failed;
                self.report.error = Some(failure);
            }
        }
    }

    /// What to tell a poller that has seen the lines up to `after`.
    pub(crate) fn report(&self, after: u64) -> RebalanceReport {
        let mut report = self.report.clone();
        if report.state == RebalanceState::Running {
            report.elapsed_ms = elapsed_ms(self.started);
        }
        let link = |((from, to), keys): (&(NodeId, NodeId), &u64)| LinkReport {
            from: from.clone(),
            to: to.clone(),
            keys: *keys,
            planned: 0,
            bytes: 0,
            keys_per_s: 0.0,
            eta_ms: None,
        };
        report.links = self.links.iter().map(link).collect();
        let is_new = |line: &&NarrationLine| line.number > after && line.number <= self.settled;
        report.lines = self.lines.iter().filter(is_new).cloned().collect();
        report
    }
}

/// ` of orders`, behind a key of that keyspace; nothing behind one of `default`.
pub(crate) fn of(space: &KeyspaceName) -> String {
    if space.is_default() { String::new() } else { format!(" of {space}") }
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(job: &Job, after: u64) -> String {
        let lines = job.report(after).lines;
        lines.iter().map(|line| format!("{} {}\n", line.number, line.text)).collect()
    }

    #[test]
    fn lines_are_told_in_order_a_batch_at_a_time() {
        let mut job = Job::new(RebalanceState::Running, false, 0);
        ["b", "c", "a"].iter().for_each(|line| job.narrate((*line).to_owned()));
        assert_eq!(told(&job, 0), "");
        job.settle();
        assert_eq!(told(&job, 0), "1 a\n2 b\n3 c\n");
        ["z", "x"].iter().for_each(|line| job.narrate((*line).to_owned()));
        assert_eq!(told(&job, 2), "3 c\n");
        job.end(Ok(()));
        assert_eq!(told(&job, 2), "3 c\n4 x\n5 z\n");
        job.settle();
        assert_eq!(told(&job, 0), "1 a\n2 b\n3 c\n4 x\n5 z\n");
    }
}
