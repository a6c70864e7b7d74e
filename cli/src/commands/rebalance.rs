//! `rebalance`: moving keys to where the ring says, told while it happens.
//!
//! The coordinator starts it and answers at once; the shell polls `progress` and prints each line
//! of narration as it comes:
//!
//! ```text
//! [Coordinator] Starting rebalance...
//! [Rebalance] Copied key 'apple' to n3
//! [Rebalance] Removed key 'banana' from n1
//! [Coordinator] Rebalance complete.
//! copied 1, removed 1, failed 0, 0.06 s
//! ```
//!
//! A plan that was shown in this session and not changed by it since is what is carried out: the coordinator
//! refuses (`STALE_EPOCH`) when somebody else has changed the ring meanwhile.
//!
//! # Caveats
//!
//! It runs in the coordinator: Ctrl-C here stops the telling, not the moving, and a second
//! `rebalance` tells of the one that runs. When somebody pauses it the telling ends, with exit code 5. The coordinator keeps a bounded number of lines, so a very fast rebalance may lose some; the summary counts
//! what was not shown.

use std::time::Duration;

use indicatif::ProgressBar;
use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{NarrationLine, RebalanceReport, RebalanceState};
use ringkv_shared::{ErrorName, Failure};

use super::plan::old_copies;
use super::{course, progress};
use crate::report::Report;
use crate::session::Session;
use crate::{exit, interrupt};

/// How often to ask how far it is.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How many lines of narration are shown when nothing else was asked for.
const LINES_SHOWN: u64 = 20;

/// Runs a rebalance to its end, or only starts it.
pub(super) async fn run(
    s: &mut Session,
    dry_run: bool,
    epoch: Option<u64>,
    detach: bool,
) -> Result<Report, Failure> {
    let mut telling = Telling::new(s, dry_run);
    let epoch = epoch.or(s.planned);
    let mut reply = begin(s, dry_run, epoch, &telling).await?;
    if !dry_run {
        // What was planned is under way: the next one is another.
        s.planned = None;
    }
    if detach {
        return Ok(detached_report(reply));
    }
    // Its lines are numbered from 1, so what the first answer brought is told too.
    loop {
        telling.tell(s, &reply);
        if reply.state != RebalanceState::Running {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = s.interrupt.cancelled() => {
                telling.bar.finish_and_clear();
                return Ok(interrupted(&reply));
            }
        }
        let after = Some(telling.last);
        reply = s.call(async |c| ClusterApiClient::progress(c, after).await).await?;
    }
    telling.bar.finish_and_clear();
    Ok(if dry_run { count_report(&reply) } else { end_report(&reply, &telling) })
}

/// Starts one, or finds the one that runs.
async fn begin(
    s: &mut Session,
    dry_run: bool,
    epoch: Option<u64>,
    telling: &Telling,
) -> Result<RebalanceReport, Failure> {
    let begun = s.call(async |c| ClusterApiClient::rebalance(c, Some(dry_run), epoch).await).await;
    let (reply, sentence) = match begun {
        Ok(reply) => (reply, "[Coordinator] Starting rebalance..."),
        Err(failure) if failure.name == ErrorName::Busy && !dry_run => {
            let reply = s.call(async |c| ClusterApiClient::progress(c, None).await).await?;
            if reply.dry_run || reply.state != RebalanceState::Running {
                return Err(failure);
            }
            (reply, "[Coordinator] A rebalance is under way.")
        }
        Err(failure) => return Err(failure),
    };
    if telling.narrate {
        s.line(sentence);
    }
    Ok(reply)
}

/// The report when nobody waits for the end at all.
fn detached_report(mut reply: RebalanceReport) -> Report {
    reply.lines.clear();
    Report::new(&reply).say("It goes on in the coordinator: progress, pause, cancel.")
}

/// The report when nobody waits for the end any more.
fn interrupted(reply: &RebalanceReport) -> Report {
    let RebalanceReport { copied, removed, .. } = reply;
    let message = format!(
        "interrupted: the rebalance goes on in the coordinator (so far copied {copied}, removed {removed})"
    );
    let failure = Failure::new(ErrorName::OutcomeUnknown, message);
    interrupt::told(failure.hint("see its end: rebalance"))
}

/// What has been told so far.
struct Telling {
    /// Whether narration is printed at all.
    narrate: bool,
    /// How many lines at most.
    shown_max: u64,
    /// How many lines were printed.
    shown: u64,
    /// The number of the last line seen.
    last: u64,
    /// On a terminal only; hidden otherwise.
    bar: ProgressBar,
}

impl Telling {
    fn new(s: &Session, dry_run: bool) -> Self {
        let shown_max = match s.settings.brief {
            Some(true) => 0,
            Some(false) => u64::MAX,
            None => LINES_SHOWN,
        };
        let narrate = s.settings.narrate && s.streams_text() && !dry_run;
        Self { narrate, shown_max, shown: 0, last: 0, bar: progress::steps(s.settings.progress) }
    }

    /// Prints the new lines, as many as may be shown.
    fn tell(&mut self, s: &mut Session, reply: &RebalanceReport) {
        for NarrationLine { number, text } in &reply.lines {
            if *number <= self.last {
                continue;
            }
            self.last = *number;
            if self.narrate && self.shown < self.shown_max {
                self.shown += 1;
                self.bar.suspend(|| s.line(&format!("[Rebalance] {text}")));
            }
        }
        let (done, total, message) = course::position(reply);
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(message);
    }
}

/// The report of a dry run: what would move, over which links.
fn count_report(reply: &RebalanceReport) -> Report {
    if let Some(failure) = &reply.error {
        return failure.clone().into();
    }
    let links: Vec<String> =
        reply.links.iter().map(|l| format!("{}->{} {}", l.from, l.to, l.keys)).collect();
    let report = Report::new(reply);
    if links.is_empty() && reply.removed == 0 {
        return report.say("PLAN  nothing to move");
    }
    let copies = if links.is_empty() { "nothing".to_owned() } else { links.join("  ") };
    report.say(format!("PLAN  copy  {copies}   then drop {}", old_copies(reply.removed)))
}

/// The report at the end of a rebalance.
fn end_report(reply: &RebalanceReport, telling: &Telling) -> Report {
    let RebalanceReport { copied, removed, failed, .. } = reply;
    let summary = course::summary(reply);
    if let Some(mut failure) = early_end(reply) {
        failure.message = format!("{} ({summary})", failure.message);
        return failure.into();
    }
    let mut report = Report::new(reply).plain(summary.clone());
    // All that was done is `copied + removed`, also when lines were lost on the way.
    let unshown = (copied + removed).saturating_sub(telling.shown);
    if unshown > 0 && telling.shown_max == LINES_SHOWN {
        report = report.say(format!("  ... {unshown} more (.brief off shows every key)"));
    }
    report = report.say("[Coordinator] Rebalance complete.").say(summary);
    let exit = if *failed > 0 { exit::PARTIAL } else { exit::OK };
    Report { exit, ..report }
}

/// Why it is not done, when it is not.
fn early_end(reply: &RebalanceReport) -> Option<Failure> {
    let failure = |name, message: &str, hint: &str| Failure::new(name, message).hint(hint);
    match reply.state {
        RebalanceState::Failed => Some(reply.error.clone().unwrap_or_else(|| {
            let message = "the rebalance ended early";
            failure(ErrorName::NotApplied, message, "nothing is lost; run rebalance again")
        })),
        RebalanceState::Paused => {
            let message = "the rebalance was paused, it is done in part";
            Some(failure(
                ErrorName::OutcomeUnknown,
                message,
                "resume goes on, cancel takes it back",
            ))
        }
        RebalanceState::Cancelled => {
            let message = "the rebalance was cancelled, the ring is as it was";
            Some(failure(ErrorName::NotApplied, message, "what it had copied is dropped again"))
        }
        RebalanceState::Idle | RebalanceState::Running | RebalanceState::Complete => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{from_value, json};

    fn reply(state: &str, failed: u64) -> RebalanceReport {
        from_value(json!({
            "status": "ok", "state": state, "dry_run": false, "scanned": 2000, "total": 2000,
            "copied": 502, "removed": 19, "failed": failed,
            "links": [{"from": "n1", "to": "n4", "keys": 168}, {"from": "n2", "to": "n4", "keys": 170}],
            "lines": [], "elapsed_ms": 63
        }))
        .unwrap()
    }

    fn telling(shown_max: u64, shown: u64) -> Telling {
        Telling { narrate: true, shown_max, shown, last: shown, bar: progress::steps(false) }
    }

    #[test]
    fn the_end_counts_what_was_not_shown() {
        let report = end_report(&reply("complete", 0), &telling(LINES_SHOWN, 20));
        assert_eq!(
            text(&report.narrated),
            "  ... 501 more (.brief off shows every key)\n\
             [Coordinator] Rebalance complete.\n\
             copied 502, removed 19, failed 0, 0.06 s"
        );
        assert_eq!(report.exit, 0);
        let all = end_report(&reply("complete", 0), &telling(u64::MAX, 521));
        assert!(text(&all.narrated).starts_with("[Coordinator] Rebalance complete.\n"));
    }

    #[test]
    fn what_failed_decides_the_exit_code() {
        assert_eq!(end_report(&reply("complete", 3), &telling(0, 0)).exit, 5);
        let report = end_report(&reply("failed", 0), &telling(0, 0));
        assert_eq!(report.exit, 1);
        assert!(text(&report.narrated).starts_with("error: the rebalance ended early (copied 502"));
    }

    #[test]
    fn one_that_somebody_else_stopped_is_not_done() {
        let paused = end_report(&reply("paused", 0), &telling(0, 0));
        assert_eq!(
            text(&paused.narrated),
            "error: the rebalance was paused, it is done in part (copied 502, removed 19, failed 0, 0.06 s)\n  \
             resume goes on, cancel takes it back"
        );
        assert_eq!(paused.exit, 5);
        let cancelled = end_report(&reply("cancelled", 0), &telling(0, 0));
        assert!(
            text(&cancelled.narrated).starts_with("error: the rebalance was cancelled, the ring")
        );
        assert_eq!(cancelled.exit, 1);
    }

    #[test]
    fn a_plan_names_its_links() {
        assert_eq!(
            text(&count_report(&reply("complete", 0)).narrated),
            "PLAN  copy  n1->n4 168  n2->n4 170   then drop 19 old copies"
        );
    }
}
