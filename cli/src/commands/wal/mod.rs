//! `wal`: a node's log, for people: its last lines, all of it, whether it is whole, and what
//! became of a key.
//!
//! | module | what it tells |
//! |---|---|
//! | `state` | `verify`: file by file, finding by finding |
//! | `life` | `blame`: the lines about one key |
//!
//! # Caveats
//!
//! `tail` asks a node that answers; the others read its files, beside the node if it runs.

mod life;
mod state;

use std::collections::VecDeque;

use ringkv_node::StorageError;
use ringkv_node::inspect::{Lines, LogFiles, RawLine, blame, verify};
use ringkv_shared::net::NodeApiClient;
use ringkv_shared::{Blob, ErrorName, Failure};
use serde_json::json;

use super::expiry;
use super::place::Place;
use crate::grammar::{Format, WalView};
use crate::report::Report;
use crate::session::Session;
use crate::wire::{DEADLINE, Wire};

/// Lines shown when nobody says how many.
const TAIL_LINES: usize = 20;
/// After so many lines the shell looks whether somebody wants it to stop.
const LINES_A_TURN: usize = 1000;

/// Shows a log.
pub(super) async fn wal(
    s: &mut Session,
    target: &str,
    view: Option<WalView>,
    subject: Option<String>,
    tail: Option<usize>,
) -> Result<Report, Failure> {
    let asked = Asked::new(view, subject, tail)?;
    let place = Place::of(s, target).await?;
    match (asked, &place) {
        (Asked::Tail(lines), Place::Running(_, wire) | Place::Elsewhere(_, wire)) => {
            over_the_wire(wire, lines).await
        }
        (Asked::Tail(lines), Place::Here(_)) => last_lines(&place.log()?, lines),
        (Asked::Cat, _) => cat(s, &place.log()?).await,
        (Asked::Verify, _) => {
            let log = place.log()?;
            let checked = verify(&log).map_err(unreadable)?;
            Ok(state::report(&log, &checked, s.out.width()))
        }
        (Asked::Blame(key), _) => {
            let log = place.log()?;
            let found = blame(&log, key.as_bytes()).map_err(unreadable)?;
            Ok(life::report(&log, &key, &found, expiry::now_ms()))
        }
    }
}

/// What is wanted.
enum Asked {
    Cat,
    Verify,
    Tail(Option<usize>),
    Blame(String),
}

impl Asked {
    fn new(
        view: Option<WalView>,
        subject: Option<String>,
        tail: Option<usize>,
    ) -> Result<Self, Failure> {
        let bad = |message: String, hint: &str| {
            Err(Failure::new(ErrorName::BadArgument, message).hint(hint))
        };
        match (view, subject, tail) {
            (None | Some(WalView::Tail), None, tail) => Ok(Self::Tail(tail)),
            (Some(WalView::Tail), Some(lines), None) => match lines.parse() {
                Ok(lines) => Ok(Self::Tail(Some(lines))),
                Err(_) => bad(format!("{lines:?} is no number of lines"), "wal n1 tail 5"),
            },
            (Some(WalView::Blame), Some(key), None) => Ok(Self::Blame(key)),
            (Some(WalView::Blame), None, _) => bad("blame needs a key".into(), "wal n1 blame KEY"),
            (Some(WalView::Cat), None, None) => Ok(Self::Cat),
            (Some(WalView::Verify), None, None) => Ok(Self::Verify),
            _ => bad(
                "too many words for wal".into(),
                "wal n1 [cat|verify]        wal n1 tail 5        wal n1 blame KEY",
            ),
        }
    }
}

fn unreadable(error: StorageError) -> Failure {
    Failure::new(ErrorName::BadArgument, error.to_string()).hint("nothing was changed")
}

/// The last lines as the node tells them.
async fn over_the_wire(wire: &Wire, lines: Option<usize>) -> Result<Report, Failure> {
    let reply = wire.call(DEADLINE, async |c| NodeApiClient::log(c, lines).await).await?;
    let lines = reply.lines.clone();
    Ok(lines_report(Report::new(&reply), &reply.file, lines))
}

/// The last lines as they stand in the newest file.
fn last_lines(log: &LogFiles, lines: Option<usize>) -> Result<Report, Failure> {
    let wanted = lines.unwrap_or(TAIL_LINES);
    let file = log.files.last().expect("a log without files is refused");
    let (mut reader, mut last) = (Lines::new(file), VecDeque::new());
    while let Some(line) = reader.next_line().map_err(unreadable)? {
        if last.len() >= wanted {
            last.pop_front();
        }
        last.extend((wanted > 0).then(|| shown(&line)));
    }
    let (name, lines) = (file.path.display().to_string(), Vec::from(last));
    let report = Report::new(&json!({ "status": "ok", "file": name, "lines": lines }));
    Ok(lines_report(report, &name, lines))
}

fn lines_report(report: Report, file: &str, lines: Vec<String>) -> Report {
    let mut report = report.say(format!("# {file}"));
    report.plain = Some(Vec::new());
    lines.into_iter().fold(report, |report, line| report.say(line.clone()).plain(line))
}

/// A line as it may be shown: a good one is printable as it stands.
fn shown(line: &RawLine) -> String {
    Blob::from(line.bytes.clone()).to_string()
}

/// Prints all lines that a start would read, file by file.
async fn cat(s: &mut Session, log: &LogFiles) -> Result<Report, Failure> {
    let (mut files, mut printed) = (Vec::new(), 0_usize);
    let json = s.settings.format == Format::Json;
    for file in log.needed() {
        let name = file.path.display().to_string();
        if !json {
            s.line(&format!("# {name}"));
        }
        let (mut reader, mut lines) = (Lines::new(file), Vec::new());
        while let Some(line) = reader.next_line().map_err(unreadable)? {
            if json {
                lines.push(shown(&line));
            } else {
                s.line(&shown(&line));
            }
            printed += 1;
            if printed.is_multiple_of(LINES_A_TURN) {
                tokio::task::yield_now().await;
            }
            if s.out.closed() {
                break;
            }
        }
        files.push(json!({ "file": name, "lines": lines }));
    }
    Ok(Report::new(&json!({ "status": "ok", "files": files })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_node::disk::{Disk as _, SimDisk};
    use std::path::Path;

    /// A log without files: the reports only name its directory.
    pub(super) fn log() -> LogFiles {
        let (disk, dir) = (SimDisk::new(1), Path::new("/d/n1"));
        disk.create_dir(dir).unwrap();
        LogFiles::open(&disk, dir).unwrap()
    }

    #[test]
    fn words_that_do_not_fit_are_refused() {
        let asked = |view, subject: Option<&str>, tail| {
            Asked::new(view, subject.map(str::to_owned), tail).err().map(|failure| failure.message)
        };
        assert_eq!(asked(None, None, Some(3)), None);
        assert_eq!(asked(Some(WalView::Tail), Some("3"), None), None);
        let told = asked(Some(WalView::Tail), Some("x"), None).unwrap();
        assert_eq!(told, "\"x\" is no number of lines");
        assert_eq!(asked(Some(WalView::Blame), None, None).unwrap(), "blame needs a key");
        assert_eq!(asked(Some(WalView::Cat), Some("x"), None).unwrap(), "too many words for wal");
    }
}
