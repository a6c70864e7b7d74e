//! `doctor`: what is wrong now, and what would be if one more node died.
//!
//! ```text
//! CRITICAL  n2 is DOWN: 12 of 30 keys cannot be read
//!             start it again: start n2
//! warning   n1 has 41 % of all copies
//! If one more node died:
//! critical  n3: 9 of 30 keys would have no copy left
//! ```
//!
//! Capitals are for what fails at this moment; then the exit code is 6.
//!
//! # Caveats
//!
//! Nodes that do not answer cannot be looked at; that is a finding of its own.

use ringkv_shared::Failure;
use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{DoctorReply, Finding, Severity};

use crate::exit;
use crate::report::Report;
use crate::session::Session;
use crate::wire::LONG_DEADLINE;

/// How wide the column of severities is.
const SEVERITY_WIDTH: usize = 8;

/// Looks at everything.
pub(super) async fn run(s: &mut Session) -> Result<Report, Failure> {
    let reply = s.wire.call(LONG_DEADLINE, async |c| ClusterApiClient::doctor(c).await).await?;
    Ok(report(&reply))
}

fn report(reply: &DoctorReply) -> Report {
    let mut report = Report::new(reply);
    if reply.now.is_empty() {
        report = report.say("Nothing is wrong.");
    }
    report = reply.now.iter().fold(report, |report, found| finding(report, found, true));
    // Without a node that lives there is none to lose.
    if !reply.next.is_empty() {
        report = report.say("If one more node died:");
    }
    report = reply.next.iter().fold(report, |report, found| finding(report, found, false));
    let fails = reply.now.iter().any(|found| found.severity == Severity::Critical);
    let exit = if fails { exit::DIFFERS } else { exit::OK };
    Report { exit, ..report }
}

fn finding(report: Report, found: &Finding, now: bool) -> Report {
    let word = match (found.severity, now) {
        (Severity::Note, _) => "note",
        (Severity::Warning, _) => "warning",
        (Severity::Critical, true) => "CRITICAL",
        (Severity::Critical, false) => "critical",
    };
    let report = report.say(format!("{word:SEVERITY_WIDTH$}  {}", found.text));
    let hints = found.hint.iter().flat_map(|hint| hint.lines());
    hints.fold(report, |report, hint| report.say(format!("{:SEVERITY_WIDTH$}    {hint}", "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{from_value, json};

    #[test]
    fn a_healthy_cluster_is_told_in_three_lines() {
        let reply = json!({"status": "ok", "now": [], "next": [
            {"severity": "note", "text": "any one node may be lost"},
        ]});
        let healthy = report(&from_value(reply).unwrap());
        assert_eq!(
            text(&healthy.narrated),
            "Nothing is wrong.\nIf one more node died:\nnote      any one node may be lost"
        );
        assert_eq!(healthy.exit, 0);
    }

    #[test]
    fn where_no_node_lives_none_can_be_lost() {
        let reply = json!({"status": "ok", "now": [
            {"severity": "critical", "text": "the cluster has no nodes"},
        ], "next": []});
        let empty = report(&from_value(reply).unwrap());
        assert_eq!(text(&empty.narrated), "CRITICAL  the cluster has no nodes");
    }

    #[test]
    fn what_fails_now_is_loud_and_has_exit_code_6() {
        let reply: DoctorReply = from_value(json!({"status": "ok", "now": [
            {"severity": "critical", "text": "n2 is DOWN", "hint": "start n2\nor: removenode n2"},
            {"severity": "warning", "text": "n1 is full"},
        ], "next": [
            {"severity": "critical", "text": "n3: 9 keys would have no copy left"},
            {"severity": "note", "text": "n1: nothing"},
        ]}))
        .unwrap();
        let sick = report(&reply);
        assert_eq!(
            text(&sick.narrated),
            "CRITICAL  n2 is DOWN\n            start n2\n            or: removenode n2\n\
             warning   n1 is full\n\
             If one more node died:\n\
             critical  n3: 9 keys would have no copy left\n\
             note      n1: nothing"
        );
        assert_eq!(sick.exit, 6);
        let worried = report(&DoctorReply { now: reply.now[1..].to_vec(), ..reply });
        assert_eq!(worried.exit, 0, "nothing fails yet");
    }
}
