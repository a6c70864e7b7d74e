//! A session: a connection to a cluster, how to print, and running one line after another.
//!
//! REPL, one-shot, `-e`, standard input and scripts all end up in [`Session::run_line`] (or, with
//! words that are parsed already, [`Session::run_command`]). A command gives back a
//! [`Report`] or a failure; the session prints it as its settings say and turns it into an exit
//! code.
//!
//! # Caveats
//!
//! Commands run one after another on one connection, so a session sees its own writes in order.
//! What Ctrl-C does to a command is in [`crate::interrupt`].

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{CommandFactory as _, FromArgMatches as _};
use jsonrpsee::core::ClientError;
use ringkv_shared::net::Client;
use ringkv_shared::{ErrorName, Failure, KeyspaceName};
use tokio_util::sync::CancellationToken;

use crate::commands;
use crate::exit;
use crate::grammar::{self, Command, Follow, Format, Line, Word};
use crate::interrupt;
use crate::output::Sink;
use crate::report::{Report, Told};
use crate::usage;
use crate::wire::{DEADLINE, Trace, Wire};
use crate::words;

/// How deep `source` may nest.
pub(crate) const SOURCE_DEPTH_MAX: usize = 8;

/// How a session prints and what it may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Text or JSON.
    pub(crate) format: Format,
    /// Sentences (REPL, scripts) rather than the bare result (one-shot).
    pub(crate) narrate: bool,
    /// `Some(true)` only summaries, `Some(false)` every line, `None` up to 20 lines.
    pub(crate) brief: Option<bool>,
    /// Say how long each command took.
    pub(crate) timing: bool,
    /// Show the messages sent and received.
    pub(crate) trace: bool,
    /// Whether `put k -` may read standard input: only when no commands come from there.
    pub(crate) value_from_stdin: bool,
    /// Whether a progress bar may be drawn on standard error.
    pub(crate) progress: bool,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineOutcome {
    /// Its exit code.
    pub(crate) exit: u8,
    /// Whether the session ends here: `exit`, or nobody reads its results any more.
    pub(crate) leave: bool,
}

/// The names of the nodes seen last, shared with the editor for completion.
pub(crate) type KnownNodes = Arc<Mutex<BTreeSet<String>>>;

/// A connection to a cluster and how to print.
pub(crate) struct Session {
    /// The coordinator.
    pub(crate) wire: Wire,
    /// Its address.
    pub(crate) addr: String,
    /// The messages, while they are traced.
    pub(crate) trace: Trace,
    /// How to print.
    pub(crate) settings: Settings,
    /// Where to print.
    pub(crate) out: Sink,
    /// Lines typed, the oldest first, for `.history`; at most [`HISTORY_LINES_MAX`].
    pub(crate) history: VecDeque<String>,
    /// What to put before `error:`, for example `stdin:7: `.
    pub(crate) place: String,
    /// How deep in `source` this is.
    pub(crate) depth: usize,
    /// The local cluster's supervisor, once the coordinator has told it: still known while the
    /// coordinator is dead.
    pub(crate) supervisor: Option<String>,
    /// Cancelled when somebody wants the running command to end: Ctrl-C.
    pub(crate) interrupt: CancellationToken,
    /// The ring epoch of the plan that was shown last, while no command of this session has changed it:
    /// what `rebalance` is to carry out.
    pub(crate) planned: Option<u64>,
    nodes: KnownNodes,
    keyspace: KeyspaceName,
}

/// What to do when nobody answers.
const NO_COORDINATOR_HINT: &str =
    "start one here: kv demo        or name another: --connect HOST:PORT / KV_CONNECT";
/// How many lines `.history` shows: the last ones.
const HISTORY_LINES_MAX: usize = 1000;

impl Session {
    /// A session with the coordinator at `addr`; it connects with the first command.
    #[must_use]
    pub(crate) fn connect(addr: String, settings: Settings, out: Sink) -> Self {
        let trace = Trace::default();
        trace.switch(settings.trace);
        let wire = Wire::traced(&addr, format!("coordinator at {addr}"), &trace);
        Self {
            wire,
            addr,
            trace,
            settings,
            out,
            history: VecDeque::new(),
            place: String::new(),
            supervisor: None,
            interrupt: CancellationToken::new(),
            depth: 0,
            planned: None,
            nodes: KnownNodes::default(),
            keyspace: KeyspaceName::default(),
        }
    }

    /// The keyspace that commands work in, for the options of a request.
    #[must_use]
    pub(crate) fn keyspace(&self) -> KeyspaceName {
        self.keyspace.clone()
    }

    /// The same for a parameter of its own, which is left out for `default`.
    #[must_use]
    pub(crate) fn keyspace_named(&self) -> Option<KeyspaceName> {
        Some(self.keyspace()).filter(|name| !name.is_default())
    }

    /// From now on commands work in that keyspace.
    pub(crate) fn use_keyspace(&mut self, name: KeyspaceName) {
        self.keyspace = name;
    }

    /// What stands before a line that is typed.
    #[must_use]
    pub(crate) fn prompt(&self) -> String {
        self.keyspace_named().map_or_else(|| "kv> ".to_owned(), |name| format!("kv:{name}> "))
    }

    /// The nodes seen so far.
    #[must_use]
    pub(crate) fn known_nodes(&self) -> KnownNodes {
        Arc::clone(&self.nodes)
    }

    /// Notes the nodes that there are.
    pub(crate) fn note_nodes(&self, ids: impl Iterator<Item = String>) {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = ids.collect();
    }

    /// Says where the next line is from, for error messages: `demo.kv:7`.
    pub(crate) fn set_place(&mut self, place: &str) {
        self.place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    }

    /// Puts a line into the history, unless a blank at its start says that it is secret.
    pub(crate) fn remember(&mut self, line: String) {
        if line.starts_with(char::is_whitespace) {
            return;
        }
        if self.history.len() == HISTORY_LINES_MAX {
            self.history.pop_front();
        }
        self.history.push_back(line);
    }

    /// Parses and runs one line.
    pub(crate) async fn run_line(&mut self, line: &str) -> LineOutcome {
        if words::is_blank(line) {
            return LineOutcome { exit: exit::OK, leave: false };
        }
        if self.depth == 0 {
            self.remember(line.to_owned());
        }
        match parse(line) {
            Ok((name, Word::Command(command))) => self.run_command(&name, *command).await,
            Ok((name, Word::Check(args))) => {
                self.run_command(&name, Command::Follow(Follow::Check(args))).await
            }
            Ok((name, Word::Client(client))) => self.run_client(&name, client),
            Err((name, failure)) => self.tell(&name, failure.into()),
        }
    }

    /// Runs a command of the cluster.
    pub(crate) async fn run_command(&mut self, name: &str, command: Command) -> LineOutcome {
        let started = Instant::now();
        let (interrupt, ended_early) = (self.interrupt.clone(), interrupt::report(&command));
        // Boxed: `source` runs lines within a line, and the commands are large futures.
        let command = Box::pin(commands::run(self, command));
        let result = match ended_early {
            None => command.await,
            Some(report) => tokio::select! {
                result = command => result,
                () = interrupt.cancelled() => Ok(report),
            },
        };
        let took = started.elapsed();
        self.show_trace();
        let outcome = self.tell(name, result.unwrap_or_else(Report::from));
        if self.settings.timing && self.settings.format != Format::Json {
            self.notice(&format!("({})", duration(took)));
        }
        outcome
    }

    fn run_client(&mut self, name: &str, client: grammar::Client) -> LineOutcome {
        let leave = matches!(client, grammar::Client::Exit);
        let report = commands::settings::run(self, client);
        if leave {
            return LineOutcome { exit: exit::OK, leave };
        }
        self.tell(name, report)
    }

    /// One call to the coordinator.
    pub(crate) async fn call<T>(
        &self,
        request: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let result = self.wire.call(DEADLINE, request).await;
        result.map_err(|failure| match failure.name {
            ErrorName::Unreachable if failure.hint.is_none() => failure.hint(NO_COORDINATOR_HINT),
            _ => failure,
        })
    }

    /// Prints a report as the settings say.
    pub(crate) fn tell(&mut self, name: &str, report: Report) -> LineOutcome {
        match self.settings.format {
            Format::Json => self.line(&report.json(name)),
            Format::Table if self.settings.narrate => self.lines(report.narrated),
            Format::Table | Format::Plain => self.tell_plain(report.clone()),
        }
        let exit = if self.out.failed() { exit::REFUSED } else { report.exit };
        LineOutcome { exit, leave: self.out.closed() }
    }

    fn tell_plain(&mut self, report: Report) {
        match report.raw {
            Some(raw) if !self.out.is_terminal() => {
                self.out.result(&raw);
                // Bytes that are no text are for a program or a file, which want no other.
                if std::str::from_utf8(&raw).is_ok() {
                    self.out.result(b"\n");
                }
            }
            _ => self.lines(report.plain.unwrap_or(report.narrated)),
        }
    }

    fn lines(&mut self, lines: Vec<Told>) {
        for told in lines {
            match told {
                Told::Result(line) => self.line(&line),
                Told::Notice(line) => self.notice(&line),
            }
        }
    }

    /// Prints one line of a result.
    pub(crate) fn line(&mut self, line: &str) {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.out.result(&bytes);
    }

    /// Prints one line of a warning or error; an error carries its place.
    pub(crate) fn notice(&mut self, line: &str) {
        let place = if line.starts_with("error: ") { self.place.as_str() } else { "" };
        let line = format!("{place}{line}");
        self.out.notice(&line);
    }

    /// Whether lines may be printed while a command is still running.
    pub(crate) fn streams_text(&self) -> bool {
        self.settings.format != Format::Json
    }

    /// Prints the messages traced since the last time.
    pub(crate) fn show_trace(&mut self) {
        for line in self.trace.take() {
            self.notice(&line);
        }
    }
}

/// The parsed line and the name of its command, or what is wrong with it.
fn parse(line: &str) -> Result<(String, Word), (String, Failure)> {
    let Some(words) = words::split_words(line) else {
        let open = Failure::new(ErrorName::BadArgument, "a quote is still open at the end")
            .hint("close it, or write \\' for the character itself");
        return Err((String::new(), open));
    };
    let first = words.first().cloned().unwrap_or_default();
    let mut grammar = Line::command();
    let parsed = grammar.try_get_matches_from_mut(&words).and_then(|matches| {
        let name = matches.subcommand_name().unwrap_or_default().to_owned();
        let mut word = Line::from_arg_matches(&matches)?.word;
        if let Word::Command(command) = &mut word {
            command.heed_escape(&words);
        }
        Ok((name, word))
    });
    parsed.map_err(|error| (first.clone(), usage::explain(&grammar, &error, &first)))
}

/// `0.6 ms` or `2.31 s`.
#[must_use]
pub(crate) fn duration(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.1} ms", took.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Capture;

    async fn run(settings: Settings, lines: &[&str]) -> (String, Vec<LineOutcome>) {
        let capture = Capture::default();
        let mut session =
            Session::connect("127.0.0.1:1".into(), settings, Box::new(capture.clone()));
        let mut outcomes = Vec::new();
        for line in lines {
            session.set_place("t.kv:1");
            outcomes.push(session.run_line(line).await);
        }
        (capture.take(), outcomes)
    }

    #[tokio::test]
    async fn mistakes_carry_their_place_and_exit_code_2() {
        let (text, outcomes) = run(Settings::default(), &["", "# x", "pput a", "put 'a"]).await;
        let codes: Vec<u8> = outcomes.iter().map(|o| o.exit).collect();
        assert_eq!(codes, [0, 0, 2, 2]);
        assert!(text.starts_with("t.kv:1: error: unknown command \"pput\"\n  did you mean: put\n"));
        assert!(text.contains("a quote is still open"));
    }

    #[tokio::test]
    async fn json_is_one_object_a_command_errors_too() {
        let (text, _) = run(Settings::default(), &[".output json", "gett a"]).await;
        let object: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(object["exit"], 2);
        assert_eq!(object["error"]["name"], "BAD_ARGUMENT");
    }

    #[tokio::test]
    async fn exit_and_quit_leave() {
        for word in ["exit", "quit"] {
            let (_, outcomes) = run(Settings::default(), &[word]).await;
            assert_eq!(outcomes[0], LineOutcome { exit: 0, leave: true });
        }
    }
}
