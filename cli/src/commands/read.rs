//! `get`: one key, told with the ancestor's sentence, and every replica's copy of it.
//!
//! ```text
//! kv> get apple
//! n1 is DOWN, trying n2
//! apple -> 123
//! ```
//!
//! # Caveats
//!
//! A read of one replica asks them one after another, and is told like that; one of several asks as many
//! at once, and is told by what each of them has.

use jsonrpsee::core::client::ClientT as _;
use jsonrpsee::rpc_params;
use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    ClusterGet, ReadOptions, ReplicaCopy, ReplicaOutcome, ReplicaReport, WhereReply,
};
use ringkv_shared::protocol::record::Sibling;
use ringkv_shared::{Blob, Failure, NodeId};

use super::{conflict, expiry};
use crate::exit;
use crate::grammar::ReadArgs;
use crate::report::{Report, Told};
use crate::session::Session;

/// Reads a value.
pub(super) async fn get(s: &mut Session, args: ReadArgs) -> Result<Report, Failure> {
    let options = args.options(s.keyspace());
    let reply = send_get(s, args.key.into(), options).await?;
    if reply.siblings.len() > 1 {
        let writers = conflict::writers(s, &reply).await;
        return Ok(conflict::report(&reply, &writers, expiry::now_ms()));
    }
    Ok(get_report(&reply))
}

/// Sends a get.
pub(super) async fn send_get(
    s: &Session,
    key: Blob,
    options: ReadOptions,
) -> Result<ClusterGet, Failure> {
    let get = async |c: &Client| {
        if options == ReadOptions::default() {
            // As people write it: without a null at the end.
            return c.request("get", rpc_params![key]).await;
        }
        ClusterApiClient::get(c, key, Some(options)).await
    };
    s.call(get).await
}

/// Reads every replica's copy.
pub(super) async fn get_all(s: &mut Session, key: String) -> Result<Report, Failure> {
    let (key, keyspace) = (Blob::from(key), s.keyspace_named());
    let locate = async |c: &_| ClusterApiClient::locate(c, key, Some(true), keyspace).await;
    let reply = s.call(locate).await?;
    Ok(copies_report(&reply, expiry::now_ms()))
}

/// The report of a get that found one value, or none.
pub(super) fn get_report(reply: &ClusterGet) -> Report {
    let told_before = others_lines(reply);
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
pub(super) fn not_found(reply: &ClusterGet) -> String {
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

/// What there is to tell of the replicas that did not give the answer.
pub(super) fn others_lines(reply: &ClusterGet) -> Vec<Told> {
    let lines = if reply.needed > 1 { differing(reply) } else { fallback(reply) };
    lines.into_iter().map(Told::Result).collect()
}

/// `n1 is DOWN, trying n2` for each replica that was asked in vain, one after another.
fn fallback(reply: &ClusterGet) -> Vec<String> {
    let next = reply.tried.iter().skip(1).map(|r| &r.node).chain([&reply.from]);
    let tried = reply.tried.iter().zip(next);
    // One that was slow and has answered after all has a copy.
    let in_vain = tried.filter(|(tried, _)| !has_copy(tried));
    let line = |(tried, next): (&ReplicaReport, &NodeId)| {
        format!("{} {}, trying {next}", tried.node, in_vain_because(tried.outcome))
    };
    in_vain.map(line).collect()
}

/// `n1 is DOWN` and `n3 is behind, with 1.2`: of several that were asked at once.
fn differing(reply: &ClusterGet) -> Vec<String> {
    let found = reply.version.is_some();
    let line = |tried: &ReplicaReport| {
        let node = &tried.node;
        let answered = tried.outcome == ReplicaOutcome::Ok;
        match tried.reply.as_ref().and_then(|reply| reply.get("version")?.as_str()) {
            _ if !answered => Some(format!("{node} {}", in_vain_because(tried.outcome))),
            None => found.then(|| format!("{node} has no copy")),
            Some(version) => {
                let same = reply.version.is_some_and(|newest| newest.to_string() == version);
                (!same).then(|| format!("{node} is behind, with {version}"))
            }
        }
    };
    reply.tried.iter().filter_map(line).collect()
}

fn has_copy(tried: &ReplicaReport) -> bool {
    let version = tried.reply.as_ref().and_then(|reply| reply.get("version"));
    tried.outcome == ReplicaOutcome::Ok && version.is_some()
}

/// `is DOWN`, after the name of a replica that did not help a read.
pub(super) const fn in_vain_because(outcome: ReplicaOutcome) -> &'static str {
    match outcome {
        ReplicaOutcome::Unreachable => "is DOWN",
        ReplicaOutcome::Refused => "refused",
        ReplicaOutcome::Unknown => "did not answer",
        ReplicaOutcome::Pending => "is slow",
        ReplicaOutcome::Ok => "has no copy",
    }
}

/// The report of `get --all`: a line a replica, of several values a line each.
fn copies_report(reply: &WhereReply, now_ms: u64) -> Report {
    let found = reply.copies.iter().filter_map(|copy| copy.record.as_ref());
    let found = found.flat_map(|record| record.values()).any(|value| !value.deleted);
    let lines = reply.copies.iter().flat_map(|copy| copy_lines(copy, now_ms));
    let report = lines.fold(Report::new(reply), Report::say);
    match found {
        true => report,
        false => report.absent(&format!("no replica has {}", reply.key)),
    }
}

fn copy_lines(copy: &ReplicaCopy, now_ms: u64) -> Vec<String> {
    let node = &copy.node;
    match (&copy.record, &copy.why) {
        (Some(record), _) => {
            record.values().map(|held| format!("{node}  {}", held_line(&held, now_ms))).collect()
        }
        (None, Some(why)) => vec![format!("{node}  -  ({why})")],
        (None, None) => vec![format!("{node}  -  (no copy)")],
    }
}

fn held_line(held: &Sibling, now_ms: u64) -> String {
    if held.deleted {
        return format!("{}  (deleted)", held.version);
    }
    let value = held.value.clone().unwrap_or_default();
    let until = held.expires.map(|at| format!("  ({})", expiry::in_words(at, now_ms)));
    format!("{}  {value}{}", held.version, until.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{from_value, json};

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

    #[test]
    fn of_several_each_is_told_by_what_it_has() {
        let reply: ClusterGet = from_value(json!({
            "status": "ok", "key": "apple", "value": "123", "version": "1.3", "from": "n2",
            "needed": 2, "tried": [
                {"node": "n1", "outcome": "unreachable", "why": "n1 is DOWN"},
                {"node": "n3", "outcome": "ok", "reply": {"status": "ok", "version": "1.3"}},
                {"node": "n4", "outcome": "ok", "reply": {"status": "ok", "version": "1.2"}},
                {"node": "n5", "outcome": "ok", "reply": {"status": "not_found"}},
            ]
        }))
        .unwrap();
        assert_eq!(
            text(&get_report(&reply).narrated),
            "n1 is DOWN\nn4 is behind, with 1.2\nn5 has no copy\napple -> 123"
        );
    }

    #[test]
    fn every_value_of_a_copy_has_a_line() {
        let reply: WhereReply = from_value(json!({
            "status": "ok", "key": "cart", "hash": "51", "token": "52", "owners": ["n1"],
            "copies": [{"node": "n1", "record": {
                "key": "cart", "value": "eggs", "version": "1.3", "context": "1.1",
                "siblings": [{"value": "milk", "version": "1.2"}]
            }}]
        }))
        .unwrap();
        let told = text(&copies_report(&reply, 0).narrated);
        assert_eq!(told, "n1  1.2  milk\nn1  1.3  eggs");
    }
}
