//! What the editor knows while a person types: completion, hints, colours, open quotes.
//!
//! - completion: commands first, then what fits the place: nodes, files, on/off, options
//! - hint: the arguments that a command wants, dim, after its name
//! - colour: a known command green, an unknown one red
//! - an open quote goes on in the next line
//!
//! # Caveats
//!
//! Keys are not completed: that would ask the cluster at each keystroke.

use std::borrow::Cow;
use std::sync::PoisonError;

use anstyle::{AnsiColor, Style};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use crate::cluster::COORDINATOR;
use crate::session::KnownNodes;
use crate::usage::{self, Entry};
use crate::words;

/// Commands whose first argument is a node.
const TAKES_NODE: [&str; 9] = [
    "removenode",
    "replacenode",
    "setweight",
    "setzone",
    "why-down",
    "wal",
    "compact",
    "salvage",
    "stats",
];
/// Commands whose first argument is a node or the coordinator.
const TAKES_SERVER: [&str; 7] = ["rpc", "kill", "stop", "start", "restart", "pause", "resume"];
/// Commands whose first argument is a file.
const TAKES_FILE: [&str; 3] = ["load", "export", "source"];

/// Whether the environment allows colour.
pub(super) fn wants_color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The editor's helper.
pub(super) struct ShellHelper {
    entries: Vec<Entry>,
    names: Vec<String>,
    nodes: KnownNodes,
    files: FilenameCompleter,
    color: bool,
}

impl ShellHelper {
    pub(super) fn new(nodes: KnownNodes, color: bool) -> Self {
        let files = FilenameCompleter::new();
        Self { entries: usage::entries(), names: usage::names(), nodes, files, color }
    }

    /// What may stand as the first argument of a command.
    fn arguments(&self, command: &str) -> Vec<String> {
        match command {
            c if TAKES_NODE.contains(&c) => self.nodes(),
            c if TAKES_SERVER.contains(&c) => [self.nodes(), vec![COORDINATOR.to_owned()]].concat(),
            "help" => self.names.clone(),
            c => self.entry(c).map(|entry| entry.choices.clone()).unwrap_or_default(),
        }
    }

    /// The nodes seen so far.
    fn nodes(&self) -> Vec<String> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().cloned().collect()
    }

    fn entry(&self, command: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == command)
    }

    /// The start of the word at the end of `text`, and what it may become.
    fn candidates(&self, text: &str) -> (usize, Vec<String>) {
        let start = text.rfind(' ').map_or(0, |at| at + 1);
        let known = match text[..start].split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => self.names.clone(),
            [command, ..] if text[start..].starts_with('-') => {
                self.entry(command).map(|entry| entry.options.clone()).unwrap_or_default()
            }
            [command] => self.arguments(command),
            // Its first word says what is supposed, its second of which node.
            ["what-if", _] => self.nodes(),
            _ => Vec::new(),
        };
        let word = &text[start..];
        (start, known.into_iter().filter(|name| name.starts_with(word)).collect())
    }
}

impl Completer for ShellHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> Result<(usize, Vec<Pair>), ReadlineError> {
        let text = &line[..pos];
        let command = text.split_whitespace().next().unwrap_or_default();
        if TAKES_FILE.contains(&command) && text.contains(' ') {
            return self.files.complete_path(line, pos);
        }
        let (start, names) = self.candidates(text);
        let pair = |name: String| Pair { replacement: format!("{name} "), display: name };
        Ok((start, names.into_iter().map(pair).collect()))
    }
}

impl Hinter for ShellHelper {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<String> {
        if pos < line.len() {
            return None;
        }
        let command = line.trim_end();
        let entry = self.entry(command)?;
        let space = if line.ends_with(' ') { "" } else { " " };
        (!entry.arguments.is_empty()).then(|| format!("{space}{}", entry.arguments))
    }
}

impl Highlighter for ShellHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        let start = line.len() - line.trim_start().len();
        let end = line[start..].find(char::is_whitespace).map_or(line.len(), |at| start + at);
        let word = &line[start..end];
        if !self.color || word.is_empty() || word.starts_with('#') {
            return Cow::Borrowed(line);
        }
        let known = self.names.iter().any(|name| name == word);
        // A word that may still become a command is not wrong yet.
        let becoming = end == line.len() && self.names.iter().any(|name| name.starts_with(word));
        let style = match (known, becoming) {
            (true, _) => Style::new().fg_color(Some(AnsiColor::Green.into())),
            (false, true) => Style::new(),
            (false, false) => Style::new().fg_color(Some(AnsiColor::Red.into())),
        };
        Cow::Owned(format!("{}{style}{word}{style:#}{}", &line[..start], &line[end..]))
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        let dim = Style::new().dimmed();
        if self.color { Cow::Owned(format!("{dim}{hint}{dim:#}")) } else { Cow::Borrowed(hint) }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.color && kind != CmdKind::MoveCursor
    }
}

impl Validator for ShellHelper {
    fn validate(
        &self,
        context: &mut ValidationContext<'_>,
    ) -> Result<ValidationResult, ReadlineError> {
        let open = words::is_open(context.input());
        Ok(if open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Helper for ShellHelper {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Line;
    use clap::CommandFactory as _;
    use ringkv_shared::NodeId;

    fn helper(color: bool) -> ShellHelper {
        let nodes = KnownNodes::default();
        nodes.lock().unwrap().extend(["n1".to_owned(), "n2".to_owned()]);
        ShellHelper::new(nodes, color)
    }

    #[test]
    fn words_are_completed_by_their_place() {
        let table = [
            ("reb", 0, "rebalance"),
            ("kill n", 5, "n1 n2"),
            ("kill n1 n", 8, ""),
            ("rpc c", 4, "coordinator"),
            ("restart ", 8, "n1 n2 coordinator"),
            ("get a --", 6, "--r --all"),
            ("plan ", 5, "clear"),
            ("pause ", 6, "n1 n2 coordinator"),
            ("what-if ", 8, "kill add remove weight"),
            ("what-if kill ", 13, "n1 n2"),
            ("setw", 0, "setweight"),
            ("setweight ", 10, "n1 n2"),
            ("rebalance --", 10, "--dry-run --epoch --detach"),
            ("addnode n4 5004 --", 16, "--weight --zone"),
            ("explain p", 8, "put"),
            ("explain put a --i", 14, "--if-version --if-absent"),
            ("check --", 6, "--repair"),
            (".trace o", 7, "on off"),
            (".output j", 8, "json"),
            (".tr", 0, ".trace"),
        ];
        for (line, at, expected) in table {
            let (start, names) = helper(false).candidates(line);
            assert_eq!((start, names.join(" ").as_str()), (at, expected), "{line}");
        }
    }

    #[test]
    fn every_command_on_a_node_completes_nodes() {
        let node = clap::builder::ValueParser::from(str::parse::<NodeId>).type_id();
        for command in Line::command().get_subcommands() {
            let name = command.get_name();
            let first = command.get_positionals().next();
            if name != "addnode" && first.is_some_and(|a| a.get_value_parser().type_id() == node) {
                assert!(helper(false).arguments(name).starts_with(&["n1".into()]), "{name}");
            }
        }
    }

    #[test]
    fn a_whole_command_hints_its_arguments() {
        let history = rustyline::history::DefaultHistory::new();
        let hint = |line: &str| helper(false).hint(line, line.len(), &Context::new(&history));
        assert_eq!(hint("put").as_deref(), Some(" <key> <value> [OPTIONS]"));
        assert_eq!(hint("put ").as_deref(), Some("<key> <value> [OPTIONS]"));
        assert_eq!((hint("pu"), hint("show")), (None, None));
    }

    #[test]
    fn only_the_first_word_is_coloured() {
        assert_eq!(helper(true).highlight("put a", 0), "\u{1b}[32mput\u{1b}[0m a");
        assert_eq!(helper(true).highlight("pput a", 0), "\u{1b}[31mpput\u{1b}[0m a");
        assert_eq!(helper(false).highlight("put a", 0), "put a");
    }
}
