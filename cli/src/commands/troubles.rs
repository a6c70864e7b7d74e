//! What `stats` tells of hints, differences, conflicts and deletes: only what there is.
//!
//! ```text
//! missed writes: 12 hints wait, 40 keys handed over
//! replicas: 3 differences found, 3 copies mended; 1 key with several values
//! ```
//!
//! # Caveats
//!
//! While there is nothing to tell there are no lines: tombstones and times alone are no trouble. `--json` has
//! all figures always.

use ringkv_shared::protocol::cluster::StatsReply;

use super::expiry::span;
use super::observe::names;
use crate::report::counted;

/// Up to two lines.
pub(super) fn lines(reply: &StatsReply) -> Vec<String> {
    [missed(reply), replicas(reply)].into_iter().flatten().collect()
}

/// What somebody should look into.
pub(super) fn warnings(reply: &StatsReply) -> Option<String> {
    let lost = &reply.hints_lost;
    (!lost.is_empty()).then(|| {
        format!("warning: hints were thrown away for {}: check finds what is missing", names(lost))
    })
}

/// Writes that an owner missed or got late.
fn missed(reply: &StatsReply) -> Option<String> {
    let parts = [
        some(reply.hints, |n| {
            format!("{} wait{}", counted(n, "hint"), if n == 1 { "s" } else { "" })
        }),
        some(reply.handed_over, |n| format!("{} handed over", counted(n, "key"))),
        some(reply.hedged, |n| format!("{} helped by one more replica", counted(n, "slow read"))),
    ];
    let line = join("missed writes", parts)?;
    let lag = reply.lag_p99_us.zip(reply.lag_max_us).map(|(p99, max)| {
        let ms = |us: u64| us as f64 / 1e3;
        format!("; last owner after {:.1} ms (p99), {:.1} ms at most", ms(p99), ms(max))
    });
    Some(line + &lag.unwrap_or_default())
}

/// How alike the replicas are.
fn replicas(reply: &StatsReply) -> Option<String> {
    let parts = [
        some(reply.divergences, |n| format!("{} found", counted(n, "difference"))),
        some(reply.repairs, |n| {
            if n == 1 { "1 copy mended".to_owned() } else { format!("{n} copies mended") }
        }),
        some(reply.conflicts, |n| format!("{} with several values", counted(n, "key"))),
        some(reply.discarded, |n| format!("{} pushed out by later ones", counted(n, "write"))),
    ];
    let line = join("replicas", parts)?;
    let verified = reply.unverified_ms.map(|ms| format!("; all verified within {}", span(ms)));
    let StatsReply { tombstones, collected, .. } = reply;
    let deletes = some(tombstones + collected, |_| {
        format!("; {} kept, {collected} collected", counted(*tombstones, "tombstone"))
    });
    Some(line + &verified.unwrap_or_default() + &deletes.unwrap_or_default())
}

/// The words for a figure that is not 0.
fn some(figure: u64, words: impl FnOnce(u64) -> String) -> Option<String> {
    (figure > 0).then(|| words(figure))
}

fn join<const N: usize>(about: &str, parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{about}: {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn stats(more: Value) -> StatsReply {
        let mut reply = json!({
            "status": "ok", "nodes": 2, "up": 2, "keys": 1, "keys_exact": true, "copies": 2,
            "avg_keys_per_node": 1.0, "max_over_avg": 1.0, "replication": 2, "epoch": 5,
            "coordinator_epoch": 1, "puts": 1, "gets": 0, "dels": 0, "partial_writes": 0,
            "lag_p99_us": 1_200, "lag_max_us": 34_000, "unverified_ms": 9_200, "tombstones": 4
        });
        reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        from_value(reply).unwrap()
    }

    #[test]
    fn a_healthy_cluster_has_nothing_to_tell() {
        assert_eq!(lines(&stats(json!({ "collected": 3 }))), [""; 0]);
        assert_eq!(warnings(&stats(json!({}))), None);
    }

    #[test]
    fn what_there_is_is_told() {
        let all = stats(json!({
            "hints": 12, "handed_over": 40, "hedged": 1, "divergences": 3, "repairs": 1,
            "conflicts": 1, "discarded": 2, "collected": 1, "hints_lost": ["n2"]
        }));
        assert_eq!(
            lines(&all),
            [
                "missed writes: 12 hints wait, 40 keys handed over, 1 slow read helped by one more replica; last owner after 1.2 ms (p99), 34.0 ms at most",
                "replicas: 3 differences found, 1 copy mended, 1 key with several values, 2 writes pushed out by later ones; all verified within 9.2 s; 4 tombstones kept, 1 collected",
            ]
        );
        assert_eq!(
            warnings(&all).unwrap(),
            "warning: hints were thrown away for n2: check finds what is missing"
        );
    }
}
