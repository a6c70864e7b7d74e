//! The lines of a log as changes: an old `data.log`, a snapshot, what `wal cat` printed, or the bare
//! lines of the ancestor's log.
//!
//! | line | read as |
//! |---|---|
//! | `PUT …`, `DEL …` with a checksum at the end | a record: key and value are unescaped, the version decides |
//! | `PUT key value`, `DEL key` | bare: the value is the rest of the line, the last one wins |
//! | `DRP` `BYE` `END` | nothing |
//! | begins with `#` | nothing; `#ringkv` begins a file, whose lines are checked as a chain |
//!
//! Of several records of a key the one with the highest version counts, wherever it stands. Behind a
//! header a line whose checksum does not fit is no change, and said. Lines without a header, picked
//! out of a log by hand, are taken at their word.
//!
//! # Caveats
//!
//! `DRP` is not heeded: the node had given the key to others, and who loads the log of one node
//! rather has a key too many.

use std::collections::BTreeMap;

use ringkv_node::inspect::{Judge, Judged, RawLine};
use ringkv_node::log::decode::{decode_unchecked, said_checksum};
use ringkv_node::log::record::{Line, Op, Record};
use ringkv_shared::{Blob, Version};

use super::records::{BadLine, Change, Parsed, Row};

/// The changes that a log comes to, one a key, in key order, and the lines that are no change.
pub(super) fn log_lines(bytes: &[u8]) -> Vec<Parsed> {
    let mut log = Log::default();
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        log.line(at + 1, line);
    }
    let changes = log.newest.into_iter().map(|(key, (_, change))| Ok(Row { key, change }));
    changes.chain(log.bad.into_iter().map(Err)).collect()
}

#[derive(Default)]
struct Log {
    /// What each key comes to; of a bare line there is no version, and it beats what is before it.
    newest: BTreeMap<Blob, (Option<Version>, Change)>,
    bad: Vec<BadLine>,
    /// Behind a header: what the next line has to fit.
    judge: Option<Judge>,
}

impl Log {
    fn line(&mut self, number: usize, line: &[u8]) {
        if line.starts_with(b"#ringkv ") {
            self.judge = Some(Judge::default());
        } else if line.is_empty() || line.starts_with(b"#") {
            return;
        }
        let read = match &mut self.judge {
            Some(judge) => judged(judge, number, line),
            None if said_checksum(line).is_some() => unchecked(line),
            None => return self.bare(number, line),
        };
        match read {
            Ok(Some(record)) => self.record(record),
            Ok(None) => {}
            Err(why) => self.bad.push(BadLine { line: number, why }),
        }
    }

    fn record(&mut self, record: Record) {
        let change = match record.op {
            Op::Put { value, expires } => Change::Put { value: value.into_bytes().into(), expires },
            Op::Del => Change::Del,
            Op::Drop | Op::DropSpace => return,
        };
        let (key, version) = (Blob::from(record.key), Some(record.version));
        let held = self.newest.get(&key).and_then(|(held, _)| *held);
        // A delete of the same version is the end of a value that expired.
        if held <= version {
            self.newest.insert(key, (version, change));
        }
    }

    fn bare(&mut self, number: usize, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (word, rest) = split(line);
        let (key, value) = split(rest.unwrap_or_default());
        let change = match (word, value) {
            (b"PUT", Some(value)) if !key.is_empty() => {
                let value = Blob::from(value.to_vec());
                Change::Put { value, expires: None }
            }
            (b"DEL", None) if !key.is_empty() => Change::Del,
            _ => {
                let why = "neither PUT key value nor DEL key".to_owned();
                return self.bad.push(BadLine { line: number, why });
            }
        };
        self.newest.insert(Blob::from(key.to_vec()), (None, change));
    }
}

/// The record of a line behind a header.
fn judged(judge: &mut Judge, number: usize, line: &[u8]) -> Result<Option<Record>, String> {
    let (bytes, len) = (line.to_vec(), line.len() as u64 + 1);
    let raw = RawLine { number: number as u64, offset: 0, bytes, len, whole: true };
    match judge.judge(&raw) {
        Judged::Good(Line::Record(record)) => Ok(Some(record.copied())),
        Judged::Header(_) | Judged::Good(_) => Ok(None),
        Judged::Bad(why) => Err(why.to_string()),
    }
}

/// The record of a line that stands alone.
fn unchecked(line: &[u8]) -> Result<Option<Record>, String> {
    match decode_unchecked(line) {
        Ok(Line::Record(record)) => Ok(Some(record.copied())),
        Ok(_) => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

/// What is before the first blank, and what is after it.
fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == b' ') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let told = |row: Parsed| match row {
            Ok(Row { key, change: Change::Put { value, expires } }) => {
                let until = expires.map_or_else(String::new, |at| format!(" until {at}"));
                format!("{key}={value}{until}")
            }
            Ok(Row { key, change: Change::Del }) => format!("no {key}"),
            Err(bad) => bad.to_string(),
        };
        log_lines(text.as_bytes()).into_iter().map(told).collect()
    }

    #[test]
    fn the_ancestors_lines_are_bare() {
        let text =
            "PUT apple 123\nPUT b two words\nPUT c %41 \nDEL apple\r\nPUT d  \nPUT e\nGET a\n\n";
        let why = "neither PUT key value nor DEL key";
        assert_eq!(
            read(text),
            [
                "no apple",
                "b=two words",
                "c=%41 ",
                "d= ",
                &format!("line 6: {why}"),
                &format!("line 7: {why}")
            ]
        );
    }

    #[test]
    fn picked_lines_are_taken_at_their_word_and_the_version_decides() {
        let text = "\
# /data/n1/data.log
PUT a new k=default v=1.9 x=- s=9 d=8 c=00000000
PUT a old%20one k=default v=1.2 x=- s=2 d=1 c=00000000
PUT b 1 k=default v=1.3 x=5000 s=3 d=2 c=00000000
DRP b k=default v=1.3 s=4 d=3 c=00000000
DEL c k=default v=1.4 x=- s=5 d=4 c=00000000
BYE s=6 d=5 c=00000000
PUT d k=default c=00000000
";
        let [a, b, c, bad] = &read(text)[..] else { panic!("{:?}", read(text)) };
        assert_eq!([a, b, c], ["a=new", "b=1 until 5000", "no c"]);
        assert!(bad.starts_with("line 8: "), "{bad}");
    }

    #[test]
    fn behind_a_header_the_checksums_count() {
        use ringkv_node::log::encode::{encode_header, encode_record};
        use ringkv_node::log::record::Header;
        use ringkv_node::log::value::Value;
        let mut text = Vec::new();
        let uuid = "00000000-0000-0000-0000-0000000000ab".parse().unwrap();
        let mut crc = encode_header(&Header { uuid, segment: 1, prev: 0, seq: 0 }, &mut text);
        for (n, key) in [(1, "a"), (2, "b"), (3, "c")] {
            let op = Op::write(Some(Value::new("1".into())));
            let version = Version::new(1, n);
            let record = Record {
                key: key.into(),
                op,
                version,
                stamp: None,
                context: None,
                via: None,
                seq: n,
                durable: 0,
            };
            crc = encode_record(&record, crc, &mut text);
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(read(&text), ["a=1", "b=1", "c=1"]);
        let told = read(&text.replace("PUT b 1", "PUT b 2"));
        assert_eq!(told[..2], ["a=1", "c=1"]);
        assert!(told[2].starts_with("line 3: checksum mismatch"), "{told:?}");
    }
}
