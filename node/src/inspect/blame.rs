//! The lines of a log that touched one key, and what became of each.
//!
//! All files are read, the oldest content first, those too that a newer snapshot stands for: they are
//! history that is still there. The rules are those of the map: a line takes the place of all that its
//! writer had seen, what was replaced before it came changes nothing, a `DEL` of the same version is the
//! end of a value that expired, and where the last write wins it pushes out the others.
//!
//! # Caveats
//!
//! A line that is damaged cannot be attributed to a key; how many there are is told.

use std::path::PathBuf;

use ringkv_shared::Version;
use ringkv_shared::causal::{Context, Siblings};
use ringkv_shared::hlc::Stamp;
use ringkv_shared::protocol::node::Via;

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
    /// Forgot all that was held: other nodes have it.
    Dropped,
    /// Forgot the keyspace.
    KeyspaceDropped,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is what the node has, or one of several values that it has.
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
    /// When it was written, where the last write wins.
    pub stamp: Option<Stamp>,
    /// What its writer had seen; `None`: all of its line before it.
    pub context: Option<Context>,
    /// How it came here; `None`: as a write.
    pub via: Option<Via>,
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
    let (mut found, mut held) = (Blame::default(), Siblings::default());
    for file in &log.files {
        let (mut lines, mut judge) = (Lines::new(file), Judge::default());
        while let Some(raw) = lines.next_line()? {
            let record = match judge.judge(&raw) {
                Judged::Good(Line::Record(record)) if record.touches(key) => record,
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
                stamp: record.stamp,
                context: record.context.as_deref().cloned(),
                via: record.via,
                did: did(&record.copied().op),
                fate: Fate::Current,
            });
            decide(&mut found.touches, &mut held);
        }
    }
    Ok(found)
}

fn did(op: &Op) -> Did {
    match op {
        Op::Put { value, expires } => Did::Set { value: value.clone(), expires: *expires },
        Op::Del => Did::Deleted,
        Op::Drop => Did::Dropped,
        Op::DropSpace => Did::KeyspaceDropped,
    }
}

/// What the last line does to what is held: values named by the line that stored them.
fn decide(touches: &mut [Touch], held: &mut Siblings<usize>) {
    let last = touches.len() - 1;
    let before = held.clone();
    let (version, greatest) = (touches[last].version, before.values().last().map(|(v, _)| *v));
    if matches!(touches[last].did, Did::Dropped | Did::KeyspaceDropped) {
        if greatest.is_none() {
            touches[last].fate = Fate::Ignored(None);
        }
        *held = Siblings::default();
    } else {
        let same = before.values().iter().find(|(other, _)| *other == version).map(|(_, at)| *at);
        let expiring = |at: usize| matches!(touches[at].did, Did::Set { expires: Some(_), .. });
        let ends = touches[last].did == Did::Deleted && same.is_some_and(expiring);
        let seen = touches[last].context.clone().unwrap_or_else(|| Context::before(version));
        if ends {
            touches[last].did = Did::Expired;
            let values =
                before.values().iter().map(|(v, at)| (*v, if *v == version { last } else { *at }));
            *held = Siblings::new(before.past().clone(), values);
        }
        let stamped = |at: usize| touches[at].stamp.is_some();
        if stamped(last) || held.values().iter().any(|(_, at)| stamped(*at)) {
            let arrives = same.is_none().then_some((version, last));
            let all: Vec<_> = held.values().iter().copied().chain(arrives).collect();
            *held = Siblings::last(all, |at| touches[*at].stamp);
        } else {
            held.write(version, &seen, last);
        }
        let stored = held.values().iter().any(|(_, at)| *at == last);
        if !stored {
            touches[last].fate = match same {
                Some(at) if touches[last].in_snapshot => Fate::Carried(at),
                _ => Fate::Ignored(greatest),
            };
        }
    }
    for (_, at) in before.values() {
        if !held.values().iter().any(|(_, other)| other == at) {
            touches[*at].fate = Fate::Superseded(last);
        }
    }
}
