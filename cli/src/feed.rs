//! Many lines, one after another, up to the first that fails: standard input and `source`. Also
//! standard input as a whole, for a value or a file.
//!
//! A line with an open quote goes on with the next. Blank lines and `#` comments are skipped.
//! Errors carry `place:line:`.
//!
//! # Caveats
//!
//! The first failed command ends the feed, and its exit code is the feed's: a script does not
//! go on over a mistake.

use std::io::{self, Read as _};

use ringkv_shared::{ErrorName, Failure};
use tokio::sync::{mpsc, oneshot};

use crate::exit;
use crate::session::Session;
use crate::words;

/// Where lines come from.
pub(crate) trait Lines {
    /// The next one, `None` at the end.
    async fn next_line(&mut self) -> Option<io::Result<String>>;
}

/// Lines that are all there already.
pub(crate) struct Given<I>(pub(crate) I);

impl<I: Iterator<Item = String>> Lines for Given<I> {
    async fn next_line(&mut self) -> Option<io::Result<String>> {
        self.0.next().map(Ok)
    }
}

/// Standard input, read by a thread of its own so that waiting for a line blocks nothing else.
pub(crate) struct StandardInput(mpsc::Receiver<io::Result<String>>);

impl StandardInput {
    /// Starts reading.
    pub(crate) fn start() -> Self {
        let (to, lines) = mpsc::channel(1);
        std::thread::spawn(move || {
            for line in io::stdin().lines() {
                if to.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Self(lines)
    }
}

impl Lines for StandardInput {
    async fn next_line(&mut self) -> Option<io::Result<String>> {
        self.0.recv().await
    }
}

/// All of standard input, at most `limit` bytes, read by a thread of its own: somebody at a
/// terminal who gives up with Ctrl-C must not have to end the input first.
///
/// # Errors
///
/// Those of reading.
pub(crate) async fn all_of_stdin(limit: u64) -> io::Result<Vec<u8>> {
    let (to, read) = oneshot::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = io::stdin().lock().take(limit).read_to_end(&mut bytes);
        // Nobody waits any more after Ctrl-C.
        let _ = to.send(result.map(|_| bytes));
    });
    read.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}

/// Runs lines; the exit code is that of the first failed one.
pub(crate) async fn feed(session: &mut Session, place: &str, mut lines: impl Lines) -> u8 {
    let mut text = String::new();
    let (mut first_line, mut at) = (0, 0);
    let interrupt = session.interrupt.clone();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = interrupt.cancelled() => return exit::INTERRUPTED,
        };
        let Some(line) = line else { break };
        at += 1;
        if text.is_empty() {
            first_line = at;
        } else {
            text.push('\n');
        }
        session.set_place(&format!("{place}:{first_line}"));
        match line {
            Ok(line) => text.push_str(&line),
            Err(error) => {
                let failure = Failure::new(ErrorName::BadArgument, error.to_string());
                session.notice(&format!("error: {}", failure.message));
                return failure.name.exit_code();
            }
        }
        if words::is_open(&text) {
            continue;
        }
        let outcome = session.run_line(&std::mem::take(&mut text)).await;
        if outcome.exit != exit::OK || outcome.leave {
            return outcome.exit;
        }
    }
    // What is left has an open quote, and the session says so.
    session.run_line(&text).await.exit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Capture;
    use crate::session::Settings;

    async fn run(text: &str) -> (u8, String) {
        let capture = Capture::default();
        let out = Box::new(capture.clone());
        let mut session = Session::connect("127.0.0.1:1".into(), Settings::default(), out);
        let exit = feed(&mut session, "stdin", Given(text.lines().map(str::to_owned))).await;
        (exit, capture.take())
    }

    #[tokio::test]
    async fn the_first_error_ends_it_with_its_line() {
        let (exit, text) = run("# a comment\n\n.timing off\npput a\nxyzzy\n").await;
        assert_eq!(exit, 2);
        assert_eq!(text, "stdin:4: error: unknown command \"pput\"\n  did you mean: put\n");
    }

    #[tokio::test]
    async fn an_open_quote_goes_on_and_is_named_at_the_end() {
        let (_, text) = run("pput 'a\nb'\n").await;
        assert!(text.starts_with("stdin:1: error: unknown command"), "{text}");
        let (exit, text) = run(".timing off\nput 'a\nb\n").await;
        assert_eq!((exit, text.starts_with("stdin:2: error: a quote is still open")), (2, true));
    }

    #[tokio::test]
    async fn an_interruption_ends_the_waiting_for_a_line() {
        struct Silence;
        impl Lines for Silence {
            async fn next_line(&mut self) -> Option<io::Result<String>> {
                std::future::pending().await
            }
        }
        let out = Box::new(Capture::default());
        let mut session = Session::connect("127.0.0.1:1".into(), Settings::default(), out);
        session.interrupt.cancel();
        assert_eq!(feed(&mut session, "stdin", Silence).await, 130);
    }

    #[tokio::test]
    async fn exit_ends_it_well() {
        assert_eq!(run("exit\npput\n").await, (0, String::new()));
    }
}
