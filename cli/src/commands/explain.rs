//! `explain put|get|del …`: the command, and how it was done, from the hash of the key to the answer.
//!
//! ```text
//! kv> explain put apple 123
//! apple = 123, version 1.3
//!   hash       517a2f03c1d4e5b6, where the key stands on the ring
//!   token      518c9a7700e1f2d3 of n1, the first from there on
//!   owners     n1 n2, the first 2 nodes from there on (N=2)
//!              skipped 3 tokens of n1, which is on the list already
//!   asked      n1  has it after 0.9 ms, its log synced in 0.5 ms
//!              n2  has it after 1.1 ms, its log synced in 0.6 ms
//!   enough     1 of 2 (W=1) after 0.9 ms; answered after 1.2 ms
//!   guarantee  a read may miss the last write ...
//! ```
//!
//! # Caveats
//!
//! A command that fails is told as it always is, with what each replica said; then there is no picture.

use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    ClusterGet, ClusterWrite, Explanation, ReadOptions, ReplicaOutcome, ReplicaReport, Skipped,
    WriteOptions,
};
use ringkv_shared::{Blob, Failure, NodeId};

use super::{conflict, expiry, read, write};
use crate::grammar::Explained;
use crate::report::{Report, counted};
use crate::session::Session;
use crate::table::Table;

/// Does what is to be explained, and tells how.
pub(super) async fn run(s: &mut Session, what: Explained) -> Result<Report, Failure> {
    let width = s.out.width();
    match what {
        Explained::Put(args) => {
            let (key, value, options) = write::prepare(s, args).await?;
            let options = WriteOptions { explain: true, ..options };
            let reply = write::send_put(s, key, value.clone(), options).await?;
            let done = done(&reply, &value, expiry::now_ms());
            Ok(with_picture(done, 'W', reply.explained.as_ref(), width))
        }
        Explained::Del(args) => {
            let options = args.how.options(s.keyspace(), None);
            let options = WriteOptions { explain: true, ..options };
            let reply = write::send_del(s, args.key.into(), options).await?;
            let done = write::del_report(&reply, Some(true));
            Ok(with_picture(done, 'W', reply.explained.as_ref(), width))
        }
        Explained::Get(args) => {
            let options = ReadOptions { explain: true, ..args.options(s.keyspace()) };
            let reply = read::send_get(s, args.key.into(), options).await?;
            let found = found(s, &reply).await;
            Ok(with_picture(found, 'R', reply.explained.as_ref(), width))
        }
    }
}

/// A put in one line: who took it is told by the picture.
fn done(reply: &ClusterWrite, value: &Blob, now_ms: u64) -> Report {
    let ClusterWrite { key, version, .. } = reply;
    let until = reply.expires.map(|at| format!("; it {}", expiry::in_words(at, now_ms)));
    let line = format!("{key} = {value}, version {version}{}", until.unwrap_or_default());
    write::warn_siblings(Report::new(reply).say(line), reply)
}

async fn found(s: &Session, reply: &ClusterGet) -> Report {
    if reply.siblings.len() > 1 {
        let writers = conflict::writers(s, reply).await;
        return conflict::report(reply, &writers, expiry::now_ms());
    }
    // The picture tells of the others.
    let alone = ClusterGet { tried: Vec::new(), ..reply.clone() };
    let mut report = read::get_report(&alone);
    if reply.status == Status::NotFound {
        report.members.extend(Report::new(reply).members);
    }
    report
}

/// The report and the picture below it, the same in both texts.
fn with_picture(
    report: Report,
    letter: char,
    explained: Option<&Explanation>,
    width: Option<usize>,
) -> Report {
    let report = Report { plain: None, raw: None, ..report };
    let Some(explained) = explained else { return report };
    // Two blanks stand before each line.
    picture(explained, letter, width.map(|width| width.saturating_sub(2)))
        .lines()
        .fold(report, |report, line| report.say(format!("  {line}")))
}

/// How it was done, step by step, in two columns.
fn picture(explained: &Explanation, letter: char, width: Option<usize>) -> String {
    let Explanation { hash, token, n, owners, needed, .. } = explained;
    let first = owners.first().map_or("nobody", NodeId::as_str);
    let mut rows = vec![
        row("hash", format!("{hash}, where the key stands on the ring")),
        row("token", format!("{token} of {first}, the first from there on")),
        row("owners", owners_line(owners, *n)),
    ];
    rows.extend(skipped_lines(&explained.skipped).into_iter().map(|line| row("", line)));
    let id_width = explained.replicas.iter().map(|r| r.node.as_str().len()).max().unwrap_or(0);
    for (at, replica) in explained.replicas.iter().enumerate() {
        let label = if at == 0 { "asked" } else { "" };
        let did = if letter == 'W' { wrote(replica) } else { said(replica) };
        rows.push(row(label, format!("{:id_width$}  {did}", replica.node.as_str())));
    }
    let answered = ms(explained.answered_us);
    let of = owners.len();
    rows.push(row(
        "enough",
        match explained.met_us {
            Some(met) => {
                let met = ms(met);
                format!(
                    "{needed} of {of} ({letter}={needed}) after {met}; answered after {answered}"
                )
            }
            None => format!("never: it takes {needed} of {of}; answered after {answered}"),
        },
    ));
    for (at, line) in explained.besides.iter().enumerate() {
        rows.push(row(if at == 0 { "besides" } else { "" }, line.clone()));
    }
    rows.push(row("guarantee", explained.guarantee.clone()));
    Table { header: &["", ""], rows, dispensable: &[], prose: true }.draw(width)
}

fn row(label: &str, text: String) -> Vec<String> {
    vec![label.to_owned(), text]
}

/// `n1 n2, the first 2 nodes from there on (N=2)`.
fn owners_line(owners: &[NodeId], n: usize) -> String {
    let names: Vec<&str> = owners.iter().map(NodeId::as_str).collect();
    let names = names.join(" ");
    match owners.len() {
        1 => format!("{names}, whose token that is (N={n})"),
        count => format!("{names}, the first {count} nodes from there on (N={n})"),
    }
}

/// `skipped 3 tokens of n1, which is on the list already`: one line a node and reason.
fn skipped_lines(skipped: &[Skipped]) -> Vec<String> {
    let mut groups: Vec<(&NodeId, &str, u64)> = Vec::new();
    for Skipped { node, why, .. } in skipped {
        match groups.iter_mut().find(|(other, reason, _)| *other == node && reason == why) {
            Some((_, _, count)) => *count += 1,
            None => groups.push((node, why, 1)),
        }
    }
    let line = |(node, why, count): (&NodeId, &str, u64)| {
        format!("skipped {} of {node}, which {why}", counted(count, "token"))
    };
    groups.into_iter().map(line).collect()
}

/// What a replica did with a write.
fn wrote(replica: &ReplicaReport) -> String {
    if replica.outcome != ReplicaOutcome::Ok {
        return write::missed(replica);
    }
    let synced = replica.sync_us.map(|us| format!(", its log synced in {}", ms(us)));
    let instead = replica.stands_in_for.as_ref().map(|owner| format!(", stands in for {owner}"));
    let (synced, instead) = (synced.unwrap_or_default(), instead.unwrap_or_default());
    format!("has it{}{synced}{instead}", after(replica))
}

/// What a replica said to a read.
fn said(replica: &ReplicaReport) -> String {
    if replica.outcome != ReplicaOutcome::Ok {
        return format!("{}{}", read::in_vain_because(replica.outcome), after(replica));
    }
    let member = |name| replica.reply.as_ref().and_then(|reply| reply.get(name));
    let has = match (member("version").and_then(|version| version.as_str()), member("status")) {
        (None, _) => "no copy".to_owned(),
        (Some(version), Some(status)) if status == "not_found" => {
            format!("deleted in version {version}")
        }
        (Some(version), _) => format!("version {version}"),
    };
    let siblings = member("siblings").and_then(|siblings| siblings.as_array());
    let beside = siblings.map(|siblings| siblings.len() as u64).filter(|count| *count > 0);
    let beside = beside.map(|count| format!(" and {}", counted(count, "other value")));
    format!("{has}{}{}", beside.unwrap_or_default(), after(replica))
}

fn after(replica: &ReplicaReport) -> String {
    replica.took_us.map(|us| format!(" after {}", ms(us))).unwrap_or_default()
}

/// `0.9 ms`.
fn ms(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value, json};

    fn explained(replicas: Value) -> Explanation {
        let skip = |node: &str, why: &str| json!({"token": "518d", "node": node, "why": why});
        from_value(json!({
            "hash": "517a", "token": "518c", "n": 2, "owners": ["n1", "n2"],
            "skipped": [
                skip("n1", "is on the list already"), skip("n1", "is on the list already"),
                skip("n2", "cannot be reached"), skip("n1", "is on the list already"),
            ],
            "needed": 2, "replicas": replicas, "met_us": 1_900, "answered_us": 2_100,
            "besides": ["n4 keeps a hint for n2"], "guarantee": "what is acknowledged is on two disks"
        }))
        .unwrap()
    }

    #[test]
    fn a_write_goes_from_the_hash_to_the_guarantee() {
        let explained = explained(json!([
            {"node": "n1", "outcome": "ok", "took_us": 900, "sync_us": 500},
            {"node": "n2", "outcome": "unreachable", "why": "n2 is DOWN", "hinted_at": "n10"},
            {"node": "n10", "outcome": "ok", "took_us": 1_900, "stands_in_for": "n2"},
        ]));
        assert_eq!(
            picture(&explained, 'W', None),
            "hash       517a, where the key stands on the ring\n\
             token      518c of n1, the first from there on\n\
             owners     n1 n2, the first 2 nodes from there on (N=2)\n           \
             skipped 3 tokens of n1, which is on the list already\n           \
             skipped 1 token of n2, which cannot be reached\n\
             asked      n1   has it after 0.9 ms, its log synced in 0.5 ms\n           \
             n2   is DOWN, hint kept at n10\n           \
             n10  has it after 1.9 ms, stands in for n2\n\
             enough     2 of 2 (W=2) after 1.9 ms; answered after 2.1 ms\n\
             besides    n4 keeps a hint for n2\n\
             guarantee  what is acknowledged is on two disks"
        );
    }

    #[test]
    fn a_read_tells_what_each_replica_has() {
        let lines = |replica: Value| said(&from_value(replica).unwrap());
        for (reply, told) in [
            (json!({"status": "ok", "version": "1.3"}), "version 1.3 after 0.4 ms"),
            (
                json!({"status": "not_found", "version": "1.3"}),
                "deleted in version 1.3 after 0.4 ms",
            ),
            (json!({"status": "not_found"}), "no copy after 0.4 ms"),
            (
                json!({"status": "ok", "version": "1.3", "siblings": [{"version": "1.2"}]}),
                "version 1.3 and 1 other value after 0.4 ms",
            ),
        ] {
            let replica = json!({"node": "n1", "outcome": "ok", "took_us": 400, "reply": reply});
            assert_eq!(lines(replica), told);
        }
        assert_eq!(lines(json!({"node": "n1", "outcome": "unreachable"})), "is DOWN");
    }

    #[test]
    fn the_picture_stands_below_the_result() {
        let reply: ClusterWrite = from_value(json!({
            "status": "ok", "key": "apple", "version": "1.3", "replicas": [],
            "explained": explained(json!([])),
        }))
        .unwrap();
        let report =
            with_picture(done(&reply, &"123".into(), 0), 'W', reply.explained.as_ref(), Some(40));
        let told = text(&report.narrated);
        assert!(told.starts_with("apple = 123, version 1.3\n  hash       517a, where"), "{told}");
        assert!(told.lines().all(|line| line.chars().count() <= 40), "{told}");
        assert_eq!(report.members["explained"]["needed"], 2);
    }
}
