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
//! # Caveats
//!
//! It runs in the coordinator: Ctrl-C here stops the telling, not the moving, and a second
//! `rebalance` tells of the one that runs. The coordinator keeps a bounded number of lines, so a very fast rebalance may lose some; the summary counts
//! what was not shown.

use std::time::Duration;

use indicatif::ProgressBar;
use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{NarrationLine, RebalanceReport, RebalanceState};
use ringkv_shared::{ErrorName, Failure};

use super::progress;
use crate::report::Report;
use crate::session::Session;
use crate::{exit, interrupt};

/// How often to ask how far it is.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How many lines of narration are shown when nothing else was asked for.
const LINES_SHOWN: u64 = 20;

/// Runs a rebalance to its end.
pub(super) async fn run(s: &mut Session, dry_run: bool) -> Result<Report, Failure> {
    let mut telling = Telling::new(s, dry_run);
    let mut reply = begin(s, dry_run, &telling).await?;
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
    Ok(if dry_run { plan_report(&reply) } else { end_report(&reply, &telling) })
}

/// Starts one, or finds the one that runs.
async fn begin(
    s: &mut Session,
    dry_run: bool,
    telling: &Telling,
) -> Result<RebalanceReport, Failure> {
    let begun = s.call(async |c| ClusterApiClient::rebalance(c, Some(dry_run), None).await).await;
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
        Self { narrate, shown_max, shown: 0, last: 0, bar: progress::bar(s.settings.progress, 0) }
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
        self.bar.set_length(reply.total);
        self.bar.set_position(reply.scanned);
    }
}

fn old_copies(count: u64) -> String {
    if count == 1 { "1 old copy".to_owned() } else { format!("{count} old copies") }
}

/// The report of a dry run: what would move, over which links.
fn plan_report(reply: &RebalanceReport) -> Report {
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
    let seconds = reply.elapsed_ms as f64 / 1000.0;
    let RebalanceReport { copied, removed, failed, .. } = reply;
    let summary = format!("copied {copied}, removed {removed}, failed {failed}, {seconds:.2} s");
    if reply.state == RebalanceState::Failed {
        let unsaid = Failure::new(ErrorName::NotApplied, "the rebalance ended early")
            .hint("nothing is lost; run rebalance again");
        let mut failure = reply.error.clone().unwrap_or(unsaid);
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
        Telling { narrate: true, shown_max, shown, last: shown, bar: progress::bar(false, 0) }
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
    fn a_plan_names_its_links() {
        assert_eq!(
            text(&plan_report(&reply("complete", 0)).narrated),
            "PLAN  copy  n1->n4 168  n2->n4 170   then drop 19 old copies"
        );
    }
}
