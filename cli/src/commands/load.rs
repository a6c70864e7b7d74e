//! `load`: many puts from a file, pipelined on the one connection.
//!
//! Up to [`IN_FLIGHT_MAX`] puts are under way at once; each is acknowledged on its own, so what
//! failed is counted and the first failures are named. A key that comes twice in a file is put in
//! the order of the file: a put for a key waits for the one before it.
//!
//! # Caveats
//!
//! A line that holds no pair is counted as failed, and the rest is loaded. Ctrl-C sends no more
//! puts and waits for those under way, so that the count is exact; to run a load again is safe.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::ProgressBar;
use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::{Blob, ErrorName, Failure};
use serde_json::json;

use super::progress;
use super::records::{Pair, pairs};
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
    let text = tokio::select! {
        text = read(s, file) => text?,
        () = interrupt.cancelled() => {
            let message = "interrupted: nothing was sent";
            return Ok(interrupt::told(Failure::new(ErrorName::NotApplied, message)));
        }
    };
    let pairs = pairs(form.unwrap_or_else(|| FileForm::of(file)), &text);
    let total = pairs.len();
    let bar = progress::bar(s.settings.progress, total as u64);
    let started = Instant::now();
    let tally = put_all(s, pairs, &bar).await;
    bar.finish_and_clear();
    Ok(tally.report(total as u64, started.elapsed()))
}

async fn read(s: &Session, file: &Path) -> Result<String, Failure> {
    let refuse = |message: String| Failure::new(ErrorName::BadArgument, message);
    let bytes = if file != Path::new("-") {
        std::fs::read(file)
    } else if s.settings.value_from_stdin {
        all_of_stdin(u64::MAX).await
    } else {
        let refused = refuse("a load from standard input needs the one-shot form".to_owned());
        return Err(refused.hint("kv load - < FILE"));
    };
    let bytes = bytes.map_err(|error| refuse(format!("{}: {error}", file.display())))?;
    String::from_utf8(bytes).map_err(|_| {
        refuse(format!("{}: not UTF-8 text", file.display()))
            .hint("bytes that are no text go into a jsonl file as {\"base64\":\"…\"}")
    })
}

async fn put_all(s: &Session, pairs: Vec<Pair>, bar: &ProgressBar) -> Tally {
    let mut tally = Tally::default();
    let mut busy: HashSet<Blob> = HashSet::new();
    let mut under_way = FuturesUnordered::new();
    for pair in pairs {
        if s.interrupt.is_cancelled() {
            tally.interrupted = true;
            break;
        }
        let (key, value) = match pair {
            Ok(pair) => pair,
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
        under_way.push(put(s, key, value));
    }
    while let Some((done, result)) = under_way.next().await {
        tally.count(&done, result);
        bar.inc(1);
    }
    tally
}

async fn put(s: &Session, key: Blob, value: Blob) -> (Blob, Result<(), Failure>) {
    let k = key.clone();
    let result = s.call(async |c| ClusterApiClient::put(c, k, value).await).await;
    (key, result.map(|_| ()))
}

/// What became of the puts so far.
#[derive(Default)]
struct Tally {
    loaded: u64,
    failed: u64,
    /// The first failures, in words.
    named: Vec<String>,
    /// Whether somebody ended it before all was sent.
    interrupted: bool,
    /// The gravest exit code: unknown outcomes count more than refusals.
    exit: u8,
}

impl Tally {
    fn count(&mut self, key: &Blob, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.loaded += 1,
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
        let rate = (self.loaded as f64 / seconds.max(1e-6)).round();
        let members = json!({
            "loaded": self.loaded, "failed": self.failed, "errors": self.named,
            "unsent": total - self.loaded - self.failed, "ms": seconds * 1000.0,
        });
        let mut report = Report::new(&members)
            .say(format!("Loaded {} in {seconds:.2} s ({rate}/s).", counted(self.loaded, "key")));
        if self.interrupted {
            let unsent = total - self.loaded - self.failed;
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
        let exit = if self.loaded > 0 { exit::PARTIAL } else { self.exit };
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
            tally.count(&n.to_string().as_str().into(), Ok(()));
        }
        let report = tally.report(999, Duration::from_millis(50));
        assert_eq!(text(&report.narrated), "Loaded 999 keys in 0.05 s (19980/s).");
        assert_eq!(report.exit, 0);
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
        tally.count(&"a".into(), Ok(()));
        let report = tally.report(10, Duration::from_millis(50));
        assert_eq!(
            text(&report.narrated),
            "Loaded 1 key in 0.05 s (20/s).\n\
             error: interrupted: 9 keys were not sent\n  the whole again: load is safe to repeat"
        );
        assert_eq!((report.exit, &report.members["unsent"]), (130, &json!(9)));
    }
}
