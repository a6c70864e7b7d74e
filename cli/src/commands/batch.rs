//! `mput`, `mget`, `mdel`: many keys in one call, each with a line of its own.
//!
//! ```text
//! kv> mput apple 1 pear 2
//! apple = 1, version 1.3 on n1 n2
//! pear = 2, version 1.4 on n2 n3
//! kv> mget apple fig
//! apple -> 1
//! fig not found on n3
//! ```
//!
//! | what came of the keys | exit code |
//! |---|---:|
//! | all done; of reads and deletes, at least one key was there | 0 |
//! | none of them was there | 3 |
//! | a read found several values of a key | 7 |
//! | none was done, all for the same reason | that of the reason |
//! | some were done and some not, or nobody knows | 5 |
//!
//! # Caveats
//!
//! A batch is no transaction. The same key twice in one batch is two writes at once, in no order.

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    BatchGet, BatchWrite, ClusterGet, ClusterWrite, Item, ReadOptions, ReplicaOutcome,
};
use ringkv_shared::{Blob, ErrorName, Failure};
use serde::Serialize;
use serde_json::json;

use super::{conflict, read};
use crate::exit;
use crate::grammar::{KeyArgs, Ttl};
use crate::report::{Report, counted};
use crate::session::Session;

/// Stores many values.
pub(super) async fn put(
    s: &mut Session,
    pairs: Vec<String>,
    ttl: Option<Ttl>,
    how: KeyArgs,
) -> Result<Report, Failure> {
    let items = items(pairs)?;
    let values: Vec<Blob> = items.iter().map(|item| item.value.clone()).collect();
    let options = Some(how.options(s.keyspace(), ttl));
    let replies = s.call(async |c| ClusterApiClient::mput(c, items, options).await).await?;
    Ok(puts_report(&replies, &values))
}

/// Keys, each with the value after it.
fn items(words: Vec<String>) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::with_capacity(words.len() / 2);
    let mut words = words.into_iter();
    while let Some(key) = words.next() {
        let Some(value) = words.next() else {
            let message = format!("{key} has no value after it; nothing was written");
            return Err(Failure::new(ErrorName::BadArgument, message)
                .hint("usage: mput <key> <value> [<key> <value> ...]"));
        };
        items.push(Item { key: key.into(), value: value.into() });
    }
    Ok(items)
}

/// Deletes many keys.
pub(super) async fn del(
    s: &mut Session,
    keys: Vec<String>,
    how: KeyArgs,
) -> Result<Report, Failure> {
    let keys = keys.into_iter().map(Blob::from).collect();
    let options = Some(how.options(s.keyspace(), None));
    let replies = s.call(async |c| ClusterApiClient::mdel(c, keys, options).await).await?;
    Ok(dels_report(&replies))
}

/// Reads many values.
pub(super) async fn get(
    s: &mut Session,
    keys: Vec<String>,
    r: Option<usize>,
) -> Result<Report, Failure> {
    let keys = keys.into_iter().map(Blob::from).collect();
    let options = Some(ReadOptions { keyspace: s.keyspace(), r, ..ReadOptions::default() });
    let replies = s.call(async |c| ClusterApiClient::mget(c, keys, options).await).await?;
    Ok(gets_report(&replies))
}

fn puts_report(replies: &[BatchWrite], values: &[Blob]) -> Report {
    let mut batch = Batch::new(replies);
    for (reply, value) in replies.iter().zip(values) {
        match reply {
            BatchWrite::Failed { key, error } => batch.failed(key, error),
            BatchWrite::Done(done) => {
                let ClusterWrite { key, version, .. } = &**done;
                let beside = match done.siblings {
                    0 => String::new(),
                    others => format!(", beside {}", counted(others as u64, "other value")),
                };
                let on = on(done);
                batch.done(format!("{key} = {value}, version {version} on {on}{beside}"), None);
            }
        }
    }
    batch.end("written")
}

fn dels_report(replies: &[BatchWrite]) -> Report {
    let mut batch = Batch::new(replies);
    for reply in replies {
        match reply {
            BatchWrite::Failed { key, error } => batch.failed(key, error),
            BatchWrite::Done(done) if done.status == Status::NotFound => {
                batch.absent(format!("{} not found on {}", done.key, on(done)));
            }
            BatchWrite::Done(done) => {
                batch.done(format!("Deleted {} from {}", done.key, on(done)), None);
            }
        }
    }
    batch.end("deleted")
}

fn gets_report(replies: &[BatchGet]) -> Report {
    let mut batch = Batch::new(replies);
    for reply in replies {
        match reply {
            BatchGet::Failed { key, error } => batch.failed(key, error),
            BatchGet::Done(got) if got.siblings.len() > 1 => batch.several(got),
            BatchGet::Done(got) if got.status == Status::NotFound => {
                batch.absent(read::not_found(got));
            }
            BatchGet::Done(got) => {
                let value = got.value.clone().unwrap_or_default();
                let plain = format!("{}\t{value}", got.key);
                batch.done(format!("{} -> {value}", got.key), Some(plain));
            }
        }
    }
    batch.end("read")
}

/// Who has a write: owners, and those who stand in.
fn on(write: &ClusterWrite) -> String {
    let has = write.replicas.iter().filter(|r| r.outcome == ReplicaOutcome::Ok);
    has.map(|r| r.node.as_str()).collect::<Vec<_>>().join(" ")
}

/// A report that is being made, and what it counts.
struct Batch {
    report: Report,
    done: u64,
    absent: u64,
    several: u64,
    /// The exit codes of those that failed.
    failed: Vec<u8>,
}

impl Batch {
    fn new(results: impl Serialize) -> Self {
        let report = Report::new(&json!({ "results": results }));
        let report = Report { plain: Some(Vec::new()), ..report };
        Self { report, done: 0, absent: 0, several: 0, failed: Vec::new() }
    }

    /// The report is rebuilt with each line.
    fn tell(&mut self, with: impl FnOnce(Report) -> Report) {
        let report = std::mem::replace(&mut self.report, Report::new(&()));
        self.report = with(report);
    }

    /// A key is done; `plain` is its line for programs when that is another one.
    fn done(&mut self, line: String, plain: Option<String>) {
        self.done += 1;
        self.tell(|report| report.plain(plain.unwrap_or_else(|| line.clone())).say(line));
    }

    fn absent(&mut self, line: String) {
        self.absent += 1;
        self.tell(|report| report.plain_warn(line.clone()).warn(line));
    }

    fn several(&mut self, got: &ClusterGet) {
        self.several += 1;
        let message = conflict::headline(&got.key, got.siblings.len());
        self.tell(|report| report.plain_warn(message.clone()).say(message));
        for value in &got.siblings {
            let line = format!("{}\t{}\t{}", got.key, value.version, value.value);
            let said = format!("  {}  {}", value.version, value.value);
            self.tell(|report| report.plain(line).say(said));
        }
    }

    fn failed(&mut self, key: &Blob, error: &Failure) {
        self.failed.push(error.name.exit_code());
        let message = &error.message;
        let line = match message.starts_with(&format!("{key} ")) {
            true => format!("error: {message}"),
            false => format!("error: {key}: {message}"),
        };
        self.tell(|report| report.plain_warn(line.clone()).warn(line));
    }

    /// The report, with a sum when not all were done.
    fn end(self, what: &str) -> Report {
        let (answered, failed) = (self.done + self.absent + self.several, self.failed.len() as u64);
        let exit = match self.failed.as_slice() {
            [] if self.several > 0 => exit::CONFLICT,
            [] if answered == self.absent => exit::NOT_FOUND,
            [] => exit::OK,
            [first, others @ ..] if answered == 0 && others.iter().all(|code| code == first) => {
                *first
            }
            _ => exit::PARTIAL,
        };
        let mut report = Report { exit, ..self.report };
        if failed > 0 {
            let sum = format!("{answered} of {} {what}", counted(answered + failed, "key"));
            report = report.plain_warn(sum.clone()).warn(sum);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{Value, from_value};

    fn failed(key: &str, name: &str) -> Value {
        json!({"key": key, "error": {"name": name, "message": "disk full"}})
    }

    fn written(key: &str, status: &str) -> Value {
        json!({"status": status, "key": key, "version": "1.3", "replicas": [
            {"node": "n1", "outcome": "ok"}, {"node": "n2", "outcome": "pending"}]})
    }

    fn puts(replies: Value) -> Report {
        puts_report(&from_value::<Vec<BatchWrite>>(replies).unwrap(), &["1".into(), "2".into()])
    }

    #[test]
    fn every_put_has_its_outcome() {
        let report = puts(json!([written("a", "ok"), written("b", "ok")]));
        let all = "a = 1, version 1.3 on n1\nb = 2, version 1.3 on n1";
        assert_eq!((text(&report.narrated).as_str(), report.exit), (all, 0));
        assert_eq!(text(report.plain.as_ref().unwrap()), all);
        let report = puts(json!([written("a", "ok"), failed("b", "DISK_FULL")]));
        assert_eq!(
            text(&report.narrated),
            "a = 1, version 1.3 on n1\nerror: b: disk full\n1 of 2 keys written"
        );
        assert_eq!(report.exit, 5);
        let named = json!({"key": "a", "error": {"name": "UNREACHABLE", "message": "a was lost"}});
        assert!(text(&puts(json!([named])).narrated).starts_with("error: a was lost\n"));
        assert_eq!(puts(json!([failed("a", "DISK_FULL"), failed("b", "DISK_FULL")])).exit, 1);
        assert_eq!(puts(json!([failed("a", "DISK_FULL"), failed("b", "UNREACHABLE")])).exit, 5);
    }

    #[test]
    fn a_read_of_many_finds_each_or_says_so() {
        let replies = json!([
            {"status": "ok", "key": "a", "value": "1", "version": "1.3", "from": "n1"},
            {"status": "not_found", "key": "b", "from": "n2"},
        ]);
        let read = |replies| gets_report(&from_value::<Vec<BatchGet>>(replies).unwrap());
        let report = read(replies.clone());
        assert_eq!(
            (text(&report.narrated).as_str(), report.exit),
            ("a -> 1\nb not found on n2", 0)
        );
        assert_eq!(text(report.plain.as_ref().unwrap()), "a\t1\nb not found on n2");
        assert_eq!(read(json!([replies[1]])).exit, 3);
        let report = read(json!([{
            "status": "ok", "key": "c", "value": "2", "version": "1.3", "from": "n1",
            "siblings": [{"value": "1", "version": "1.2"}, {"value": "2", "version": "1.3"}]
        }]));
        assert_eq!(report.exit, 7);
        assert_eq!(
            text(&report.narrated),
            "c has 2 values: no write has seen both\n  1.2  1\n  1.3  2"
        );
        assert!(text(report.plain.as_ref().unwrap()).ends_with("c\t1.2\t1\nc\t1.3\t2"));
    }

    #[test]
    fn deletes_of_nothing_are_not_found() {
        let replies = json!([written("a", "ok"), written("b", "not_found")]);
        let report = dels_report(&from_value::<Vec<BatchWrite>>(replies).unwrap());
        let told = "Deleted a from n1\nb not found on n1";
        assert_eq!((text(&report.narrated).as_str(), report.exit), (told, 0));
    }

    #[test]
    fn a_key_without_a_value_is_a_mistake() {
        let words = |words: &[&str]| items(words.iter().map(|&w| w.to_owned()).collect());
        assert_eq!(words(&["a", "1", "b", "2"]).unwrap().len(), 2);
        let odd = words(&["a", "1", "b"]).unwrap_err();
        assert_eq!(odd.message, "b has no value after it; nothing was written");
    }
}
