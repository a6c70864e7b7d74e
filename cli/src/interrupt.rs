//! Ctrl-C during a command: it ends that command, and says what is known of its outcome.
//!
//! | command | what Ctrl-C does |
//! |---|---|
//! | `load` | sends nothing more, waits for what is under way, counts what was loaded |
//! | `bench` | asks nothing more, tells what was measured until then |
//! | `rebalance` | stops telling; the coordinator goes on |
//! | `cancel` | stops waiting; the coordinator goes on taking back |
//! | `watch`, `events --follow` | end, and tell where to go on |
//! | `source`, `-e`, standard input | the command that runs ends as it would alone, no other follows |
//! | what only reads | ends at once: nothing was changed |
//! | every other | ends at once: whether it was done is not known |
//!
//! The first Ctrl-C asks, through a token that the session gives to the command; the second one
//! does not wait for an answer.
//!
//! # Caveats
//!
//! Nothing that was sent is taken back.

use std::future::Future;

use futures::FutureExt as _;
use ringkv_shared::{ErrorName, Failure};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit;
use crate::grammar::{
    CheckArgs, Command, Data, DelArgs, Explained, Follow, KeyspaceArgs, PlanWord, PutArgs, Topology,
};
use crate::report::Report;

/// Where Ctrl-C arrives: one that nobody waited for yet is kept for who waits next.
pub(crate) struct Presses(Option<Signal>);

impl Presses {
    /// From now on Ctrl-C does not end the process.
    #[must_use]
    pub(crate) fn listen() -> Self {
        // Without a handler the signal ends the process, as it does by itself.
        Self(signal(SignalKind::interrupt()).ok())
    }

    /// What was pressed so far is meant for nobody.
    pub(crate) fn forget(&mut self) {
        let Some(signal) = &mut self.0 else { return };
        while let Some(Some(())) = signal.recv().now_or_never() {}
    }

    async fn next(&mut self) {
        arrives(&mut self.0).await;
    }
}

/// Where SIGTERM and the end of the terminal arrive: neither ends a process that has a cluster to stop, or a terminal to
/// give back.
pub(crate) struct Endings {
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Endings {
    /// From now on they do not end the process. What arrives is kept for who waits next.
    #[must_use]
    pub(crate) fn listen() -> Self {
        // Without a handler the signal ends the process, as it does by itself.
        let listen = |kind| signal(kind).ok();
        Self { terminate: listen(SignalKind::terminate()), hangup: listen(SignalKind::hangup()) }
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            () = arrives(&mut self.terminate) => {}
            () = arrives(&mut self.hangup) => {}
        }
    }
}

async fn arrives(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => signal.recv().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Runs `future`, with Ctrl-C asking through `token`. `None` when a second Ctrl-C came before
/// its end.
pub(crate) async fn run<T>(
    token: &CancellationToken,
    presses: &mut Presses,
    future: impl Future<Output = T>,
) -> Option<T> {
    let _quiet = Quiet::new();
    let keys = async {
        presses.next().await;
        token.cancel();
        presses.next().await;
    };
    tokio::select! {
        done = future => Some(done),
        () = keys => None,
    }
}

/// While it lives, the terminal does not show `^C`, which would stand in the middle of a result
/// or behind a progress bar.
struct Quiet(Option<Termios>);

impl Quiet {
    fn new() -> Self {
        Self(Self::set())
    }

    /// The terminal's settings until now; `None` when there is no terminal, or when it is not
    /// ours at the moment: a program in the background that changed it would be stopped.
    fn set() -> Option<Termios> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        if tcgetpgrp(&stdin).ok()? != getpgrp() {
            return None;
        }
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHOCTL);
        tcsetattr(&stdin, OptionalActions::Now, &quiet).ok()?;
        Some(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that has gone needs nothing.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// What is told when the command ends at once; `None` for one that ends by itself when asked.
pub(crate) fn report(command: &Command) -> Option<Report> {
    let unchanged = |what: &str| (ErrorName::NotApplied, what.to_owned(), None);
    let unknown = |look: String| {
        let what = "whether it was done is not known".to_owned();
        (ErrorName::OutcomeUnknown, what, Some(format!("look: {look}")))
    };
    let (name, what, hint) = match command {
        Command::Load { .. }
        | Command::Topology(Topology::Rebalance { .. })
        | Command::Source { .. } => return None,
        Command::Topology(topology) => match may_have_changed(topology) {
            Some(look) => unknown(look.to_owned()),
            None => unchanged("nothing was changed"),
        },
        Command::Export { file, .. } if file.as_os_str() != "-" => {
            unchanged(&format!("{} is as it was", file.display()))
        }
        Command::Follow(Follow::Watch { .. } | Follow::Events { .. }) => return None,
        Command::Follow(Follow::Check(CheckArgs { repair: true })) => unknown("check".to_owned()),
        Command::Data(data) => match may_have_written(data) {
            Some(look) => unknown(look),
            None => unchanged("nothing was changed"),
        },
        Command::Config { key: Some(key), value: Some(_) } => unknown(format!("config {key}")),
        Command::Keyspace(KeyspaceArgs { action: Some(action), .. }) if action.changes() => {
            unknown("keyspace show".to_owned())
        }
        Command::Setquorum { .. } => unknown("keyspace show".to_owned()),
        Command::Compact { id } => unknown(format!("wal {id}")),
        Command::Rpc { .. }
        | Command::Kill { .. }
        | Command::Stop { .. }
        | Command::Start { .. }
        | Command::Restart { .. } => unknown("show".to_owned()),
        Command::Follow(_)
        | Command::Show
        | Command::Stats { .. }
        | Command::Where { .. }
        | Command::Ring { .. }
        | Command::Config { .. }
        | Command::Scan { .. }
        | Command::Count { .. }
        | Command::Export { .. }
        | Command::Wal { .. }
        | Command::Keyspace(_)
        | Command::Use { .. }
        | Command::Salvage { .. }
        | Command::Help { .. } => unchanged("nothing was changed"),
    };
    Some(told(Failure { hint, ..Failure::new(name, format!("interrupted: {what}")) }))
}

/// How to look what a command on the ring has done; `None` when it only looks.
fn may_have_changed(topology: &Topology) -> Option<&'static str> {
    match topology {
        Topology::Pause { id: None } | Topology::Resume { id: None } | Topology::Cancel => {
            Some("progress")
        }
        Topology::Plan { word: Some(PlanWord::Clear) } => Some("plan"),
        Topology::Plan { word: None }
        | Topology::Progress
        | Topology::WhatIf { .. }
        | Topology::Doctor
        | Topology::WhyDown { .. } => None,
        _ => Some("show"),
    }
}

/// How to look what a command on keys has done; `None` when it only reads.
fn may_have_written(data: &Data) -> Option<String> {
    match data {
        Data::Put(PutArgs { key, .. })
        | Data::Del(DelArgs { key, .. })
        | Data::Resolve { key, .. }
        | Data::Explain {
            what: Explained::Put(PutArgs { key, .. }) | Explained::Del(DelArgs { key, .. }),
        } => Some(format!("get {key} --all")),
        Data::Mput { pairs, .. } => {
            let keys: Vec<&str> = pairs.iter().step_by(2).map(String::as_str).collect();
            Some(format!("mget {}", keys.join(" ")))
        }
        Data::Mdel { keys, .. } => Some(format!("mget {}", keys.join(" "))),
        Data::Get(_) | Data::Mget { .. } | Data::Explain { what: Explained::Get(_) } => None,
    }
}

/// A failure that is told with the exit code of an interruption.
pub(crate) fn told(failure: Failure) -> Report {
    Report { exit: exit::INTERRUPTED, ..failure.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::{Line, Word};
    use crate::report::text;
    use clap::Parser as _;

    #[test]
    fn what_is_known_of_the_outcome_is_said() {
        let told = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let Ok(Line { word: Word::Command(command) }) = Line::try_parse_from(&words) else {
                panic!("{line}")
            };
            report(&command)
        };
        let report = told("put a 1").unwrap();
        assert_eq!(
            text(&report.narrated),
            "error: interrupted: whether it was done is not known\n  look: get a --all"
        );
        assert_eq!(report.exit, 130);
        let export =
            super::report(&Command::Export { file: "b.jsonl".into(), partial: false }).unwrap();
        assert_eq!(text(&export.narrated), "error: interrupted: b.jsonl is as it was");
        assert!(told("rebalance").is_none());
        assert!(told("watch").is_none());
        for (line, look) in [
            ("explain del a", "get a --all"),
            ("resolve a 1", "get a --all"),
            ("mput a 1 b 2", "mget a b"),
            ("mdel a b", "mget a b"),
            ("setweight n1 2", "show"),
            ("pause n1", "show"),
            ("pause", "progress"),
            ("plan clear", "plan"),
        ] {
            let narrated = text(&told(line).unwrap().narrated);
            assert!(narrated.ends_with(&format!("\n  look: {look}")), "{narrated}");
        }
        for line in ["explain get a", "mget a b", "why a", "plan", "doctor"] {
            let narrated = text(&told(line).unwrap().narrated);
            assert_eq!(narrated, "error: interrupted: nothing was changed", "{line}");
        }
    }

    #[tokio::test]
    async fn what_ends_by_itself_needs_no_second_key() {
        let token = CancellationToken::new();
        assert_eq!(run(&token, &mut Presses::listen(), async { 1 }).await, Some(1));
        assert!(!token.is_cancelled());
    }
}
