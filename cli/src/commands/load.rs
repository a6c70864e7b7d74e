//! `load`: many puts from a file, straight to the nodes.
//!
//! Up to [`IN_FLIGHT_MAX`] puts are under way at once; each is acknowledged on its own, so what
//! failed is counted and the first failures are named. A key that comes twice in a file is put in
//! the order of the file: a put for a key waits for the one before it.
//!
//! # Caveats
//!
//! What has a time to live of its own goes through the coordinator, and so does all while messages are traced.
//! A line that holds no pair is counted as failed, and the rest is loaded. Ctrl-C sends no more
//! puts and waits for those under way, so that the count is exact; to run a load again is safe.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::ProgressBar;
use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::cluster::WriteOptions;
use ringkv_shared::{Blob, ErrorName, Failure};
use serde_json::json;

use super::expiry::{left, now_ms};
use super::progress;
use super::records::{Change, Parsed, Row, rows};
use crate::feed::all_of_stdin;
use crate::grammar::FileForm;
use crate::report::{Report, counted};
use crate::session::Session;
use crate::{exit, interrupt};

/// How many puts are under way at once.
const IN_FLIGHT_MAX: usize = 256;
/// How many failures are named; the others are counted.
const FAILURES_NAMED: usize = 5;

/// Puts every pair of a file, or of standard input.
pub(super) async fn load(
    s: &mut Session,
    file: &Path,
    form: Option<FileForm>,
) -> Result<Report, Failure> {
    let interrupt = s.interrupt.clone();
    let bytes = tokio::select! {
        bytes = read(s, file) => bytes?,
        () = interrupt.cancelled() => {
            let message = "interrupted: nothing was sent";
            return Ok(interrupt::told(Failure::new(ErrorName::NotApplied, message)));
        }
    };
    let rows = rows(form.unwrap_or_else(|| FileForm::of(file)), &bytes).ok_or_else(|| {
        refuse(format!("{}: not UTF-8 text", file.display()))
            .hint("bytes that are no text go into a jsonl file as {\"base64\":\"…\"}")
    })?;
    let total = rows.len();
    let bar = progress::bar(s.settings.progress, total as u64);
    let started = Instant::now();
    let tally = put_all(s, rows, &bar).await;
    bar.finish_and_clear();
    Ok(tally.report(total as u64, started.elapsed()))
}

fn refuse(message: String) -> Failure {
    Failure::new(ErrorName::BadArgument, message)
}

async fn read(s: &Session, file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if file != Path::new("-") {
        std::fs::read(file)
    } else if s.settings.value_from_stdin {
        all_of_stdin(u64::MAX).await
    } else {
        let refused = refuse("a load from standard input needs the one-shot form".to_owned());
        return Err(refused.hint("kv load - < FILE"));
    };
    bytes.map_err(|error| refuse(format!("{}: {error}", file.display())))
}

async fn put_all(s: &Session, rows: Vec<Parsed>, bar: &ProgressBar) -> Tally {
    let straight = straight(s).await;
    let mut tally = Tally::default();
    let mut busy: HashSet<Blob> = HashSet::new();
    let mut under_way = FuturesUnordered::new();
    for row in rows {
        if s.interrupt.is_cancelled() {
            tally.interrupted = true;
            break;
        }
        let Row { key, change } = match row {
            Ok(row) if row.has_expired(now_ms()) => {
                tally.expired += 1;
                continue;
            }
            Ok(row) => row,
            Err(bad) => {
                tally.refuse(bad.to_string(), exit::REFUSED);
                continue;
            }
        };
        while under_way.len() >= IN_FLIGHT_MAX || busy.contains(&key) {
            let Some((done, result)) = under_way.next().await else { break };
            busy.remove(&done);
            tally.count(&done, result);
            bar.inc(1);
        }
        busy.insert(key.clone());
        under_way.push(apply(s, straight.as_ref(), key, change));
    }
    while let Some((done, result)) = under_way.next().await {
        tally.count(&done, result);
        bar.inc(1);
    }
    if let Some(straight) = &straight {
        straight.flush().await;
    }
    tally
}

/// A client that goes straight to the nodes; not while somebody wants to see what is said to the coordinator. If nobody
/// answers, the first put tells.
async fn straight(s: &Session) -> Option<ringkv_client::Client> {
    if s.settings.trace {
        return None;
    }
    let client = ringkv_client::Client::connect(s.addr.clone()).await.ok()?;
    Some(client.keyspace(s.keyspace()))
}

async fn apply(
    s: &Session,
    straight: Option<&ringkv_client::Client>,
    key: Blob,
    change: Change,
) -> (Blob, Result<Done, Failure>) {
    let k = key.clone();
    let result = match (change, straight) {
        (Change::Put { value, expires: None }, Some(straight)) => {
            straight.put(k, value).await.map(|_| Done::Put)
        }
        (Change::Del, Some(straight)) => straight.del(k).await.map(|_| Done::Deleted),
        (Change::Put { value, expires }, _) => {
            // What expires just now expires in a millisecond: there is no shorter time to live.
            let ttl_ms = expires.map(|at| left(at, now_ms()).unwrap_or(1));
            let keyspace = s.keyspace();
            let options = Some(WriteOptions { keyspace, ttl_ms, ..WriteOptions::default() });
            let put = async |c: &Client| ClusterApiClient::put(c, k, value, options).await;
            s.call(put).await.map(|_| Done::Put)
        }
        (Change::Del, None) => {
            let options = WriteOptions { keyspace: s.keyspace(), ..WriteOptions::default() };
            let del = async |c: &Client| ClusterApiClient::del(c, k, Some(options)).await;
            s.call(del).await.map(|_| Done::Deleted)
        }
    };
    (key, result)
}

/// What was done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It was put.
    Put,
    /// It was deleted, or was not there.
    Deleted,
}

/// What became of the puts so far.
#[derive(Default)]
struct Tally {
    loaded: u64,
    deleted: u64,
    /// Values that the file says have expired: not sent.
    expired: u64,
    failed: u64,
    /// The first failures, in words.
    named: Vec<String>,
    /// Whether somebody ended it before all was sent.
    interrupted: bool,
    /// The gravest exit code: unknown outcomes count more than refusals.
    exit: u8,
}

impl Tally {
    fn count(&mut self, key: &Blob, result: Result<Done, Failure>) {
        match result {
            Ok(Done::Put) => self.loaded += 1,
            Ok(Done::Deleted) => self.deleted += 1,
            Err(failure) => {
                self.refuse(format!("{key}: {}", failure.message), failure.name.exit_code());
            }
        }
    }

    fn refuse(&mut self, why: String, code: u8) {
        self.failed += 1;
        if self.named.len() < FAILURES_NAMED {
            self.named.push(why);
        }
        let code = if code == exit::PARTIAL { exit::PARTIAL } else { exit::REFUSED };
        self.exit = self.exit.max(code);
    }

    /// The report; `total` pairs were to be put.
    fn report(self, total: u64, took: Duration) -> Report {
        let seconds = took.as_secs_f64();
        let rate = ((self.loaded + self.deleted) as f64 / seconds.max(1e-6)).round();
        let unsent = total - self.loaded - self.deleted - self.expired - self.failed;
        let members = json!({
            "loaded": self.loaded, "deleted": self.deleted, "expired": self.expired,
            "failed": self.failed, "errors": self.named, "unsent": unsent,
            "ms": seconds * 1000.0,
        });
        let mut report = Report::new(&members)
            .say(format!("Loaded {} in {seconds:.2} s ({rate}/s).", counted(self.loaded, "key")));
        if self.deleted > 0 {
            report = report.say(format!("Deleted {}.", counted(self.deleted, "key")));
        }
        if self.expired > 0 {
            report = report.say(format!("{} had expired.", counted(self.expired, "value")));
        }
        if self.interrupted {
            report = report.warn(format!("error: interrupted: {unsent} keys were not sent"));
            report = report.warn("  the whole again: load is safe to repeat");
            report.exit = exit::INTERRUPTED;
        }
        if self.failed == 0 {
            return report;
        }
        report = report.warn(format!("error: {} not loaded", self.failed));
        for why in &self.named {
            report = report.warn(format!("  {why}"));
        }
        let unnamed = self.failed - self.named.len() as u64;
        if unnamed > 0 {
            report = report.warn(format!("  ... and {unnamed} more"));
        }
        if self.interrupted {
            return report;
        }
        // Some were loaded: the whole is then done in part, whatever kept the others back.
        let exit = if self.loaded + self.deleted > 0 { exit::PARTIAL } else { self.exit };
        Report { exit, ..report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;

    #[test]
    fn nothing_is_left_out_of_the_count() {
        let mut tally = Tally::default();
        for n in 0..999 {
            tally.count(&n.to_string().as_str().into(), Ok(Done::Put));
        }
        let report = tally.report(999, Duration::from_millis(50));
        assert_eq!(text(&report.narrated), "Loaded 999 keys in 0.05 s (19980/s).");
        assert_eq!(report.exit, 0);
        let tally = Tally { loaded: 1, deleted: 1, expired: 2, ..Tally::default() };
        let report = tally.report(4, Duration::from_millis(50));
        assert_eq!(
            text(&report.narrated),
            "Loaded 1 key in 0.05 s (40/s).\nDeleted 1 key.\n2 values had expired."
        );
        assert_eq!(report.members["unsent"], 0);
    }

    #[test]
    fn the_first_failures_are_named() {
        let mut tally = Tally::default();
        for n in 0..7 {
            let failure = Failure::new(ErrorName::TooLarge, "too large");
            tally.count(&format!("k{n}").as_str().into(), Err(failure));
        }
        let report = tally.report(7, Duration::from_millis(50));
        let told = text(&report.narrated);
        assert!(told.contains("error: 7 not loaded\n  k0: too large\n"), "{told}");
        assert!(told.ends_with("  ... and 2 more"), "{told}");
        assert_eq!(report.exit, 1);
    }

    #[test]
    fn an_interrupted_load_knows_what_it_did() {
        let mut tally = Tally { interrupted: true, ..Tally::default() };
        tally.count(&"a".into(), Ok(Done::Put));
        let report = tally.report(10, Duration::from_millis(50));
        assert_eq!(
            text(&report.narrated),
            "Loaded 1 key in 0.05 s (20/s).\n\
             error: interrupted: 9 keys were not sent\n  the whole again: load is safe to repeat"
        );
        assert_eq!((report.exit, &report.members["unsent"]), (130, &json!(9)));
    }
}
