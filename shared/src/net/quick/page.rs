//! Pages of records as they pass by: cut where one ends and the next begins, not read.
//!
//! # Caveats
//!
//! Only pages of records that have one value or none, without anything to escape, under a number of a coordinator.

use std::ops::Range;

use super::replica::{result, stamp};
use super::scan::Scan;
use crate::Blob;

/// A page of a node's `dump`.
#[derive(Debug, PartialEq, Eq)]
pub struct QuickPage {
    /// Where in the line each record is; between two there is a comma.
    pub records: Vec<Range<usize>>,
    /// What the next page comes after, if there is one.
    pub next: Option<Blob>,
}

impl QuickPage {
    /// Reads an answer to `dump`.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        let mut result = Scan::new(result(line)?);
        // Behind the result there is a bracket.
        let at = |rest: &Scan<'_>| line.len() - 1 - rest.rest().len();
        result.skip(r#"{"status":"ok","items":["#)?;
        let mut records: Vec<Range<usize>> = Vec::new();
        while !result.skip_if("]") {
            if !records.is_empty() {
                result.skip(",")?;
            }
            let from = at(&result);
            record(&mut result)?;
            records.push(from..at(&result));
        }
        let next = if result.skip_if(r#","next":"#) { Some(result.text()?.into()) } else { None };
        result.skip("}")?;
        result.is_done().then_some(Self { records, next })
    }
}

fn record(record: &mut Scan<'_>) -> Option<()> {
    record.skip(r#"{"key":"#)?;
    record.text()?;
    if record.skip_if(r#","value":"#) {
        record.text()?;
    } else {
        record.skip(r#","deleted":true"#)?;
    }
    record.skip(r#","version":"#)?;
    record.version()?;
    if record.skip_if(r#","expires":"#) {
        record.number()?;
    }
    if record.skip_if(r#","stamp":"#) {
        stamp(record)?;
    }
    record.skip("}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;
    use crate::hlc::Stamp;
    use crate::protocol::Status;
    use crate::protocol::node::{DumpReply, Record};
    use proptest::prelude::*;

    fn line(reply: &DumpReply) -> String {
        let result = serde_json::to_string(reply).unwrap();
        format!(r#"{{"jsonrpc":"2.0","id":12,"result":{result}}}"#)
    }

    fn reply(items: Vec<Record>, next: Option<Blob>) -> DumpReply {
        DumpReply { status: Status::Ok, items, sizes: Vec::new(), next }
    }

    #[test]
    fn what_is_not_plain_is_no_quick_page() {
        let plain = Record::new("apple".into(), Some("red".into()), Version::new(3, 7));
        assert!(QuickPage::read(line(&reply(vec![plain.clone()], None)).as_bytes()).is_some());
        let context = Record { context: Some("3.5".parse().unwrap()), ..plain.clone() };
        let escaped = Record { value: Some("a \"b\"".into()), ..plain.clone() };
        let of_a_node = Record { version: "x80000001.7".parse().unwrap(), ..plain.clone() };
        for other in [context, escaped, of_a_node] {
            let line = line(&reply(vec![plain.clone(), other], None));
            assert_eq!(QuickPage::read(line.as_bytes()), None, "{line}");
        }
        for bad in
            [r#"{"items":[]}"#, r#"{"status":"ok","items":[,]}"#, r#"{"status":"ok","items":["#]
        {
            let line = format!(r#"{{"jsonrpc":"2.0","id":12,"result":{bad}}}"#);
            assert_eq!(QuickPage::read(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn each_record_is_cut_out_as_serde_wrote_it(
            records in proptest::collection::vec(
                ("[ !#-\\[\\]-~äß…]{0,9}", proptest::option::of("[ !#-\\[\\]-~äß…]{0,9}"), 1u64..9999,
                    any::<Option<u64>>(), any::<Option<(u64, u32)>>()), 0..5),
            next in proptest::option::of("[a-z]{1,5}"),
        ) {
            let records: Vec<Record> = records.into_iter().map(|(key, value, counter, expires, stamp)| {
                let (expires, stamp) = (expires.map(|at| at / 2), stamp.map(|(ms, count)| Stamp { ms: ms / 2, count }));
                let record = Record::new(key.as_str().into(), value.map(Blob::from), Version::new(3, counter));
                Record { expires, stamp, ..record }
            }).collect();
            let line = line(&reply(records.clone(), next.clone().map(Blob::from)));
            let page = QuickPage::read(line.as_bytes()).expect("all of it is plain");
            prop_assert_eq!(page.next, next.map(Blob::from));
            let cut: Vec<&str> = page.records.into_iter().map(|record| &line[record]).collect();
            let expected: Vec<String> = records.iter().map(|r| serde_json::to_string(r).unwrap()).collect();
            prop_assert_eq!(cut, expected);
        }
    }
}
