//! `stats` of one node: what its engine counts.
//!
//! # Caveats
//!
//! Counters are since the node's start; a restart begins them anew.

use ringkv_shared::net::NodeApiClient;
use ringkv_shared::protocol::node::{DiskState, NodeStats};
use ringkv_shared::{Failure, NodeId};

use super::observe::bytes;
use super::raw;
use crate::report::{Report, counted};
use crate::session::Session;
use crate::wire::DEADLINE;

/// The figures of a node.
pub(super) async fn stats(s: &mut Session, id: NodeId) -> Result<Report, Failure> {
    let node = raw::connect(s, id.as_str(), &s.trace).await?;
    let reply = node.call(DEADLINE, async |c| NodeApiClient::stats(c).await).await?;
    Ok(report(&reply))
}

fn report(stats: &NodeStats) -> Report {
    let lines =
        [node(stats), keys(stats), values(stats), reads(stats), log(stats), compactions(stats)];
    lines.into_iter().fold(Report::new(stats), Report::say)
}

fn node(stats: &NodeStats) -> String {
    let NodeStats { id, pid, durability, state, data, .. } = stats;
    let disk = match state {
        DiskState::Ok => "",
        DiskState::DiskFull => ", DISK FULL",
        DiskState::ReadOnly => ", READ ONLY",
    };
    format!("{id} (pid {pid}), durability {durability}{disk}, data in {data}")
}

fn keys(stats: &NodeStats) -> String {
    let NodeStats { keys, tombstones, expiring, swept, .. } = stats;
    let tombstones = counted(*tombstones, "tombstone");
    format!("{}, {tombstones}; {expiring} to expire, {swept} swept", counted(*keys, "key"))
}

fn values(stats: &NodeStats) -> String {
    let NodeStats { keys, value_bytes, stored_bytes, resident_values, resident_bytes, .. } = stats;
    let (raw, stored, resident) =
        (bytes(*value_bytes), bytes(*stored_bytes), bytes(*resident_bytes));
    let ratio = percent(*stored_bytes, *value_bytes);
    format!(
        "values {raw}, stored as {stored} ({ratio}); in memory {resident_values} of {keys}, {resident}"
    )
}

fn reads(stats: &NodeStats) -> String {
    let NodeStats { hits, misses, evictions, .. } = stats;
    let rate = percent(*hits, hits + misses);
    let reads = counted(hits + misses, "read");
    format!("{reads} of values, {rate} of them from memory; {}", counted(*evictions, "eviction"))
}

fn log(stats: &NodeStats) -> String {
    let NodeStats { log_bytes, sequence, durable, appends, syncs, .. } = stats;
    let (log, lines) = (bytes(*log_bytes), counted(*appends, "line"));
    let syncs = counted(*syncs, "sync");
    format!("log {log}, last line s={sequence}, durable up to s={durable}; {lines} in {syncs}")
}

fn compactions(stats: &NodeStats) -> String {
    let count = counted(stats.compactions, "compaction");
    match (stats.last_compaction_s, &stats.last_compaction_reason) {
        (Some(seconds), Some(reason)) => {
            format!("{count}, the last {seconds} s ago (because of: {reason})")
        }
        _ => count,
    }
}

/// `46.0 %`; of nothing, all.
fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{from_value, json};

    #[test]
    fn a_node_tells_its_figures() {
        let stats: NodeStats = from_value(json!({
            "status": "ok", "id": "n1", "uuid": "u", "data": "/d/n1", "pid": 7,
            "durability": "always", "keys": 1000, "tombstones": 1, "log_bytes": 31200,
            "state": "disk_full", "sequence": 1200, "durable": 1199, "replayed": 0, "replay_us": 9,
            "syncs": 100, "appends": 1200, "compactions": 2, "expiring": 5, "swept": 3,
            "value_bytes": 4_000_000, "stored_bytes": 1_840_000, "resident_values": 800,
            "resident_bytes": 1_000_000, "hits": 97, "misses": 3, "evictions": 200,
            "last_compaction_s": 12, "last_compaction_reason": "operations"
        }))
        .unwrap();
        assert_eq!(
            text(&report(&stats).narrated),
            "n1 (pid 7), durability always, DISK FULL, data in /d/n1\n\
             1000 keys, 1 tombstone; 5 to expire, 3 swept\n\
             values 4.0 MB, stored as 1.8 MB (46.0 %); in memory 800 of 1000, 1.0 MB\n\
             100 reads of values, 97.0 % of them from memory; 200 evictions\n\
             log 31.2 KB, last line s=1200, durable up to s=1199; 1200 lines in 100 syncs\n\
             2 compactions, the last 12 s ago (because of: operations)"
        );
    }
}
