//! Text to steps.
//!
//! | line | meaning |
//! |---|---|
//! | first line `# NAME — title` | the title |
//! | `# …` | a comment, shown by `kv run`; ends the output before it |
//! | `> COMMAND` | a command |
//! | `! exit N` | the exit code of the command before it; without it 0 |
//! | `@cluster nodes=3 rf=2 ports=5001 memory=4KiB` | a fresh cluster; all but `nodes` may be left out |
//! | `@wait status n1 DOWN 5s`, `@wait keys n1 10 5s` | wait until `show` says so; `10+` is 10 or more |
//! | `@file NAME` … `@end` | a file in the script's directory or a folder there, which commands call `$DIR/NAME` |
//! | anything else | what the command before it prints |
//!
//! Blank lines right after a command and at the end of its output are layout; between two lines of
//! output they are output. An output line that begins like one of the others (`# …`) is written with
//! a backslash before it (`\# …`).
//!
//! # Caveats
//!
//! Without `ports=` every process takes a port that is free, so the ports in an `addnode` are not
//! the real ones.

use std::time::Duration;

use ringkv_shared::NodeId;
use ringkv_shared::protocol::cluster::Health;

/// A parsed script.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Script {
    /// The first line without its `#`.
    pub(super) title: String,
    /// The steps in order.
    pub(super) steps: Vec<Step>,
}

/// One step and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Its line, from 1.
    pub(super) line: usize,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a step is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A comment, without its `#`.
    Comment(String),
    /// A fresh cluster.
    Cluster(ClusterSpec),
    /// Wait until `show` says so.
    Wait(Wait),
    /// A file in the script's directory.
    File {
        /// Its name, folders in the directory before it.
        name: String,
        /// What is in it.
        body: String,
    },
    /// A command.
    Command(Command),
}

/// A command with what is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Command {
    /// As typed.
    pub(super) text: String,
    /// Its exit code.
    pub(super) exit: u8,
    /// What it prints; may have `[..]` and `...`.
    pub(super) expected: Vec<String>,
    /// The line after the last one that belongs to it, layout not counted.
    pub(super) end: usize,
}

/// What `@cluster` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClusterSpec {
    /// How many nodes.
    pub(super) nodes: usize,
    /// The replication factor.
    pub(super) replicas: usize,
    /// The port of the first node; the coordinator gets the one below. `None`: any free ports.
    pub(super) ports: Option<u16>,
    /// How many bytes of values each node keeps in memory; `None`: all.
    pub(super) memory_max: Option<u64>,
}

/// What `@wait` waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wait {
    /// Which node.
    pub(super) node: NodeId,
    /// What `show` shall say of it.
    pub(super) until: Until,
    /// How long at most.
    pub(super) within: Duration,
}

/// What `show` shall say of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Its status.
    Health(Health),
    /// How many keys it holds.
    Keys(u64),
    /// How many keys it holds, at least.
    KeysFrom(u64),
}

/// What is wrong with a script, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub(super) struct ParseError {
    line: usize,
    message: String,
}

/// Parses a script.
pub(super) fn parse(text: &str) -> Result<Script, ParseError> {
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    let title = lines.next().and_then(|(_, line)| line.strip_prefix('#'));
    let title =
        title.ok_or_else(|| error(1, "the first line must be the title: # NAME — title"))?;
    let mut steps: Vec<Step> = Vec::new();
    let mut blanks = 0;
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() {
            blanks += 1;
            continue;
        }
        let held = std::mem::take(&mut blanks);
        let kind = if let Some(comment) = line.strip_prefix('#') {
            Kind::Comment(comment.trim().to_owned())
        } else if let Some(command) = line.strip_prefix("> ") {
            let text = command.trim().to_owned();
            Kind::Command(Command { text, exit: 0, expected: Vec::new(), end: number + 1 })
        } else if let Some(name) = line.strip_prefix("@file ") {
            file(number, name.trim(), &mut lines)?
        } else if let Some(directive) = line.strip_prefix('@') {
            parse_directive(directive).map_err(|message| error(number, &message))?
        } else {
            belonging(steps.last_mut(), number, line, held)?;
            continue;
        };
        steps.push(Step { line: number, kind });
    }
    Ok(Script { title: title.trim().to_owned(), steps })
}

fn error(line: usize, message: &str) -> ParseError {
    ParseError { line, message: message.to_owned() }
}

/// A line of output or an exit code, for the command before it.
fn belonging(
    step: Option<&mut Step>,
    number: usize,
    line: &str,
    blanks: usize,
) -> Result<(), ParseError> {
    let Some(Step { kind: Kind::Command(command), .. }) = step else {
        return Err(error(number, "output without a command right before it"));
    };
    command.end = number + 1;
    if let Some(code) = line.strip_prefix('!') {
        let code = code.trim().strip_prefix("exit ").and_then(|code| code.trim().parse().ok());
        command.exit = code.ok_or_else(|| error(number, "after ! comes: exit N"))?;
        return Ok(());
    }
    if !command.expected.is_empty() {
        command.expected.extend(std::iter::repeat_n(String::new(), blanks));
    }
    let escaped = line.strip_prefix('\\').filter(|line| is_special(line));
    command.expected.push(escaped.unwrap_or(line).trim_end().to_owned());
    Ok(())
}

/// A printed line as it is written in a script.
pub(super) fn literal(line: &str) -> String {
    if is_special(line) { format!("\\{line}") } else { line.to_owned() }
}

/// Whether a line of output would be taken for something else.
fn is_special(line: &str) -> bool {
    line.starts_with(['#', '@', '!', '\\']) || line.starts_with("> ")
}

fn file<'a>(
    number: usize,
    name: &str,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
) -> Result<Kind, ParseError> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
    if !name.split('/').all(plain) {
        return Err(error(number, "@file needs a plain file name"));
    }
    let mut body = String::new();
    for (_, line) in lines {
        if line.trim_end() == "@end" {
            return Ok(Kind::File { name: name.to_owned(), body });
        }
        body.push_str(line);
        body.push('\n');
    }
    Err(error(number, "@file without @end"))
}

fn parse_directive(directive: &str) -> Result<Kind, String> {
    let words: Vec<&str> = directive.split_whitespace().collect();
    match words.as_slice() {
        ["cluster", options @ ..] => cluster(options).map(Kind::Cluster),
        ["wait", "status", node, health, within] => wait(node, status(health)?, within),
        ["wait", "keys", node, count, within] => {
            let (number, until): (&str, fn(u64) -> Until) = match count.strip_suffix('+') {
                Some(number) => (number, Until::KeysFrom),
                None => (count, Until::Keys),
            };
            let bad = |_| format!("{count:?} is no number of keys: write 10, or 10+ for at least");
            wait(node, until(number.parse().map_err(bad)?), within)
        }
        ["wait", ..] => Err("@wait status n1 DOWN 5s, or: @wait keys n1 10 5s".to_owned()),
        _ => Err(format!("unknown directive @{directive}; there are @cluster @wait @file")),
    }
}

fn cluster(options: &[&str]) -> Result<ClusterSpec, String> {
    let mut spec = ClusterSpec { nodes: 3, replicas: 1, ports: None, memory_max: None };
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let bad = || format!("@cluster {option}: use nodes=3 rf=2 ports=5001 memory=4KiB");
        match name {
            "nodes" => spec.nodes = value.parse().map_err(|_| bad())?,
            "rf" => spec.replicas = value.parse().map_err(|_| bad())?,
            "ports" => spec.ports = Some(value.parse().ok().filter(|&p| p > 1).ok_or_else(bad)?),
            "memory" => {
                spec.memory_max = Some(ringkv_node::parse_size(value).map_err(|_| bad())?);
            }
            _ => return Err(bad()),
        }
    }
    Ok(spec)
}

fn status(word: &str) -> Result<Until, String> {
    match word {
        "UP" => Ok(Until::Health(Health::Up)),
        "SUSPECT" => Ok(Until::Health(Health::Suspect)),
        "DOWN" => Ok(Until::Health(Health::Down)),
        _ => Err(format!("{word:?} is no status; there are UP SUSPECT DOWN")),
    }
}

fn wait(node: &str, until: Until, within: &str) -> Result<Kind, String> {
    let node = node.parse::<NodeId>().map_err(|e| e.to_string())?;
    let within =
        duration(within).ok_or_else(|| format!("{within:?} is no time; write 5s, 300ms"))?;
    Ok(Kind::Wait(Wait { node, until, within }))
}

/// `5s` or `300ms`.
fn duration(text: &str) -> Option<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_script() {
        let text = "\
# 01-x — a title

@cluster nodes=2 rf=2 ports=5001 memory=4KiB
# Teaching.
@file users.csv
a,1
@end
> load $DIR/users.csv

Loaded 1 key

\\# in no time

> get nope
nope not found
! exit 3
@wait status n1 DOWN 5s
@wait keys n2 7 300ms
@wait keys n2 7+ 5s
";
        let script = parse(text).unwrap();
        assert_eq!(script.title, "01-x — a title");
        let lines: Vec<usize> = script.steps.iter().map(|step| step.line).collect();
        assert_eq!(lines, [3, 4, 5, 8, 14, 17, 18, 19]);
        let kinds: Vec<&Kind> = script.steps.iter().map(|step| &step.kind).collect();
        assert_eq!(
            *kinds[0],
            Kind::Cluster(ClusterSpec {
                nodes: 2,
                replicas: 2,
                ports: Some(5001),
                memory_max: Some(4096)
            })
        );
        assert_eq!(*kinds[2], Kind::File { name: "users.csv".into(), body: "a,1\n".into() });
        let Kind::Command(load) = kinds[3] else { panic!() };
        assert_eq!(load.expected, ["Loaded 1 key", "", "# in no time"]);
        assert_eq!(load.end, 13);
        let Kind::Command(get) = kinds[4] else { panic!() };
        assert_eq!((get.exit, get.end), (3, 17));
        let Kind::Wait(wait) = kinds[6] else { panic!() };
        assert_eq!((wait.until, wait.within), (Until::Keys(7), Duration::from_millis(300)));
        let Kind::Wait(wait) = kinds[7] else { panic!() };
        assert_eq!(wait.until, Until::KeysFrom(7));
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, says) in [
            ("> put a 1", "1: the first line must be the title: # NAME — title"),
            ("# t\nhello", "2: output without a command right before it"),
            ("# t\n> a\n# c\nhello", "4: output without a command right before it"),
            ("# t\n> a\n! 3", "3: after ! comes: exit N"),
            ("# t\n@file ../x\n@end", "2: @file needs a plain file name"),
            ("# t\n@file x\n", "2: @file without @end"),
            ("# t\n@cluster n=3", "2: @cluster n=3: use nodes=3 rf=2 ports=5001 memory=4KiB"),
            ("# t\n@wait status n1 OFF 5s", "2: \"OFF\" is no status; there are UP SUSPECT DOWN"),
            ("# t\n@wait keys n1 1 5m", "2: \"5m\" is no time; write 5s, 300ms"),
            ("# t\n@sleep 3", "2: unknown directive @sleep 3; there are @cluster @wait @file"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn the_scripts_of_the_project_parse() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "kv") {
                let script = parse(&std::fs::read_to_string(&path).unwrap());
                let title = script.unwrap_or_else(|e| panic!("{}:{e}", path.display())).title;
                let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
                assert!(title.starts_with(&stem), "{title} in {}", path.display());
                count += 1;
            }
        }
        assert!(count >= 10, "only {count} scripts");
    }
}
