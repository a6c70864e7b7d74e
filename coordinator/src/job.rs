//! What a rebalance has done so far, for whoever polls `progress`.

use std::collections::{BTreeMap, VecDeque};

use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    LinkReport, NarrationLine, RebalanceReport, RebalanceState,
};
use ringkv_shared::{Blob, Failure, NodeId};
use tokio::time::Instant;

/// Narration kept for pollers.
const LINES_KEPT: usize = 1000;

/// The rebalance that runs, or the last one that ran.
pub(crate) struct Job {
    pub(crate) report: RebalanceReport,
    lines: VecDeque<NarrationLine>,
    told: u64,
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
        Self { report, lines, told: 0, links, started: Instant::now() }
    }

    pub(crate) fn narrate(&mut self, text: String) {
        self.told += 1;
        self.lines.push_back(NarrationLine { number: self.told, text });
        if self.lines.len() > LINES_KEPT {
            self.lines.pop_front();
        }
    }

    pub(crate) fn copied(&mut self, key: &Blob, from: &NodeId, to: &NodeId) {
        self.report.copied += 1;
        *self.links.entry((from.clone(), to.clone())).or_default() += 1;
        if !self.report.dry_run {
            self.narrate(format!("Copied key '{key}' to {to}"));
        }
    }

    pub(crate) fn end(&mut self, result: Result<(), Failure>) {
        self.report.elapsed_ms = elapsed_ms(self.started);
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
        };
        report.links = self.links.iter().map(link).collect();
        report.lines = self.lines.iter().filter(|line| line.number > after).cloned().collect();
        report
    }
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
