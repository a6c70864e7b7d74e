//! Lines of a node's log about a key, in words.
//!
//! ```text
//! PUT apple red k=default v=1.2 x=- s=7 d=6 c=…              1.2 put, through the coordinator
//! PUT apple red k=default v=x9f00c001.8 x=- s=8 d=6 c=…      x9f00c001.8 put, straight to n1
//! PUT apple red k=default v=1.2 x=- via=hint s=9 d=6 c=…     1.2 put, handed over as a hint
//! DEL apple k=default v=1.3 x=- via=sync s=10 d=6 c=…        1.3 deleted, copied by anti-entropy
//! DRP apple k=default v=1.3 s=11 d=10 c=…                    1.3 forgotten: its tombstone was collected
//! ```
//!
//! # Caveats
//!
//! Compaction keeps of each key only what is held: what was before is not told any more. A tombstone that a
//! rebalance has dropped reads as collected.

use std::collections::BTreeMap;
use std::str::FromStr;

use ringkv_shared::ring::key_position;
use ringkv_shared::{Line, NODE_EPOCH, NodeId, Version};

/// Who numbers writes of its own in which epoch.
pub(crate) struct Numberers(BTreeMap<u32, NodeId>);

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    word: String,
    version: Option<Version>,
    via: Option<String>,
    expires: bool,
}

impl Numberers {
    /// Nodes and the identities of their data directories.
    pub(crate) fn of<'a>(nodes: impl IntoIterator<Item = (&'a NodeId, &'a str)>) -> Self {
        let epoch = |uuid: &str| {
            let hash = key_position(uuid::Uuid::from_str(uuid).ok()?.as_bytes());
            u32::try_from(hash & u64::from(u32::MAX)).ok().map(|low| low | NODE_EPOCH)
        };
        let named = nodes.into_iter().filter_map(|(id, uuid)| Some((epoch(uuid)?, id.clone())));
        Self(named.collect())
    }

    /// `through the coordinator`, `straight to n1`.
    pub(crate) fn how(&self, version: Version) -> String {
        match version.line() {
            Line::Coordinators => "through the coordinator".to_owned(),
            Line::Node(epoch) => match self.0.get(&epoch) {
                Some(node) => format!("straight to {node}"),
                None => "straight to a node that is no member".to_owned(),
            },
        }
    }
}

/// All lines, oldest first; `ago` says when a number was given.
pub(crate) fn in_words(
    lines: &[String],
    numberers: &Numberers,
    ago: impl Fn(Version) -> String,
) -> Vec<String> {
    let mut entries: Vec<Entry> = Vec::new();
    for entry in lines.iter().filter_map(|line| read(line)) {
        // A snapshot repeats what is held.
        let repeats = |last: &Entry| last.word == entry.word && last.version == entry.version;
        if !entries.last().is_some_and(repeats) {
            entries.push(entry);
        }
    }
    let told = entries.iter().enumerate().map(|(at, entry)| {
        let before = &entries[..at];
        let Some(version) = entry.version else { return "its keyspace was dropped".to_owned() };
        let of_it = |earlier: &&Entry| earlier.version == Some(version);
        let last = before.iter().rev().find(of_it);
        let what = match entry.word.as_str() {
            "DRP" => {
                return match last.is_some_and(|last| last.word == "DEL") {
                    true => format!("{version} forgotten: its tombstone was collected"),
                    false => format!("{version} forgotten: the copy belonged elsewhere"),
                };
            }
            "DEL" if last.is_some_and(|last| last.word == "PUT") => {
                return format!("{version} expired");
            }
            "DEL" => "deleted",
            _ => "put",
        };
        let until = if entry.expires { " to expire" } else { "" };
        let how = match entry.via.as_deref() {
            Some("hint") => "handed over as a hint".to_owned(),
            Some("repair") => "copied by a read that found it lacking".to_owned(),
            Some("sync") => "copied by anti-entropy".to_owned(),
            Some("move") => "copied by a rebalance".to_owned(),
            _ => numberers.how(version),
        };
        match version.line() {
            Line::Coordinators => format!("{version} {what}{until}, {how}, {}", ago(version)),
            Line::Node(_) => format!("{version} {what}{until}, {how}"),
        }
    });
    told.collect()
}

/// Reads a line as far as it matters here; `None` for one that tells nothing of a key.
fn read(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let word = words.next()?.to_owned();
    // Key, and of a PUT the value: they may look like fields.
    let skipped = match word.as_str() {
        "PUT" => 2,
        "DEL" | "DRP" => 1,
        "DRK" => 0,
        _ => return None,
    };
    let fields: BTreeMap<&str, &str> =
        words.skip(skipped).filter_map(|field| field.split_once('=')).collect();
    let version = fields.get("v").and_then(|text| text.parse().ok());
    let via = fields.get("via").map(|via| (*via).to_owned());
    let expires = word == "PUT" && fields.get("x").is_some_and(|x| *x != "-");
    Some(Entry { word, version, via, expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_words() {
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let (n1, hash) = (
            "n1".parse().unwrap(),
            key_position(uuid::uuid!("67e55044-10b1-426f-9247-bb680e5fe0c8").as_bytes()),
        );
        let own = Version::new(NODE_EPOCH | u32::try_from(hash & 0xffff_ffff).unwrap(), 8);
        let table = [
            (
                "PUT a v=9.9 k=default v=1.2 x=- s=7 d=6 c=0",
                "1.2 put, through the coordinator, 5 s ago",
            ),
            (
                &format!("PUT a 1 k=default v={own} x=- s=8 d=6 c=0"),
                &format!("{own} put, straight to n1"),
            ),
            (
                "PUT a 1 k=default v=xffffffff.1 x=- s=8 d=6 c=0",
                "xffffffff.1 put, straight to a node that is no member",
            ),
            (
                "PUT a 1 k=default v=1.4 x=17 via=hint s=9 d=6 c=0",
                "1.4 put to expire, handed over as a hint, 5 s ago",
            ),
            ("DEL a k=default v=1.4 x=- s=10 d=6 c=0", "1.4 expired"),
            (
                "DEL a k=default v=1.5 x=- via=sync s=10 d=6 c=0",
                "1.5 deleted, copied by anti-entropy, 5 s ago",
            ),
            ("DRP a k=default v=1.5 s=11 d=10 c=0", "1.5 forgotten: its tombstone was collected"),
            ("DRP a k=default v=1.2 s=11 d=10 c=0", "1.2 forgotten: the copy belonged elsewhere"),
            ("DRK k=default s=12 d=10 c=0", "its keyspace was dropped"),
        ];
        let lines: Vec<String> = table.iter().map(|(line, _)| (*line).to_owned()).collect();
        let told = in_words(&lines, &Numberers::of([(&n1, uuid)]), |_| "5 s ago".to_owned());
        let expected: Vec<&str> = table.iter().map(|(_, words)| *words).collect();
        assert_eq!(told, expected);
        let twice: Vec<String> =
            lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
        assert_eq!(
            in_words(&twice, &Numberers::of([(&n1, uuid)]), |_| "5 s ago".to_owned()),
            expected
        );
    }
}
