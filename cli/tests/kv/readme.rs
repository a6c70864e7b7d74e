//! The README is true: what it shows is played and compared, what it lists is what `kv` says.
//!
//! | in the README | here |
//! |---|---|
//! | ` ```text ` blocks | one transcript, on a cluster of three nodes |
//! | the ` ```console ` block after "By hand" | line by line: servers in the background, the rest to its end |
//! | the first ` ```console ` block | named word for word: a test cannot run `cargo test` |
//! | commands, forms, exit codes | compared with `kv help` and `kv --help` |
//! | files that it or DESIGN names | they are there |
//!
//! # Caveats
//!
//! Ports are moved to a free block of the same number of digits, so that tables keep their
//! columns. Between looking for the block and using it somebody else may take it. The line with
//! `nc` is sent by hand, for not every machine has one; that `nc -q1` does the same is not tested.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const README: &str = include_str!("../../../README.md");
const LINES_MAX: usize = 150;
/// Where the README's ports begin.
const README_PORTS: &str = "500";
/// How many of them are used, from the coordinator's on.
const PORTS: u16 = 5;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The fenced blocks of a kind, in order.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    let after = README.split(fence.as_str()).skip(1);
    after.map(|rest| rest.split("```").next().unwrap().trim_end()).collect()
}

/// What stands in `backticks` on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kv")).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn first_words(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

/// The first three digits of a block of free four-digit ports, as `500` is of 5000 to 5004. Tests
/// that run at the same time look at different places.
fn free_ports(place: u16) -> String {
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let from = 200 * place + u16::try_from(std::process::id() % 200).unwrap();
    let mut tens = (0..400).map(|step| 510 + (from + step) % 400);
    let ten = tens.find(|ten| (0..PORTS).all(|last| is_free(ten * 10 + last)));
    ten.expect("ten free ports").to_string()
}

fn moved(text: &str, ports: &str) -> String {
    (0..PORTS).fold(text.to_owned(), |text, last| {
        text.replace(&format!("{README_PORTS}{last}"), &format!("{ports}{last}"))
    })
}

#[test]
fn it_is_short_and_every_block_is_played() {
    assert!(README.lines().count() < LINES_MAX, "{} lines", README.lines().count());
    let fences = README.lines().filter(|line| line.starts_with("```")).count();
    let console = blocks("console");
    assert_eq!((console.len(), fences / 2), (2, 2 + blocks("text").len()), "blocks nobody plays");
    let commands: Vec<&str> =
        console[0].lines().map(|line| line.split('#').next().unwrap().trim_end()).collect();
    assert_eq!(commands, ["$ cargo run", "$ cargo test"]);
    assert!(include_str!("../../Cargo.toml").contains("\ndefault-run = \"kv\"\n"));
}

#[test]
fn the_session_is_what_happens() {
    let ports = free_ports(0);
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("readme.kv");
    let session = transcript(&moved(&blocks("text").join("\n"), &ports));
    let text = format!("# readme — its session\n@cluster nodes=3 ports={ports}1\n{session}");
    std::fs::write(&script, text).unwrap();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_kv")).arg("check").arg(&script).output().unwrap();
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}

/// A session as a transcript: output that looks like a comment is marked as output, and where a
/// person is slow enough the transcript waits. A killed node is DOWN and a restarted one UP before
/// the next command; `show` is asked when the heartbeats have brought the keys it shall show.
fn transcript(session: &str) -> String {
    let lines: Vec<&str> = session.lines().collect();
    let mut text = String::new();
    let mut awaited: Option<String> = None;
    for (at, line) in lines.iter().enumerate() {
        if let Some(command) = line.strip_prefix("> ") {
            text += &awaited.take().unwrap_or_default();
            awaited = match command.split_once(' ') {
                Some(("kill", node)) => Some(format!("@wait status {node} DOWN 10s\n")),
                Some(("restart", node)) => Some(format!("@wait status {node} UP 10s\n")),
                _ => None,
            };
            if command == "show" {
                text += &keys_awaited(&lines[at + 2..]);
            }
        }
        let mark = if line.starts_with('#') { "\\" } else { "" };
        text += &format!("{mark}{line}\n");
    }
    text
}

/// A wait for each row of the table that `show` printed.
fn keys_awaited(rows: &[&str]) -> String {
    let table = rows.iter().take_while(|row| !row.starts_with("epoch"));
    let wait = |row: &&str| {
        let cells: Vec<&str> = row.split_whitespace().collect();
        format!("@wait keys {} {} 10s\n", cells[0], cells[3])
    };
    table.map(wait).collect()
}

#[test]
fn by_hand_works_as_shown() {
    let ports = free_ports(1);
    let dir = tempfile::tempdir().unwrap();
    let block = moved(blocks("console")[1], &ports);
    let mut servers: Vec<Server> = Vec::new();
    for step in block.split("$ ").skip(1) {
        let (line, shown) = step.split_once('\n').unwrap_or((step, ""));
        let printed = if let Some(line) = line.strip_suffix(" &") {
            let (server, ready) = Server::start(line, dir.path(), &ports);
            servers.push(server);
            assert_eq!(without_pid(&ready), without_pid(shown.trim_end()), "{line}");
            continue;
        } else if line.contains(" | nc ") {
            over_the_wire(line)
        } else {
            let output = kv(line, dir.path(), &ports).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(printed.trim_end(), shown.trim_end(), "{line}");
    }
    assert_eq!(servers.len(), 2, "a node and a coordinator");
}

/// `kv …` in a directory, with the coordinator elsewhere than at its default port.
fn kv(line: &str, dir: &Path, ports: &str) -> Command {
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("kv"), "{line}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.args(words).current_dir(dir).stdin(Stdio::null());
    let coordinator = format!("127.0.0.1:{ports}0");
    command.env("KV_CONNECT", &coordinator).env("KV_LISTEN", coordinator);
    command
}

/// A server in the background, ended when dropped.
struct Server(Child);

impl Server {
    /// Starts it; its ready line, too.
    fn start(line: &str, dir: &Path, ports: &str) -> (Self, String) {
        let mut command = kv(line, dir, ports);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let server = Self(child);
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        (server, ready.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn without_pid(line: &str) -> &str {
    line.rsplit_once("\"pid\":").unwrap_or_else(|| panic!("no pid in {line}")).0
}

/// What `echo '…' | nc -q1 HOST PORT` does.
fn over_the_wire(line: &str) -> String {
    let (echo, nc) = line.split_once(" | nc ").unwrap();
    let message = echo.strip_prefix("echo '").and_then(|text| text.strip_suffix('\'')).unwrap();
    let words: Vec<&str> = nc.split_whitespace().collect();
    let [_, host, port] = words[..] else { panic!("{nc}") };
    let mut stream = TcpStream::connect(format!("{host}:{port}")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{message}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn its_lists_are_what_help_says() {
    let all = help(&["-e", "help"]);
    let rows = README.lines().skip_while(|line| !line.starts_with("| commands for")).skip(2);
    let listed: BTreeSet<&str> = rows.take_while(|l| l.starts_with('|')).flat_map(quoted).collect();
    let mut known = first_words(&all);
    known.remove("COMMAND");
    assert_eq!(listed, known);

    let usage = help(&["--help"]);
    let flowing = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let codes = flowing(&usage).split("Exit codes:").nth(1).expect("exit codes").to_owned();
    assert!(flowing(README).contains(&format!("Exit codes:{codes}")), "{codes}");

    let forms = README.lines().filter(|line| line.starts_with("| `kv"));
    let words = forms.flat_map(quoted).filter_map(|form| form.strip_prefix("kv "));
    let words: Vec<&str> = words.filter_map(|rest| rest.split_whitespace().next()).collect();
    assert!(words.len() >= 5, "{words:?}");
    for word in words {
        let known = usage.split([' ', '\n', ',']).any(|known| known == word);
        assert!(known, "kv {word} is not in kv --help");
    }
}

#[test]
fn the_files_that_are_named_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let is_path = |word: &&str| {
        let is_plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
        let first = word.split('/').next().unwrap_or_default();
        is_plain && word.contains('/') && !first.is_empty() && root.join(first).is_dir()
    };
    let design = std::fs::read_to_string(root.join("DESIGN.md")).unwrap();
    let named: BTreeSet<&str> = quoted(README).chain(quoted(&design)).filter(is_path).collect();
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
