//! The files that `load` reads: csv, JSON lines, word lists and logs, as a list of changes.
//!
//! | ending | form |
//! |---|---|
//! | `.csv` | `key,value`; RFC 4180 quotes, so commas, quotes and newlines may be inside |
//! | `.jsonl` `.ndjson` | `{"key":…,"value":…}` a line, also `{"base64":…}`; what `export` writes |
//! | `.log` | the lines of a node's log, or bare `PUT k v` and `DEL k`: see [`log_lines`](super::log_lines) |
//! | other | one key a line; its value is the number of the line |
//!
//! # Caveats
//!
//! A first line `key,value` in a csv file is taken for a header. So is a first line `{"keyspace":…}` of JSON lines, which
//! says where an export is from: pairs are put into the keyspace of the session, wherever they are from. The file is read whole: it is
//! meant for what fits in memory, as the store's own map must. An empty line in a word list or a
//! JSON lines file holds no pair; anything else that is no pair ends the load with its line.

use std::path::Path;

use ringkv_shared::{Blob, KeyspaceName};
use serde::Deserialize;

use super::log_lines::log_lines;

use crate::grammar::FileForm;

/// What a file says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The key.
    pub(super) key: Blob,
    /// What becomes of it.
    pub(super) change: Change,
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It gets a value.
    Put {
        /// The value.
        value: Blob,
        /// When that expires, in unix milliseconds; `None`: the file does not say.
        expires: Option<u64>,
    },
    /// It is deleted.
    Del,
}

/// A change, or what is wrong with which line.
pub(super) type Parsed = Result<Row, BadLine>;

impl Row {
    /// Whether it is about a value that has expired.
    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        match self.change {
            Change::Put { expires, .. } => expires.is_some_and(|at| at <= now_ms),
            Change::Del => false,
        }
    }

    fn put(key: impl Into<Blob>, value: impl Into<Blob>) -> Self {
        let change = Change::Put { value: value.into(), expires: None };
        Self { key: key.into(), change }
    }
}

/// A line that holds no pair.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(super) struct BadLine {
    /// Its number, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) why: String,
}

impl FileForm {
    /// The form of a file by the ending of its name. Standard input has none: it is taken for
    /// what `export -` writes.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Self::Csv,
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("log") => Self::Log,
            None if path == Path::new("-") => Self::Jsonl,
            _ => Self::Words,
        }
    }
}

/// The changes that a file's bytes say; `None` if they have to be UTF-8 text and are not.
pub(super) fn rows(form: FileForm, bytes: &[u8]) -> Option<Vec<Parsed>> {
    if form == FileForm::Log {
        return Some(log_lines(bytes));
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Some(match form {
        FileForm::Csv => csv(text),
        FileForm::Jsonl => json_lines(text),
        FileForm::Words | FileForm::Log => words(text),
    })
}

fn words(text: &str) -> Vec<Parsed> {
    let pair = |(at, line): (usize, &str)| Ok(Row::put(line, (at + 1).to_string()));
    text.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(pair).collect()
}

fn json_lines(text: &str) -> Vec<Parsed> {
    #[derive(Deserialize)]
    struct Object {
        key: Blob,
        value: Blob,
        #[serde(default)]
        expires: Option<u64>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Header {
        #[allow(dead_code, reason = "only whether it is there is asked")]
        keyspace: KeyspaceName,
    }
    let pair = |(at, line): (usize, &str)| match serde_json::from_str(line) {
        Ok(Object { key, value, expires }) => {
            Ok(Row { key, change: Change::Put { value, expires } })
        }
        Err(error) => Err(BadLine { line: at + 1, why: error.to_string() }),
    };
    let holds_pair = |(at, line): &(usize, &str)| {
        !line.trim().is_empty() && (*at > 0 || serde_json::from_str::<Header>(line).is_err())
    };
    text.lines().enumerate().filter(holds_pair).map(pair).collect()
}

fn csv(text: &str) -> Vec<Parsed> {
    let mut pairs = Vec::new();
    let mut rows = Rows { rest: text, line: 1 };
    while let Some((line, row)) = rows.next_row() {
        let row = row.and_then(|fields| match <[String; 2]>::try_from(fields) {
            Ok([key, value]) => Ok((key, value)),
            Err(fields) => Err(format!("{} fields, expected key,value", fields.len())),
        });
        match row {
            Ok((key, value)) if line == 1 && key == "key" && value == "value" => {}
            Ok((key, value)) => pairs.push(Ok(Row::put(key, value))),
            Err(why) => pairs.push(Err(BadLine { line, why })),
        }
    }
    pairs
}

/// The rows of a csv text.
struct Rows<'a> {
    rest: &'a str,
    line: usize,
}

impl Rows<'_> {
    /// The next row that is not empty, with the number of its first line.
    fn next_row(&mut self) -> Option<(usize, Result<Vec<String>, String>)> {
        while let Some(rest) = self.rest.strip_prefix("\r\n").or(self.rest.strip_prefix('\n')) {
            self.rest = rest;
            self.line += 1;
        }
        if self.rest.is_empty() {
            return None;
        }
        let line = self.line;
        let mut fields = Vec::new();
        loop {
            match self.field() {
                Ok((field, more)) => {
                    fields.push(field);
                    if !more {
                        return Some((line, Ok(fields)));
                    }
                }
                Err(why) => {
                    self.skip_line();
                    return Some((line, Err(why)));
                }
            }
        }
    }

    /// The next field, and whether another follows in its row.
    fn field(&mut self) -> Result<(String, bool), String> {
        let field = if self.rest.starts_with('"') { self.quoted()? } else { self.bare() };
        if let Some(rest) = self.rest.strip_prefix(',') {
            self.rest = rest;
            return Ok((field, true));
        }
        match self.rest.strip_prefix("\r\n").or(self.rest.strip_prefix('\n')) {
            Some(rest) => {
                self.rest = rest;
                self.line += 1;
                Ok((field, false))
            }
            None if self.rest.is_empty() => Ok((field, false)),
            None => Err("text after a closing quote".to_owned()),
        }
    }

    /// A field without quotes: up to a comma or the end of the line.
    fn bare(&mut self) -> String {
        let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
        let ends_line = !self.rest[end..].starts_with(',');
        let mut field = &self.rest[..end];
        self.rest = &self.rest[end..];
        if ends_line {
            field = field.strip_suffix('\r').unwrap_or(field);
        }
        field.to_owned()
    }

    /// A field in quotes, where `""` stands for one.
    fn quoted(&mut self) -> Result<String, String> {
        let mut field = String::new();
        let mut rest = &self.rest[1..];
        loop {
            let Some(end) = rest.find('"') else {
                return Err("a quote is never closed".to_owned());
            };
            field.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    rest = after;
                }
                None => break,
            }
        }
        self.rest = rest;
        self.line += field.matches('\n').count();
        Ok(field)
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
        self.rest = &self.rest[end..];
        self.line += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Vec<String> {
        let told = |row: Parsed| match row {
            Ok(Row { key, change: Change::Put { value, expires: None } }) => {
                format!("{key}={value}")
            }
            Ok(Row { key, change: Change::Put { value, expires: Some(at) } }) => {
                format!("{key}={value} until {at}")
            }
            Ok(Row { key, change: Change::Del }) => format!("no {key}"),
            Err(bad) => bad.to_string(),
        };
        let rows = rows(FileForm::of(Path::new(name)), text.as_bytes()).unwrap();
        rows.into_iter().map(told).collect()
    }

    #[test]
    fn csv_is_rfc_4180() {
        let text = "key,value\r\na,1\r\n\"b,c\",\"say \"\"hi\"\"\"\n\"d\",\"x\ny\"\n\ne,\n";
        assert_eq!(read("f.csv", text), ["a=1", "b,c=say \"hi\"", "d=x\\ny", "e="]);
    }

    #[test]
    fn a_bad_row_is_named_and_the_others_are_read() {
        let text = "a,1\nb\nc,2,3\n\"d\"x,4\ne,5";
        assert_eq!(
            read("f.csv", text),
            [
                "a=1",
                "line 2: 1 fields, expected key,value",
                "line 3: 3 fields, expected key,value",
                "line 4: text after a closing quote",
                "e=5",
            ]
        );
        assert_eq!(read("f.csv", "a,\"1")[0], "line 1: a quote is never closed");
    }

    #[test]
    fn json_lines_take_bytes_too() {
        let text =
            "{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":{\"base64\":\"/w==\"},\"value\":\"\"}\n";
        assert_eq!(read("f.jsonl", text), ["a=1", "\\xff="]);
        let until = "{\"key\":\"a\",\"value\":\"1\",\"expires\":5}";
        assert_eq!(read("f.jsonl", until), ["a=1 until 5"]);
        assert!(read("f.jsonl", "{\"key\":\"a\"}")[0].starts_with("line 1: missing field"));
    }

    #[test]
    fn standard_input_is_taken_for_an_export() {
        assert_eq!(read("-", "{\"key\":\"a\",\"value\":\"1\"}"), ["a=1"]);
    }

    #[test]
    fn a_word_list_counts_its_lines() {
        assert_eq!(read("words", "apple\n\npear tree\n"), ["apple=1", "pear tree=3"]);
    }
}
