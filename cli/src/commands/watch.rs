//! `watch`: what is written, as it is acknowledged, and the position to go on from.
//!
//! ```text
//! kv> watch user: --count 2
//! 1.4  user:ann = {"age":41}
//! 1.5  user:bob deleted
//! go on:  watch user: --from 1.9
//! ```
//!
//! # Caveats
//!
//! The coordinator keeps the last writes only, and only while it runs. When some that were asked for are not
//! kept any more, that is said in the place where they are missing, and the exit code is 5: who wants all
//! has to scan.

use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::cluster::{Change, ChangesReply};
use ringkv_shared::{Blob, Failure};
use serde_json::json;

use super::follow::{Asked, Follower};
use crate::exit;
use crate::grammar::{Format, UntilArgs};
use crate::report::{Report, counted};
use crate::session::Session;

/// What is said where writes are missing.
const MISSED: &str =
    "warning: MISSED: writes before this are not kept any more; scan tells what there is";

/// Follows the writes.
pub(super) async fn run(
    s: &mut Session,
    prefix: Option<String>,
    from: Option<String>,
    until: UntilArgs,
) -> Result<Report, Failure> {
    let mut follower = Follower::new(s, &until);
    let mut seen = Seen { position: from, count: 0, missed: false };
    let mut to_say = s.settings.narrate && s.streams_text() && until.is_open();
    loop {
        let (after, keyspace, wait) =
            (seen.position.clone(), s.keyspace_named(), Some(follower.wait_ms()));
        let begins = prefix.clone().map(Blob::from);
        let poll =
            async |c: &Client| ClusterApiClient::changes(c, after, begins, keyspace, wait).await;
        match follower.ask(s, poll).await? {
            Asked::Answer(reply) => {
                // With the first answer there is a position: from now on nothing is left out.
                if std::mem::take(&mut to_say) {
                    s.notice("Watching; Ctrl-C ends it.");
                }
                seen.tell(s, reply, &mut follower);
            }
            Asked::Silence => {}
            Asked::End => return Ok(seen.report(prefix.as_deref())),
        }
    }
}

/// How far it is.
struct Seen {
    position: Option<String>,
    count: u64,
    missed: bool,
}

impl Seen {
    fn tell(&mut self, s: &mut Session, reply: ChangesReply, follower: &mut Follower) {
        if reply.missed {
            self.missed = true;
            match s.settings.format {
                Format::Json => s.line(&json!({ "missed": true }).to_string()),
                Format::Table | Format::Plain => s.notice(MISSED),
            }
        }
        for change in reply.changes {
            let line = match s.settings.format {
                Format::Json => json!(change).to_string(),
                Format::Table | Format::Plain => change_line(&change),
            };
            s.line(&line);
            self.count += 1;
            self.position = Some(change.position);
            if !follower.told() {
                return;
            }
        }
        self.position = Some(reply.position);
    }

    fn report(self, prefix: Option<&str>) -> Report {
        let Self { position, count, missed } = self;
        let report = Report::new(&json!({
            "count": count, "position": position, "missed": missed,
        }));
        let exit = if missed { exit::PARTIAL } else { exit::OK };
        let report = Report { exit, plain: Some(Vec::new()), ..report };
        let Some(position) = position else { return report };
        let prefix = prefix.map(|prefix| format!("{prefix} ")).unwrap_or_default();
        let go_on = format!("go on:  watch {prefix}--from {position}");
        report.plain_warn(go_on.clone()).say(format!("{}; {go_on}", counted(count, "change")))
    }
}

/// `1.4  apple = 123`, `1.5  apple deleted`.
fn change_line(change: &Change) -> String {
    let Change { key, version, .. } = change;
    match &change.value {
        _ if change.deleted => format!("{version}  {key} deleted"),
        Some(value) => format!("{version}  {key} = {value}"),
        None => format!("{version}  {key} = (too large to be told here: get {key})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value};

    #[test]
    fn a_change_is_a_line() {
        let line = |change: Value| change_line(&from_value(change).unwrap());
        let told = |more: Value| {
            let mut change = json!({"key": "a", "version": "1.4", "at_ms": 5, "position": "1.9"});
            change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            line(change)
        };
        assert_eq!(told(json!({"value": "1"})), "1.4  a = 1");
        assert_eq!(told(json!({"deleted": true})), "1.4  a deleted");
        assert_eq!(told(json!({})), "1.4  a = (too large to be told here: get a)");
    }

    #[test]
    fn the_end_tells_where_to_go_on() {
        let seen = |missed| Seen { position: Some("1.9".into()), count: 2, missed };
        let report = seen(false).report(Some("user:"));
        let go_on = "go on:  watch user: --from 1.9";
        assert_eq!(text(&report.narrated), format!("2 changes; {go_on}"));
        assert_eq!((text(&report.plain.unwrap()).as_str(), report.exit), (go_on, 0));
        let report = seen(true).report(None);
        assert_eq!((report.exit, &report.members["missed"]), (5, &json!(true)));
    }
}
