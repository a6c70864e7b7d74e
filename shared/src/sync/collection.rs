//! When tombstones may be forgotten, and the floor that takes their place.
//!
//! A tombstone keeps older writes from coming back. It may go when nothing older *can* come back: every member is
//! there and was asked, all owners hold the same in its leaf and nobody else holds anything, and no write is
//! under way, or may be sent again, with a number up to a mark. Then the owners raise the leaf's *floor*: of keys that
//! are not held, all up to the mark counts as deleted. So a copy that somebody who was away brings back
//! is refused, however much later.
//!
//! No clock takes part in it.
//!
//! # Caveats
//!
//! The floor is the owners' of now. Who was not a member meanwhile joins only empty; what was salvaged from it
//! is kept out as long as one of them still owns the leaf.

use std::collections::BTreeMap;

use crate::causal::Context;
use crate::merkle::{Digest, leaf_of_key};
use crate::protocol::node::{Collection, Record};
use crate::{Blob, Line, NodeId, Version};

use super::leaves::Leaves;

/// How the cluster stands, as far as tombstones have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A change of the ring waits for `rebalance`.
    pub pending: bool,
    /// Members that are DOWN or did not answer.
    pub silent: Vec<NodeId>,
    /// No write with a number up to this one is under way or may be sent again.
    pub mark: Version,
}

/// What stands against collecting the tombstone of a key, in words; nothing: the next round does it.
///
/// `digests` are those of the key's leaf, of every member that answered.
#[must_use]
pub fn blockers(
    standing: &Standing,
    leaves: &Leaves,
    record: &Record,
    digests: &BTreeMap<NodeId, Digest>,
) -> Vec<String> {
    let mut why = Vec::new();
    if standing.pending {
        why.push("a change of the ring waits for rebalance".to_owned());
    }
    let silent = standing.silent.iter();
    why.extend(silent.map(|node| format!("{node} does not answer: it may hold something older")));
    match leaves.owners(leaf_of_key(record.key.as_bytes())) {
        None => {
            why.push("a token of the ring cuts its leaf in two: its tombstones are kept".into())
        }
        Some(owners) => why.extend(unlike(owners, digests)),
    }
    if !is_behind(record, standing.mark) {
        let mark = standing.mark;
        why.push(format!("a write with a number above {mark} is under way, or may be sent again"));
    }
    why
}

/// Who holds what others do not.
fn unlike(owners: &[NodeId], digests: &BTreeMap<NodeId, Digest>) -> Vec<String> {
    let mut why = Vec::new();
    let mine: Vec<Digest> = owners.iter().filter_map(|owner| digests.get(owner)).copied().collect();
    if mine.windows(2).any(|pair| pair[0] != pair[1]) {
        let names: Vec<&str> = owners.iter().map(NodeId::as_str).collect();
        why.push(format!("{} do not hold the same in its leaf yet", names.join(" ")));
    }
    let others = digests.iter().filter(|(node, digest)| !owners.contains(node) && digest.0 != 0);
    why.extend(others.map(|(node, _)| format!("{node} is no owner and holds a copy in its leaf")));
    why
}

/// Whether all that a record tells of the coordinators' line is up to the mark.
fn is_behind(record: &Record, mark: Version) -> bool {
    let seen = record.seen();
    let mut told = seen.bounds().chain(seen.single()).filter(|v| v.line() == Line::Coordinators);
    told.all(|version| version <= mark)
}

/// What to collect in a leaf whose owners all have this digest, of the records that they hold there;
/// `None`: nothing.
#[must_use]
pub fn collection<'a>(
    leaf: u16,
    digest: Digest,
    mark: Version,
    records: impl IntoIterator<Item = &'a Record>,
) -> Option<Collection> {
    let mut floor = Context::up_to(mark);
    let mut keys: Vec<Blob> = Vec::new();
    for record in records {
        let gone = record.deleted && record.siblings.iter().all(|sibling| sibling.deleted);
        if gone && is_behind(record, mark) {
            floor.join(&record.seen());
            keys.push(record.key.clone());
        }
    }
    (!keys.is_empty()).then(|| Collection { leaf, digest: digest.to_string(), floor, keys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use proptest::prelude::*;

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn tombstone(key: &str, at: &str) -> Record {
        Record::new(key.into(), None, version(at))
    }

    fn ring() -> Ring {
        Ring::new(8, ["n1", "n2", "n3"].map(|name| (id(name), 1)))
    }

    /// Whether a change is pending, who is silent, the digests of n1 to n3 (all are owners), and what
    /// is said.
    #[test]
    fn what_stands_against_it() {
        let leaves = Leaves::new(&ring(), 3);
        let table = [
            (false, "", [7, 7, 7], "1.9", ""),
            (true, "", [7, 7, 7], "1.9", "a change of the ring waits for rebalance"),
            (false, "n2", [7, 7, 7], "1.9", "n2 does not answer: it may hold something older"),
            (false, "", [7, 8, 7], "1.9", "n1 n2 n3 do not hold the same in its leaf yet"),
            (
                false,
                "",
                [7, 7, 7],
                "1.4",
                "a write with a number above 1.4 is under way, or may be sent again",
            ),
        ];
        for (pending, silent, digests, mark, expected) in table {
            let silent = silent.split_whitespace().map(id).collect();
            let standing = Standing { pending, silent, mark: version(mark) };
            let digests = ["n1", "n2", "n3"].map(id).into_iter().zip(digests.map(Digest)).collect();
            let why = blockers(&standing, &leaves, &tombstone("k", "1.5"), &digests);
            assert_eq!(why.join("; "), expected);
        }
    }

    #[test]
    fn a_cut_leaf_and_a_copy_elsewhere_stand_against_it() {
        let leaves = Leaves::new(&ring(), 1);
        let standing = Standing { pending: false, silent: Vec::new(), mark: version("1.9") };
        let key = |cut: bool| {
            let keys = (0..).map(|i| format!("k{i}"));
            let is_cut = |key: &String| leaves.owners(leaf_of_key(key.as_bytes())).is_none();
            keys.take(200_000).find(|key| is_cut(key) == cut).unwrap()
        };
        let cut = blockers(&standing, &leaves, &tombstone(&key(true), "1.5"), &BTreeMap::new());
        assert_eq!(cut, ["a token of the ring cuts its leaf in two: its tombstones are kept"]);
        let whole = key(false);
        let owner = leaves.owners(leaf_of_key(whole.as_bytes())).unwrap()[0].clone();
        let other = ["n1", "n2"].map(id).into_iter().find(|node| *node != owner).unwrap();
        let digests = BTreeMap::from([(owner, Digest(7)), (other.clone(), Digest(7))]);
        let stray = blockers(&standing, &leaves, &tombstone(&whole, "1.5"), &digests);
        assert_eq!(stray, [format!("{other} is no owner and holds a copy in its leaf")]);
    }

    #[test]
    fn only_what_is_all_deleted_and_behind_the_mark() {
        let live = Record::new("live".into(), Some("1".into()), version("1.2"));
        let late = tombstone("late", "1.12");
        let direct = tombstone("direct", "x80000001.7");
        let mut held = Record::new("half".into(), Some("1".into()), version("1.3")).held();
        let other = Record { context: Some(Context::empty()), ..tombstone("half", "1.4") };
        held.merge(&other.held());
        let half = Record::of("half".into(), &held).unwrap();
        let all = [live, late, direct, half, tombstone("old", "1.5")];
        let found = collection(7, Digest(0xff), version("1.10"), &all).unwrap();
        assert_eq!(found.keys, ["direct".into(), "old".into()]);
        assert_eq!(found.floor.to_string(), "1.10,x80000001.7");
        assert_eq!((found.leaf, found.digest.as_str()), (7, "00000000000000ff"));
        assert_eq!(collection(7, Digest(1), version("1.4"), &all[4..]), None);
    }

    proptest! {
        /// Whatever a collected tombstone has replaced is below the floor, and nothing that the coordinator numbers
        /// from now on is.
        #[test]
        fn the_floor_keeps_the_old_out_and_lets_the_new_in(
            counters in proptest::collection::vec(1u64..40, 1..10), mark in 0u64..40,
        ) {
            let records: Vec<Record> =
                counters.iter().map(|c| tombstone(&format!("k{c}"), &format!("1.{c}"))).collect();
            let mark = Version::new(1, mark);
            let found = collection(0, Digest(1), mark, &records);
            for record in &records {
                let taken = found.as_ref().is_some_and(|found| found.keys.contains(&record.key));
                prop_assert_eq!(taken, record.version <= mark);
                if let Some(found) = found.as_ref().filter(|_| taken) {
                    prop_assert!(found.floor.includes(&record.seen()));
                    prop_assert!(!found.floor.covers(mark.next()));
                }
            }
        }
    }
}
