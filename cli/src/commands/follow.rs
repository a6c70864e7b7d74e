//! Following what happens: asking again and again, until a count, a time or Ctrl-C ends it.
//!
//! # Caveats
//!
//! While the coordinator does not answer, it is asked again each second; that is said once. Only the
//! very first request may fail.

use std::time::Duration;

use jsonrpsee::core::ClientError;
use ringkv_shared::net::Client;
use ringkv_shared::{ErrorName, Failure};
use tokio::time::{Instant, sleep, timeout_at};

use crate::grammar::UntilArgs;
use crate::session::Session;
use crate::wire::{DEADLINE, Wire};

/// How long the coordinator may hold a request when nothing happens.
const WAIT: Duration = Duration::from_secs(10);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Somebody who follows.
pub(super) struct Follower {
    /// A connection of its own: a request that waits must not hold up others.
    wire: Wire,
    until: Option<Instant>,
    /// How many may still be told.
    left: u64,
    /// Whether the coordinator did not answer the last time.
    silent: bool,
    begun: bool,
}

/// What came of one more question.
pub(super) enum Asked<T> {
    /// An answer.
    Answer(T),
    /// None, and there will be another question.
    Silence,
    /// It is time to end.
    End,
}

impl Follower {
    pub(super) fn new(s: &Session, until: &UntilArgs) -> Self {
        let wire = Wire::traced(&s.addr, format!("coordinator at {}", s.addr), &s.trace);
        // A time that is out of range is as good as none.
        let end = until.lasting.and_then(|time| Instant::now().checked_add(time));
        let left = until.count.unwrap_or(u64::MAX);
        Self { wire, until: end, left, silent: false, begun: false }
    }

    /// How long the next request may wait for news, in milliseconds: not at all before the first answer.
    pub(super) fn wait_ms(&self) -> u64 {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait =
            if self.begun { left.map_or(WAIT, |left| left.min(WAIT)) } else { Duration::ZERO };
        u64::try_from(wait.as_millis()).unwrap_or(0)
    }

    /// Counts one that was told; whether more may be.
    pub(super) fn told(&mut self) -> bool {
        self.left -= 1;
        self.left > 0
    }

    /// Asks once more.
    pub(super) async fn ask<T>(
        &mut self,
        s: &mut Session,
        request: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<Asked<T>, Failure> {
        let time_is_up = self.until.is_some_and(|until| until <= Instant::now());
        if self.left == 0
            || s.out.closed()
            || s.interrupt.is_cancelled()
            || (self.begun && time_is_up)
        {
            return Ok(Asked::End);
        }
        let interrupt = s.interrupt.clone();
        let answer = tokio::select! {
            answer = self.wire.call(DEADLINE, request) => answer,
            () = interrupt.cancelled() => return Ok(Asked::End),
        };
        match answer {
            Ok(answer) => {
                (self.begun, self.silent) = (true, false);
                Ok(Asked::Answer(answer))
            }
            Err(failure) if !self.begun || !is_silence(&failure) => Err(failure),
            Err(failure) => {
                if !std::mem::replace(&mut self.silent, true) {
                    s.notice(&format!("warning: {}; asking again", failure.message));
                }
                let pause =
                    timeout_at(self.until.unwrap_or_else(|| Instant::now() + PAUSE), sleep(PAUSE));
                tokio::select! {
                    _ = pause => Ok(Asked::Silence),
                    () = interrupt.cancelled() => Ok(Asked::End),
                }
            }
        }
    }
}

/// Whether nobody answered, rather than refused.
fn is_silence(failure: &Failure) -> bool {
    matches!(failure.name, ErrorName::Unreachable | ErrorName::OutcomeUnknown | ErrorName::NotReady)
}
