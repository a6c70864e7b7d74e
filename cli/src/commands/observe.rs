//! `show`, `stats`, `where`, `ring`, `config`: looking without touching.
//!
//! # Caveats
//!
//! Key counts come from heartbeats and are as old as the LAST SEEN beside them; `stats` asks every
//! node and names those that did not answer.

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{
    ConfigReply, Health, Membership, NodeRow, ShowReply, Stage, StatsReply, WhereReply,
};
use ringkv_shared::protocol::node::DiskState;
use ringkv_shared::{Blob, Failure, NodeId, Zone};

use super::{expiry, keyspace, troubles};
use crate::report::Report;
use crate::session::Session;
use crate::table::{Table, fill};

/// The nodes.
pub(super) async fn show(s: &mut Session) -> Result<Report, Failure> {
    let reply = s.call(async |c| ClusterApiClient::show(c).await).await?;
    s.note_nodes(reply.nodes.iter().map(|row| row.id.to_string()));
    Ok(show_report(&reply, s.out.width()))
}

/// Totals.
pub(super) async fn stats(s: &mut Session) -> Result<Report, Failure> {
    let reply = s.call(async |c| ClusterApiClient::stats(c).await).await?;
    Ok(stats_report(&reply, s.out.width()))
}

/// Where a key is.
pub(super) async fn locate(s: &mut Session, key: String) -> Result<Report, Failure> {
    let key = Blob::from(key);
    let space = s.keyspace_named();
    let reply = s.call(async |c| ClusterApiClient::locate(c, key, None, space).await).await?;
    Ok(where_report(&reply, expiry::now_ms(), s.out.width()))
}

/// The ring, drawn.
pub(super) async fn ring(s: &mut Session, tokens: bool) -> Result<Report, Failure> {
    let reply = s.call(async |c| ClusterApiClient::ring(c, Some(tokens)).await).await?;
    let mut report = Report::new(&reply);
    if tokens {
        for row in &reply.tokens {
            report = report.say(format!("{} {}", row.token, row.node));
        }
        return Ok(report);
    }
    Ok(report.say(reply.drawing.trim_end().to_owned()))
}

/// Settings of the cluster.
pub(super) async fn config(
    s: &mut Session,
    name: Option<String>,
    value: Option<String>,
) -> Result<Report, Failure> {
    let reply = s.call(async |c| ClusterApiClient::config(c, name, value).await).await?;
    Ok(config_report(&reply, s.out.width()))
}

/// The report of `show`.
fn show_report(reply: &ShowReply, width: Option<usize>) -> Report {
    let mut header = vec!["NODE", "ADDRESS", "STATUS", "KEYS", "SHARE", "LOG", "LAST SEEN"];
    // Who leaves weighs nothing on the ring to be.
    let weighted = reply.nodes.iter().any(|row| row.weight > 1);
    header.extend(weighted.then_some("WEIGHT"));
    let zoned = reply.nodes.iter().any(|row| row.zone.is_some());
    header.extend(zoned.then_some("ZONE"));
    let cells = |row: &NodeRow| {
        let mut cells = node_cells(row);
        cells.extend(weighted.then(|| row.weight.to_string()));
        cells.extend(zoned.then(|| row.zone.as_ref().map_or("-", Zone::as_str).to_owned()));
        cells
    };
    let mut report = Report::new(reply);
    if !reply.nodes.is_empty() {
        let table = Table {
            header: &header,
            rows: reply.nodes.iter().map(cells).collect(),
            dispensable: &["LOG", "WEIGHT", "ZONE", "SHARE", "LAST SEEN", "ADDRESS"],
            prose: false,
        };
        report = report.say(table.draw(width));
    }
    for NodeRow { id, error, .. } in reply.nodes.iter().filter(|row| row.stranger) {
        let why = error.as_deref().unwrap_or_default();
        report = report.warn(format!("warning: {why}; to give {id} up: removenode {id}"));
    }
    for NodeRow { id, ring_epoch, .. } in &reply.nodes {
        if let Some(epoch) = ring_epoch {
            report = report.say(format!("{id} knows the ring of epoch {epoch} only, so far"));
        }
    }
    if let Some(replaced) = &reply.replaced {
        report = report.warn(format!("warning: {replaced}; it reads and writes nothing"));
    }
    let (epoch, replication) = (reply.epoch, reply.replication);
    report = report.say(format!("epoch {epoch}, replication {replication}{}", change_words(reply)));
    report = reply.keyspaces.iter().map(keyspace::line).fold(report, Report::say);
    if reply.nodes.is_empty() {
        report = report.say("no nodes yet; add one:  addnode n1 5001");
    }
    report
}

/// What there is to say of a change, behind a comma.
fn change_words(reply: &ShowReply) -> String {
    let copies = reply.pending_replication.filter(|n| *n != reply.replication);
    match (reply.pending, reply.stage, copies) {
        (_, Stage::Copying, _) => ", a change is being carried out: progress".to_owned(),
        (_, Stage::Clearing, _) => ", old copies are being dropped: progress".to_owned(),
        (false, ..) => String::new(),
        (true, _, Some(n)) => format!(", replication {n} waits for: rebalance"),
        (true, _, None) => ", a change waits for: rebalance".to_owned(),
    }
}

/// What the detector thinks, in its word.
pub(super) const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Up => "UP",
        Health::Suspect => "SUSPECT",
        Health::Down => "DOWN",
    }
}

fn node_cells(row: &NodeRow) -> Vec<String> {
    let health = health_word(row.health);
    let status = match row.membership {
        Membership::Member => health.to_owned(),
        Membership::Joining => format!("{health} joining"),
        Membership::Leaving => format!("{health} leaving"),
    };
    let status = match row.disk {
        DiskState::Ok => status,
        DiskState::DiskFull => format!("{status} DISK FULL"),
        DiskState::ReadOnly => format!("{status} READ ONLY"),
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        row.id.to_string(),
        row.addr.clone(),
        status,
        or_dash(row.keys.map(|keys| keys.to_string())),
        format!("{:.1} %", row.share * 100.0),
        or_dash(row.log_bytes.map(bytes)),
        row.last_seen_ms.map_or_else(|| "never".to_owned(), ago),
    ]
}

/// `now`, `1.9 s ago`, `3 min ago`.
pub(super) fn ago(ms: u64) -> String {
    if ms < 1_000 { "now".to_owned() } else { format!("{} ago", span(ms)) }
}

/// `0.3 s`, `3 min`.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => format!("{} min", ms / 60_000),
    }
}

/// `31.2 KB`.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} KB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// The report of `stats`.
fn stats_report(reply: &StatsReply, width: Option<usize>) -> Report {
    let StatsReply { nodes, up, keys, copies, replication, epoch, puts, gets, dels, .. } = reply;
    let about = if reply.keys_exact { "" } else { "~" };
    let parts = [
        format!("nodes {nodes} ({up} up)"),
        format!("keys {about}{keys}"),
        format!("copies {copies}"),
        format!("avg keys/node {:.1}", reply.avg_keys_per_node),
        format!("max/avg {:.2}", reply.max_over_avg),
        format!("replication {replication}"),
        format!("epoch {epoch}"),
    ];
    let report = Report::new(reply).say(fill(&parts, "   ", width));
    let report = report.say(format!(
        "{puts} put, {gets} get, {dels} del, {} of the writes on fewer than all owners",
        reply.partial_writes
    ));
    let report = troubles::lines(reply).into_iter().fold(report, Report::say);
    let report = troubles::warnings(reply).into_iter().fold(report, Report::warn);
    if reply.silent.is_empty() {
        return report;
    }
    report.warn(format!("warning: not counted, no answer: {}", names(&reply.silent)))
}

/// The report of `where`.
fn where_report(reply: &WhereReply, now_ms: u64, width: Option<usize>) -> Report {
    let copy = |c: &ringkv_shared::protocol::cluster::ReplicaCopy| {
        let record = c.record.as_ref()?;
        let more = match record.expires {
            _ if record.deleted => " (deleted)".to_owned(),
            Some(at) => format!(" ({})", expiry::in_words(at, now_ms)),
            None => String::new(),
        };
        Some(format!("{} {}{more}", c.node, record.version))
    };
    let stored: Vec<String> = reply.copies.iter().filter_map(copy).collect();
    let stored = if stored.is_empty() { "nobody".to_owned() } else { stored.join(", ") };
    let first = reply.owners.first().map_or("nobody", NodeId::as_str);
    let why = format!(
        "hash {} -> token {} of {first} -> replicas {}",
        reply.hash,
        reply.token,
        names(&reply.owners),
    );
    let parts = [why, format!("stored on: {stored}")];
    let mut report = Report::new(reply).say(fill(&parts, "      ", width));
    if !reply.pending_owners.is_empty() {
        report = report.say(format!("after rebalance: replicas {}", names(&reply.pending_owners)));
    }
    for silent in reply.copies.iter().filter(|c| c.why.is_some()) {
        let why = silent.why.as_deref().unwrap_or_default();
        report = report.warn(format!("warning: {} did not answer ({why})", silent.node));
    }
    report
}

/// The report of `config`: one setting in words, several as a table.
fn config_report(reply: &ConfigReply, width: Option<usize>) -> Report {
    let report = Report::new(reply);
    if let [one] = reply.settings.as_slice() {
        let lasts = if one.origin == "set" { ", until the coordinator stops" } else { "" };
        return report
            .say(format!("{} = {} ({}{lasts})", one.name, one.value, one.origin))
            .say(format!("  {}", one.help))
            .plain(one.value.clone());
    }
    let cells = |s: &ringkv_shared::protocol::cluster::Setting| {
        vec![s.name.clone(), s.value.clone(), s.origin.clone(), s.help.clone()]
    };
    let table = Table {
        header: &["NAME", "VALUE", "FROM", "WHAT"],
        rows: reply.settings.iter().map(cells).collect(),
        dispensable: &["FROM"],
        prose: true,
    };
    report.say(table.draw(width))
}

/// `n1 n2`.
pub(super) fn names(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{from_value, json};

    #[test]
    fn nodes_stand_in_columns() {
        let reply: ShowReply = from_value(json!({
            "status": "ok", "epoch": 4, "replication": 2, "pending": false, "nodes": [
                {"id": "n1", "addr": "127.0.0.1:5001", "health": "DOWN", "membership": "member",
                 "weight": 1, "share": 0.331, "keys": 663, "last_seen_ms": 1900},
                {"id": "n2", "addr": "127.0.0.1:5002", "health": "UP", "membership": "joining",
                 "weight": 1, "share": 0.34, "keys": 679, "log_bytes": 31200, "last_seen_ms": 20},
            ]
        }))
        .unwrap();
        assert_eq!(
            text(&show_report(&reply, None).narrated),
            "NODE  ADDRESS         STATUS      KEYS  SHARE   LOG      LAST SEEN\n\
             n1    127.0.0.1:5001  DOWN        663   33.1 %  -        1.9 s ago\n\
             n2    127.0.0.1:5002  UP joining  679   34.0 %  31.2 KB  now\n\
             epoch 4, replication 2"
        );
        assert_eq!(
            text(&show_report(&reply, Some(60)).narrated),
            "NODE  ADDRESS         STATUS      KEYS  SHARE   LAST SEEN\n\
             n1    127.0.0.1:5001  DOWN        663   33.1 %  1.9 s ago\n\
             n2    127.0.0.1:5002  UP joining  679   34.0 %  now\n\
             (left out: LOG; a wider terminal or --json has them)\n\
             epoch 4, replication 2"
        );
    }

    #[test]
    fn weights_and_strangers_are_shown_when_there_are_some() {
        let reply: ShowReply = from_value(json!({
            "status": "ok", "epoch": 4, "replication": 1, "pending": false, "nodes": [
                {"id": "n1", "addr": "h:1", "health": "UP", "membership": "member", "weight": 2,
                 "share": 1.0, "keys": 5, "log_bytes": 1, "last_seen_ms": 1},
                {"id": "n2", "addr": "h:2", "health": "DOWN", "membership": "member", "weight": 1,
                 "share": 1.0, "error": "n9 at h:2 answers in place of n2", "stranger": true},
            ]
        }))
        .unwrap();
        assert_eq!(
            text(&show_report(&reply, None).narrated),
            "NODE  ADDRESS  STATUS  KEYS  SHARE    LOG  LAST SEEN  WEIGHT\n\
             n1    h:1      UP      5     100.0 %  1 B  now        2\n\
             n2    h:2      DOWN    -     100.0 %  -    never      1\n\
             warning: n9 at h:2 answers in place of n2; to give n2 up: removenode n2\n\
             epoch 4, replication 1"
        );
    }

    #[test]
    fn a_change_and_zones_are_shown_when_there_are_some() {
        let mut reply: ShowReply = from_value(json!({
            "status": "ok", "epoch": 4, "replication": 1, "pending": true, "stage": "staged", "nodes": [
                {"id": "n1", "addr": "h:1", "health": "UP", "membership": "member", "weight": 1,
                 "share": 0.5, "keys": 5, "log_bytes": 1, "last_seen_ms": 1, "zone": "rack-a"},
                {"id": "n2", "addr": "h:2", "health": "UP", "membership": "leaving", "weight": 1,
                 "share": 0.5, "keys": 5, "log_bytes": 1, "last_seen_ms": 1, "ring_epoch": 3},
            ]
        }))
        .unwrap();
        assert_eq!(
            text(&show_report(&reply, None).narrated),
            "NODE  ADDRESS  STATUS      KEYS  SHARE   LOG  LAST SEEN  ZONE\n\
             n1    h:1      UP          5     50.0 %  1 B  now        rack-a\n\
             n2    h:2      UP leaving  5     50.0 %  1 B  now        -\n\
             n2 knows the ring of epoch 3 only, so far\n\
             epoch 4, replication 1, a change waits for: rebalance"
        );
        reply.pending_replication = Some(2);
        assert_eq!(change_words(&reply), ", replication 2 waits for: rebalance");
        reply.stage = Stage::Copying;
        assert_eq!(change_words(&reply), ", a change is being carried out: progress");
        reply.stage = Stage::Clearing;
        assert_eq!(change_words(&reply), ", old copies are being dropped: progress");
    }

    #[test]
    fn stats_name_who_was_not_counted() {
        let reply: StatsReply = from_value(json!({
            "status": "ok", "nodes": 4, "up": 3, "keys": 1000, "keys_exact": false, "copies": 2000, "avg_keys_per_node": 500.0,
            "max_over_avg": 1.07, "replication": 2, "epoch": 5, "coordinator_epoch": 1,
            "puts": 1000, "gets": 3, "dels": 0, "partial_writes": 0, "silent": ["n2"]
        }))
        .unwrap();
        assert_eq!(
            text(&stats_report(&reply, None).narrated),
            "nodes 4 (3 up)   keys ~1000   copies 2000   avg keys/node 500.0   max/avg 1.07   replication 2   epoch 5\n\
             1000 put, 3 get, 0 del, 0 of the writes on fewer than all owners\n\
             warning: not counted, no answer: n2"
        );
    }

    #[test]
    fn where_goes_from_hash_to_copies() {
        let reply: WhereReply = from_value(json!({
            "status": "ok", "key": "apple", "hash": "517a", "token": "518c", "owners": ["n1", "n2"],
            "copies": [
                {"node": "n1", "record": {"key": "apple", "version": "1.3"}},
                {"node": "n2", "record": {"key": "apple", "version": "1.3", "expires": 9200}},
            ]
        }))
        .unwrap();
        assert_eq!(
            text(&where_report(&reply, 0, None).narrated),
            "hash 517a -> token 518c of n1 -> replicas n1 n2      stored on: n1 1.3, n2 1.3 (expires in 9.2 s)"
        );
    }
}
