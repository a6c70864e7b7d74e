//! `why`: the lineage of a key, as every replica's log tells it.
//!
//! ```text
//! kv> why apple
//! apple is gone: it was deleted in version 1.4
//!   owners  n1 n2
//!   n1      1.3 put, through the coordinator
//!           1.4 del, through the coordinator
//!           now: deleted in 1.4
//!   n2      now: nothing
//! ```
//!
//! # Caveats
//!
//! A compaction throws lines away that are not needed any more: a log tells the newest part of a life.

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{Lineage, WhyReply};
use ringkv_shared::protocol::record::Record;
use ringkv_shared::{Blob, Failure};

use super::observe::names;
use crate::report::Report;
use crate::session::Session;
use crate::table::Table;

/// Why a key is there, or is not.
pub(super) async fn run(s: &mut Session, key: String) -> Result<Report, Failure> {
    let (key, keyspace) = (Blob::from(key), s.keyspace_named());
    let reply = s.call(async |c| ClusterApiClient::why(c, key, keyspace).await).await?;
    Ok(report(&reply, s.out.width()))
}

fn report(reply: &WhyReply, width: Option<usize>) -> Report {
    let report = Report::new(reply).say(reply.verdict.clone());
    let mut rows = vec![vec!["owners".to_owned(), names(&reply.owners)]];
    for replica in &reply.replicas {
        let lines = lineage_lines(replica).into_iter().enumerate();
        let label = |at| if at == 0 { replica.node.to_string() } else { String::new() };
        rows.extend(lines.map(|(at, line)| vec![label(at), line]));
    }
    for (at, why) in reply.blocked_by.iter().enumerate() {
        let label = if at == 0 { "kept for" } else { "" };
        rows.push(vec![label.to_owned(), why.clone()]);
    }
    let width = width.map(|width| width.saturating_sub(2));
    let table = Table { header: &["", ""], rows, dispensable: &[], prose: true }.draw(width);
    table.lines().fold(report, |report, line| report.say(format!("  {line}")))
}

/// The lines of its log, and what it holds now.
fn lineage_lines(replica: &Lineage) -> Vec<String> {
    let now = match (&replica.why, &replica.record) {
        (Some(why), _) => format!("no answer: {why}"),
        (None, Some(record)) => format!("now: {}", held(record)),
        (None, None) => "now: nothing".to_owned(),
    };
    replica.lines.iter().cloned().chain([now]).collect()
}

/// `1.3`, `deleted in 1.4`, `1.2 and 1.3 beside each other`.
fn held(record: &Record) -> String {
    if record.siblings.is_empty() {
        let deleted = if record.deleted { "deleted in " } else { "" };
        return format!("{deleted}{}", record.version);
    }
    let versions: Vec<String> = record.versions().map(|version| version.to_string()).collect();
    format!("{} beside each other", versions.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{from_value, json};

    #[test]
    fn a_lineage_is_told_by_replica() {
        let reply: WhyReply = from_value(json!({
            "status": "ok", "key": "apple", "verdict": "apple is gone: it was deleted in version 1.4",
            "owners": ["n1", "n2"], "blocked_by": ["n2 is DOWN"], "replicas": [
                {"node": "n1", "lines": ["1.3 put", "1.4 del"],
                 "record": {"key": "apple", "deleted": true, "version": "1.4"}},
                {"node": "n2", "lines": [], "why": "n2 is DOWN"},
                {"node": "n3", "lines": [], "record": {
                    "key": "apple", "version": "1.3", "siblings": [{"version": "1.2"}]}},
                {"node": "n4", "lines": []},
            ]
        }))
        .unwrap();
        assert_eq!(
            text(&report(&reply, None).narrated),
            "apple is gone: it was deleted in version 1.4\n  \
             owners    n1 n2\n  \
             n1        1.3 put\n            1.4 del\n            now: deleted in 1.4\n  \
             n2        no answer: n2 is DOWN\n  \
             n3        now: 1.2 and 1.3 beside each other\n  \
             n4        now: nothing\n  \
             kept for  n2 is DOWN"
        );
    }
}
