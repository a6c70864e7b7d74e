//! How far a rebalance is, and stopping it: `progress`, `pause`, `resume`, `cancel`.
//!
//! ```text
//! kv> progress
//! Copying: 120 of 502 copies made (24 %), 1200 keys/s, 0.3 s left.
//!   FROM  TO  COPIES  OF   BYTES   KEYS/S  LEFT
//!   n1    n4  40      168  2.8 KB  400     0.3 s
//!   n2    n4  80      334  5.6 KB  800     0.3 s
//!   its links held back for 1.2 s, added up: for the rate limit and the requests of others
//! ```
//!
//! A rebalance that was paused, that failed or that was taken back is told in the same words, with what to do.
//!
//! # Caveats
//!
//! The time left is that of copying at the speed of the last moments; counting before and dropping after are
//! not in it.

use ringkv_shared::Failure;
use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{
    LinkReport, RebalanceReport, RebalanceState, RebalanceStep,
};

use super::observe::{bytes, span};
use super::plan::{copies, old_copies};
use super::rebalance::POLL_INTERVAL;
use crate::exit;
use crate::report::Report;
use crate::session::Session;
use crate::table::Table;

/// More lines of narration than there ever are: a look does not want them.
const NO_LINES: u64 = u64::MAX;

/// One look.
pub(super) async fn progress(s: &mut Session) -> Result<Report, Failure> {
    let reply = s.call(async |c| ClusterApiClient::progress(c, Some(NO_LINES)).await).await?;
    Ok(report(&reply, s.out.width()))
}

/// Lets it rest.
pub(super) async fn pause(s: &mut Session) -> Result<Report, Failure> {
    let mut reply = s.call(async |c| ClusterApiClient::pause(c).await).await?;
    reply.lines.clear();
    Ok(report(&reply, s.out.width()))
}

/// Lets it go on.
pub(super) async fn resume(s: &mut Session) -> Result<Report, Failure> {
    let mut reply = s.call(async |c| ClusterApiClient::resume(c).await).await?;
    reply.lines.clear();
    let sentence = "The rebalance goes on (see it: progress; wait for its end: rebalance).";
    Ok(Report::new(&reply).say(sentence))
}

/// Takes it back, and waits until that is done.
pub(super) async fn cancel(s: &mut Session) -> Result<Report, Failure> {
    let mut reply = s.call(async |c| ClusterApiClient::cancel(c).await).await?;
    let made = reply.copied;
    while reply.state == RebalanceState::Running {
        tokio::time::sleep(POLL_INTERVAL).await;
        reply = s.call(async |c| ClusterApiClient::progress(c, Some(NO_LINES)).await).await?;
    }
    reply.lines.clear();
    Ok(cancel_report(&reply, made, s.out.width()))
}

/// The report of `cancel`, after so many copies had been made.
fn cancel_report(reply: &RebalanceReport, made: u64, width: Option<usize>) -> Report {
    if reply.state != RebalanceState::Cancelled {
        return Report { exit: exit::PARTIAL, ..report(reply, width) };
    }
    let made = match made {
        0 => String::new(),
        count => format!("; {} that had been made went again", copies(count)),
    };
    let report = Report::new(reply).say(format!("Cancelled: the ring is as it was{made}."));
    match reply.failed {
        0 => report,
        _ => report
            .warn("  not all nodes could be asked: what should have gone may still lie at others")
            .warn("  when they are back plan shows it, and rebalance drops it"),
    }
}

/// The report of `progress`.
fn report(reply: &RebalanceReport, width: Option<usize>) -> Report {
    let mut report = Report::new(reply);
    if reply.state == RebalanceState::Idle {
        return report
            .say("No rebalance has run since the coordinator started (what one would do: plan).");
    }
    report = report.say(headline(reply));
    if let Some(table) = links(reply) {
        let text = table.draw(width.map(|width| width.saturating_sub(2)));
        report = text.lines().fold(report, |report, line| report.say(format!("  {line}")));
    }
    if reply.waited_ms > 0 {
        report = report.say(format!(
            "  its links held back for {}, added up: for the rate limit and the requests of others",
            span(reply.waited_ms)
        ));
    }
    report = match reply.state {
        RebalanceState::Paused => report.say("resume goes on, cancel takes it back."),
        _ => report,
    };
    let Some(error) = reply.error.as_ref().filter(|_| reply.state == RebalanceState::Failed) else {
        return report;
    };
    let report = report.warn(format!("  it ended with: {}", error.message));
    match &error.hint {
        Some(hint) => report.warn(format!("  {hint}")),
        None => report.warn("  nothing is lost; run rebalance again"),
    }
}

/// What it is at, and how much of that is done.
fn headline(reply: &RebalanceReport) -> String {
    let at = step(reply.step);
    let done = done(reply);
    match reply.state {
        RebalanceState::Idle | RebalanceState::Running => {
            let rate = rate(reply).map_or_else(String::new, |rate| format!(", {rate}"));
            format!("{}{}: {done}{rate}.", at[..1].to_uppercase(), &at[1..])
        }
        // It rests since before the coordinator was started: nobody has counted.
        RebalanceState::Paused if reply.elapsed_ms == 0 && reply.planned == 0 => {
            format!("Paused while {at}: what is left is counted when it goes on.")
        }
        RebalanceState::Paused => format!("Paused while {at}: {done}."),
        RebalanceState::Failed => format!("Failed while {at}: {done}."),
        RebalanceState::Complete => format!("Complete: {}.", summary(reply)),
        RebalanceState::Cancelled => {
            format!("Cancelled: the ring is as it was; {}.", summary(reply))
        }
    }
}

/// The step as a verb.
const fn step(step: RebalanceStep) -> &'static str {
    match step {
        RebalanceStep::Counting => "counting",
        RebalanceStep::Joining => "telling the nodes",
        RebalanceStep::Copying => "copying",
        RebalanceStep::Finalising => "putting the new ring in force",
        RebalanceStep::Dropping => "dropping old copies",
    }
}

/// How much of the step is done.
fn done(reply: &RebalanceReport) -> String {
    let RebalanceReport { step, scanned, total, copied, planned, arrived, removed, .. } = reply;
    match step {
        RebalanceStep::Counting => format!("{scanned} of about {total} keys looked at"),
        RebalanceStep::Joining | RebalanceStep::Finalising | RebalanceStep::Copying => {
            let by_writes = match arrived {
                0 => String::new(),
                count => format!(", {} had come by a write", copies(*count)),
            };
            let percent = percent(copied + arrived, *planned);
            format!("{copied} of {} made ({percent} %){by_writes}", copies(*planned))
        }
        RebalanceStep::Dropping => {
            format!("{} made, {} dropped", copies(*copied), old_copies(*removed))
        }
    }
}

fn percent(done: u64, planned: u64) -> u64 {
    (done.min(planned) * 100).checked_div(planned).unwrap_or(100)
}

/// `1200 keys/s, 0.3 s left`, while something is copied.
pub(super) fn rate(reply: &RebalanceReport) -> Option<String> {
    if reply.step != RebalanceStep::Copying {
        return None;
    }
    let rate: f64 = reply.links.iter().map(|link| link.keys_per_s).sum();
    let rate = format!("{rate:.0} keys/s");
    Some(match reply.eta_ms {
        Some(ms) => format!("{rate}, {} left", span(ms)),
        None => rate,
    })
}

/// `copied 502, removed 19, failed 0, 0.06 s`.
pub(super) fn summary(reply: &RebalanceReport) -> String {
    let RebalanceReport { copied, removed, failed, .. } = reply;
    let seconds = reply.elapsed_ms as f64 / 1000.0;
    format!("copied {copied}, removed {removed}, failed {failed}, {seconds:.2} s")
}

/// How much of what is there to do is done, and what it is counted in: for a bar.
pub(super) fn position(reply: &RebalanceReport) -> (u64, u64, String) {
    match reply.step {
        RebalanceStep::Copying => {
            let rate = rate(reply).unwrap_or_default();
            (reply.copied + reply.arrived, reply.planned, format!("copies, {rate}"))
        }
        RebalanceStep::Dropping => (reply.scanned, reply.total, "keys, dropping old copies".into()),
        RebalanceStep::Counting | RebalanceStep::Joining | RebalanceStep::Finalising => {
            (reply.scanned, reply.total, format!("keys, {}", step(reply.step)))
        }
    }
}

fn links(reply: &RebalanceReport) -> Option<Table<'static>> {
    let running = reply.state == RebalanceState::Running && reply.step == RebalanceStep::Copying;
    let cells = |link: &LinkReport| {
        let counts = [link.keys, link.planned].map(|count| count.to_string());
        let names = [link.from.to_string(), link.to.to_string()];
        let mut cells = [names.to_vec(), counts.to_vec(), vec![bytes(link.bytes)]].concat();
        if running {
            let left = link.eta_ms.map_or_else(|| "-".to_owned(), span);
            cells.extend([format!("{:.0}", link.keys_per_s), left]);
        }
        cells
    };
    let header: &[&str] = match running {
        true => &["FROM", "TO", "COPIES", "OF", "BYTES", "KEYS/S", "LEFT"],
        false => &["FROM", "TO", "COPIES", "OF", "BYTES"],
    };
    (!reply.links.is_empty()).then(|| Table {
        header,
        rows: reply.links.iter().map(cells).collect(),
        dispensable: &["BYTES", "KEYS/S"],
        prose: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value, json};

    fn told(more: Value) -> String {
        text(&report(&reply(more), None).narrated)
    }

    fn reply(more: Value) -> RebalanceReport {
        let mut reply = json!({
            "status": "ok", "state": "running", "dry_run": false, "step": "copying", "planned": 502,
            "arrived": 3, "bytes": 8_400, "waited_ms": 1_200, "eta_ms": 300, "scanned": 900, "total": 2_000,
            "copied": 120, "removed": 0, "failed": 0, "lines": [], "elapsed_ms": 4_500, "links": [
                {"from": "n1", "to": "n4", "keys": 40, "planned": 168, "bytes": 2_800, "keys_per_s": 400.0, "eta_ms": 320},
                {"from": "n2", "to": "n4", "keys": 80, "planned": 334, "bytes": 5_600, "keys_per_s": 800.4},
            ]
        });
        reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        from_value(reply).unwrap()
    }

    #[test]
    fn one_look_says_how_far_and_how_fast() {
        assert_eq!(
            told(json!({})),
            "Copying: 120 of 502 copies made (24 %), 3 copies had come by a write, 1200 keys/s, 0.3 s left.\n  \
             FROM  TO  COPIES  OF   BYTES   KEYS/S  LEFT\n  \
             n1    n4  40      168  2.8 KB  400     0.3 s\n  \
             n2    n4  80      334  5.6 KB  800     -\n  \
             its links held back for 1.2 s, added up: for the rate limit and the requests of others"
        );
        let counting = json!({"step": "counting", "links": [], "waited_ms": 0});
        assert_eq!(told(counting), "Counting: 900 of about 2000 keys looked at.");
        let dropping = json!({"step": "dropping", "links": [], "waited_ms": 0, "removed": 1});
        assert_eq!(told(dropping), "Dropping old copies: 120 copies made, 1 old copy dropped.");
    }

    #[test]
    fn one_that_rests_or_ended_is_told_with_what_to_do() {
        let quiet =
            |state: &str| json!({"state": state, "links": [], "waited_ms": 0, "arrived": 0});
        assert_eq!(
            told(quiet("paused")),
            "Paused while copying: 120 of 502 copies made (23 %).\nresume goes on, cancel takes it back."
        );
        // Since before the coordinator was started.
        let mut uncounted = quiet("paused");
        (uncounted["planned"], uncounted["copied"], uncounted["elapsed_ms"]) =
            (0.into(), 0.into(), 0.into());
        assert_eq!(
            told(uncounted),
            "Paused while copying: what is left is counted when it goes on.\n\
             resume goes on, cancel takes it back."
        );
        assert_eq!(told(quiet("complete")), "Complete: copied 120, removed 0, failed 0, 4.50 s.");
        assert_eq!(
            told(quiet("cancelled")),
            "Cancelled: the ring is as it was; copied 120, removed 0, failed 0, 4.50 s."
        );
        let mut failed = quiet("failed");
        failed["error"] = json!({"name": "NOT_APPLIED", "message": "n4 went DOWN"});
        assert_eq!(
            told(failed),
            "Failed while copying: 120 of 502 copies made (23 %).\n  \
             it ended with: n4 went DOWN\n  nothing is lost; run rebalance again"
        );
        assert!(told(quiet("idle")).starts_with("No rebalance has run"));
    }

    #[test]
    fn who_cancels_hears_how_it_ended() {
        let cancelled = cancel_report(&reply(json!({"state": "cancelled"})), 2, None);
        assert_eq!(
            text(&cancelled.narrated),
            "Cancelled: the ring is as it was; 2 copies that had been made went again."
        );
        assert_eq!(cancelled.exit, 0);
        let blind = cancel_report(&reply(json!({"state": "cancelled", "failed": 3})), 0, None);
        assert_eq!(
            text(&blind.narrated),
            "Cancelled: the ring is as it was.\n  \
             not all nodes could be asked: what should have gone may still lie at others\n  \
             when they are back plan shows it, and rebalance drops it"
        );
        let stuck = cancel_report(&reply(json!({"state": "failed"})), 2, None);
        assert!(text(&stuck.narrated).starts_with("Failed while copying"));
        assert_eq!(stuck.exit, 5);
    }

    #[test]
    fn a_bar_counts_what_the_step_is_about() {
        let position = |step: &str| position(&reply(json!({ "step": step })));
        assert_eq!(position("copying"), (123, 502, "copies, 1200 keys/s, 0.3 s left".to_owned()));
        assert_eq!(position("counting"), (900, 2_000, "keys, counting".to_owned()));
        assert_eq!(percent(0, 0), 100, "nothing to do is done");
    }
}
