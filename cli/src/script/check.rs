//! `kv check FILE…`: compares scripts with what happens now, or with `--update` rewrites them.
//!
//! A command that prints or ends otherwise is told with its place and a diff, and the script goes
//! on: the next difference may say more. A directive that fails ends the script.
//!
//! What changes from run to run is masked on both sides before they are compared ([`mask()`]), so a
//! pasted `(pid 4711)` fits as well as `(pid [..])`.
//!
//! `--update` replaces only output and exit codes. Lines that still fit stay as they are written,
//! with their `[..]` and `...`; new ones get `[..]` for what changes. To have a command's output
//! written anew, delete it first.
//!
//! Scripts are checked [`AT_ONCE`] at a time, each with a cluster of its own, and told in order.
//!
//! # Caveats
//!
//! `--update` writes down whatever happens, right or wrong: look at the difference before it is
//! committed. Scripts that name real ports (`ports=`) wait for each other.

use std::io::Write;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::mask::mask;
use super::matcher::{Pair, align, diff, is_match};
use super::parse::{Command, Kind, Script, literal, parse};
use super::run::prepare;
use super::stage::{self, Live, Shell, Stage};
use crate::exit;

/// How many scripts are checked at once. They wait more than they work, but each has a handful of
/// processes that must answer heartbeats in time.
const AT_ONCE: usize = 4;

/// What became of a script.
struct Verdict {
    /// What to tell about each difference.
    differences: Vec<String>,
    /// The script's text as it should be.
    text: String,
    /// Whether all steps were done.
    complete: bool,
}

/// Compares scripts, with shells made by `connect`. 0 when all are as written (or were updated),
/// 6 when one differs, 2 when one cannot be read.
pub(super) async fn check_with<S: Shell>(
    paths: &[PathBuf],
    update: bool,
    connect: impl Fn(&str) -> S,
) -> u8 {
    let real_ports = Mutex::new(());
    let places = Semaphore::new(AT_ONCE);
    let interrupted = CancellationToken::new();
    let _watching = watch(interrupted.clone());
    let checks = paths.iter().map(async |path| {
        let _place = tokio::select! {
            place = places.acquire() => place,
            () = interrupted.cancelled() => return (Vec::new(), exit::INTERRUPTED),
        };
        check_live(path, update, &connect, &real_ports, &interrupted).await
    });
    let mut checks: FuturesOrdered<_> = checks.collect();
    let mut out = anstream::stdout();
    let mut worst = exit::OK;
    while let Some((told, code)) = checks.next().await {
        let _ = out.write_all(&told);
        worst = match (worst, code) {
            (exit::INTERRUPTED, _) | (_, exit::INTERRUPTED) => exit::INTERRUPTED,
            (exit::DIFFERS, _) | (_, exit::OK) => worst,
            _ => code,
        };
    }
    worst
}

/// Turns Ctrl-C into the end of all checks, also of those that have not begun.
fn watch(interrupted: CancellationToken) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    }))
}

/// Checks one script with real clusters; what there is to tell, and the exit code.
async fn check_live<S: Shell>(
    path: &Path,
    update: bool,
    connect: impl Fn(&str) -> S,
    real_ports: &Mutex<()>,
    interrupted: &CancellationToken,
) -> (Vec<u8>, u8) {
    let mut out = Vec::new();
    let mut stage = match Live::new(connect) {
        Ok(stage) => stage,
        Err(error) => {
            let code = unreadable(&mut out, path, &error.to_string());
            return (out, code);
        }
    };
    let code = tokio::select! {
        code = check_file(path, update, real_ports, &mut stage, &mut out) => code,
        () = interrupted.cancelled() => exit::INTERRUPTED,
    };
    stage.close().await;
    (out, code)
}

fn unreadable(out: &mut impl Write, path: &Path, why: &str) -> u8 {
    let _ = writeln!(out, "error: {}: {why}", path.display());
    exit::USAGE
}

async fn check_file(
    path: &Path,
    update: bool,
    real_ports: &Mutex<()>,
    stage: &mut impl Stage,
    out: &mut impl Write,
) -> u8 {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return unreadable(out, path, &error.to_string()),
    };
    let script = match parse(&text) {
        Ok(script) => script,
        Err(error) => {
            let _ = writeln!(out, "error: {}:{error}", path.display());
            return exit::USAGE;
        }
    };
    let _alone = if names_ports(&script) { Some(real_ports.lock().await) } else { None };
    let verdict = compare(&path.display().to_string(), &text, &script, stage).await;
    let name = path.file_name().unwrap_or(path.as_os_str()).display();
    if verdict.differences.is_empty() {
        let _ = writeln!(out, "ok {name}");
        return exit::OK;
    }
    if update && verdict.complete {
        return match std::fs::write(path, verdict.text) {
            Ok(()) => {
                let _ = writeln!(out, "updated {name} ({} places)", verdict.differences.len());
                exit::OK
            }
            Err(error) => unreadable(out, path, &error.to_string()),
        };
    }
    let _ = writeln!(out, "differs {name}");
    for difference in verdict.differences {
        let _ = write!(out, "{difference}");
    }
    exit::DIFFERS
}

fn names_ports(script: &Script) -> bool {
    let names = |kind: &Kind| matches!(kind, Kind::Cluster(spec) if spec.ports.is_some());
    script.steps.iter().any(|step| names(&step.kind))
}

async fn compare(name: &str, text: &str, script: &Script, stage: &mut impl Stage) -> Verdict {
    let lines: Vec<&str> = text.lines().collect();
    let mut rewrite = Rewrite { lines: &lines, done: 0, text: String::new() };
    let mut differences = Vec::new();
    let mut fixed_ports = false;
    for step in &script.steps {
        if let Kind::Cluster(spec) = &step.kind {
            fixed_ports = spec.ports.is_some();
        }
        let Kind::Command(command) = &step.kind else {
            if let Err(message) = prepare(step, stage).await {
                differences.push(format!("{name}:{}: {message}\n", step.line));
                return Verdict { differences, text: String::new(), complete: false };
            }
            continue;
        };
        let (printed, code) = stage::command(stage, &command.text).await;
        let masked = |lines: &[String]| -> Vec<String> {
            lines.iter().map(|line| mask(line, fixed_ports)).collect()
        };
        let (expected, printed) = (masked(&command.expected), masked(&printed));
        let pairs = align(&expected, &printed);
        if code == command.exit && is_match(&pairs) {
            continue;
        }
        differences.push(difference(name, step.line, command, code, &pairs));
        rewrite.command(step.line, command, code, &pairs);
    }
    Verdict { differences, text: rewrite.finish(), complete: true }
}

fn difference(name: &str, line: usize, command: &Command, code: u8, pairs: &[Pair<'_>]) -> String {
    let mut text = format!("{name}:{line}: > {}\n", command.text);
    if code != command.exit {
        text += &format!("  ended with {code}, expected {}\n", command.exit);
    }
    if !is_match(pairs) {
        text += &diff(pairs);
    }
    text
}

/// The script's text with some commands' outputs replaced.
struct Rewrite<'a> {
    lines: &'a [&'a str],
    /// How many lines are copied or replaced.
    done: usize,
    text: String,
}

impl Rewrite<'_> {
    /// Copies up to and with the command at `line`, then writes what it should be followed by.
    fn command(&mut self, line: usize, command: &Command, code: u8, pairs: &[Pair<'_>]) {
        self.copy(line);
        for pair in pairs {
            match pair {
                Pair::AnyLines => self.push("..."),
                Pair::Same { expected: line, .. } | Pair::Extra(line) => self.push(&literal(line)),
                Pair::Covered | Pair::Missing(_) => {}
            }
        }
        if code != 0 {
            self.push(&format!("! exit {code}"));
        }
        self.done = command.end - 1;
    }

    fn copy(&mut self, until: usize) {
        for line in &self.lines[self.done..until] {
            self.text.push_str(line);
            self.text.push('\n');
        }
        self.done = until;
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn finish(mut self) -> String {
        self.copy(self.lines.len());
        self.text
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
