//! What happened lately, for whoever polls `events`: the last [`EVENTS_KEPT`], numbered.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{Event, EventsReply};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::unix_ms;

/// How many events are kept; older ones are forgotten.
const EVENTS_KEPT: usize = 1000;

pub(crate) struct Events {
    kept: Mutex<VecDeque<Event>>,
    /// The newest number.
    last: watch::Sender<u64>,
    /// Nobody waits any more, see [`Events::end`].
    ended: CancellationToken,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            last: watch::Sender::new(0),
            ended: CancellationToken::new(),
        }
    }

    /// Tells everybody. One line.
    pub(crate) fn tell(&self, text: String) {
        tracing::info!("{text}");
        let at_ms = unix_ms();
        let mut kept = self.kept.lock().expect("no panic while the lock is held");
        let number = *self.last.borrow() + 1;
        kept.push_back(Event { number, at_ms, text });
        if kept.len() > EVENTS_KEPT {
            kept.pop_front();
        }
        self.last.send_replace(number);
    }

    /// The events after `after`, waiting up to `wait` for the first.
    pub(crate) async fn after(&self, after: u64, wait: Duration) -> EventsReply {
        let mut last = self.last.subscribe();
        tokio::select! {
            _ = tokio::time::timeout(wait, last.wait_for(|last| *last > after)) => {}
            () = self.ended.cancelled() => {}
        }
        let kept = self.kept.lock().expect("no panic while the lock is held");
        let events = kept.iter().filter(|event| event.number > after).cloned().collect();
        EventsReply { status: Status::Ok, events, last: *self.last.borrow() }
    }

    /// Answers who waits, now and later, at once: a server that stops waits for calls under way,
    /// and must not wait for those that only wait themselves.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}

/// `1 hint`, `1,000 hints`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let plural = if count == 1 { "" } else { "s" };
    format!("{text} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_easy_to_read() {
        let table = [(0, "0 keys"), (1, "1 key"), (999, "999 keys"), (1_000, "1,000 keys")];
        for (count, expected) in table {
            assert_eq!(counted(count, "key"), expected);
        }
        assert_eq!(counted(1_234_567, "key"), "1,234,567 keys");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_waiter_gets_the_event_it_waited_for() {
        let events = Events::new();
        events.tell("one".into());
        let wait = Duration::from_secs(30);
        let (reply, ()) = tokio::join!(events.after(1, wait), async { events.tell("two".into()) });
        assert_eq!(reply.events.len(), 1);
        assert_eq!((reply.events[0].text.as_str(), reply.last), ("two", 2));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn at_the_end_nobody_waits() {
        let events = Events::new();
        let wait = Duration::from_secs(3600);
        let (reply, ()) = tokio::join!(events.after(0, wait), async { events.end() });
        assert_eq!((reply.events, reply.last), (Vec::new(), 0));
        assert_eq!(events.after(0, wait).await.last, 0);
    }
}
