//! What `wal blame` tells: each line about a key, and a sentence on what it did and became.
//!
//! # Caveats
//!
//! The log does not know who asked for a write, only who numbered it.

use ringkv_node::inspect::{Blame, Did, Fate, LogFiles, Touch};
use ringkv_shared::{Blob, NODE_EPOCH, Version};
use serde_json::{Value, json};

use crate::commands::expiry;
use crate::report::{Report, counted};

/// Of a value that is longer only the beginning is shown, in characters.
const VALUE_SHOWN_MAX: usize = 40;

/// The report of `blame`.
pub(super) fn report(log: &LogFiles, key: &str, found: &Blame, now_ms: u64) -> Report {
    let mut report = Report::new(&members(found)).say(format!("# {}", log.path.display()));
    for touch in &found.touches {
        report = report.say(format!("{}  {}", place(touch), touch.text));
        report = report.say(format!("  {}", sentence(touch, &found.touches, now_ms)));
    }
    if found.damaged > 0 {
        let lines = counted(found.damaged, "damaged line");
        report = report.warn(format!("warning: {lines} may be about it, too: wal ID verify"));
    }
    if found.touches.is_empty() {
        let message = format!("no line is about {key}");
        return report.absent(&message).warn(message);
    }
    report
}

fn members(found: &Blame) -> Value {
    let touch = |touch: &Touch| {
        let (fate, by) = match touch.fate {
            Fate::Current => ("current", None),
            Fate::Superseded(at) => ("superseded", Some(place(&found.touches[at]))),
            Fate::Carried(at) => ("carried", Some(place(&found.touches[at]))),
            Fate::Ignored(_) => ("ignored", None),
        };
        json!({
            "file": touch.file, "line": touch.line, "text": touch.text,
            "version": touch.version.to_string(), "fate": fate, "by": by,
        })
    };
    let touches: Vec<Value> = found.touches.iter().map(touch).collect();
    json!({ "status": "ok", "touches": touches, "damaged": found.damaged })
}

/// `data.log:3`.
fn place(touch: &Touch) -> String {
    let name = touch.file.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}:{}", touch.line)
}

/// What a line did and what became of it.
fn sentence(touch: &Touch, all: &[Touch], now_ms: u64) -> String {
    let by = writer(touch.version);
    let did = match &touch.did {
        Did::Set { value, expires } => {
            let value = short(&Blob::from(value.to_bytes()).to_string());
            let until = expires.map(|at| format!(", {}", expiry::in_words(at, now_ms)));
            let until = until.unwrap_or_default();
            match touch.in_snapshot {
                true => format!("was {value}, {by}, when the snapshot was made{until}"),
                false => format!("set to {value} by {by}{until}"),
            }
        }
        Did::Deleted if touch.in_snapshot => {
            format!("was deleted, {by}, when the snapshot was made")
        }
        Did::Deleted => format!("deleted by {by}"),
        Did::Expired => format!("the value of {by} had expired and was swept"),
        Did::Dropped => "dropped: a rebalance had given it to other nodes".to_owned(),
        Did::KeyspaceDropped => "dropped with its whole keyspace".to_owned(),
    };
    let became = match touch.fate {
        Fate::Current if matches!(touch.did, Did::Dropped | Did::KeyspaceDropped) => {
            "the node knows nothing of it any more".into()
        }
        Fate::Current if matches!(touch.did, Did::Deleted | Did::Expired) => {
            "the node keeps its tombstone".to_owned()
        }
        Fate::Current => "this is what the node has".to_owned(),
        Fate::Superseded(at) => format!("superseded by {}", place(&all[at])),
        Fate::Carried(at) => format!("the same as {}", place(&all[at])),
        Fate::Ignored(Some(held)) => format!("changed nothing: the node had {held}"),
        Fate::Ignored(None) => "changed nothing: the node had nothing".to_owned(),
    };
    format!("{did}; {became}")
}

/// Who numbered a write.
fn writer(version: Version) -> String {
    match version.epoch {
        epoch if epoch == 0 || epoch & NODE_EPOCH != 0 => {
            format!("write {version} to the node itself")
        }
        epoch => {
            format!("write {version} (number {} of coordinator start {epoch})", version.counter)
        }
    }
}

fn short(value: &str) -> String {
    match value.char_indices().nth(VALUE_SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::log;
    use super::*;
    use crate::report::text;

    fn touch(line: u64, version: Version, did: Did, fate: Fate) -> Touch {
        let (file, text) = ("/d/n1/data.log".into(), format!("LINE {line}"));
        let (stamp, context, via) = (None, None, None);
        Touch { file, line, in_snapshot: false, text, version, stamp, context, via, did, fate }
    }

    fn set(text: &str, expires: Option<u64>) -> Did {
        let value = text.to_owned().into();
        Did::Set { value: ringkv_node::log::value::Value::new(value), expires }
    }

    #[test]
    fn a_key_has_a_life_in_sentences() {
        let v = Version::new;
        let mut touches = vec![
            touch(2, v(0, 1), set("1", None), Fate::Superseded(1)),
            touch(3, v(1, 4), set(&"x".repeat(50), Some(9_000)), Fate::Superseded(4)),
            touch(4, v(1, 4), set("2", None), Fate::Carried(1)),
            touch(5, v(1, 3), Did::Deleted, Fate::Ignored(Some(v(1, 4)))),
            touch(6, v(1, 4), Did::Expired, Fate::Superseded(5)),
            touch(7, v(1, 4), Did::Dropped, Fate::Current),
        ];
        touches[2].in_snapshot = true;
        let told = report(&log(), "k", &Blame { touches, damaged: 2 }, 12_000);
        assert_eq!(
            text(&told.narrated),
            "# /d/n1\n\
             data.log:2  LINE 2\n\
             \x20 set to 1 by write 0.1 to the node itself; superseded by data.log:3\n\
             data.log:3  LINE 3\n\
             \x20 set to xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx... by write 1.4 (number 4 of coordinator start 1), expired 3.0 s ago; superseded by data.log:6\n\
             data.log:4  LINE 4\n\
             \x20 was 2, write 1.4 (number 4 of coordinator start 1), when the snapshot was made; the same as data.log:3\n\
             data.log:5  LINE 5\n\
             \x20 deleted by write 1.3 (number 3 of coordinator start 1); changed nothing: the node had 1.4\n\
             data.log:6  LINE 6\n\
             \x20 the value of write 1.4 (number 4 of coordinator start 1) had expired and was swept; superseded by data.log:7\n\
             data.log:7  LINE 7\n\
             \x20 dropped: a rebalance had given it to other nodes; the node knows nothing of it any more\n\
             warning: 2 damaged lines may be about it, too: wal ID verify"
        );
        let nothing = report(&log(), "k", &Blame::default(), 0);
        assert_eq!(
            (text(&nothing.narrated).as_str(), nothing.exit),
            ("# /d/n1\nno line is about k", 3)
        );
    }
}
