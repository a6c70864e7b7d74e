//! `kv run FILE`: plays a script to an audience.
//!
//! Comments, commands and what the commands print now, in order. With `--step` every command
//! waits for Enter, so that a lecturer can talk; with `--delay` there is a pause before each.
//!
//! # Caveats
//!
//! What a command prints is shown when it has ended. A command that ends otherwise than the
//! script expects ends the performance; what it prints is not compared, `kv check` does that.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::parse::{Command, Kind, Script, Step, parse};
use super::stage::{self, Live, Shell, Stage};
use crate::exit;

/// How a script is played.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    step: bool,
    delay: Option<Duration>,
}

/// Plays a script with shells made by `connect`. The exit code is that of the first command that
/// ended otherwise than expected.
pub(super) async fn run_with<S: Shell>(
    path: &Path,
    step: bool,
    delay: Option<Duration>,
    connect: impl FnMut(&str) -> S,
) -> u8 {
    let mut out = anstream::stdout();
    let (script, mut stage) = match open(path, connect) {
        Ok(opened) => opened,
        Err(message) => {
            let _ = writeln!(anstream::stderr(), "error: {message}");
            return exit::USAGE;
        }
    };
    let name = path.display().to_string();
    let pace = Pace { step, delay };
    let code = tokio::select! {
        code = play(&name, &script, pace, &mut stage, &mut out) => code,
        _ = tokio::signal::ctrl_c() => exit::INTERRUPTED,
    };
    stage.close().await;
    code
}

fn open<S: Shell, C: FnMut(&str) -> S>(
    path: &Path,
    connect: C,
) -> Result<(Script, Live<S, C>), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let script = parse(&text).map_err(|e| format!("{}:{e}", path.display()))?;
    Ok((script, Live::new(connect).map_err(|e| format!("cannot make a directory: {e}"))?))
}

async fn play(
    name: &str,
    script: &Script,
    pace: Pace,
    stage: &mut impl Stage,
    out: &mut impl Write,
) -> u8 {
    let _ = writeln!(out, "{}\n", script.title);
    let mut behind_output = false;
    for step in &script.steps {
        let ended = match &step.kind {
            Kind::Comment(text) => {
                let gap = if behind_output { "\n" } else { "" };
                let _ = writeln!(out, "{gap}# {text}");
                Ok(())
            }
            Kind::Command(command) => perform(command, pace, stage, out).await,
            _ => prepare(step, stage).await.map_err(|message| (message, exit::REFUSED)),
        };
        if let Err((message, code)) = ended {
            let _ = writeln!(out, "{name}:{}: {message}", step.line);
            return code;
        }
        behind_output = matches!(step.kind, Kind::Command(_));
    }
    exit::OK
}

/// A step that prints nothing.
pub(super) async fn prepare(step: &Step, stage: &mut impl Stage) -> Result<(), String> {
    match &step.kind {
        Kind::Comment(_) | Kind::Command(_) => Ok(()),
        Kind::Cluster(spec) => stage.cluster(*spec).await.map_err(|failure| match failure.hint {
            Some(hint) => format!("{}\n  {hint}", failure.message),
            None => failure.message,
        }),
        Kind::Wait(wait) => stage::wait(stage, wait).await,
        Kind::File { name, body } => {
            let path = stage.dir().join(name);
            let folder = path.parent().expect("a file in a directory");
            let written =
                std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, body));
            written.map_err(|e| format!("@file {name}: {e}"))
        }
    }
}

async fn perform(
    command: &Command,
    pace: Pace,
    stage: &mut impl Stage,
    out: &mut impl Write,
) -> Result<(), (String, u8)> {
    let _ = write!(out, "> {}", command.text);
    let _ = out.flush();
    match (pace.step, pace.delay) {
        // The Enter that is waited for ends the line on a terminal.
        (true, _) => wait_for_enter().await,
        (false, delay) => {
            sleep(delay.unwrap_or_default()).await;
            let _ = writeln!(out);
        }
    }
    let (lines, code) = stage::command(stage, &command.text).await;
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    if code == command.exit {
        return Ok(());
    }
    let message = format!("`{}` ended with {code}, expected {}", command.text, command.exit);
    Err((message, if code == 0 { exit::REFUSED } else { code }))
}

/// Waits for a person: the one wait without a deadline.
async fn wait_for_enter() {
    let read = || std::io::stdin().read_line(&mut String::new());
    let _end_of_input_is_enough = tokio::task::spawn_blocking(read).await;
}

#[cfg(test)]
mod tests {
    use super::super::stage::fake::Fake;
    use super::*;

    async fn played(text: &str, answers: &[(&'static str, &'static str, u8)]) -> (String, u8) {
        let mut out = Vec::new();
        let script = parse(text).unwrap();
        let mut stage = Fake::new(answers);
        let code = play("t.kv", &script, Pace::default(), &mut stage, &mut out).await;
        (String::from_utf8(out).unwrap(), code)
    }

    #[tokio::test]
    async fn a_script_is_played_with_what_happens_now() {
        let text = "# 01 — t\n@cluster\n# Look:\n> get a\nold\n# And:\n> get b\n! exit 3\n";
        let answers = [("get a", "new\n", 0), ("get b", "none\n", 3)];
        let (out, code) = played(text, &answers).await;
        assert_eq!(out, "01 — t\n\n# Look:\n> get a\nnew\n\n# And:\n> get b\nnone\n");
        assert_eq!(code, 0);
    }

    #[tokio::test]
    async fn an_unexpected_end_ends_it() {
        let (out, code) = played("# t\n> get a\n> get b\n", &[("get b", "b\n", 0)]).await;
        assert_eq!(code, 2);
        assert!(out.ends_with("t.kv:2: `get a` ended with 2, expected 0\n"), "{out}");
        let (out, code) = played("# t\n@wait keys n1 1 0ms\n", &[]).await;
        assert_eq!(code, 1);
        assert!(out.ends_with("t.kv:2: waited 0 ms in vain: nobody there\n"), "{out}");
    }
}
