//! `what-if`: what would be if nodes died, came, left or weighed more. Nothing is changed.
//!
//! ```text
//! kv> what-if kill n2
//! With n2 dead, 12 of 30 keys cannot be read, and 3 more cannot be written.
//!   KEYSPACE  KEYS  UNREADABLE   NO COPY  READ-ONLY   LAST COPY
//!   default   30    12 (40.1 %)  12       3 (10.2 %)  9 (30.0 %)
//!   unreadable: apple, fig, kiwi, ...
//! ```
//!
//! A ring that would be another is told as `plan` tells one.
//!
//! # Caveats
//!
//! The percentages are shares of the ring, of all keys that could be; the counts are of those that are there.

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{Outage, Supposition, WhatIfReply};
use ringkv_shared::{Blob, Failure, NodeId};

use super::observe::names;
use super::plan;
use crate::grammar::WhatIf;
use crate::report::{Report, counted};
use crate::session::Session;
use crate::table::Table;
use crate::wire::LONG_DEADLINE;

/// Asks what would be.
pub(super) async fn run(s: &mut Session, what: WhatIf) -> Result<Report, Failure> {
    let supposed = Supposition::from(what);
    let suppose = vec![supposed.clone()];
    let ask = async |c: &ringkv_shared::net::Client| ClusterApiClient::what_if(c, suppose).await;
    let reply = s.wire.call(LONG_DEADLINE, ask).await?;
    Ok(report(&supposed, &reply, s.out.width()))
}

fn report(supposed: &Supposition, reply: &WhatIfReply, width: Option<usize>) -> Report {
    let mut report = Report::new(reply);
    if let Some(would_be) = &reply.plan {
        report = plan::told(report.say(format!("{}:", headline(supposed))), would_be, width);
        if let Some(refused) = &would_be.refused {
            report = report.warn(format!("warning: it would be refused: {}", refused.message));
        }
    }
    if !reply.outages.is_empty() {
        report = outages(report, reply, width);
        report = unasked(supposed, reply).into_iter().fold(report, Report::say);
    }
    report.say("Nothing was changed.")
}

/// `If n9 joined`.
fn headline(supposed: &Supposition) -> String {
    match supposed {
        Supposition::Kill { nodes } => format!("If {} died", names(nodes)),
        Supposition::Add { node, .. } => format!("If {node} joined"),
        Supposition::Remove { nodes } => format!("If {} left", names(nodes)),
        Supposition::Weight { node, weight } => format!("If {node} had weight {weight}"),
    }
}

/// Who is DOWN now, and cannot tell which keys nobody else has.
fn unasked(supposed: &Supposition, reply: &WhatIfReply) -> Option<String> {
    let is_supposed = |node: &NodeId| match supposed {
        Supposition::Kill { nodes } => nodes.contains(node),
        _ => false,
    };
    let down: Vec<NodeId> = reply.dead.iter().filter(|node| !is_supposed(node)).cloned().collect();
    let who = names(&down);
    match down.len() {
        0 => None,
        1 => Some(format!("  {who} is DOWN now: keys that only it holds are not counted")),
        _ => Some(format!("  {who} are DOWN now: keys that only they hold are not counted")),
    }
}

/// What fails, and which keys for example.
fn outages(report: Report, reply: &WhatIfReply, width: Option<usize>) -> Report {
    let mut report = report.say(verdict(reply));
    let table = Table {
        header: &["KEYSPACE", "KEYS", "UNREADABLE", "NO COPY", "READ-ONLY", "LAST COPY"],
        rows: reply.outages.iter().map(cells).collect(),
        dispensable: &[],
        prose: false,
    };
    let text = table.draw(width.map(|width| width.saturating_sub(2)));
    report = text.lines().fold(report, |report, line| report.say(format!("  {line}")));
    let alone = reply.outages.len() == 1;
    for outage in &reply.outages {
        let place = if alone { String::new() } else { format!("{}, ", outage.keyspace) };
        let examples = [
            ("unreadable", &outage.unreadable_keys, outage.unreadable),
            ("read-only", &outage.read_only_keys, outage.read_only),
        ];
        for (what, keys, count) in examples.into_iter().filter(|(_, keys, _)| !keys.is_empty()) {
            report = report.say(format!("  {place}{what}: {}", listed(keys, count)));
        }
    }
    report
}

/// `With n2 dead, 12 of 30 keys cannot be read, and 3 more cannot be written.`
fn verdict(reply: &WhatIfReply) -> String {
    let sum = |count: fn(&Outage) -> u64| reply.outages.iter().map(count).sum::<u64>();
    let (keys, unreadable, read_only) =
        (sum(|o| o.keys), sum(|o| o.unreadable), sum(|o| o.read_only));
    // On another ring the nodes are dead after its copies were made.
    let then = if reply.plan.is_some() { "Then, with" } else { "With" };
    let given = format!("{then} {} dead,", names(&reply.dead));
    match (unreadable, read_only) {
        (0, 0) if reply.outages.iter().any(|o| o.unreadable_share + o.read_only_share > 0.0) => {
            format!(
                "{given} every key that was counted can be read and written, but not every key that could be."
            )
        }
        (0, 0) => format!("{given} every key can be read and written."),
        (0, count) => format!(
            "{given} every key can be read, and {count} of {} cannot be written.",
            counted(keys, "key")
        ),
        (count, 0) => {
            format!("{given} {count} of {} cannot be read.", counted(keys, "key"))
        }
        (count, more) => format!(
            "{given} {count} of {} cannot be read, and {more} more cannot be written.",
            counted(keys, "key")
        ),
    }
}

fn cells(outage: &Outage) -> Vec<String> {
    let with_share = |count: u64, share: f64| format!("{count} ({:.1} %)", share * 100.0);
    vec![
        outage.keyspace.to_string(),
        outage.keys.to_string(),
        with_share(outage.unreadable, outage.unreadable_share),
        outage.lost.to_string(),
        with_share(outage.read_only, outage.read_only_share),
        with_share(outage.last_copy, outage.last_copy_share),
    ]
}

/// `apple, fig` or `apple, fig, ...`, when there are more.
fn listed(keys: &[Blob], count: u64) -> String {
    let more = if count > keys.len() as u64 { ", ..." } else { "" };
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    format!("{}{more}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value, json};

    fn outage(space: &str, unreadable: u64, read_only: u64) -> Value {
        json!({
            "keyspace": space, "keys": 30, "unreadable": unreadable, "lost": unreadable,
            "read_only": read_only, "last_copy": 9, "unreadable_share": 0.401,
            "read_only_share": 0.1, "last_copy_share": 0.3,
        })
    }

    fn killed(outages: Vec<Value>) -> String {
        let reply =
            from_value(json!({"status": "ok", "dead": ["n2", "n5"], "outages": outages})).unwrap();
        let nodes = ["n2", "n5"].map(|node| node.parse().unwrap()).into();
        let supposed = Supposition::Kill { nodes };
        text(&report(&supposed, &reply, None).narrated)
    }

    #[test]
    fn deaths_are_counted_in_keys() {
        let mut space = outage("default", 12, 3);
        space["unreadable_keys"] = json!(["apple", "fig"]);
        space["read_only_keys"] = json!(["kiwi", "lime", "pear"]);
        assert_eq!(
            killed(vec![space]),
            "With n2 n5 dead, 12 of 30 keys cannot be read, and 3 more cannot be written.\n  \
             KEYSPACE  KEYS  UNREADABLE   NO COPY  READ-ONLY   LAST COPY\n  \
             default   30    12 (40.1 %)  12       3 (10.0 %)  9 (30.0 %)\n  \
             unreadable: apple, fig, ...\n  \
             read-only: kiwi, lime, pear\n\
             Nothing was changed."
        );
        let first = |outages| killed(outages).lines().next().unwrap().to_owned();
        let every = "With n2 n5 dead, every key that was counted can be read and written";
        assert_eq!(
            first(vec![outage("default", 0, 0)]),
            format!("{every}, but not every key that could be.")
        );
        let mut whole = outage("default", 0, 0);
        whole["unreadable_share"] = json!(0.0);
        whole["read_only_share"] = json!(0.0);
        assert_eq!(first(vec![whole]), "With n2 n5 dead, every key can be read and written.");
        assert_eq!(
            first(vec![outage("default", 0, 0), outage("orders", 0, 2)]),
            "With n2 n5 dead, every key can be read, and 2 of 60 keys cannot be written."
        );
        assert_eq!(
            first(vec![outage("default", 1, 0)]),
            "With n2 n5 dead, 1 of 30 keys cannot be read."
        );
    }

    /// Of a node that was DOWN before it is not known what only it holds.
    #[test]
    fn who_was_down_before_is_named() {
        let reply =
            json!({"status": "ok", "dead": ["n2", "n5"], "outages": [outage("default", 0, 0)]});
        let told = |dead: &[&str]| {
            let nodes = dead.iter().map(|node| node.parse().unwrap()).collect();
            let reply = from_value(reply.clone()).unwrap();
            text(&report(&Supposition::Kill { nodes }, &reply, None).narrated)
        };
        assert!(!told(&["n2", "n5"]).contains("DOWN"));
        assert!(
            told(&["n2"]).contains("\n  n5 is DOWN now: keys that only it holds are not counted\n")
        );
        assert!(told(&[]).contains("\n  n2 n5 are DOWN now: keys that only they hold"));
    }

    #[test]
    fn another_ring_is_told_as_a_plan() {
        let reply: Value = json!({"status": "ok", "dead": [], "plan": {
            "status": "ok", "epoch": 9, "stage": "idle", "keys": 30, "copies": 17, "bytes": 1_712,
            "removed": 12, "changes": [{"change": "add", "node": "n9", "weight": 2}], "balance": [],
            "links": [{"from": "n1", "to": "n9", "keys": 17, "bytes": 1_712}], "reasons": [], "risks": [],
            "refused": {"name": "BUSY", "message": "a rebalance runs"}
        }});
        let supposed =
            Supposition::Add { node: "n9".parse().unwrap(), weight: Some(2), zone: None };
        let told =
            |reply: Value| text(&report(&supposed, &from_value(reply).unwrap(), None).narrated);
        let mut both = reply.clone();
        both["dead"] = json!(["n2"]);
        both["outages"] = json!([outage("default", 1, 0)]);
        let both = told(both);
        assert!(both.contains("\nThen, with n2 dead, 1 of 30 keys cannot be read.\n"), "{both}");
        assert_eq!(
            told(reply),
            "If n9 joined:\n  \
             n9 joins, weight 2\n\
             17 copies to make (1.7 KB), then 12 old copies to drop; 30 keys looked at.\n  \
             FROM  TO  COPIES  BYTES\n  \
             n1    n9  17      1.7 KB\n\
             warning: it would be refused: a rebalance runs\n\
             Nothing was changed."
        );
    }
}
