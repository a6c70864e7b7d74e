//! `scan`, `count`: every key in order, page by page.
//!
//! A page carries the cursor of the next one, so neither side holds more than a page.
//!
//! # Caveats
//!
//! Pages are read one after another while others write: the whole is no snapshot of one moment,
//! but a key that is there all the time is always in it. Of several values of a key that of the
//! greatest version is shown. When a node does not answer, keys that
//! only it holds are missing: that is said, and the exit code is 5.

use std::collections::BTreeSet;

use ringkv_shared::net::{Client, ClusterApiClient};
use ringkv_shared::protocol::cluster::ScanReply;
use ringkv_shared::protocol::node::Record;
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use serde_json::{Value, json};

use crate::exit;
use crate::grammar::Format;
use crate::report::{Report, counted};
use crate::session::Session;

/// Keys a page.
pub(super) const PAGE_KEYS: usize = 1000;

/// The cursor of a walk over all keys.
#[derive(Default)]
pub(super) struct Walk {
    /// `None`: that of all that names none.
    keyspace: Option<KeyspaceName>,
    prefix: Option<Blob>,
    after: Option<Blob>,
    keys_only: bool,
    /// The picture that is walked; `None`: what is there now.
    picture: Option<String>,
    done: bool,
    /// Keys with more than one value.
    pub(super) conflicts: u64,
    /// Nodes that did not answer.
    pub(super) silent: BTreeSet<NodeId>,
}

impl Walk {
    fn new(s: &Session, prefix: Option<String>, keys_only: bool) -> Self {
        let (keyspace, prefix) = (s.keyspace_named(), prefix.map(Blob::from));
        Self { keyspace, prefix, keys_only, ..Self::default() }
    }

    /// A walk over all that a picture has of a keyspace.
    pub(super) fn of_picture(name: &str, keyspace: Option<KeyspaceName>) -> Self {
        Self { keyspace, picture: Some(name.to_owned()), ..Self::default() }
    }

    /// The next page of at most so many records; `None` after the last.
    pub(super) async fn next(
        &mut self,
        s: &Session,
        limit: usize,
    ) -> Result<Option<Vec<Record>>, Failure> {
        if self.done || limit == 0 {
            return Ok(None);
        }
        let (prefix, after, keys_only) = (self.prefix.clone(), self.after.clone(), self.keys_only);
        let (picture, space) = (self.picture.clone(), self.keyspace.clone());
        let page = async |c: &Client| {
            let (limit, keys_only) = (Some(limit), Some(keys_only));
            ClusterApiClient::scan(c, prefix, after, limit, keys_only, picture, space).await
        };
        let ScanReply { items, next, silent, .. } = s.call(page).await?;
        self.conflicts += items.iter().filter(|record| !record.siblings.is_empty()).count() as u64;
        self.silent.extend(silent);
        self.done = next.is_none();
        self.after = next;
        Ok(Some(items))
    }

    /// The report, with a warning and exit code 5 when nodes were silent.
    pub(super) fn close(&self, mut report: Report) -> Report {
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
    let mut walk = Walk::new(s, prefix, false);
    let mut left = limit.unwrap_or(u64::MAX);
    let mut items = Vec::new();
    let mut count = 0_u64;
    while let Some(page) = walk.next(s, page_size(left)).await? {
        left = left.saturating_sub(page.len() as u64);
        count += page.len() as u64;
        for record in page {
            if s.settings.format == Format::Json {
                items.push(item(&record));
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
    report = report.say(counted(count, "key"));
    if walk.conflicts > 0 {
        let text = format!(
            "{} more than one value: get shows all",
            if walk.conflicts == 1 {
                "1 key has".into()
            } else {
                format!("{} keys have", walk.conflicts)
            }
        );
        report = report.warn(text.clone()).plain_warn(text);
    }
    Ok(walk.close(report))
}

fn item(record: &Record) -> Value {
    let mut item = json!({ "key": record.key, "value": record.value });
    if let Some(expires) = record.expires {
        item["expires"] = expires.into();
    }
    if !record.siblings.is_empty() {
        item["siblings"] = record.siblings.len().into();
    }
    item
}

fn page_size(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PAGE_KEYS)
}

/// `apple -> 123`, with how many values there are when there are several; or key and value with a tab
/// between for programs.
fn scan_line(record: &Record, narrate: bool) -> String {
    let value = record.value.clone().unwrap_or_default();
    let between = if narrate { " -> " } else { "\t" };
    let several = match record.siblings.len() {
        others @ 1.. if narrate => format!("  (1 of {} values)", others + 1),
        _ => String::new(),
    };
    format!("{}{between}{value}{several}", record.key)
}

/// Counts keys.
pub(super) async fn count(s: &mut Session, prefix: Option<String>) -> Result<Report, Failure> {
    let mut walk = Walk::new(s, prefix, true);
    let mut count = 0_u64;
    while let Some(page) = walk.next(s, PAGE_KEYS).await? {
        count += page.len() as u64;
    }
    let report = Report::new(&json!({ "count": count }));
    Ok(walk.close(report.say(counted(count, "key")).plain(count.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shared::Version;
    use ringkv_shared::protocol::node::Sibling;

    fn record(key: Blob, value: &str) -> Record {
        let version = Version::new(1, 1);
        Record::new(key, Some(value.into()), version)
    }

    #[test]
    fn pairs_are_sentences_or_columns() {
        let apple = record("apple".into(), "123");
        assert_eq!(scan_line(&apple, true), "apple -> 123");
        assert_eq!(scan_line(&apple, false), "apple\t123");
        let other = Version::new(1, 1);
        let sibling =
            Sibling { value: None, deleted: false, version: other, expires: None, stamp: None };
        let apple = Record { siblings: vec![sibling], ..apple };
        assert_eq!(scan_line(&apple, true), "apple -> 123  (1 of 2 values)");
        assert_eq!(scan_line(&apple, false), "apple\t123");
        assert_eq!(item(&apple)["siblings"], 1);
    }

    #[test]
    fn a_silent_node_makes_the_answer_partial() {
        let mut walk = Walk::default();
        walk.silent.insert("n2".parse().unwrap());
        let report = walk.close(Report::sentence("3 keys").plain("3"));
        assert_eq!(report.exit, 5);
        assert_eq!(report.members["silent"], json!(["n2"]));
    }
}
