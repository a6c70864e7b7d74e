//! What a command found out, ready to be told in three ways.
//!
//! A [`Report`] is made from the typed reply by a pure function beside each command, so the
//! sentences are tested without a network. It holds the *narrated* text (the REPL's: sentences
//! and per-replica lines), the *plain* text (one-shot: only the result, so that it composes) and
//! the *members* of the JSON object.
//!
//! ```text
//! narrated   apple -> 123
//! plain      123
//! json       {"ok":true,"cmd":"get","key":"apple","value":"123",…}
//! ```
//!
//! # Caveats
//!
//! All three are made although one is shown. Commands are typed by people; bulk work does not
//! come through here key by key.

use bytes::Bytes;
use ringkv_shared::Failure;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::exit;

/// One line, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A line of the result.
    Result(String),
    /// A line of a warning or an error.
    Notice(String),
}

/// The outcome of one command.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// For people in a REPL or script.
    pub(crate) narrated: Vec<Told>,
    /// For one-shot use; the narrated text when there is none of its own.
    pub(crate) plain: Option<Vec<Told>>,
    /// The result's bytes as they are, for a plain result that nobody reads at a terminal.
    pub(crate) raw: Option<Bytes>,
    /// The members of the JSON object, beside `ok` and `cmd`.
    pub(crate) members: Map<String, Value>,
    /// The exit code.
    pub(crate) exit: u8,
}

impl Report {
    /// A report whose JSON members are those of a reply.
    #[must_use]
    pub(crate) fn new(reply: &impl Serialize) -> Self {
        let members = match serde_json::to_value(reply) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        Self { narrated: Vec::new(), plain: None, raw: None, members, exit: exit::OK }
    }

    /// A report of one sentence, the same in both texts, under `message` in JSON.
    #[must_use]
    pub(crate) fn sentence(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(&json!({ "message": text })).say(text)
    }

    /// With one more narrated line.
    #[must_use]
    pub(crate) fn say(mut self, line: impl Into<String>) -> Self {
        self.narrated.push(Told::Result(line.into()));
        self
    }

    /// With one more narrated line of warning.
    #[must_use]
    pub(crate) fn warn(mut self, line: impl Into<String>) -> Self {
        self.narrated.push(Told::Notice(line.into()));
        self
    }

    /// With one more line of the plain result.
    #[must_use]
    pub(crate) fn plain(mut self, line: impl Into<String>) -> Self {
        self.plain.get_or_insert_default().push(Told::Result(line.into()));
        self
    }

    /// With one more line of warning beside the plain result.
    #[must_use]
    pub(crate) fn plain_warn(mut self, line: impl Into<String>) -> Self {
        self.plain.get_or_insert_default().push(Told::Notice(line.into()));
        self
    }

    /// The JSON object in one line: `ok` and `cmd` first, `exit` last, and only when it is not 0.
    #[must_use]
    pub(crate) fn json(&self, cmd: &str) -> String {
        let mut line = format!("{{\"ok\":{},\"cmd\":{}", self.exit == exit::OK, Value::from(cmd));
        for (name, value) in &self.members {
            line.push_str(&format!(",{}:{value}", Value::from(name.as_str())));
        }
        if self.exit != exit::OK {
            line.push_str(&format!(",\"exit\":{}", self.exit));
        }
        line.push('}');
        line
    }

    /// The report of a key that is not there: exit code 3, no failure of the cluster.
    #[must_use]
    pub(crate) fn not_found(message: String) -> Self {
        let report = Self::new(&json!({})).absent(&message);
        report.warn(message)
    }

    /// The same, marked as that of a key that is not there.
    #[must_use]
    pub(crate) fn absent(mut self, message: &str) -> Self {
        let error = json!({ "name": "KEY_NOT_FOUND", "message": message, "hint": null });
        self.members.insert("error".into(), error);
        Self { exit: exit::NOT_FOUND, ..self }
    }
}

/// A failure as a report: what happened, then what to do, indented.
impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        let error = json!({
            "name": failure.name, "message": failure.message, "hint": failure.hint,
        });
        let mut report = Self::new(&json!({ "error": error }));
        if let (Some(detail), Some(Value::Object(error))) =
            (failure.detail, report.members.get_mut("error"))
        {
            error.insert("detail".into(), *detail);
        }
        report.exit = failure.name.exit_code();
        report = report.warn(format!("error: {}", failure.message));
        for line in failure.hint.iter().flat_map(|hint| hint.lines()) {
            report = report.warn(format!("  {line}"));
        }
        report
    }
}

/// `1 key`, `2 keys`: a number with its noun.
#[must_use]
pub(crate) fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The lines as one text, for tests and captures.
#[cfg(test)]
pub(crate) fn text(lines: &[Told]) -> String {
    let line = |told: &Told| match told {
        Told::Result(line) | Told::Notice(line) => line.clone(),
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shared::ErrorName;

    #[test]
    fn a_failure_is_told_in_three_short_lines() {
        let failure = Failure::new(ErrorName::NodeExists, "n1 is already in the cluster")
            .hint("another id:  addnode n4 5004");
        let report = Report::from(failure);
        assert_eq!(
            text(&report.narrated),
            "error: n1 is already in the cluster\n  another id:  addnode n4 5004"
        );
        assert_eq!(
            report.json("addnode"),
            r#"{"ok":false,"cmd":"addnode","error":{"name":"NODE_EXISTS","message":"n1 is already in the cluster","hint":"another id:  addnode n4 5004"},"exit":1}"#
        );
    }

    #[test]
    fn an_absent_key_has_its_own_exit_code() {
        let report = Report::not_found("nope not found on n2".into());
        assert_eq!(report.exit, 3);
        assert!(report.json("get").starts_with(r#"{"ok":false,"cmd":"get","error":"#));
    }
}
