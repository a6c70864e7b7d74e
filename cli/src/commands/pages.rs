//! `scan`, `count`, `export`: every key in order, page by page.
//!
//! A page carries the cursor of the next one, so neither side holds more than a page. `export`
//! writes to a temporary file beside the target and renames it when all is there and synced: a
//! half-written export never has the target's name.
//!
//! # Caveats
//!
//! Pages are read one after another while others write: the whole is no snapshot of one moment,
//! but a key that is there all the time is always in it. When a node does not answer, keys that
//! only it holds are missing: that is said, and the exit code is 5.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::ScanReply;
use ringkv_shared::protocol::node::Record;
use ringkv_shared::{Blob, ErrorName, Failure, NodeId};
use serde_json::json;

use crate::exit;
use crate::grammar::Format;
use crate::report::Report;
use crate::session::Session;

/// Keys a page.
const PAGE_KEYS: usize = 1000;

/// The cursor of a walk over all keys.
struct Walk {
    prefix: Option<Blob>,
    after: Option<Blob>,
    keys_only: bool,
    done: bool,
    silent: BTreeSet<NodeId>,
}

impl Walk {
    fn new(prefix: Option<String>, keys_only: bool) -> Self {
        let prefix = prefix.map(Blob::from);
        Self { prefix, after: None, keys_only, done: false, silent: BTreeSet::new() }
    }

    /// The next page of at most so many records; `None` after the last.
    async fn next(&mut self, s: &Session, limit: usize) -> Result<Option<Vec<Record>>, Failure> {
        if self.done || limit == 0 {
            return Ok(None);
        }
        let (prefix, after, keys_only) = (self.prefix.clone(), self.after.clone(), self.keys_only);
        let page = async |c: &crate::wire::Tap<'_>| {
            ClusterApiClient::scan(c, prefix, after, Some(limit), Some(keys_only)).await
        };
        let ScanReply { items, next, silent, .. } = s.call(page).await?;
        self.silent.extend(silent);
        self.done = next.is_none();
        self.after = next;
        Ok(Some(items))
    }

    /// The report, with a warning and exit code 5 when nodes were silent.
    fn close(&self, mut report: Report) -> Report {
        if self.silent.is_empty() {
            return report;
        }
        let names: Vec<&str> = self.silent.iter().map(NodeId::as_str).collect();
        let text = format!("warning: keys that only {} may hold are missing", names.join(" "));
        report.members.insert("silent".into(), json!(names));
        if report.plain.is_some() {
            report = report.plain_warn(text.clone());
        }
        Report { exit: exit::PARTIAL, ..report.warn(text) }
    }
}

/// Prints keys and values in order.
pub(super) async fn scan(
    s: &mut Session,
    prefix: Option<String>,
    limit: Option<u64>,
) -> Result<Report, Failure> {
    let mut walk = Walk::new(prefix, false);
    let mut left = limit.unwrap_or(u64::MAX);
    let mut items = Vec::new();
    let mut count = 0_u64;
    while let Some(page) = walk.next(s, page_size(left)).await? {
        left = left.saturating_sub(page.len() as u64);
        count += page.len() as u64;
        for record in page {
            if s.settings.format == Format::Json {
                items.push(json!({ "key": record.key, "value": record.value }));
            } else {
                let line = scan_line(&record, s.settings.narrate);
                s.line(&line);
            }
        }
        if s.out.closed() {
            break;
        }
    }
    // The plain form is the pairs alone, printed already.
    let mut report = Report::new(&json!({ "items": items, "count": count }));
    report.plain = Some(Vec::new());
    Ok(walk.close(report.say(format!("{count} keys"))))
}

fn page_size(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PAGE_KEYS)
}

/// `apple -> 123`, or key and value with a tab between for programs.
fn scan_line(record: &Record, narrate: bool) -> String {
    let value = record.value.clone().unwrap_or_default();
    let between = if narrate { " -> " } else { "\t" };
    format!("{}{between}{value}", record.key)
}

/// Counts keys.
pub(super) async fn count(s: &mut Session, prefix: Option<String>) -> Result<Report, Failure> {
    let mut walk = Walk::new(prefix, true);
    let mut count = 0_u64;
    while let Some(page) = walk.next(s, PAGE_KEYS).await? {
        count += page.len() as u64;
    }
    let report = Report::new(&json!({ "count": count }));
    Ok(walk.close(report.say(format!("{count} keys")).plain(count.to_string())))
}

/// Writes every pair to a file, or to standard output.
pub(super) async fn export(s: &mut Session, file: &Path) -> Result<Report, Failure> {
    let mut walk = Walk::new(None, false);
    if file == Path::new("-") {
        while let Some(page) = walk.next(s, PAGE_KEYS).await? {
            page.iter().for_each(|record| s.line(&export_line(record)));
            if s.out.closed() {
                break;
            }
        }
        let mut report = Report::new(&json!({}));
        report.plain = Some(Vec::new());
        return Ok(walk.close(report));
    }
    let failed = |error: std::io::Error| {
        Failure::new(ErrorName::NotApplied, format!("{}: {error}", file.display()))
    };
    let mut target = Target::create(file).map_err(failed)?;
    let mut count = 0_u64;
    while let Some(page) = walk.next(s, PAGE_KEYS).await? {
        count += page.len() as u64;
        for record in &page {
            writeln!(target.writer, "{}", export_line(record)).map_err(failed)?;
        }
    }
    target.commit().map_err(failed)?;
    let report = Report::new(&json!({ "count": count, "file": file }));
    Ok(walk.close(report.say(format!("Exported {count} keys to {}.", file.display()))))
}

/// One pair as `load` reads it.
fn export_line(record: &Record) -> String {
    let value = record.value.clone().unwrap_or_default();
    let key = serde_json::to_string(&record.key).unwrap_or_default();
    let value = serde_json::to_string(&value).unwrap_or_default();
    format!("{{\"key\":{key},\"value\":{value}}}")
}

/// A file that gets its name only when it is whole.
struct Target {
    writer: BufWriter<tempfile::NamedTempFile>,
    file: PathBuf,
}

impl Target {
    fn create(file: &Path) -> std::io::Result<Self> {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        Ok(Self { writer: BufWriter::new(temporary), file: file.to_owned() })
    }

    fn commit(self) -> std::io::Result<()> {
        let temporary = self.writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        temporary.as_file().sync_all()?;
        let file: File = temporary.persist(&self.file)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shared::Version;

    fn record(key: Blob, value: &str) -> Record {
        let version = Version::new(1, 1);
        Record { key, value: Some(value.into()), deleted: false, version, expires: None }
    }

    #[test]
    fn exported_lines_are_those_that_load_reads() {
        assert_eq!(export_line(&record("a".into(), "1\n")), r#"{"key":"a","value":"1\n"}"#);
        let bytes = export_line(&record(vec![255].into(), ""));
        assert_eq!(bytes, r#"{"key":{"base64":"/w=="},"value":""}"#);
    }

    #[test]
    fn pairs_are_sentences_or_columns() {
        let apple = record("apple".into(), "123");
        assert_eq!(scan_line(&apple, true), "apple -> 123");
        assert_eq!(scan_line(&apple, false), "apple\t123");
    }

    #[test]
    fn an_export_has_its_name_only_when_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl");
        let mut target = Target::create(&file).unwrap();
        writeln!(target.writer, "x").unwrap();
        assert!(!file.exists());
        target.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x\n");
    }

    #[test]
    fn a_silent_node_makes_the_answer_partial() {
        let mut walk = Walk::new(None, true);
        walk.silent.insert("n2".parse().unwrap());
        let report = walk.close(Report::sentence("3 keys").plain("3"));
        assert_eq!(report.exit, 5);
        assert_eq!(report.members["silent"], json!(["n2"]));
    }
}
