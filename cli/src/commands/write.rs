//! `put`, `del`: one key at a time, told with the ancestor's sentences.
//!
//! ```text
//! kv> put apple 123
//! Replicas for key apple: n1 n2
//! [n1] PUT apple = 123 -> {"status":"ok"}
//! [n2] PUT apple = 123 -> n2 is DOWN, hint kept at n1
//! ```
//!
//! # Caveats
//!
//! Of a replica's reply only the `status` is told, so the sentences stay those of the ancestor;
//! `.brief off` shows the whole reply and `.output json` everything. A replica that has not answered when
//! the answer leaves is no failure: enough others have.

use jsonrpsee::core::client::ClientT as _;
use jsonrpsee::rpc_params;
use ringkv_shared::limits::VALUE_BYTES_MAX;
use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{ClusterWrite, ReplicaOutcome, ReplicaReport, WriteOptions};
use ringkv_shared::{Blob, ErrorName, Failure};
use serde_json::json;

use super::expiry;
use crate::feed::all_of_stdin;
use crate::grammar::{DelArgs, PutArgs};
use crate::report::{Report, Told, counted};
use crate::session::Session;

/// Stores a value.
pub(super) async fn put(s: &mut Session, args: PutArgs) -> Result<Report, Failure> {
    let (key, value, options) = prepare(s, args).await?;
    let has_seen = options.context.is_some();
    let reply = send_put(s, key, value.clone(), options).await?;
    let report = put_report(&reply, &value, s.settings.brief, expiry::now_ms());
    Ok(if has_seen { with_context(report, &reply) } else { report })
}

/// Key, value and options of a put.
pub(super) async fn prepare(
    s: &Session,
    args: PutArgs,
) -> Result<(Blob, Blob, WriteOptions), Failure> {
    let PutArgs { key, value, ttl, how, literal } = args;
    let value = match value.as_str() {
        "-" if !literal => value_from_stdin(s.settings.value_from_stdin).await?,
        _ => Blob::from(value),
    };
    Ok((key.into(), value, how.options(s.keyspace(), ttl)))
}

/// Sends a put.
pub(super) async fn send_put(
    s: &Session,
    key: Blob,
    value: Blob,
    options: WriteOptions,
) -> Result<ClusterWrite, Failure> {
    let put = async |c: &Client| {
        if options == WriteOptions::default() {
            // As people write it: without a null at the end.
            return c.request("put", rpc_params![key, value]).await;
        }
        ClusterApiClient::put(c, key, value, Some(options)).await
    };
    s.call(put).await
}

/// Deletes a key.
pub(super) async fn del(s: &mut Session, args: DelArgs) -> Result<Report, Failure> {
    let options = args.how.options(s.keyspace(), None);
    let has_seen = options.context.is_some();
    let reply = send_del(s, args.key.into(), options).await?;
    let report = del_report(&reply, s.settings.brief);
    Ok(if has_seen { with_context(report, &reply) } else { report })
}

/// Sends a delete.
pub(super) async fn send_del(
    s: &Session,
    key: Blob,
    options: WriteOptions,
) -> Result<ClusterWrite, Failure> {
    let del = async |c: &Client| {
        if options == WriteOptions::default() {
            return c.request("del", rpc_params![key]).await;
        }
        ClusterApiClient::del(c, key, Some(options)).await
    };
    s.call(del).await
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
pub(super) fn put_report(
    reply: &ClusterWrite,
    value: &Blob,
    brief: Option<bool>,
    now_ms: u64,
) -> Report {
    let mut report = Report::new(reply).plain("ok");
    report = report.say(format!("Replicas for key {}: {}", reply.key, names(owners(reply))));
    if brief != Some(true) {
        for replica in &reply.replicas {
            let did = format!("[{}] PUT {} = {value}", replica.node, reply.key);
            report.narrated.push(replica_line(&did, replica, brief));
        }
    }
    if let Some(expires) = reply.expires {
        report = report.say(format!("It {}.", expiry::in_words(expires, now_ms)));
    }
    warn_siblings(warn_missed(report, reply), reply)
}

/// The report of a del.
pub(super) fn del_report(reply: &ClusterWrite, brief: Option<bool>) -> Report {
    if reply.status == Status::NotFound {
        let asked = names(owners(reply));
        return Report::not_found(format!("{} not found on {asked}", reply.key));
    }
    let took = reply.replicas.iter().filter(|r| r.outcome == ReplicaOutcome::Ok);
    let mut report = Report::new(reply).plain("ok");
    report = report.say(format!("Deleted {} from {}", reply.key, names(took)));
    if brief != Some(true) {
        for replica in reply.replicas.iter().filter(|r| !is_plain(r)) {
            let did = format!("[{}] DEL {}", replica.node, reply.key);
            report.narrated.push(replica_line(&did, replica, brief));
        }
    }
    warn_siblings(warn_missed(report, reply), reply)
}

/// An owner that has it: nothing more is to be said.
fn is_plain(replica: &ReplicaReport) -> bool {
    replica.outcome == ReplicaOutcome::Ok && replica.stands_in_for.is_none()
}

/// With the context for the next write, which who gave one now wants to give again.
fn with_context(report: Report, reply: &ClusterWrite) -> Report {
    let context = reply.context.as_ref().map_or(reply.version.to_string(), ToString::to_string);
    let report = report.plain_warn(format!("context: {context}"));
    report.say(format!("The context for the next write: {context}"))
}

/// What became of a write at one replica.
fn replica_line(did: &str, replica: &ReplicaReport, brief: Option<bool>) -> Told {
    Told::Result(match (&replica.outcome, &replica.stands_in_for) {
        (ReplicaOutcome::Ok, None) => format!("{did} -> {}", reply_text(replica, brief)),
        (ReplicaOutcome::Ok, Some(owner)) => {
            let reply = reply_text(replica, brief);
            format!("{did} -> {reply}, {} stands in for {owner}", replica.node)
        }
        _ => format!("{did} -> {} {}", replica.node, missed(replica)),
    })
}

/// `is DOWN, hint kept at n1 (connection refused)`, after the name of a replica.
pub(super) fn missed(replica: &ReplicaReport) -> String {
    let what = match replica.outcome {
        ReplicaOutcome::Ok => "has it",
        ReplicaOutcome::Unreachable => "is DOWN",
        ReplicaOutcome::Refused => "refused",
        ReplicaOutcome::Unknown => "did not answer",
        ReplicaOutcome::Pending => "has not answered yet",
    };
    let then = match (&replica.hinted_at, replica.outcome) {
        (Some(keeper), _) => format!(", hint kept at {keeper}"),
        (None, ReplicaOutcome::Ok | ReplicaOutcome::Pending) => String::new(),
        (None, ReplicaOutcome::Unknown) => ", unknown".to_owned(),
        (None, _) => ", not written".to_owned(),
    };
    let said = format!("{} {what}", replica.node);
    let why = replica.why.as_deref().filter(|why| *why != said);
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{what}{then}{why}")
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

/// In the plain form the owners that did not take the write are told as a warning.
fn warn_missed(report: Report, reply: &ClusterWrite) -> Report {
    let missed = owners(reply)
        .filter(|r| !matches!(r.outcome, ReplicaOutcome::Ok | ReplicaOutcome::Pending));
    let missed: Vec<String> = missed.map(|replica| without(replica, reply)).collect();
    if missed.is_empty() {
        return report;
    }
    let all = owners(reply).count();
    let written = reply.replicas.iter().filter(|r| r.outcome == ReplicaOutcome::Ok).count();
    let text = format!("warning: {written} of {all} copies written, not on {}", missed.join(" "));
    report.plain_warn(text)
}

/// `n2`, `n2 (n4 stands in)`, `n2 (hint kept at n1)`.
fn without(missed: &ReplicaReport, reply: &ClusterWrite) -> String {
    let stands_in = |r: &&ReplicaReport| {
        r.outcome == ReplicaOutcome::Ok && r.stands_in_for.as_ref() == Some(&missed.node)
    };
    match (reply.replicas.iter().find(stands_in), &missed.hinted_at) {
        (Some(other), _) => format!("{} ({} stands in)", missed.node, other.node),
        (None, Some(keeper)) => format!("{} (hint kept at {keeper})", missed.node),
        (None, None) => missed.node.to_string(),
    }
}

/// Says that the write stands beside others.
pub(super) fn warn_siblings(report: Report, reply: &ClusterWrite) -> Report {
    if reply.siblings == 0 {
        return report;
    }
    let (key, others) = (&reply.key, counted(reply.siblings as u64, "other value"));
    let have = if reply.siblings == 1 { "has" } else { "have" };
    let what = format!("{key} has {others} beside this one, which {have} not been seen");
    let hint = format!("  look: get {key}        make one of them: resolve {key} <value>");
    report
        .plain_warn(format!("warning: {what}"))
        .plain_warn(hint.clone())
        .warn(format!("warning: {what}"))
        .warn(hint)
}

/// The owners of a key, not those that stand in for one.
fn owners(reply: &ClusterWrite) -> impl Iterator<Item = &ReplicaReport> {
    reply.replicas.iter().filter(|replica| replica.stands_in_for.is_none())
}

fn names<'a>(replicas: impl Iterator<Item = &'a ReplicaReport>) -> String {
    replicas.map(|r| r.node.as_str()).collect::<Vec<_>>().join(" ")
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

    #[test]
    fn who_stands_in_and_who_keeps_a_hint_is_told() {
        let reply: ClusterWrite = from_value(json!({
            "status": "ok", "key": "apple", "version": "1.3", "replicas": [
                {"node": "n1", "outcome": "ok"},
                {"node": "n2", "outcome": "unreachable", "why": "n2 is DOWN", "hinted_at": "n4"},
                {"node": "n3", "outcome": "pending", "why": "n3 has not answered yet"},
                {"node": "n4", "outcome": "ok", "stands_in_for": "n2"},
            ]
        }))
        .unwrap();
        let report = put_report(&reply, &"1".into(), None, 0);
        assert_eq!(
            text(&report.narrated),
            "Replicas for key apple: n1 n2 n3\n\
             [n1] PUT apple = 1 -> {\"status\":\"ok\"}\n\
             [n2] PUT apple = 1 -> n2 is DOWN, hint kept at n4\n\
             [n3] PUT apple = 1 -> n3 has not answered yet\n\
             [n4] PUT apple = 1 -> {\"status\":\"ok\"}, n4 stands in for n2"
        );
        assert_eq!(
            text(&report.plain.unwrap()),
            "ok\nwarning: 2 of 3 copies written, not on n2 (n4 stands in)"
        );
        assert_eq!(
            text(&del_report(&reply, None).narrated),
            "Deleted apple from n1 n4\n\
             [n2] DEL apple -> n2 is DOWN, hint kept at n4\n\
             [n3] DEL apple -> n3 has not answered yet\n\
             [n4] DEL apple -> {\"status\":\"ok\"}, n4 stands in for n2"
        );
    }

    #[test]
    fn a_write_beside_others_says_so() {
        let reply = ClusterWrite { siblings: 1, ..write(ok()) };
        let report = put_report(&reply, &"1".into(), Some(true), 0);
        let plain = "ok\nwarning: apple has 1 other value beside this one, which has not been seen\n  \
                     look: get apple        make one of them: resolve apple <value>";
        assert_eq!(text(report.plain.as_ref().unwrap()), plain);
        assert!(text(&report.narrated).ends_with(&plain["ok\n".len()..]));
        let report = with_context(put_report(&write(ok()), &"1".into(), Some(true), 0), &reply);
        assert!(text(&report.narrated).ends_with("The context for the next write: 1.3"));
        assert_eq!(report.plain.unwrap().last(), Some(&Told::Notice("context: 1.3".into())));
    }
}
