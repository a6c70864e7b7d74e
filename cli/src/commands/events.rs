//! `events`: what happened in the cluster, and, when asked for, what happens from now on.
//!
//! # Caveats
//!
//! The coordinator keeps the last thousand, since it started. One that starts anew counts from 1 again.

use std::time::{Duration, UNIX_EPOCH};

use ringkv_shared::Failure;
use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::cluster::{Event, EventsReply};
use serde_json::json;

use super::follow::{Asked, Follower};
use crate::grammar::{Format, UntilArgs};
use crate::report::{Report, counted};
use crate::session::Session;

/// Tells what happened.
pub(super) async fn run(
    s: &mut Session,
    follow: bool,
    until: UntilArgs,
) -> Result<Report, Failure> {
    let mut follower = Follower::new(s, &until);
    let mut seen = Seen { last: 0, events: Vec::new(), count: 0 };
    loop {
        let (after, wait) = (Some(seen.last), Some(follower.wait_ms()));
        let poll = async |c: &Client| ClusterApiClient::events(c, after, wait).await;
        match follower.ask(s, poll).await? {
            Asked::Answer(reply) => seen.tell(s, reply, follow, &mut follower),
            Asked::Silence => {}
            Asked::End => break,
        }
        if !follow {
            break;
        }
    }
    Ok(seen.report(follow))
}

/// How far it is.
struct Seen {
    last: u64,
    /// For the one JSON object of a list.
    events: Vec<Event>,
    count: u64,
}

impl Seen {
    fn tell(&mut self, s: &mut Session, reply: EventsReply, follow: bool, follower: &mut Follower) {
        if reply.last < self.last {
            // The coordinator has started anew: all that it has is new.
            self.last = 0;
            return;
        }
        self.last = reply.last;
        for event in reply.events {
            self.count += 1;
            match (s.settings.format, follow) {
                (Format::Json, true) => s.line(&json!(event).to_string()),
                (Format::Json, false) => self.events.push(event),
                _ => s.line(&event_line(&event)),
            }
            if !follower.told() {
                return;
            }
        }
    }

    fn report(self, follow: bool) -> Report {
        let members = match follow {
            true => json!({ "count": self.count, "last": self.last }),
            false => json!({ "events": self.events, "last": self.last }),
        };
        let report = Report { plain: Some(Vec::new()), ..Report::new(&members) };
        report.say(counted(self.count, "event"))
    }
}

/// `2026-01-01T00:00:00Z  n2 is DOWN (3 heartbeats missed, 1.6 s)`.
fn event_line(event: &Event) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(event.at_ms);
    format!("{}  {}", humantime::format_rfc3339_seconds(at), event.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;

    fn event() -> Event {
        Event { number: 3, at_ms: 1_000, text: "n2 is DOWN".into() }
    }

    #[test]
    fn an_event_is_a_line_with_its_time() {
        assert_eq!(event_line(&event()), "1970-01-01T00:00:01Z  n2 is DOWN");
    }

    #[test]
    fn a_list_is_one_object_and_what_is_followed_many() {
        let seen = || Seen { last: 3, events: vec![event()], count: 1 };
        assert_eq!(text(&seen().report(false).narrated), "1 event");
        assert_eq!(seen().report(false).members["events"][0]["number"], 3);
        assert!(!seen().report(true).members.contains_key("events"));
    }
}
