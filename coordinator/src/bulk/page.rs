//! Records on their way from one node to another: side by side as JSON, not read.

use std::ops::Range;

use jsonrpsee::core::client::Error;
use ringkv_shared::Blob;
use ringkv_shared::net::{QuickPage, read_answer};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A page of records.
#[derive(Debug)]
pub(super) struct Page {
    /// The line that they came in, or the records alone.
    line: Box<[u8]>,
    /// Where in it each is; between two there is a comma.
    records: Vec<Range<usize>>,
    /// What the next page comes after, if there is one.
    pub(super) next: Option<Blob>,
}

/// The same with each record in memory of its own.
#[derive(Deserialize)]
struct RawPage {
    items: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<Blob>,
}

impl Page {
    /// Reads an answer to `dump`.
    pub(super) fn read(line: Box<[u8]>) -> Result<Self, Error> {
        let Some(QuickPage { records, next }) = QuickPage::read(&line) else {
            return read_answer(&line).map(Self::of);
        };
        Ok(Self { line, records, next })
    }

    fn of(RawPage { items, next }: RawPage) -> Self {
        let (mut line, mut records) = (Vec::new(), Vec::with_capacity(items.len()));
        for item in items {
            if !line.is_empty() {
                line.push(b',');
            }
            let from = line.len();
            line.extend_from_slice(item.get().as_bytes());
            records.push(from..line.len());
        }
        Self { line: line.into_boxed_slice(), records, next }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.records.len()
    }

    /// The next records from one on: of what is left a part, all parts alike, with at most so many keys and bytes;
    /// one record at least, if there is one.
    pub(super) fn batch(&self, from: usize, keys: usize, bytes: u64) -> Range<usize> {
        let rest = &self.records[from..];
        let Some(first) = rest.first() else { return from..from };
        let keys = rest.len().div_ceil(rest.len().div_ceil(keys));
        let until = first.start as u64 + bytes.min(self.line.len() as u64);
        let fits = rest.iter().take(keys).take_while(|record| record.end as u64 <= until);
        from..from + fits.count().max(1)
    }

    /// Some records, one at least, as they stand in a list.
    pub(super) fn text(&self, records: &Range<usize>) -> &[u8] {
        &self.line[self.records[records.start].start..self.records[records.end - 1].end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quick way, and the same page with a blank in front.
    fn pages(items: &str) -> [Page; 2] {
        ["", " "].map(|blank| {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"status":"ok",{blank}"items":[{items}],"next":"z"}}}}"#
            );
            Page::read(line.into_bytes().into()).unwrap()
        })
    }

    #[test]
    fn a_page_is_cut_into_batches_of_whole_records() {
        let record = |key: &str| format!(r#"{{"key":"{key}","deleted":true,"version":"3.9"}}"#);
        let items = ["a", "bb", "c"].map(record);
        let one = items[0].len() as u64;
        for page in pages(&items.join(",")) {
            assert_eq!((page.len(), page.next.as_ref()), (3, Some(&"z".into())));
            for (from, keys, bytes, expected) in [
                (0, 500, u64::MAX, 0..3),
                (0, 2, u64::MAX, 0..2),
                (0, 500, one, 0..1),
                (0, 500, 2 * one, 0..1),
                (0, 500, 2 * one + 2, 0..2),
                (1, 500, 1, 1..2),
                (1, 500, 2 * one + 2, 1..3),
                (2, 1, u64::MAX, 2..3),
            ] {
                let batch = page.batch(from, keys, bytes);
                assert_eq!(batch, expected, "{from} {keys} {bytes}");
                let text = std::str::from_utf8(page.text(&batch)).unwrap();
                assert_eq!(text, items[batch].join(","));
            }
        }
        assert_eq!(pages("").map(|page| page.batch(0, 500, u64::MAX)), [0..0, 0..0]);
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"status":"ok"}}"#,
        ] {
            assert!(Page::read(line.as_bytes().into()).is_err(), "{line}");
        }
    }
}
