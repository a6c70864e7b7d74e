//! What a replica holds for a key, as it travels.
//!
//! Nearly always that is one value, or the tombstone of a delete, under one version that replaced
//! all that its line had before: then a record is key, value and version. When writes that knew
//! nothing of each other meet, `siblings` has the others, and when a writer said what it had
//! seen, `context` has what was replaced.
//!
//! A write travels in the same form: what is to be held when nothing else is.

use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::causal::{Context, Siblings};
use crate::hlc::Stamp;
use crate::version::Version;

/// All that is held for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key.
    pub key: Blob,
    /// The value; absent for a tombstone and in pages that were asked for without values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// True for a tombstone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The version of the write; of siblings, the greatest.
    pub version: Version,
    /// When the value expires, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was written, where the last write wins; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// What was replaced. Absent: all of the version's line before it, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// The other values that nothing has replaced, in the order of their versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<Sibling>,
}

/// One of several values that a key has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sibling {
    /// The value; absent for a tombstone and where values were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// True for a tombstone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The version of the write.
    pub version: Version,
    /// When the value expires, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was written, where the last write wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

impl Record {
    /// A value (`Some`) or a tombstone that replaces all that its line had before.
    #[must_use]
    pub fn new(key: Blob, value: Option<Blob>, version: Version) -> Self {
        let deleted = value.is_none();
        let (expires, stamp, context, siblings) = (None, None, None, Vec::new());
        Self { key, value, deleted, version, expires, stamp, context, siblings }
    }

    /// The record of what is held; `None` if no write ever was.
    #[must_use]
    pub fn of(key: Blob, held: &Siblings<Sibling>) -> Option<Self> {
        let (greatest, others) = held.values().split_last()?;
        let Sibling { value, deleted, version, expires, stamp } = greatest.1.clone();
        let context = (!held.past().is_before(version)).then(|| held.past().clone());
        let siblings = others.iter().map(|(_, sibling)| sibling.clone()).collect();
        Some(Self { key, value, deleted, version, expires, stamp, context, siblings })
    }

    /// What was replaced.
    #[must_use]
    pub fn past(&self) -> Context {
        self.context.clone().unwrap_or_else(|| Context::before(self.version))
    }

    /// What is held, as a set that can be merged with another replica's.
    #[must_use]
    pub fn held(&self) -> Siblings<Sibling> {
        Siblings::new(self.past(), self.values().map(|sibling| (sibling.version, sibling)))
    }

    /// What its reader has seen: the context for the next write.
    #[must_use]
    pub fn seen(&self) -> Context {
        let mut seen = self.past();
        self.versions().for_each(|version| seen.add(version));
        seen
    }

    /// The versions that nothing has replaced, in order.
    pub fn versions(&self) -> impl Iterator<Item = Version> + '_ {
        let others = self.siblings.iter().map(|sibling| sibling.version);
        others.chain([self.version])
    }

    /// All values and tombstones that nothing has replaced, in the order of their versions.
    pub fn values(&self) -> impl Iterator<Item = Sibling> + '_ {
        let Self { value, deleted, version, expires, stamp, .. } = self;
        let (value, deleted) = (value.clone(), *deleted);
        let own = Sibling { value, deleted, version: *version, expires: *expires, stamp: *stamp };
        self.siblings.iter().cloned().chain([own])
    }

    /// The same without values: what two replicas compare.
    #[must_use]
    pub fn versions_held(&self) -> Siblings<()> {
        Siblings::new(self.past(), self.versions().map(|version| (version, ())))
    }

    /// What replicas that hold these hold together; `None` of none. Of records with a stamp, the last.
    #[must_use]
    pub fn merged<'a>(records: impl IntoIterator<Item = &'a Self> + Clone) -> Option<Self> {
        let first = records.clone().into_iter().next()?;
        if records.clone().into_iter().all(|record| record.is_same(first)) {
            // Nearly always.
            return Some(first.clone());
        }
        if records.clone().into_iter().any(|record| record.stamp.is_some()) {
            return records
                .into_iter()
                .max_by_key(|record| (record.stamp, record.version))
                .cloned();
        }
        let mut all = Siblings::default();
        for record in records {
            all.merge(&record.held());
        }
        Self::of(first.key.clone(), &all)
    }

    /// Whether a replica that holds the other has seen and holds the same writes.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.version == other.version
            && self.context == other.context
            && self.siblings.iter().map(|s| s.version).eq(other.siblings.iter().map(|s| s.version))
    }

    /// Whether it is one value or tombstone that replaced all that its line had before.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.context.is_none() && self.siblings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_short_and_all_comes_back() {
        let plain = Record::new("a".into(), Some("1".into()), Version::new(1, 2));
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(text, r#"{"key":"a","value":"1","version":"1.2"}"#);
        let mut held = plain.held();
        let other = Record {
            context: Some("1.1".parse().unwrap()),
            ..Record::new("a".into(), None, Version::new(1, 4))
        };
        held.merge(&other.held());
        let both = Record::of("a".into(), &held).unwrap();
        assert_eq!(both.versions().map(|v| v.to_string()).collect::<Vec<_>>(), ["1.2", "1.4"]);
        assert_eq!(both.seen().to_string(), "1.2,+1.4");
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), both);
        assert_eq!(Record::of("a".into(), &both.held()), Some(both));
    }
}
