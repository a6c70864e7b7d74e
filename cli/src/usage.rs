//! Usage lines, help and mistakes, all made from the one grammar.
//!
//! A mistake on the command line is told as every other failure: what happened, then what to do.
//!
//! ```text
//! kv> pput a 1
//! error: unknown command "pput"
//!   did you mean: put
//! kv> put a
//! error: put needs a value
//!   usage: put <key> <value>
//! ```
//!
//! # Caveats
//!
//! Only one guess is offered, and none when nothing is near: a wrong guess is worse than a list.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory as _};
use ringkv_shared::{ErrorName, Failure, nearest};

use crate::grammar::Line;
use crate::table::Table;

/// The most options that a usage line spells out.
const OPTIONS_SPELLED_MAX: usize = 4;

/// How wide the column of a command's words is in its help, at least.
const WORDS_WIDTH_MIN: usize = 14;

/// One command as help and completion know it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments: `<key> <value>`.
    pub(crate) arguments: String,
    /// What it does, in one line.
    pub(crate) about: String,
    /// The words that its first argument may be, when they are few and fixed.
    pub(crate) choices: Vec<String>,
    /// Its options: `--all`.
    pub(crate) options: Vec<String>,
}

/// Every command of the REPL, in the order of the grammar.
#[must_use]
pub(crate) fn entries() -> Vec<Entry> {
    entries_of(&Line::command())
}

fn entries_of(grammar: &Command) -> Vec<Entry> {
    let entry = |command: &Command| Entry {
        name: command.get_name().to_owned(),
        arguments: arguments(command),
        about: command.get_about().map(ToString::to_string).unwrap_or_default(),
        choices: choices(command),
        options: options(command),
    };
    grammar.get_subcommands().map(entry).collect()
}

/// The options of a command, or of those below it, each once.
fn options(command: &Command) -> Vec<String> {
    let below = command.get_subcommands().flat_map(Command::get_arguments);
    let all = command.get_arguments().chain(below).filter_map(Arg::get_long);
    let mut options: Vec<String> = Vec::new();
    for long in all.map(|long| format!("--{long}")) {
        if !options.contains(&long) {
            options.push(long);
        }
    }
    options
}

fn choices(command: &Command) -> Vec<String> {
    let words = command.get_subcommands().map(|word| word.get_name().to_owned());
    if command.has_subcommands() {
        return words.collect();
    }
    let first = command.get_positionals().next();
    let values = first.map(Arg::get_possible_values).unwrap_or_default();
    values.iter().map(|value| value.get_name().to_owned()).collect()
}

/// Every first word that the REPL knows, other spellings too.
#[must_use]
pub(crate) fn names() -> Vec<String> {
    names_of(&Line::command())
}

fn names_of(grammar: &Command) -> Vec<String> {
    let spellings = |c: &Command| {
        let name = c.get_name().to_owned();
        std::iter::once(name).chain(c.get_all_aliases().map(str::to_owned)).collect::<Vec<_>>()
    };
    grammar.get_subcommands().flat_map(spellings).collect()
}

/// The list of all commands of a grammar, in so many columns, or one command with its arguments
/// and examples.
///
/// # Errors
///
/// There is no such command.
pub(crate) fn help(
    grammar: &Command,
    topic: Option<&str>,
    width: Option<usize>,
) -> Result<String, Failure> {
    let Some(topic) = topic else { return Ok(list(grammar, width)) };
    match grammar.find_subcommand(topic) {
        Some(command) => Ok(describe(command)),
        None => Err(unknown(grammar, topic)),
    }
}

fn list(grammar: &Command, width: Option<usize>) -> String {
    let row = |e: Entry| {
        let usage = format!("{} {}", e.name, e.arguments);
        vec![usage.trim_end().to_owned(), e.about.trim_end_matches('.').to_owned()]
    };
    let rows = entries_of(grammar).into_iter().map(row).collect();
    Table { header: &["", ""], rows, dispensable: &[], prose: true }.draw(width)
}

fn describe(command: &Command) -> String {
    let usage = format!("{} {}", command.get_name(), arguments(command));
    let mut lines = vec![usage.trim_end().to_owned()];
    lines.extend(command.get_about().map(|about| format!("  {about}")));
    let arguments = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    let width = arguments().map(|arg| spelling(arg).len()).max().unwrap_or(0).max(WORDS_WIDTH_MIN);
    for arg in arguments() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        lines.push(format!("  {:width$} {help}", spelling(arg)));
    }
    for word in command.get_subcommands() {
        let usage = format!("{} {} {}", command.get_name(), word.get_name(), self::arguments(word));
        lines.push(format!("  {usage}"));
    }
    if let Some(examples) = command.get_after_help() {
        lines.push("for example:".to_owned());
        lines.extend(examples.to_string().lines().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

/// The arguments of a command as its usage line has them; many options are only said to be there.
fn arguments(command: &Command) -> String {
    let shown = |arg: &&Arg| {
        let everywhere = matches!(arg.get_id().as_str(), "help" | "version");
        !arg.is_global_set() && !arg.is_hide_set() && !everywhere
    };
    let shown = || command.get_arguments().filter(shown);
    let many = shown().filter(|arg| !arg.is_positional()).count() > OPTIONS_SPELLED_MAX;
    let parts = shown().filter(|arg| arg.is_positional() || !many).map(|arg| match spelling(arg) {
        text if arg.is_required_set() => text,
        text if arg.is_positional() => format!("[{}]", text.trim_matches(['<', '>'])),
        text => format!("[{text}]"),
    });
    let mut parts: Vec<String> = parts.collect();
    parts.extend(many.then(|| "[OPTIONS]".to_owned()));
    let words: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    if !words.is_empty() {
        parts.push(format!("<{}> ...", words.join("|")));
    }
    parts.join(" ")
}

/// `<key>`, `--all` or `--limit N`.
fn spelling(arg: &Arg) -> String {
    let id = arg.get_id().as_str();
    let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let is_word = arg.get_long().is_none();
    let value = match value {
        Some(name) if is_word && name.eq_ignore_ascii_case(id) && name.len() > 1 => {
            name.to_lowercase()
        }
        Some(name) => name,
        None => id.to_owned(),
    };
    match arg.get_long() {
        None if repeats(arg) => format!("<{value}>..."),
        None => format!("<{value}>"),
        Some(long) if arg.get_action().takes_values() => format!("--{long} {value}"),
        Some(long) => format!("--{long}"),
    }
}

/// Whether a word of a command may come more than once.
fn repeats(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|count| count.max_values() > 1)
        || matches!(arg.get_action(), clap::ArgAction::Append)
}

/// What is wrong with a line that the grammar refused, and what to do about it.
#[must_use]
pub(crate) fn explain(grammar: &Command, error: &clap::Error, name: &str) -> Failure {
    let text = |kind| context(error, kind);
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            match grammar.find_subcommand(name) {
                Some(command) if command.has_subcommands() => {
                    let failure =
                        Failure::new(ErrorName::BadArgument, format!("{name} takes no {word:?}"));
                    return failure.hint(match nearest(&word, names_of(command)) {
                        Some(guess) => format!("did you mean: {name} {guess}"),
                        None => usage_hint(command, error),
                    });
                }
                _ => return unknown(grammar, &word),
            }
        }
        ErrorKind::MissingRequiredArgument => format!("{name} needs {}", with_article(&argument)),
        ErrorKind::UnknownArgument => format!("{name} takes no {argument:?}"),
        ErrorKind::InvalidValue if value.is_empty() => format!("{argument} needs a value"),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            match std::error::Error::source(error) {
                Some(why) => why.to_string(),
                None => format!("{value:?} does not fit {}", plain_name(&argument)),
            }
        }
        _ => first_line(error),
    };
    let failure = Failure::new(ErrorName::BadArgument, message);
    match grammar.find_subcommand(name) {
        Some(command) => failure.hint(usage_hint(command, error)),
        None => failure.hint("kv help lists the commands"),
    }
}

/// The failure of a first word that nobody knows.
#[must_use]
pub(crate) fn unknown(grammar: &Command, word: &str) -> Failure {
    let failure = Failure::new(ErrorName::BadArgument, format!("unknown command {word:?}"));
    match nearest(word, names_of(grammar)) {
        Some(guess) => failure.hint(format!("did you mean: {guess}")),
        None => failure.hint("help lists the commands"),
    }
}

fn usage_hint(command: &Command, error: &clap::Error) -> String {
    let mut hint = format!("usage: {} {}", command.get_name(), arguments(command));
    hint.truncate(hint.trim_end().len());
    if let Some(valid) = context(error, ContextKind::ValidValue) {
        hint.push_str(&format!("        one of: {valid}"));
    } else if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        hint.push_str(&format!("        {}", examples.lines().next().unwrap_or_default()));
    }
    hint
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}

/// `<VALUE>` → `value`.
fn plain_name(argument: &str) -> String {
    let first = argument.split(", ").next().unwrap_or_default();
    let name = first.trim_matches(['<', '>']);
    if name.chars().all(char::is_uppercase) && name.len() > 1 {
        name.to_lowercase()
    } else {
        first.to_owned()
    }
}

/// `<VALUE>` → `a value`; what is no plain word stays as it is.
fn with_article(argument: &str) -> String {
    match plain_name(argument) {
        name if !name.chars().all(char::is_lowercase) => name,
        name if name.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {name}"),
        name => format!("a {name}"),
    }
}

/// The first line of clap's own text, without its `error: `.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("the command line is wrong");
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn mistake(line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let error = Line::try_parse_from(&words).unwrap_err();
        let failure = explain(&Line::command(), &error, words[0]);
        format!("{} | {}", failure.message, failure.hint.unwrap_or_default())
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let table = [
            ("pput a 1", "unknown command \"pput\" | did you mean: put"),
            ("rebalence", "unknown command \"rebalence\" | did you mean: rebalance"),
            ("xyzzy", "unknown command \"xyzzy\" | help lists the commands"),
            (
                "put a",
                "put needs a value | usage: put <key> <value> [OPTIONS]        put apple 123",
            ),
            ("get a b", "get takes no \"b\" | usage: get <key> [--r N] [--all]        get apple"),
            (
                ".timing maybe",
                "\"maybe\" does not fit [SWITCH] | usage: .timing [switch]        one of: on, off",
            ),
        ];
        for (line, told) in table {
            assert_eq!(mistake(line), told);
        }
        assert!(mistake("mput").contains("usage: mput <KEY VALUE>... [--ttl TIME]"));
        assert!(
            mistake("explain show").starts_with("explain takes no \"show\" | usage: explain <put")
        );
        assert!(mistake("explain").contains("usage: explain <put|get|del> ..."));
        assert_eq!(
            mistake("what-if kil n2"),
            "what-if takes no \"kil\" | did you mean: what-if kill"
        );
        assert_eq!(
            mistake("plan cleer"),
            "\"cleer\" does not fit [clear] | usage: plan [clear]        one of: clear"
        );
        assert!(mistake("setweight n1 0").starts_with("\"0\" is no weight: write a whole number"));
        assert!(mistake("setzone n1 Rack").starts_with("\"Rack\" is no zone"));
        assert!(mistake("setreplica x").contains("usage: setreplica <N>"));
        assert!(mistake("addnode n1 x").starts_with("\"x\" is no address: write a port"));
        assert!(mistake("kill N1").starts_with("\"N1\" is no node id"));
    }

    #[test]
    fn help_knows_every_command() {
        let help = |topic| help(&Line::command(), topic, None);
        let all = help(None).unwrap();
        assert!(all.lines().any(|l| l.starts_with("put <key> <value> [OPTIONS]  ")), "{all}");
        assert!(all.contains("scan [prefix] [--limit N]"), "{all}");
        let put = help(Some("put")).unwrap();
        assert!(put.starts_with("put <key> <value> [OPTIONS]\n  Store a value"), "{put}");
        assert_eq!(help(Some("gett")).unwrap_err().hint.as_deref(), Some("did you mean: get"));
    }
}
