//! `why-down`: what is thought of a node, and the probes that led to it.
//!
//! ```text
//! kv> why-down n2
//! n2 (127.0.0.1:5002) has been DOWN for 4.2 s.
//!   a probe every 500 ms, no answer until the next is a miss, 3 misses in a row are DOWN
//!   10.4 s ago  12 answered within 0.4 ms
//!   5.2 s ago   4 missed: no answer within 500 ms (SUSPECT at miss 1, DOWN at miss 3)
//!   next: an answer makes it UP; until then it stays on the ring (autoheal is off)
//! ```
//!
//! Probes with the same outcome, one after another, are one line.
//!
//! # Caveats
//!
//! The coordinator keeps the last 64 probes of a node; what came before is only in the opinion.

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{Health, ProbeRow, WhyDownReply};
use ringkv_shared::{Failure, NodeId};

use super::expiry;
use super::observe::{ago, health_word, span};
use crate::report::Report;
use crate::session::Session;
use crate::table::Table;

/// Why a node is thought to be so.
pub(super) async fn run(s: &mut Session, id: NodeId) -> Result<Report, Failure> {
    let reply = s.call(async |c| ClusterApiClient::why_down(c, id).await).await?;
    Ok(report(&reply, expiry::now_ms(), s.out.width()))
}

fn report(reply: &WhyDownReply, now_ms: u64, width: Option<usize>) -> Report {
    let WhyDownReply { node, addr, health, heartbeat_ms, down_after, .. } = reply;
    let lasting = span(now_ms.saturating_sub(reply.since_ms));
    let mut report = Report::new(reply)
        .say(format!("{node} ({addr}) has been {} for {lasting}.", health_word(*health)))
        .say(format!(
            "  a probe every {heartbeat_ms} ms, no answer until the next is a miss, {} in a row are DOWN",
            misses(*down_after)
        ));
    let row = |run: Run<'_>| vec![ago(now_ms.saturating_sub(run.at_ms)), run.words()];
    let rows: Vec<Vec<String>> = runs(&reply.probes).into_iter().map(row).collect();
    if rows.is_empty() {
        report = report.say("  not probed yet");
    } else {
        let table = Table { header: &["", ""], rows, dispensable: &[], prose: true };
        let text = table.draw(width.map(|width| width.saturating_sub(2)));
        report = text.lines().fold(report, |report, line| report.say(format!("  {line}")));
    }
    report.say(format!("  next: {}", next(reply, now_ms)))
}

/// What will be thought of it, and when.
fn next(reply: &WhyDownReply, now_ms: u64) -> String {
    let down_after = reply.down_after;
    match (reply.health, reply.heals_at_ms) {
        (Health::Up, _) => format!("{} in a row make it DOWN", misses(down_after)),
        (Health::Suspect, _) => {
            let so_far = reply.probes.last().map_or(0, |probe| probe.misses);
            let more = down_after.saturating_sub(so_far).max(1);
            format!("DOWN after {} more, UP with an answer", misses(more))
        }
        (Health::Down, Some(at)) => format!(
            "an answer makes it UP; without one autoheal takes it off the ring in {}",
            span(at.saturating_sub(now_ms))
        ),
        (Health::Down, None) => {
            "an answer makes it UP; until then it stays on the ring (autoheal is off)".to_owned()
        }
    }
}

/// Probes with the same outcome, one after another.
struct Run<'r> {
    at_ms: u64,
    count: u64,
    longest_us: u64,
    missed: Option<&'r str>,
    excused: Option<&'r str>,
    /// What was thought anew, and at which miss in a row.
    turns: Vec<(Health, u32)>,
}

impl Run<'_> {
    fn is_of(&self, probe: &ProbeRow) -> bool {
        self.missed == probe.missed.as_deref() && self.excused == probe.excused.as_deref()
    }

    /// `4 missed: no answer within 500 ms (DOWN at miss 3)`.
    fn words(&self) -> String {
        let Self { count, .. } = self;
        let what = match (self.missed, self.excused) {
            (None, _) => format!("{count} answered within {:.1} ms", self.longest_us as f64 / 1e3),
            (Some(why), None) => format!("{count} missed: {why}"),
            (Some(why), Some(excuse)) => format!("{count} missed, not counted ({excuse}): {why}"),
        };
        let turn = |(health, at): &(Health, u32)| match health {
            Health::Up => "UP".to_owned(),
            health => format!("{} at miss {at}", health_word(*health)),
        };
        let turns: Vec<String> = self.turns.iter().map(turn).collect();
        if turns.is_empty() { what } else { format!("{what} ({})", turns.join(", ")) }
    }
}

fn runs(probes: &[ProbeRow]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut before: Option<Health> = None;
    for probe in probes {
        if !runs.last().is_some_and(|run| run.is_of(probe)) {
            runs.push(Run {
                at_ms: probe.at_ms,
                count: 0,
                longest_us: 0,
                missed: probe.missed.as_deref(),
                excused: probe.excused.as_deref(),
                turns: Vec::new(),
            });
        }
        let Some(run) = runs.last_mut() else { continue };
        run.count += 1;
        run.longest_us = run.longest_us.max(probe.took_us);
        if before.replace(probe.health).is_some_and(|before| before != probe.health) {
            run.turns.push((probe.health, probe.misses));
        }
    }
    runs
}

fn misses(count: u32) -> String {
    if count == 1 { "1 miss".to_owned() } else { format!("{count} misses") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value, json};

    fn probe(at_ms: u64, missed: Option<&str>, misses: u32, health: &str) -> Value {
        let mut probe = json!({"at_ms": at_ms, "took_us": at_ms % 1_000 + 200, "misses": misses, "health": health});
        if let Some(why) = missed {
            probe["missed"] = why.into();
        }
        probe
    }

    fn told(health: &str, probes: Vec<Value>, heals_at_ms: Option<u64>) -> String {
        let mut reply = json!({
            "status": "ok", "node": "n2", "addr": "127.0.0.1:5002", "health": health,
            "since_ms": 10_000, "heartbeat_ms": 500, "down_after": 3, "probes": probes,
        });
        if let Some(at) = heals_at_ms {
            reply["heals_at_ms"] = at.into();
        }
        text(&report(&from_value(reply).unwrap(), 14_200, None).narrated)
    }

    #[test]
    fn probes_with_one_outcome_are_one_line() {
        let late = Some("no answer within 500 ms");
        let mut asleep = probe(13_700, late, 3, "DOWN");
        asleep["excused"] = "asleep for 3.1 s".into();
        let probes = vec![
            probe(8_000, None, 0, "UP"),
            probe(8_500, None, 0, "UP"),
            probe(9_000, late, 1, "SUSPECT"),
            probe(9_500, late, 2, "SUSPECT"),
            probe(10_000, late, 3, "DOWN"),
            asleep,
        ];
        assert_eq!(
            told("DOWN", probes, None),
            "n2 (127.0.0.1:5002) has been DOWN for 4.2 s.\n  \
             a probe every 500 ms, no answer until the next is a miss, 3 misses in a row are DOWN\n  \
             6.2 s ago  2 answered within 0.7 ms\n  \
             5.2 s ago  3 missed: no answer within 500 ms (SUSPECT at miss 1, DOWN at miss 3)\n  \
             now        1 missed, not counted (asleep for 3.1 s): no answer within 500 ms\n  \
             next: an answer makes it UP; until then it stays on the ring (autoheal is off)"
        );
    }

    #[test]
    fn what_comes_next_is_said() {
        let last = |health, probes, heals| {
            told(health, probes, heals).lines().last().unwrap().trim().to_owned()
        };
        assert_eq!(last("UP", Vec::new(), None), "next: 3 misses in a row make it DOWN");
        let late = vec![probe(14_000, Some("refused"), 2, "SUSPECT")];
        assert_eq!(last("SUSPECT", late, None), "next: DOWN after 1 miss more, UP with an answer");
        assert_eq!(
            last("DOWN", Vec::new(), Some(20_000)),
            "next: an answer makes it UP; without one autoheal takes it off the ring in 5.8 s"
        );
        let back = vec![probe(1, Some("refused"), 3, "DOWN"), probe(2, None, 0, "UP")];
        assert!(told("UP", back, None).contains("1 answered within 0.2 ms (UP)"));
    }
}
