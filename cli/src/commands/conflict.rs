//! A key with several values, which writes have left that knew nothing of each other; and `resolve`, which
//! makes one of them.
//!
//! ```text
//! kv> get cart
//! cart has 2 values: no write has seen both
//!   milk,bread  version 1.2 of the coordinator
//!   milk,eggs   version 1.3 of the coordinator
//!   resolve cart <value>        keep one: resolve cart --keep 1.3
//! ```
//!
//! # Caveats
//!
//! `resolve` replaces what its own read has seen. A write that comes between the two stands beside it
//! then, and the answer says so.

use std::collections::BTreeMap;

use futures::future::join_all;
use ringkv_shared::causal::Context;
use ringkv_shared::net::{ClusterApiClient, NodeApiClient};
use ringkv_shared::protocol::cluster::{
    ClusterGet, NodeRow, ReadOptions, SiblingValue, WriteOptions,
};
use ringkv_shared::ring::key_position;
use ringkv_shared::{Blob, ErrorName, Failure, Line, NODE_EPOCH, Version};
use serde_json::json;
use uuid::Uuid;

use super::{expiry, read, write};
use crate::exit;
use crate::report::Report;
use crate::session::Session;
use crate::table::Table;
use crate::wire::{DEADLINE, Wire};

/// Nodes that number writes themselves, by the line of their versions.
pub(super) type Writers = BTreeMap<Line, String>;

/// Finds out which nodes numbered values of a key; one that does not answer stays unnamed.
pub(super) async fn writers(s: &Session, reply: &ClusterGet) -> Writers {
    let by_nodes = |value: &SiblingValue| value.version.line() != Line::Coordinators;
    if !reply.siblings.iter().any(by_nodes) {
        return Writers::new();
    }
    let show = s.call(async |c| ClusterApiClient::show(c).await).await;
    let rows = show.map(|reply| reply.nodes).unwrap_or_default();
    let identities = join_all(rows.iter().map(|row| identity(s, row))).await;
    let lines = identities.iter().map(|uuid| Some(line_of(uuid.as_ref()?.parse().ok()?)));
    lines.zip(&rows).filter_map(|(line, row)| Some((line?, row.id.to_string()))).collect()
}

async fn identity(s: &Session, row: &NodeRow) -> Option<String> {
    let node = Wire::traced(&row.addr, row.id.as_str(), &s.trace);
    let stats = node.call(DEADLINE, async |c| NodeApiClient::stats(c).await).await;
    stats.ok().map(|stats| stats.uuid)
}

/// The line of the versions that a node with this identity gives.
fn line_of(identity: Uuid) -> Line {
    let low = key_position(identity.as_bytes()) & u64::from(u32::MAX);
    Line::Node(NODE_EPOCH | u32::try_from(low).unwrap_or_default())
}

/// `version 1.2 of the coordinator`, `version x9f00c001.7 of node n1`.
fn numbered(version: Version, writers: &Writers) -> String {
    let who = match (version.line(), writers.get(&version.line())) {
        (Line::Coordinators, _) => "the coordinator".to_owned(),
        (Line::Node(_), Some(node)) => format!("node {node}"),
        (Line::Node(_), None) => "a node".to_owned(),
    };
    format!("version {version} of {who}")
}

/// The report of a get that found several values.
pub(super) fn report(reply: &ClusterGet, writers: &Writers, now_ms: u64) -> Report {
    let message = headline(&reply.key, reply.siblings.len());
    let hint = hint(reply);
    let error = json!({ "name": ErrorName::Conflict, "message": message, "hint": hint });
    let mut report = Report { exit: exit::CONFLICT, ..Report::new(reply) };
    report.members.insert("error".into(), error);
    report.narrated = read::others_lines(reply);
    report = report.say(message.clone());
    let values = value_lines(&reply.siblings, writers, now_ms);
    report = values.into_iter().fold(report, Report::say).say(format!("  {hint}"));
    for SiblingValue { version, value, .. } in &reply.siblings {
        report = report.plain(format!("{version}\t{value}"));
    }
    report = report.plain_warn(format!("error: {message}")).plain_warn(format!("  {hint}"));
    report.plain_warn(format!("context: {}", seen(reply)))
}

/// `cart has 2 values: no write has seen both`.
pub(super) fn headline(key: &Blob, values: usize) -> String {
    let all = if values == 2 { "both" } else { "all" };
    format!("{key} has {values} values: no write has seen {all}")
}

fn hint(reply: &ClusterGet) -> String {
    let (key, last) = (&reply.key, reply.siblings.last().map(|value| value.version));
    let keep = last.map(|last| format!("        keep one: resolve {key} --keep {last}"));
    format!("resolve {key} <value>{}", keep.unwrap_or_default())
}

/// The values, each with who numbered it, in columns.
fn value_lines(values: &[SiblingValue], writers: &Writers, now_ms: u64) -> Vec<String> {
    let cells = |SiblingValue { value, version, expires }: &SiblingValue| {
        let until = expires.map(|at| format!(", {}", expiry::in_words(at, now_ms)));
        let about = format!("{}{}", numbered(*version, writers), until.unwrap_or_default());
        vec![value.to_string(), about]
    };
    let rows = values.iter().map(cells).collect();
    let table = Table { header: &["", ""], rows, dispensable: &[], prose: false }.draw(None);
    table.lines().map(|line| format!("  {line}")).collect()
}

/// What a reader has seen: the context for a write that replaces all of it.
fn seen(reply: &ClusterGet) -> Context {
    match (&reply.context, reply.version) {
        (Some(context), _) => context.clone(),
        (None, Some(version)) => Context::up_to(version),
        (None, None) => Context::empty(),
    }
}

/// Makes one value of several.
pub(super) async fn resolve(
    s: &mut Session,
    key: String,
    value: Option<String>,
    keep: Option<Version>,
) -> Result<Report, Failure> {
    let keyspace = s.keyspace();
    let options = ReadOptions { keyspace: keyspace.clone(), ..ReadOptions::default() };
    let found = read::send_get(s, key.into(), options).await?;
    let now_ms = expiry::now_ms();
    let (value, ttl_ms) = match value {
        Some(value) => (several(&found).map(|()| Blob::from(value))?, None),
        None => kept(&found, keep, now_ms)?,
    };
    let context = Some(seen(&found));
    let options = WriteOptions { keyspace, context, ttl_ms, ..WriteOptions::default() };
    let reply = write::send_put(s, found.key.clone(), value.clone(), options).await?;
    let report = write::put_report(&reply, &value, s.settings.brief, expiry::now_ms());
    Ok(match reply.siblings {
        0 => report.say(format!("{} has one value now: {value}", found.key)),
        _ => report,
    })
}

/// There must be something to resolve.
fn several(found: &ClusterGet) -> Result<(), Failure> {
    if !found.siblings.is_empty() {
        return Ok(());
    }
    let key = &found.key;
    let (has, hint) = match &found.value {
        Some(value) => (format!("one value, {value}"), "to replace it"),
        None => ("no value".to_owned(), "to give it one"),
    };
    let message = format!("{key} has {has}: there is nothing to resolve, nothing was written");
    Err(Failure::new(ErrorName::NotApplied, message).hint(format!("{hint}: put {key} <value>")))
}

/// The value of that version, and what is left of its time to live.
fn kept(
    found: &ClusterGet,
    keep: Option<Version>,
    now_ms: u64,
) -> Result<(Blob, Option<u64>), Failure> {
    several(found)?;
    match found.siblings.iter().find(|value| Some(value.version) == keep) {
        Some(SiblingValue { value, expires, .. }) => {
            // 0 is for ever, which what has just expired must not become.
            let ttl_ms = expires.map_or(0, |at| expiry::left(at, now_ms).unwrap_or(1));
            Ok((value.clone(), Some(ttl_ms)))
        }
        None => {
            let versions: Vec<String> =
                found.siblings.iter().map(|value| value.version.to_string()).collect();
            let keep = keep.map(|version| version.to_string()).unwrap_or_default();
            let message =
                format!("{} has no value of version {keep}; nothing was written", found.key);
            Err(Failure::new(ErrorName::Conflict, message)
                .hint(format!("it has: {}", versions.join(" "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::from_value;

    fn cart() -> ClusterGet {
        from_value(json!({
            "status": "ok", "key": "cart", "value": "eggs", "version": "x9f00c001.7",
            "context": "1.2,+x9f00c001.7", "from": "n1", "siblings": [
                {"value": "milk,bread", "version": "1.2"},
                {"value": "eggs", "version": "x9f00c001.7", "expires": 9_200},
            ]
        }))
        .unwrap()
    }

    #[test]
    fn every_value_is_shown_with_its_writer() {
        let writers = Writers::from([(Line::Node(0x9f00_c001), "n1".to_owned())]);
        let told = report(&cart(), &writers, 0);
        assert_eq!(
            text(&told.narrated),
            "cart has 2 values: no write has seen both\n  \
             milk,bread  version 1.2 of the coordinator\n  \
             eggs        version x9f00c001.7 of node n1, expires in 9.2 s\n  \
             resolve cart <value>        keep one: resolve cart --keep x9f00c001.7"
        );
        assert_eq!(
            text(told.plain.as_ref().unwrap()),
            "1.2\tmilk,bread\nx9f00c001.7\teggs\n\
             error: cart has 2 values: no write has seen both\n  \
             resolve cart <value>        keep one: resolve cart --keep x9f00c001.7\n\
             context: 1.2,+x9f00c001.7"
        );
        assert_eq!((told.exit, &told.members["error"]["name"]), (7, &json!("CONFLICT")));
        let nameless = text(&report(&cart(), &Writers::new(), 0).narrated);
        assert!(nameless.contains("version x9f00c001.7 of a node,"), "{nameless}");
    }

    #[test]
    fn what_is_kept_lives_as_long_as_it_would_have() {
        let keep = |version: &str| kept(&cart(), Some(version.parse().unwrap()), 200);
        assert_eq!(keep("1.2").unwrap(), ("milk,bread".into(), Some(0)));
        assert_eq!(keep("x9f00c001.7").unwrap(), ("eggs".into(), Some(9_000)));
        let other = keep("1.1").unwrap_err();
        assert_eq!(other.name, ErrorName::Conflict);
        assert_eq!(other.hint.as_deref(), Some("it has: 1.2 x9f00c001.7"));
    }

    #[test]
    fn one_value_needs_no_resolving() {
        let one = ClusterGet { siblings: Vec::new(), ..cart() };
        let refused = several(&one).unwrap_err();
        assert_eq!(
            refused.message,
            "cart has one value, eggs: there is nothing to resolve, nothing was written"
        );
        assert_eq!(refused.hint.as_deref(), Some("to replace it: put cart <value>"));
        let none = several(&ClusterGet { value: None, ..one }).unwrap_err();
        assert!(none.message.starts_with("cart has no value"));
    }
}
