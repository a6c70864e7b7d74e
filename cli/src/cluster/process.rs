//! One child process: start it, wait for its ready line, signal it, see it end.
//!
//! The child's standard input is a pipe that we hold and never write to: its end is the sign for
//! the child to stop. Its standard output gives one JSON line, `{"ready":"127.0.0.1:5001",
//! "pid":4711}`, and is read on into the void so that nothing can block on it. Standard error
//! goes to a log file, whose tail is shown when the child does not come up.
//!
//! Each child gets a process group of its own. Otherwise Ctrl-C in the shell would reach the
//! whole cluster.
//!
//! # Caveats
//!
//! A node with more log than it can replay in [`READY_DEADLINE`] counts as failed.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ringkv_shared::{ErrorName, Failure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a child may take from its start to its ready line.
pub(super) const READY_DEADLINE: Duration = Duration::from_secs(10);
/// How long a process may take to disappear after SIGKILL, or after its output has ended.
const GONE_DEADLINE: Duration = Duration::from_secs(5);
/// The longest ready line that is read, in bytes.
const READY_BYTES_MAX: u64 = 4096;
/// How many lines of the log are shown when a child fails.
const TAIL_LINES: usize = 8;

/// How to start a child.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// Its name in messages: the node's id, or `coordinator`.
    pub(super) name: String,
    /// The program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// The file that its standard error is appended to.
    pub(super) log: PathBuf,
}

/// A child that has said that it serves.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    addr: String,
}

/// What a child prints first.
#[derive(Deserialize)]
struct Ready {
    ready: String,
}

impl Process {
    /// Starts a child and waits for its ready line.
    pub(super) async fn spawn(launch: &Launch) -> Result<Self, Failure> {
        let mut child = start(launch).map_err(|e| {
            failed(launch, &format!("cannot run {}: {e}", launch.program.display()))
        })?;
        let pid = child.id().expect("a child that nobody has waited for has an id");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        match timeout(READY_DEADLINE, ready_line(stdout)).await {
            Ok(Ok(addr)) => Ok(Self { child, pid, addr }),
            Ok(Err(why)) => {
                let end = match timeout(GONE_DEADLINE, child.wait()).await {
                    Ok(Ok(status)) => format!("{why} ({status})"),
                    _ => why,
                };
                Err(failed(launch, &end))
            }
            Err(_) => {
                let why = format!("was not ready in {} s", READY_DEADLINE.as_secs());
                Err(failed(launch, &why))
            }
        }
    }

    /// Its process id.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// The address it serves at.
    pub(super) fn addr(&self) -> &str {
        &self.addr
    }

    /// Whether it has ended meanwhile.
    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends a signal. A process that has just ended is no error.
    pub(super) fn signal(&self, signal: Signal) {
        // `id` is `None` once the child is reaped: a number that the system may have given to
        // somebody else is never signalled.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _already_gone = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended, with SIGKILL after `patience`. True when that was needed.
    pub(super) async fn reap(mut self, patience: Duration) -> bool {
        if timeout(patience, self.child.wait()).await.is_ok() {
            return false;
        }
        self.signal(Signal::KILL);
        let _ended = timeout(GONE_DEADLINE, self.child.wait()).await;
        true
    }
}

fn start(launch: &Launch) -> std::io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&launch.log)?;
    Command::new(&launch.program)
        .args(&launch.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Reads the ready line, and leaves somebody to read whatever else comes.
async fn ready_line(stdout: ChildStdout) -> Result<String, String> {
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    let mut limited = (&mut reader).take(READY_BYTES_MAX);
    limited.read_line(&mut line).await.map_err(|e| format!("closed its output: {e}"))?;
    if line.is_empty() {
        return Err("ended before it was ready".to_owned());
    }
    let ready: Ready = serde_json::from_str(&line)
        .map_err(|_| format!("said {:?} instead of a ready line", line.trim_end()))?;
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    Ok(ready.ready)
}

fn failed(launch: &Launch, why: &str) -> Failure {
    let tail = tail(&launch.log);
    let message = match tail.is_empty() {
        true => format!("{} {why}", launch.name),
        false => format!("{} {why}; it said:\n{tail}", launch.name),
    };
    Failure::new(ErrorName::NotReady, message).hint(format!("see {}", launch.log.display()))
}

/// The last lines of a log file, indented; empty when there are none.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Launch {
        Launch {
            name: "n1".into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            log: dir.join("n1.stderr"),
        }
    }

    #[tokio::test]
    async fn a_child_serves_and_ends_with_its_input() {
        let dir = tempfile::tempdir().unwrap();
        let launch = shell(r#"echo '{"ready":"127.0.0.1:1","pid":1}'; cat; exit 0"#, dir.path());
        let mut process = Process::spawn(&launch).await.unwrap();
        assert_eq!(process.addr(), "127.0.0.1:1");
        assert!(!process.has_ended());
        drop(process.child.stdin.take());
        assert!(!process.reap(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"trap '' TERM; echo '{"ready":"a:1","pid":1}'; while :; do sleep 1; done"#;
        let process = Process::spawn(&shell(script, dir.path())).await.unwrap();
        process.signal(Signal::TERM);
        assert!(process.reap(Duration::from_millis(100)).await);
    }

    #[tokio::test]
    async fn a_child_that_fails_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo 'error: data directory in use' >&2; exit 73";
        let failure = Process::spawn(&shell(script, dir.path())).await.unwrap_err();
        assert_eq!(
            failure.message,
            "n1 ended before it was ready (exit status: 73); it said:\n  error: data directory in use"
        );
    }

    #[tokio::test]
    async fn something_else_than_a_ready_line() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Process::spawn(&shell("echo hello", dir.path())).await.unwrap_err();
        assert!(failure.message.contains(r#"said "hello" instead"#), "{failure}");
    }
}
