//! `export`: every key and value at one moment, to a file, while others write.
//!
//! The coordinator takes a picture of the cluster, which is walked page by page and ended. A file is
//! written under a temporary name beside its own and renamed when all is there and synced: a
//! half-written export never has the target's name.
//!
//! With fewer silent nodes than there are copies, every key is at a node that answered, and the
//! export is whole. With more it is refused, unless somebody says that a part is enough.
//!
//! # Caveats
//!
//! A write that fewer than all owners took may be only at a node that is silent: then it is not in
//! the export. When very much is overwritten while it runs, a node gives the picture up, and so does
//! the export. One that is ended with Ctrl-C leaves the picture to end by itself, within a
//! minute.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::cluster::ClusterFreeze;
use ringkv_shared::protocol::node::Record;
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId};
use serde_json::json;

use super::pages::{PAGE_KEYS, Walk};
use super::{keyspace, progress};
use crate::report::{Report, counted};
use crate::session::Session;
use crate::wire::DEADLINE;

/// Writes every pair to a file, or to standard output.
pub(super) async fn export(s: &mut Session, file: &Path, partial: bool) -> Result<Report, Failure> {
    let started = Instant::now();
    let space = s.keyspace_named();
    let copies = match &space {
        Some(_) => Some(keyspace::copies(s).await?),
        None => None,
    };
    let freeze = async |c: &Client| ClusterApiClient::freeze(c).await;
    let mut picture = s.call(freeze).await?;
    picture.replication = copies.unwrap_or(picture.replication);
    let mut walk = Walk::of_picture(&picture.picture, space.clone());
    walk.silent.extend(picture.silent.iter().cloned());
    let written = match enough(&walk.silent, &picture, partial) {
        Ok(()) if file == Path::new("-") => to_stdout(s, space.as_ref(), &mut walk).await,
        Ok(()) => to_file(s, space.as_ref(), &mut walk, file, (&picture, partial)).await,
        Err(failure) => Err(failure),
    };
    let name = picture.picture.clone();
    // If nobody hears it, the picture ends by itself.
    let _ = s.wire.call(DEADLINE, async |c| ClusterApiClient::thaw(c, name).await).await;
    let count = written?;
    let mut members = json!({
        "status": "ok", "count": count, "version": picture.version, "at_ms": picture.at_ms,
    });
    if file == Path::new("-") {
        let mut report = Report::new(&members);
        report.plain = Some(Vec::new());
        let report = conflicts(&walk, report);
        return Ok(close(&walk, &picture, report));
    }
    members["file"] = json!(file);
    let sentence = sentence(count, file, &picture, started.elapsed());
    Ok(close(&walk, &picture, conflicts(&walk, Report::new(&members).say(sentence))))
}

/// The report, with what several values of a key mean for it.
fn conflicts(walk: &Walk, report: Report) -> Report {
    if walk.conflicts == 0 {
        return report;
    }
    let keys = counted(walk.conflicts, "key");
    let text = format!(
        "{keys} with more than one value: the others are under \"siblings\", which load leaves out"
    );
    match report.plain.is_some() {
        true => report.warn(text.clone()).plain_warn(text),
        false => report.warn(text),
    }
}

/// The report, with what the silent nodes mean for it.
fn close(walk: &Walk, picture: &ClusterFreeze, mut report: Report) -> Report {
    if walk.silent.is_empty() || walk.silent.len() >= picture.replication {
        return walk.close(report);
    }
    let names: Vec<&str> = walk.silent.iter().map(NodeId::as_str).collect();
    let text = format!("{} did not answer; the others have every key", names.join(" "));
    report.members.insert("silent".into(), json!(names));
    if report.plain.is_some() {
        report = report.plain_warn(text.clone());
    }
    report.warn(text)
}

fn sentence(count: u64, file: &Path, picture: &ClusterFreeze, took: Duration) -> String {
    let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(picture.at_ms));
    let (keys, file, seconds) = (counted(count, "key"), file.display(), took.as_secs_f64());
    format!(
        "Exported {keys} to {file}: all writes up to {}, at {at}, in {seconds:.2} s.",
        picture.version
    )
}

/// Refuses when keys may be missing and nobody said that this is all right.
fn enough(
    silent: &BTreeSet<NodeId>,
    picture: &ClusterFreeze,
    partial: bool,
) -> Result<(), Failure> {
    if partial || silent.is_empty() || silent.len() < picture.replication {
        return Ok(());
    }
    let names: Vec<&str> = silent.iter().map(NodeId::as_str).collect();
    let message = format!(
        "{} did not answer and may hold the only copy of some keys; nothing was exported",
        names.join(" ")
    );
    Err(Failure::new(ErrorName::Unreachable, message)
        .hint("restart it, then export again; or take what there is: export FILE --partial"))
}

async fn to_stdout(
    s: &mut Session,
    space: Option<&KeyspaceName>,
    walk: &mut Walk,
) -> Result<u64, Failure> {
    let mut count = 0;
    space.iter().for_each(|space| s.line(&header(space)));
    while let Some(page) = walk.next(s, PAGE_KEYS).await? {
        count += page.len() as u64;
        page.iter().for_each(|record| s.line(&line(record)));
        if s.out.closed() {
            break;
        }
    }
    Ok(count)
}

async fn to_file(
    s: &mut Session,
    space: Option<&KeyspaceName>,
    walk: &mut Walk,
    file: &Path,
    (picture, partial): (&ClusterFreeze, bool),
) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(ErrorName::NotApplied, format!("{}: {error}", file.display()))
    };
    let mut target = Target::create(file).map_err(failed)?;
    let bar = progress::count(s.settings.progress);
    let mut count = 0;
    if let Some(space) = space {
        writeln!(target.writer, "{}", header(space)).map_err(failed)?;
    }
    while let Some(page) = walk.next(s, PAGE_KEYS).await? {
        enough(&walk.silent, picture, partial)?;
        count += page.len() as u64;
        bar.set_position(count);
        for record in &page {
            writeln!(target.writer, "{}", line(record)).map_err(failed)?;
        }
    }
    target.commit().map_err(failed)?;
    bar.finish_and_clear();
    Ok(count)
}

/// The first line of an export of another keyspace than `default`.
fn header(space: &KeyspaceName) -> String {
    json!({ "keyspace": space }).to_string()
}

/// One pair as `load` reads it; other values that it has beside are there to be seen.
fn line(record: &Record) -> String {
    let text = |value: &Option<Blob>| {
        serde_json::to_string(&value.clone().unwrap_or_default()).unwrap_or_default()
    };
    let key = serde_json::to_string(&record.key).unwrap_or_default();
    let mut line = format!("{{\"key\":{key},\"value\":{}", text(&record.value));
    if let Some(expires) = record.expires {
        line += &format!(",\"expires\":{expires}");
    }
    if !record.siblings.is_empty() {
        let others: Vec<String> = record.siblings.iter().map(|other| text(&other.value)).collect();
        line += &format!(",\"siblings\":[{}]", others.join(","));
    }
    line + "}"
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
    use crate::exit;
    use crate::report::text;
    use ringkv_shared::Version;
    use ringkv_shared::protocol::Status;
    use ringkv_shared::protocol::node::Sibling;

    fn record(key: Blob, value: &str, expires: Option<u64>) -> Record {
        let version = Version::new(1, 1);
        Record { expires, ..Record::new(key, Some(value.into()), version) }
    }

    fn picture(replication: usize) -> ClusterFreeze {
        ClusterFreeze {
            status: Status::Ok,
            picture: "p".to_owned(),
            version: Version::new(2, 17),
            at_ms: 1_767_225_600_000,
            replication,
            silent: Vec::new(),
        }
    }

    #[test]
    fn lines_are_those_that_load_reads() {
        assert_eq!(line(&record("a".into(), "1\n", None)), r#"{"key":"a","value":"1\n"}"#);
        let until = line(&record("a".into(), "1", Some(5)));
        assert_eq!(until, r#"{"key":"a","value":"1","expires":5}"#);
        let bytes = line(&record(vec![255].into(), "", None));
        assert_eq!(bytes, r#"{"key":{"base64":"/w=="},"value":""}"#);
        let sibling = Sibling {
            value: Some("2".into()),
            deleted: false,
            version: Version::new(1, 1),
            expires: None,
            stamp: None,
        };
        let several = Record { siblings: vec![sibling], ..record("a".into(), "1", None) };
        assert_eq!(line(&several), r#"{"key":"a","value":"1","siblings":["2"]}"#);
        assert_eq!(header(&"orders".parse().unwrap()), r#"{"keyspace":"orders"}"#);
    }

    #[test]
    fn it_says_of_what_moment_it_is() {
        assert_eq!(
            sentence(3, Path::new("b.jsonl"), &picture(2), Duration::from_millis(50)),
            "Exported 3 keys to b.jsonl: all writes up to 2.17, at 2026-01-01T00:00:00Z, in 0.05 s."
        );
    }

    #[test]
    fn a_part_is_only_exported_when_asked_for() {
        let silent =
            |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect::<BTreeSet<_>>();
        assert!(enough(&silent(&["n1"]), &picture(2), false).is_ok());
        assert!(enough(&silent(&["n1", "n2"]), &picture(2), true).is_ok());
        let failure = enough(&silent(&["n1", "n2"]), &picture(2), false).unwrap_err();
        assert_eq!(
            failure.message,
            "n1 n2 did not answer and may hold the only copy of some keys; nothing was exported"
        );
        assert!(enough(&silent(&["n1"]), &picture(1), false).is_err());
    }

    #[test]
    fn silent_nodes_are_named() {
        let mut walk = Walk::of_picture("p", None);
        walk.silent.insert("n2".parse().unwrap());
        let whole = close(&walk, &picture(2), Report::sentence("done"));
        assert_eq!(text(&whole.narrated), "done\nn2 did not answer; the others have every key");
        assert_eq!(whole.exit, exit::OK);
        assert_eq!(close(&walk, &picture(1), Report::sentence("done")).exit, exit::PARTIAL);
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
}
