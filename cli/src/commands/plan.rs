//! `plan`: what `rebalance` would do now, and taking it back.
//!
//! ```text
//! Staged, epoch 9:
//!   n4 joins, weight 2
//!   n2 leaves
//! 17 copies to make (1.7 KB), then 12 old copies to drop; 30 keys looked at.
//!   FROM  TO  COPIES  BYTES
//!   n1    n4  12      1.2 KB
//!   n2    n4  5       512 B
//!   NODE  COPIES NOW  THEN  SHARE NOW  THEN
//!   n1    20          15    50.0 %     33.0 %
//!   why:  …
//!   mind: …
//! rebalance carries it out, plan clear takes it back.
//! ```
//!
//! A session remembers the epoch of the plan that it showed, and its next `rebalance` asks for just that one:
//! what was seen is what is done, or nothing.
//!
//! # Caveats
//!
//! What is written after the plan was made is not in it.

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{BalanceRow, Difference, LinkPlan, PlanReply, Stage};
use ringkv_shared::{Failure, Zone};

use super::observe::bytes;
use crate::exit;
use crate::report::{Report, counted};
use crate::session::Session;
use crate::table::Table;
use crate::wire::LONG_DEADLINE;

/// Shows what is planned, and remembers which ring it is for.
pub(super) async fn show(s: &mut Session) -> Result<Report, Failure> {
    let reply = s.wire.call(LONG_DEADLINE, async |c| ClusterApiClient::plan(c, None).await).await?;
    let to_be = matches!(reply.stage, Stage::Idle | Stage::Staged);
    s.planned = to_be.then_some(reply.epoch);
    Ok(report(&reply, s.out.width()))
}

/// Takes back what is staged.
pub(super) async fn clear(s: &mut Session) -> Result<Report, Failure> {
    let reply =
        s.wire.call(LONG_DEADLINE, async |c| ClusterApiClient::plan(c, Some(true)).await).await?;
    let epoch = reply.epoch;
    Ok(Report::new(&reply).say(format!("Nothing is staged any more, epoch {epoch}.")))
}

/// The report of `plan`.
fn report(reply: &PlanReply, width: Option<usize>) -> Report {
    let epoch = reply.epoch;
    let moves = reply.copies + reply.removed > 0;
    let head = match (reply.stage, moves) {
        (Stage::Idle, false) => {
            let sentence = "Nothing is staged, and every key is where the ring wants it";
            let report = Report::new(reply).say(format!("{sentence} (epoch {epoch})."));
            return notes(report, [("mind:", &reply.risks)], width);
        }
        (Stage::Idle, true) => {
            format!(
                "Nothing is staged, but some keys are not where the ring wants them (epoch {epoch})."
            )
        }
        (Stage::Staged, _) => format!("Staged, epoch {epoch}:"),
        (Stage::Copying, _) => format!("Being carried out, epoch {epoch}:"),
        (Stage::Clearing, _) => format!("Old copies are being dropped, epoch {epoch}."),
    };
    let report = told(Report::new(reply).say(head), reply, width);
    if let Some(refused) = &reply.refused {
        return refusal(report, refused);
    }
    report.say(match reply.stage {
        Stage::Idle => "rebalance carries it out.",
        Stage::Staged => "rebalance carries it out, plan clear takes it back.",
        Stage::Copying => "How far it is: progress; also: pause, cancel.",
        Stage::Clearing => "How far it is: progress.",
    })
}

/// Why it cannot be carried out, in JSON as every failure is.
fn refusal(report: Report, refused: &Failure) -> Report {
    let message = format!("as things are it cannot be carried out: {}", refused.message);
    let told = Report::from(Failure { message, ..refused.clone() });
    let Report { mut narrated, mut members, .. } = report;
    narrated.extend(told.narrated);
    members.extend(told.members);
    Report { narrated, members, exit: exit::REFUSED, plain: None, raw: None }
}

/// The changes, what moves, the balance, and what is to be said about them.
pub(super) fn told(report: Report, reply: &PlanReply, width: Option<usize>) -> Report {
    let report = reply
        .changes
        .iter()
        .map(change)
        .fold(report, |report, line| report.say(format!("  {line}")));
    let mut report = report.say(summary(reply));
    for table in [links(&reply.links), balance(&reply.balance)].into_iter().flatten() {
        let text = table.draw(width.map(|width| width.saturating_sub(2)));
        report = text.lines().fold(report, |report, line| report.say(format!("  {line}")));
    }
    notes(report, [("why:", &reply.reasons), ("mind:", &reply.risks)], width)
}

/// `17 copies to make (1.7 KB), then 12 old copies to drop; 30 keys looked at.`
fn summary(reply: &PlanReply) -> String {
    let copies = match reply.copies {
        0 => "No copy to make".to_owned(),
        count => format!("{} to make ({})", copies(count), bytes(reply.bytes)),
    };
    let dropped = match reply.removed {
        0 => "none to drop".to_owned(),
        count => format!("then {} to drop", old_copies(count)),
    };
    format!("{copies}, {dropped}; {} looked at.", counted(reply.keys, "key"))
}

/// `1 copy`, `2 copies`.
pub(super) fn copies(count: u64) -> String {
    if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") }
}

/// `1 old copy`, `2 old copies`.
pub(super) fn old_copies(count: u64) -> String {
    if count == 1 { "1 old copy".to_owned() } else { format!("{count} old copies") }
}

/// What becomes different, in a few words.
fn change(difference: &Difference) -> String {
    let place = |zone: Option<&Zone>| zone.map_or_else(|| "none".to_owned(), Zone::to_string);
    match difference {
        Difference::Add { node, weight, zone } => {
            let weight = if *weight == 1 { String::new() } else { format!(", weight {weight}") };
            let zone = zone.as_ref().map_or_else(String::new, |zone| format!(", zone {zone}"));
            format!("{node} joins{weight}{zone}")
        }
        Difference::Remove { node } => format!("{node} leaves"),
        Difference::Replace { old, node } => format!("{node} takes the place of {old}"),
        Difference::Weight { node, from, to } => format!("{node}: weight {from} -> {to}"),
        Difference::Zone { node, from, to } => {
            format!("{node}: zone {} -> {}", place(from.as_ref()), place(to.as_ref()))
        }
        Difference::Copies { keyspace, from, to } if keyspace.is_default() => {
            format!("replication {from} -> {to}")
        }
        Difference::Copies { keyspace, from, to } => {
            format!("replication of keyspace {keyspace} {from} -> {to}")
        }
    }
}

fn links(links: &[LinkPlan]) -> Option<Table<'static>> {
    let cells = |link: &LinkPlan| {
        let (from, to) = (link.from.to_string(), link.to.to_string());
        vec![from, to, link.keys.to_string(), bytes(link.bytes)]
    };
    (!links.is_empty()).then(|| Table {
        header: &["FROM", "TO", "COPIES", "BYTES"],
        rows: links.iter().map(cells).collect(),
        dispensable: &["BYTES"],
        prose: false,
    })
}

fn balance(rows: &[BalanceRow]) -> Option<Table<'static>> {
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    let cells = |row: &BalanceRow| {
        let counts = [row.keys_before.to_string(), row.keys_after.to_string()];
        let shares = [share(row.share_before), share(row.share_after)];
        [vec![row.node.to_string()], counts.to_vec(), shares.to_vec()].concat()
    };
    (!rows.is_empty()).then(|| Table {
        header: &["NODE", "COPIES NOW", "THEN", "SHARE NOW", "THEN"],
        rows: rows.iter().map(cells).collect(),
        dispensable: &[],
        prose: false,
    })
}

/// Sentences behind labels, one below the other.
fn notes<const N: usize>(
    report: Report,
    parts: [(&str, &Vec<String>); N],
    width: Option<usize>,
) -> Report {
    let labelled = |(label, notes): (&str, &Vec<String>)| {
        let label = |at| if at == 0 { label.to_owned() } else { String::new() };
        let row = |(at, note): (usize, &String)| vec![label(at), note.clone()];
        notes.iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<_> = parts.into_iter().flat_map(labelled).collect();
    if rows.is_empty() {
        return report;
    }
    let table = Table { header: &["", ""], rows, dispensable: &[], prose: true };
    let text = table.draw(width.map(|width| width.saturating_sub(2)));
    text.lines().fold(report, |report, line| report.say(format!("  {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value, json};

    fn planned(more: Value) -> Report {
        let mut reply = json!({
            "status": "ok", "epoch": 9, "stage": "staged", "changes": [
                {"change": "add", "node": "n4", "weight": 2, "zone": "rack-b"},
                {"change": "remove", "node": "n2"},
            ],
            "keys": 30, "copies": 17, "bytes": 1_712, "removed": 12,
            "links": [
                {"from": "n1", "to": "n4", "keys": 12, "bytes": 1_200},
                {"from": "n2", "to": "n4", "keys": 5, "bytes": 512},
            ],
            "balance": [
                {"node": "n1", "keys_before": 20, "keys_after": 15, "share_before": 0.5, "share_after": 0.33},
                {"node": "n2", "keys_before": 10, "keys_after": 0, "share_before": 0.5, "share_after": 0.0},
                {"node": "n4", "keys_before": 0, "keys_after": 17, "share_before": 0.0, "share_after": 0.67},
            ],
            "reasons": ["n4 gets 67.0 % of the ring", "n2 gives up all"], "risks": ["one copy of each key"]
        });
        reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        report(&from_value(reply).unwrap(), None)
    }

    #[test]
    fn a_plan_says_what_moves_and_why_and_what_next() {
        let report = planned(json!({}));
        assert_eq!(
            text(&report.narrated),
            "Staged, epoch 9:\n  \
             n4 joins, weight 2, zone rack-b\n  \
             n2 leaves\n\
             17 copies to make (1.7 KB), then 12 old copies to drop; 30 keys looked at.\n  \
             FROM  TO  COPIES  BYTES\n  \
             n1    n4  12      1.2 KB\n  \
             n2    n4  5       512 B\n  \
             NODE  COPIES NOW  THEN  SHARE NOW  THEN\n  \
             n1    20          15    50.0 %     33.0 %\n  \
             n2    10          0     50.0 %     0.0 %\n  \
             n4    0           17    0.0 %      67.0 %\n  \
             why:   n4 gets 67.0 % of the ring\n         n2 gives up all\n  \
             mind:  one copy of each key\n\
             rebalance carries it out, plan clear takes it back."
        );
        assert_eq!((report.exit, &report.members["epoch"]), (0, &json!(9)));
    }

    #[test]
    fn nothing_staged_is_said() {
        let idle = json!({
            "stage": "idle", "changes": [], "copies": 0, "bytes": 0, "removed": 0, "links": [], "balance": [],
            "risks": []
        });
        assert_eq!(
            text(&planned(idle).narrated),
            "Nothing is staged, and every key is where the ring wants it (epoch 9)."
        );
        let stray = planned(json!({
            "stage": "idle", "changes": [], "copies": 1, "bytes": 70, "removed": 0,
            "links": [{"from": "n1", "to": "n2", "keys": 1, "bytes": 70}], "balance": [], "reasons": [],
            "risks": ["n3 is DOWN: about 6 keys that only it holds are not counted and stay there"]
        }));
        assert_eq!(
            text(&stray.narrated),
            "Nothing is staged, but some keys are not where the ring wants them (epoch 9).\n\
             1 copy to make (70 B), none to drop; 30 keys looked at.\n  \
             FROM  TO  COPIES  BYTES\n  \
             n1    n2  1       70 B\n  \
             mind:  n3 is DOWN: about 6 keys that only it holds are not counted and stay there\n\
             rebalance carries it out."
        );
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_says_why() {
        let report = planned(json!({
            "refused": {"name": "UNREACHABLE", "message": "n3 is DOWN", "hint": "start n3"}
        }));
        let told = text(&report.narrated);
        assert!(
            told.ends_with(
                "\nerror: as things are it cannot be carried out: n3 is DOWN\n  start n3"
            ),
            "{told}"
        );
        assert_eq!((report.exit, &report.members["error"]["name"]), (1, &json!("UNREACHABLE")));
    }

    #[test]
    fn every_change_has_its_words() {
        for (change, words) in [
            (json!({"change": "add", "node": "n4", "weight": 1}), "n4 joins"),
            (json!({"change": "replace", "old": "n1", "node": "n4"}), "n4 takes the place of n1"),
            (json!({"change": "weight", "node": "n1", "from": 1, "to": 2}), "n1: weight 1 -> 2"),
            (json!({"change": "zone", "node": "n1", "to": "a"}), "n1: zone none -> a"),
            (
                json!({"change": "copies", "keyspace": "default", "from": 1, "to": 2}),
                "replication 1 -> 2",
            ),
            (
                json!({"change": "copies", "keyspace": "orders", "from": 3, "to": 2}),
                "replication of keyspace orders 3 -> 2",
            ),
        ] {
            assert_eq!(super::change(&from_value(change).unwrap()), words);
        }
    }
}
