//! `check`: whether all replicas are alike, and mending them when they are not.
//!
//! ```text
//! kv> check
//! 2 keys on which replicas differ: 65536 of 65536 leaves of the ring compared, 4.1 KB moved.
//!   apple: n2 lacks 1.3
//!   pear: n1 lacks 1.9
//! mend it:  check --repair
//! ```
//!
//! # Caveats
//!
//! Writes that are under way while it looks may be told as differences: look again.

use ringkv_shared::Failure;
use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::cluster::CheckReport;

use super::observe::{bytes, names};
use crate::exit;
use crate::grammar::CheckArgs;
use crate::report::{Report, counted};
use crate::session::Session;
use crate::wire::LONG_DEADLINE;

/// Compares all replicas.
pub(super) async fn run(s: &mut Session, args: CheckArgs) -> Result<Report, Failure> {
    let (repair, keyspace) = (Some(args.repair), s.keyspace_named());
    let check = async |c: &Client| ClusterApiClient::check(c, repair, keyspace).await;
    let reply = s.wire.call(LONG_DEADLINE, check).await?;
    Ok(report(&reply, args.repair))
}

fn report(reply: &CheckReport, repair: bool) -> Report {
    let CheckReport { different, repaired, failed, leaves, .. } = reply;
    let moved = bytes(reply.bytes);
    let compared = format!("{leaves} of 65536 leaves of the ring compared, {moved} moved");
    let mut report = Report::new(reply);
    report = report.say(match different {
        0 => format!("All replicas are alike: {compared}."),
        _ => format!("{} on which replicas differ: {compared}.", counted(*different, "key")),
    });
    report = reply.examples.iter().fold(report, |report, line| report.say(format!("  {line}")));
    let unnamed = different.saturating_sub(reply.examples.len() as u64);
    if unnamed > 0 {
        report = report.say(format!("  ... and {unnamed} more"));
    }
    if *repaired > 0 {
        report = report.say(format!("Mended: {} made.", copies(*repaired)));
    }
    if reply.dropped > 0 {
        let dropped = copies(reply.dropped);
        report = report
            .say(format!("Dropped: {dropped} that belonged elsewhere or counted as deleted."));
    }
    if reply.collected > 0 {
        let collected = counted(reply.collected, "tombstone");
        report = report.say(format!("Collected: {collected} that all owners had."));
    }
    if *failed > 0 {
        report = report.warn(format!("error: {} could not be made", copies(*failed)));
    } else if *different > 0 && !repair {
        report = report.warn("mend it:  check --repair");
    }
    if !reply.silent.is_empty() {
        report = report.warn(format!("warning: not compared, no answer: {}", names(&reply.silent)));
    }
    let mended = *different == 0 || repair && *failed == 0;
    let exit = match (mended, reply.silent.is_empty()) {
        (false, _) => exit::DIFFERS,
        (true, false) => exit::PARTIAL,
        (true, true) => exit::OK,
    };
    Report { exit, ..report }
}

fn copies(count: u64) -> String {
    if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value, json};

    fn checked(more: Value, repair: bool) -> Report {
        let mut reply = json!({
            "status": "ok", "keyspace": "default", "different": 0, "examples": [], "repaired": 0,
            "failed": 0, "leaves": 65_536, "bytes": 1_200
        });
        reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        report(&from_value(reply).unwrap(), repair)
    }

    #[test]
    fn a_check_that_finds_something_fails_until_it_is_mended() {
        let alike = checked(json!({}), false);
        let told =
            "All replicas are alike: 65536 of 65536 leaves of the ring compared, 1.2 KB moved.";
        assert_eq!((text(&alike.narrated).as_str(), alike.exit), (told, 0));
        let found = json!({"different": 2, "examples": ["a: n2 lacks 1.3"]});
        let report = checked(found.clone(), false);
        assert_eq!(
            text(&report.narrated),
            "2 keys on which replicas differ: 65536 of 65536 leaves of the ring compared, 1.2 KB moved.\n  \
             a: n2 lacks 1.3\n  ... and 1 more\nmend it:  check --repair"
        );
        assert_eq!(report.exit, 6);
        let mended = checked(json!({"different": 2, "repaired": 1}), true);
        assert!(text(&mended.narrated).ends_with("Mended: 1 copy made."));
        assert_eq!(mended.exit, 0);
        let failed = checked(json!({"different": 2, "repaired": 1, "failed": 1}), true);
        assert!(text(&failed.narrated).ends_with("error: 1 copy could not be made"));
        assert_eq!(failed.exit, 6);
        let silent = checked(json!({"silent": ["n2"]}), false);
        assert!(text(&silent.narrated).ends_with("warning: not compared, no answer: n2"));
        assert_eq!(silent.exit, 5);
    }
}
