//! The lines of a log that touched one key, and what became of each.
//!
//! All files are read, the oldest content first, those too that a newer snapshot stands for: they are
//! history that is still there. The rules are those of the map: a newer version wins, an older one
//! changes nothing, a `DEL` of the same version is the end of a value that expired.
//!
//! # Caveats
//!
//! A line that is damaged cannot be attributed to a key; how many there are is told.

use std::path::PathBuf;

use ringkv_shared::Version;

use super::files::{LogFiles, Role};
use super::lines::{Judge, Judged, Lines};
use crate::StorageError;
use crate::log::record::{Line, Op};
use crate::log::value::Value;

/// What a line did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Stored a value.
    Set {
        /// The value.
        value: Value,
        /// When it expires, in unix milliseconds.
        expires: Option<u64>,
    },
    /// Stored a tombstone.
    Deleted,
    /// Made an expired value the tombstone of its version.
    Expired,
    /// Forgot the entry: other nodes have it.
    Dropped,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is what the node has.
    Current,
    /// A later line, given by its place in the list, took its place.
    Superseded(usize),
    /// It is the same as an earlier line, which a snapshot carried on.
    Carried(usize),
    /// It changed nothing: this version was there already, or nothing to forget.
    Ignored(Option<Version>),
}

/// A line that touched the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The file.
    pub file: PathBuf,
    /// Number of the line, from 1.
    pub line: u64,
    /// Whether it is in a snapshot.
    pub in_snapshot: bool,
    /// The line itself.
    pub text: String,
    /// The version that it has.
    pub version: Version,
    /// What it did.
    pub did: Did,
    /// What became of it.
    pub fate: Fate,
}

/// All that a log tells of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// The lines, the oldest first.
    pub touches: Vec<Touch>,
    /// Damaged lines, which may have touched it, too.
    pub damaged: u64,
}

/// Finds the lines that touched `key`.
///
/// # Errors
///
/// A file cannot be read.
pub fn blame(log: &LogFiles, key: &[u8]) -> Result<Blame, StorageError> {
    let (mut found, mut held) = (Blame::default(), None);
    for file in &log.files {
        let (mut lines, mut judge) = (Lines::new(file), Judge::default());
        while let Some(raw) = lines.next_line()? {
            let record = match judge.judge(&raw) {
                Judged::Good(Line::Record(record)) if *record.key == *key => record,
                // The line that is just being written.
                Judged::Bad(_) if !raw.whole => continue,
                Judged::Bad(_) => {
                    found.damaged += 1;
                    continue;
                }
                _ => continue,
            };
            found.touches.push(Touch {
                file: file.path.clone(),
                line: raw.number,
                in_snapshot: matches!(file.role, Role::Snapshot(_)),
                text: String::from_utf8_lossy(&raw.bytes).into_owned(),
                version: record.version,
                did: did(&record.copied().op),
                fate: Fate::Current,
            });
            held = decide(&mut found.touches, held);
        }
    }
    Ok(found)
}

fn did(op: &Op) -> Did {
    match op {
        Op::Put { value, expires } => Did::Set { value: value.clone(), expires: *expires },
        Op::Del => Did::Deleted,
        Op::Drop => Did::Dropped,
    }
}

/// What the last line does to what is held; gives what is held then.
fn decide(touches: &mut [Touch], held: Option<usize>) -> Option<usize> {
    let last = touches.len() - 1;
    let (before, new) = touches.split_at_mut(last);
    let new = &mut new[0];
    let Some(at) = held else {
        if new.did == Did::Dropped {
            new.fate = Fate::Ignored(None);
            return None;
        }
        return Some(last);
    };
    let old = &mut before[at];
    let expiring = matches!(old.did, Did::Set { expires: Some(_), .. });
    if new.did == Did::Deleted && new.version == old.version && expiring {
        new.did = Did::Expired;
    } else if new.version == old.version && new.in_snapshot {
        new.fate = Fate::Carried(at);
        return held;
    }
    let wins = match new.did {
        Did::Dropped | Did::Expired => new.version == old.version,
        Did::Set { .. } | Did::Deleted => new.version > old.version,
    };
    if !wins {
        new.fate = Fate::Ignored(Some(old.version));
        return held;
    }
    old.fate = Fate::Superseded(last);
    if new.did == Did::Dropped { None } else { Some(last) }
}
