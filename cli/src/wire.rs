//! The connection to the cluster: typed calls, deadlines, and the trace that `.trace on` shows.
//!
//! ```text
//! kv> .trace on
//! kv> get apple
//! apple -> 123
//! --> {"jsonrpc":"2.0","id":3,"method":"get","params":["apple"]}
//! <-- {"jsonrpc":"2.0","id":3,"result":{"status":"ok","key":"apple","value":"123",…}}
//! ```
//!
//! The trace looks on where lines enter and leave the connection, so it shows them as they are on
//! the wire, their ids too.
//!
//! # Caveats
//!
//! A command is traced when it has ended, and of one with very many messages only the first
//! [`TRACED_MAX`]; the others are counted. The notices above the prompt have a connection of their
//! own and are not traced, nor are the calls to the supervisor of a local cluster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonrpsee::core::ClientError;
use ringkv_shared::Failure;
use ringkv_shared::net::{Client, Observer, Peer};

/// How long one request may take. A coordinator answers much earlier, with what it knows.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);
/// How long a compaction may take, which answers when it is done.
pub(crate) const LONG_DEADLINE: Duration = Duration::from_secs(120);
/// How many lines of one command are kept; beyond, they are only counted.
pub(crate) const TRACED_MAX: usize = 1000;

/// A connection to a server, with a name for error messages.
pub(crate) struct Wire {
    peer: Peer,
    who: String,
}

impl Wire {
    /// A connection to `addr`, made when it is first used. `who` answers there.
    #[must_use]
    pub(crate) fn new(addr: &str, who: impl Into<String>) -> Self {
        Self { peer: Peer::new(addr), who: who.into() }
    }

    /// The same, with its lines in `trace` while that is on.
    #[must_use]
    pub(crate) fn traced(addr: &str, who: impl Into<String>, trace: &Trace) -> Self {
        Self { peer: Peer::observed(addr, Arc::new(trace.clone())), who: who.into() }
    }

    /// One call.
    pub(crate) async fn call<T>(
        &self,
        deadline: Duration,
        request: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let result = self.peer.call(deadline, request).await;
        result.map_err(|error| error.into_failure(&self.who))
    }
}

/// The lines seen since somebody last looked, when it is on. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Option<Seen>>>);

/// What a trace has seen.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    /// How many came after the trace was full.
    more: usize,
}

impl Trace {
    /// Starts or stops.
    pub(crate) fn switch(&self, on: bool) {
        *self.lock() = on.then(Seen::default);
    }

    /// The lines since the last time.
    #[must_use]
    pub(crate) fn take(&self) -> Vec<String> {
        let Some(seen) = self.lock().as_mut().map(std::mem::take) else { return Vec::new() };
        let Seen { mut lines, more } = seen;
        if more > 0 {
            lines.push(format!("... and {more} more messages"));
        }
        lines
    }

    fn note(&self, arrow: &str, line: &str) {
        let mut seen = self.lock();
        let Some(seen) = seen.as_mut() else { return };
        match seen.lines.len() {
            TRACED_MAX => seen.more += 1,
            _ => seen.lines.push(format!("{arrow} {line}")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Trace {
    fn sent(&self, line: &str) {
        self.note("-->", line);
    }

    fn received(&self, line: &str) {
        self.note("<--", line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_keeps_lines_while_it_is_on_and_counts_what_is_too_much() {
        let trace = Trace::default();
        trace.sent("a");
        assert!(trace.take().is_empty());
        trace.switch(true);
        trace.sent(r#"{"id":0}"#);
        trace.received(r#"{"id":0,"result":1}"#);
        assert_eq!(trace.take(), [r#"--> {"id":0}"#, r#"<-- {"id":0,"result":1}"#]);
        (0..TRACED_MAX + 7).for_each(|_| trace.sent("x"));
        assert_eq!(trace.take().last().map(String::as_str), Some("... and 7 more messages"));
    }
}
