//! `put`, `get`, `del`: one key at a time, told with the ancestor's sentences.
//!
//! ```text
//! kv> put apple 123
//! Replicas for key apple: n1 n2
//! [n1] PUT apple = 123 -> {"status":"ok"}
//! [n2] PUT apple = 123 -> {"status":"ok"}
//! kv> get apple
//! apple -> 123
//! ```
//!
//! # Caveats
//!
//! Of a replica's reply only the `status` is told, so the sentences stay those of the ancestor;
//! `.brief off` shows the whole reply and `.output json` everything.

use jsonrpsee::core::client::ClientT as _;
use jsonrpsee::rpc_params;
use ringkv_shared::limits::VALUE_BYTES_MAX;
use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    ClusterGet, ClusterWrite, ReadOptions, ReplicaOutcome, ReplicaReport, WhereReply, WriteOptions,
};
use ringkv_shared::{Blob, ErrorName, Failure, NodeId};
use serde_json::json;

use super::expiry;
use crate::exit;
use crate::feed::all_of_stdin;
use crate::grammar::Ttl;
use crate::report::{Report, Told};
use crate::session::Session;

/// Stores a value.
pub(super) async fn put(
    s: &mut Session,
    key: String,
    value: String,
    ttl: Option<Ttl>,
    literal: bool,
) -> Result<Report, Failure> {
    let key = Blob::from(key);
    let value = match value.as_str() {
        "-" if !literal => value_from_stdin(s.settings.value_from_stdin).await?,
        _ => Blob::from(value),
    };
    let (k, v) = (key.clone(), value.clone());
    let ttl_ms = ttl.map(Ttl::ms);
    let options = WriteOptions { keyspace: s.keyspace(), ttl_ms, ..WriteOptions::default() };
    let put = async |c: &Client| match options == WriteOptions::default() {
        false => ClusterApiClient::put(c, k, v, Some(options)).await,
        // As people write it: without a null at the end.
        true => c.request("put", rpc_params![k, v]).await,
    };
    let reply = s.call(put).await?;
    Ok(put_report(&reply, &value, s.settings.brief, expiry::now_ms()))
}

/// Reads a value.
pub(super) async fn get(s: &mut Session, key: String) -> Result<Report, Failure> {
    let key = Blob::from(key);
    let options = ReadOptions { keyspace: s.keyspace(), ..ReadOptions::default() };
    let options = Some(options).filter(|options| *options != ReadOptions::default());
    let reply = s.call(async |c| ClusterApiClient::get(c, key, options).await).await?;
    Ok(get_report(&reply))
}

/// Reads every replica's copy.
pub(super) async fn get_all(s: &mut Session, key: String) -> Result<Report, Failure> {
    let key = Blob::from(key);
    let space = s.keyspace_named();
    let reply = s.call(async |c| ClusterApiClient::locate(c, key, Some(true), space).await).await?;
    Ok(copies_report(&reply, expiry::now_ms()))
}

/// Deletes a key.
pub(super) async fn del(s: &mut Session, key: String) -> Result<Report, Failure> {
    let key = Blob::from(key);
    let options = WriteOptions { keyspace: s.keyspace(), ..WriteOptions::default() };
    let options = Some(options).filter(|options| *options != WriteOptions::default());
    let reply = s.call(async |c| ClusterApiClient::del(c, key, options).await).await?;
    Ok(del_report(&reply, s.settings.brief))
}

/// All of standard input, byte for byte.
async fn value_from_stdin(allowed: bool) -> Result<Blob, Failure> {
    let refuse = |message: String| Failure::new(ErrorName::BadArgument, message);
    if !allowed {
        let refused = refuse("a value from standard input needs the one-shot form".into());
        return Err(refused.hint("kv put KEY - < file        the value \"-\" itself: put KEY -- -"));
    }
    // One byte more than the limit, so that the server sees and refuses what is too long.
    let value = all_of_stdin(VALUE_BYTES_MAX as u64 + 1).await;
    let value = value.map_err(|error| refuse(format!("standard input: {error}")))?;
    Ok(value.into())
}

/// The report of a put.
fn put_report(reply: &ClusterWrite, value: &Blob, brief: Option<bool>, now_ms: u64) -> Report {
    let mut report = Report::new(reply).plain("ok");
    report = report.say(format!("Replicas for key {}: {}", reply.key, names(&reply.replicas)));
    if brief != Some(true) {
        for replica in &reply.replicas {
            let did = format!("[{}] PUT {} = {value}", replica.node, reply.key);
            report.narrated.push(replica_line(&did, replica, brief));
        }
    }
    if let Some(expires) = reply.expires {
        report = report.say(format!("It {}.", expiry::in_words(expires, now_ms)));
    }
    warn_missed(report, reply)
}

/// The report of a del.
fn del_report(reply: &ClusterWrite, brief: Option<bool>) -> Report {
    if reply.status == Status::NotFound {
        return Report::not_found(format!("{} not found on {}", reply.key, names(&reply.replicas)));
    }
    let took: Vec<ReplicaReport> =
        reply.replicas.iter().filter(|r| r.outcome == ReplicaOutcome::Ok).cloned().collect();
    let mut report = Report::new(reply).plain("ok");
    report = report.say(format!("Deleted {} from {}", reply.key, names(&took)));
    if brief != Some(true) {
        for replica in reply.replicas.iter().filter(|r| r.outcome != ReplicaOutcome::Ok) {
            let did = format!("[{}] DEL {}", replica.node, reply.key);
            report.narrated.push(replica_line(&did, replica, brief));
        }
    }
    warn_missed(report, reply)
}

/// What became of a write at one replica.
fn replica_line(did: &str, replica: &ReplicaReport, brief: Option<bool>) -> Told {
    let node = &replica.node;
    let down = format!("{node} is DOWN");
    let why = replica.why.as_deref().filter(|why| *why != down);
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let became = match replica.outcome {
        ReplicaOutcome::Ok => {
            return Told::Result(format!("{did} -> {}", reply_text(replica, brief)));
        }
        ReplicaOutcome::Unreachable => format!("{down}, not written{why}"),
        ReplicaOutcome::Refused => format!("{node} refused, not written{why}"),
        ReplicaOutcome::Unknown => format!("{node} did not answer, unknown{why}"),
        ReplicaOutcome::Pending => format!("{node} has not answered yet"),
    };
    Told::Result(format!("{did} -> {became}"))
}

/// The node's own reply: its status, or all of it with `.brief off`.
fn reply_text(replica: &ReplicaReport, brief: Option<bool>) -> String {
    match &replica.reply {
        Some(reply) if brief == Some(false) => reply.to_string(),
        Some(reply) => match reply.get("status") {
            Some(status) => json!({ "status": status }).to_string(),
            None => reply.to_string(),
        },
        None => json!({ "status": Status::Ok }).to_string(),
    }
}

/// In the plain form the replicas that did not take the write are told as a warning.
fn warn_missed(report: Report, reply: &ClusterWrite) -> Report {
    let missed = reply.replicas.iter().filter(|r| r.outcome != ReplicaOutcome::Ok);
    let missed: Vec<&str> = missed.map(|r| r.node.as_str()).collect();
    if missed.is_empty() {
        return report;
    }
    let all = reply.replicas.len();
    let text = format!(
        "warning: {} of {all} copies written, not on {}",
        all - missed.len(),
        missed.join(" ")
    );
    report.plain_warn(text)
}

/// The report of a get.
fn get_report(reply: &ClusterGet) -> Report {
    let told_before = fallback_lines(reply);
    if reply.status == Status::NotFound {
        let mut report = Report::not_found(not_found(reply));
        report.plain = Some(report.narrated.clone());
        report.narrated.splice(0..0, told_before);
        return report;
    }
    let value = reply.value.clone().unwrap_or_default();
    let mut report = Report::new(reply).plain(value.to_string());
    report.narrated = told_before;
    report = report.say(format!("{} -> {value}", reply.key));
    Report { raw: Some(value.into_bytes()), exit: exit::OK, ..report }
}

/// `nope not found on n2 n3`, and who could not be asked.
fn not_found(reply: &ClusterGet) -> String {
    let (said, silent): (Vec<_>, Vec<_>) =
        reply.tried.iter().partition(|tried| tried.outcome == ReplicaOutcome::Ok);
    let said = said.into_iter().map(|tried| &tried.node).chain([&reply.from]);
    let said: Vec<&str> = said.map(NodeId::as_str).collect();
    let silent: Vec<&str> = silent.into_iter().map(|tried| tried.node.as_str()).collect();
    let unasked = match silent[..] {
        [] => String::new(),
        _ => format!(" (no answer: {})", silent.join(" ")),
    };
    format!("{} not found on {}{unasked}", reply.key, said.join(" "))
}

/// `n1 is DOWN, trying n2` for each replica that did not answer.
fn fallback_lines(reply: &ClusterGet) -> Vec<Told> {
    let next = reply.tried.iter().skip(1).map(|r| &r.node).chain([&reply.from]);
    let line = |(tried, next): (&ReplicaReport, &NodeId)| {
        let what = match tried.outcome {
            ReplicaOutcome::Unreachable => "is DOWN",
            ReplicaOutcome::Refused => "refused",
            ReplicaOutcome::Unknown => "did not answer",
            ReplicaOutcome::Pending => "is slow",
            ReplicaOutcome::Ok => "has no copy",
        };
        Told::Result(format!("{} {what}, trying {next}", tried.node))
    };
    reply.tried.iter().zip(next).map(line).collect()
}

/// The report of `get --all`: one line a replica.
fn copies_report(reply: &WhereReply, now_ms: u64) -> Report {
    let found = reply.copies.iter().any(|c| c.record.as_ref().is_some_and(|r| !r.deleted));
    let mut report = Report::new(reply);
    for copy in &reply.copies {
        let line = match (&copy.record, &copy.why) {
            (Some(record), _) if record.deleted => {
                format!("{}  {}  (deleted)", copy.node, record.version)
            }
            (Some(record), _) => {
                let value = record.value.clone().unwrap_or_default();
                let until =
                    record.expires.map(|at| format!("  ({})", expiry::in_words(at, now_ms)));
                let until = until.unwrap_or_default();
                format!("{}  {}  {value}{until}", copy.node, record.version)
            }
            (None, Some(why)) => format!("{}  -  ({why})", copy.node),
            (None, None) => format!("{}  -  (no copy)", copy.node),
        };
        report = report.say(line);
    }
    match found {
        true => report,
        false => report.absent(&format!("no replica has {}", reply.key)),
    }
}

fn names(replicas: &[ReplicaReport]) -> String {
    replicas.iter().map(|r| r.node.as_str()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::from_value;

    fn write(second: serde_json::Value) -> ClusterWrite {
        from_value(json!({
            "status": "ok", "key": "apple", "version": "1.3",
            "replicas": [
                {"node": "n1", "outcome": "ok", "reply": {"status": "ok", "version": "1.3"}},
                second,
            ]
        }))
        .unwrap()
    }

    fn ok() -> serde_json::Value {
        json!({"node": "n2", "outcome": "ok"})
    }

    fn down() -> serde_json::Value {
        json!({"node": "n2", "outcome": "unreachable", "why": "connection refused"})
    }

    #[test]
    fn a_put_is_told_as_the_ancestor_told_it() {
        let report = put_report(&write(ok()), &"123".into(), None, 0);
        assert_eq!(
            text(&report.narrated),
            "Replicas for key apple: n1 n2\n\
             [n1] PUT apple = 123 -> {\"status\":\"ok\"}\n\
             [n2] PUT apple = 123 -> {\"status\":\"ok\"}"
        );
        assert_eq!(text(&report.plain.clone().unwrap()), "ok");
        assert_eq!(report.members["version"], "1.3");
    }

    #[test]
    fn a_value_that_expires_says_when() {
        let reply = ClusterWrite { expires: Some(12_500), ..write(ok()) };
        let report = put_report(&reply, &"1".into(), Some(true), 2_500);
        assert_eq!(text(&report.narrated), "Replicas for key apple: n1 n2\nIt expires in 10.0 s.");
        assert_eq!(report.members["expires"], 12_500);
    }

    #[test]
    fn a_replica_that_missed_a_put_is_named() {
        let report = put_report(&write(down()), &"123".into(), None, 0);
        assert!(
            text(&report.narrated)
                .ends_with("[n2] PUT apple = 123 -> n2 is DOWN, not written (connection refused)")
        );
        let plain = text(&report.plain.unwrap());
        assert_eq!(plain, "ok\nwarning: 1 of 2 copies written, not on n2");
    }

    #[test]
    fn brief_says_less_and_its_opposite_more() {
        let brief = put_report(&write(ok()), &"1".into(), Some(true), 0);
        assert_eq!(text(&brief.narrated), "Replicas for key apple: n1 n2");
        let full = put_report(&write(ok()), &"1".into(), Some(false), 0);
        assert!(text(&full.narrated).contains(r#"-> {"status":"ok","version":"1.3"}"#));
    }

    #[test]
    fn a_delete_names_who_took_it() {
        assert_eq!(text(&del_report(&write(ok()), None).narrated), "Deleted apple from n1 n2");
        assert_eq!(
            text(&del_report(&write(down()), None).narrated),
            "Deleted apple from n1\n[n2] DEL apple -> n2 is DOWN, not written (connection refused)"
        );
        let absent = ClusterWrite { status: Status::NotFound, ..write(ok()) };
        let report = del_report(&absent, None);
        assert_eq!((text(&report.narrated).as_str(), report.exit), ("apple not found on n1 n2", 3));
    }

    fn got(status: &str, tried: serde_json::Value) -> ClusterGet {
        from_value(json!({
            "status": status, "key": "apple", "value": "123", "version": "1.3", "from": "n2",
            "tried": tried
        }))
        .unwrap()
    }

    #[test]
    fn a_get_tells_the_fallback_first() {
        let report = get_report(&got("ok", json!([])));
        assert_eq!(text(&report.narrated), "apple -> 123");
        assert_eq!(text(&report.plain.unwrap()), "123");
        assert_eq!(report.raw.as_deref(), Some(b"123".as_slice()));
        let n1 = json!([{"node": "n1", "outcome": "unreachable"}]);
        let report = get_report(&got("ok", n1));
        assert_eq!(text(&report.narrated), "n1 is DOWN, trying n2\napple -> 123");
    }

    #[test]
    fn not_found_names_who_was_asked() {
        let tried =
            json!([{"node": "n1", "outcome": "unreachable"}, {"node": "n3", "outcome": "ok"}]);
        let report = get_report(&got("not_found", tried));
        assert_eq!(
            text(&report.narrated),
            "n1 is DOWN, trying n3\nn3 has no copy, trying n2\napple not found on n3 n2 (no answer: n1)"
        );
        assert_eq!(report.exit, 3);
        assert_eq!(report.members["error"]["name"], "KEY_NOT_FOUND");
    }

    #[test]
    fn every_copy_has_a_line() {
        let reply: WhereReply = from_value(json!({
            "status": "ok", "key": "apple", "hash": "51", "token": "52", "owners": ["n1", "n2"],
            "copies": [
                {"node": "n1", "record": {"key": "apple", "value": "123", "version": "1.3", "expires": 10_000}},
                {"node": "n2", "record": {"key": "apple", "deleted": true, "version": "1.4"}},
                {"node": "n3", "why": "connection refused"},
            ]
        }))
        .unwrap();
        assert_eq!(
            text(&copies_report(&reply, 800).narrated),
            "n1  1.3  123  (expires in 9.2 s)\nn2  1.4  (deleted)\nn3  -  (connection refused)"
        );
    }
}
