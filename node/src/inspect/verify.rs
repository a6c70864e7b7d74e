//! What recovery would say to a log, and more: it goes on behind the first mistake.
//!
//! | what is found | harm | a start |
//! |---|---|---|
//! | a bad line at or below the horizon, a file that is missing, foreign or too short | [`Harm::Durable`] | refuses |
//! | a bad line of `data.log` above the horizon | [`Harm::Torn`] | cuts it off |
//! | the same, and it is the last one and only lacks its newline | [`Harm::Unfinished`] | cuts it off, if the node is dead; a node that runs is just writing it |
//! | anything in a file that a newer snapshot stands for | [`Harm::Old`] | does not look |
//!
//! # Caveats
//!
//! A file that is given alone is judged by what it says itself: nobody knows what its mark said, and
//! whether other files are missing.

use std::path::PathBuf;

use super::files::{LogFile, LogFiles, Role};
use crate::StorageError;
use crate::log::record::{BadLine, Header};
use crate::log::recover::{Verdict, verdict};
use crate::log::scan::{Bad, Scan};

/// What a finding comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// A last line without its end.
    Unfinished,
    /// In a file that no start reads.
    Old,
    /// Nobody was told that it is safe.
    Torn,
    /// Acknowledged data is damaged.
    Durable,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Number of the line, from 1; `None` if it is about the whole file.
    pub line: Option<u64>,
    /// Where the line starts, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
    /// What it comes to.
    pub harm: Harm,
    /// How many lines after it fit the line before them.
    pub later_fine: u64,
}

/// One file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Whether a start reads it.
    pub needed: bool,
    /// Good lines before the first bad one.
    pub lines: u64,
    /// Records among them.
    pub records: u64,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The gravest finding in it; `None`: it is whole.
    pub harm: Option<Harm>,
}

/// What is known of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The files, the oldest content first.
    pub files: Vec<FileReport>,
    /// What is not as it should be, in the same order.
    pub findings: Vec<Finding>,
    /// Sequence number of the last good line.
    pub last: u64,
    /// Up to which sequence number all was durable.
    pub durable: u64,
    /// Whether the node was stopped in good order, and not started since.
    pub stopped_well: bool,
}

impl Checked {
    /// Whether all is as it should be; a line that is just being written is.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.harm == Harm::Unfinished)
    }

    /// Whether a node refuses to start on it.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.harm == Harm::Durable)
    }
}

/// Where the files read so far end.
struct Chain<'a> {
    log: &'a LogFiles,
    checked: Checked,
    /// What the header of the next segment must be; `None` behind a file that is no help.
    next: Option<Next>,
}

struct Next {
    segment: u64,
    prev: u32,
    seq: u64,
}

/// Checks every file of a log.
///
/// # Errors
///
/// A file cannot be read.
pub fn verify(log: &LogFiles) -> Result<Checked, StorageError> {
    let checked = Checked { durable: log.marked, ..Checked::default() };
    let next = Some(Next { segment: 1, prev: 0, seq: 0 });
    let mut chain = Chain { log, checked, next };
    chain.identity();
    for file in &log.files {
        chain.file(file)?;
    }
    chain.end();
    Ok(chain.checked)
}

impl Chain<'_> {
    fn identity(&mut self) {
        if self.log.is_dir && self.log.identity.is_none() && !self.log.files.is_empty() {
            let reason = "the file is missing, or not a uuid and a node id";
            self.about(self.log.path.join("node.id"), reason.to_owned(), Harm::Durable);
        }
    }

    fn file(&mut self, file: &LogFile) -> Result<(), StorageError> {
        let scan = file.scan()?;
        let findings = self.checked.findings.len();
        let (bad, harm) = self.judge(file, &scan);
        if let Some(Bad { line, offset, reason }) = bad {
            let (reason, later_fine) = (reason.to_string(), scan.later_fine);
            let path = file.path.clone();
            let finding =
                Finding { file: path, line: Some(line), offset, reason, harm, later_fine };
            self.checked.findings.push(finding);
        }
        if file.needed && self.log.is_dir {
            self.follows(file, &scan);
            self.advance(file, &scan);
        }
        if file.needed {
            let covered = scan.header.as_ref().map_or(0, |header| header.seq);
            let is_snapshot = matches!(file.role, Role::Snapshot(_));
            self.checked.last = if is_snapshot { covered } else { scan.seq };
            self.checked.durable = self.checked.durable.max(scan.durable);
            self.checked.stopped_well = scan.bye && scan.bad.is_none();
        }
        let harm = self.checked.findings[findings..].iter().map(|finding| finding.harm).max();
        let (name, needed, bytes) = (file.name(), file.needed, file.bytes);
        let Scan { lines, records, .. } = scan;
        self.checked.files.push(FileReport { name, needed, lines, records, bytes, harm });
        Ok(())
    }

    /// The first bad line of a file, and what it comes to.
    fn judge(&self, file: &LogFile, scan: &Scan) -> (Option<Bad>, Harm) {
        match file.role {
            _ if !file.needed => (scan.bad.clone(), Harm::Old),
            Role::Snapshot(_) | Role::Closed(_) => (scan.bad.clone(), Harm::Durable),
            Role::Active | Role::Alone => match verdict(scan, self.checked.durable) {
                Verdict::Whole => (None, Harm::Durable),
                Verdict::Damaged(bad) => (Some(bad), Harm::Durable),
                Verdict::Torn { .. } => {
                    let unfinished = scan.bad.as_ref().is_some_and(is_unfinished);
                    let harm = if unfinished { Harm::Unfinished } else { Harm::Torn };
                    (scan.bad.clone(), harm)
                }
            },
        }
    }

    /// Checks that a file goes on where the one before it ended, and is this directory's.
    fn follows(&mut self, file: &LogFile, scan: &Scan) {
        let Some(header) = &scan.header else { return };
        let uuid = self.log.identity.as_ref().map_or(header.uuid, |identity| identity.uuid);
        if header.uuid != uuid {
            let reason = format!("the file is of the directory {}, not of {uuid}", header.uuid);
            return self.about(file.path.clone(), reason, Harm::Durable);
        }
        if let Role::Snapshot(number) = file.role {
            if header.segment != number {
                let reason = format!("the header says seg={:06}", header.segment);
                self.about(file.path.clone(), reason, Harm::Durable);
            }
            return;
        }
        let Some(Next { segment, prev, seq }) = self.next else { return };
        let expected = Header { uuid, segment, prev, seq };
        if *header != expected {
            let lost = match header.seq.checked_sub(seq) {
                Some(lines @ 1..) => format!("; s={} to {} are missing", seq + 1, seq + lines),
                _ => String::new(),
            };
            let reason = format!(
                "the file does not follow on from the one before it: expected seg={segment:06} prev={prev:08x} s={seq}{lost}"
            );
            self.about(file.path.clone(), reason, Harm::Durable);
        }
    }

    fn advance(&mut self, file: &LogFile, scan: &Scan) {
        let header = scan.header.as_ref();
        self.next = match file.role {
            Role::Snapshot(_) => header.map(|header| {
                let Header { segment, prev, seq, .. } = *header;
                Next { segment: segment + 1, prev, seq }
            }),
            // Behind a hole nobody knows how the file ends.
            _ if scan.bad.is_some() => None,
            _ => header.map(|header| Next {
                segment: header.segment + 1,
                prev: scan.crc,
                seq: scan.seq,
            }),
        };
    }

    fn end(&mut self) {
        let log = self.log;
        if !log.is_dir || log.files.iter().any(|file| file.role == Role::Active) {
            return;
        }
        let ends = self.next.as_ref().is_some_and(|next| next.seq >= self.checked.durable);
        if !ends {
            let reason = "the file with the newest data is missing".to_owned();
            self.about(log.path.join(crate::log::files::ACTIVE), reason, Harm::Durable);
        }
    }

    fn about(&mut self, file: PathBuf, reason: String, harm: Harm) {
        let finding = Finding { file, line: None, offset: 0, reason, harm, later_fine: 0 };
        self.checked.findings.push(finding);
    }
}

/// Whether a file only ends before its last line does.
fn is_unfinished(bad: &Bad) -> bool {
    bad.reason == BadLine::NoNewline
}
