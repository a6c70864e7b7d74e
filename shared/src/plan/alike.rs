//! What becomes of all keys of a sort at once, where those who hold them hold the same.
//!
//! The digest of what each node holds of a sort tells that without a look at a single key. Where it does not, for some
//! node lacks something or was written to in between, the keys are looked at one by one, as ever.

use super::Found;
use crate::protocol::node::{Record, SortCount};
use crate::topology::Sort;
use crate::{Blob, NodeId, Version};

/// What each node holds of a sort; who holds nothing is not among them.
pub type Held = Vec<(NodeId, SortCount)>;

/// What is to be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Nothing: all owners have all.
    None,
    /// All keys of the sort.
    All {
        /// Who has them.
        from: NodeId,
        /// Who lacks some or all of them.
        to: Vec<NodeId>,
        /// What is there.
        count: SortCount,
        /// Some of `to` had something: it may be what nobody else has.
        mixed: bool,
    },
    /// That has to be looked at.
    Unclear,
}

/// What is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drops {
    /// Nothing: only owners have any.
    None,
    /// What some hold as the owners do, who all hold the same.
    At {
        /// Those who hold the same as the owners.
        alike: Vec<NodeId>,
        /// Those of whose keys only some are held so by the owners, or none.
        others: Vec<NodeId>,
        /// What the owners hold.
        count: SortCount,
    },
    /// That has to be looked at.
    Unclear,
}

/// What all these nodes hold, if they do and it is the same.
fn same(held: &Held, nodes: &[NodeId]) -> Option<SortCount> {
    let first = of(held, nodes.first()?)?;
    let has_same = |node| of(held, node).is_some_and(|theirs| alike(&theirs, &first));
    nodes.iter().all(has_same).then_some(first)
}

/// The bytes may differ: values expire by each node's clock.
fn alike(one: &SortCount, other: &SortCount) -> bool {
    (one.keys, one.digest) == (other.keys, other.digest)
}

fn of(held: &Held, node: &NodeId) -> Option<SortCount> {
    held.iter().find(|(holder, _)| holder == node).map(|(_, count)| *count)
}

/// A sort as a walk would have found each of its keys; `None` if its keys have to be looked at.
#[must_use]
pub fn counted(sort: &Sort, held: &Held) -> Option<(u64, Vec<Found>)> {
    let count = same(held, &sort.now)?;
    let found = held.iter().map(|(node, theirs)| {
        let record = Record::new(Blob::default(), None, Version::new(1, 1));
        alike(theirs, &count).then(|| Found { node: node.clone(), record, bytes: theirs.bytes })
    });
    Some((count.keys, found.collect::<Option<_>>()?))
}

/// What is to be copied of a sort, when this is held of it.
#[must_use]
pub fn copies(sort: &Sort, held: &Held) -> Copies {
    if held.is_empty() {
        return Copies::None;
    }
    let Some(count) = same(held, &sort.now) else { return Copies::Unclear };
    let mut others = held.iter().filter(|(node, _)| !sort.then.contains(node));
    if others.any(|(_, theirs)| !alike(theirs, &count)) {
        return Copies::Unclear;
    }
    let lack = |node: &&NodeId| of(held, node).is_none_or(|theirs| !alike(&theirs, &count));
    let to: Vec<NodeId> = sort.then.iter().filter(lack).cloned().collect();
    let Some(from) = sort.source().filter(|_| !to.is_empty()) else { return Copies::None };
    debug_assert!(to.iter().all(|to| sort.goes(from, to)), "owners of now hold the same");
    let mixed = to.iter().any(|node| of(held, node).is_some());
    Copies::All { from: from.clone(), to, count, mixed }
}

/// What is to be dropped of a sort whose owners are those of now.
#[must_use]
pub fn drops(sort: &Sort, held: &Held) -> Drops {
    let strays: Held = held.iter().filter(|(node, _)| !sort.now.contains(node)).cloned().collect();
    if strays.is_empty() {
        return Drops::None;
    }
    let Some(count) = same(held, &sort.now) else { return Drops::Unclear };
    let (same, differ): (Held, Held) =
        strays.into_iter().partition(|(_, theirs)| alike(theirs, &count));
    let nodes = |strays: Held| strays.into_iter().map(|(node, _)| node).collect();
    Drops::At { alike: nodes(same), others: nodes(differ), count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::Digest;

    fn ids(text: &str) -> Vec<NodeId> {
        text.chars().map(|c| c.to_string().parse().unwrap()).collect()
    }

    fn names(nodes: &[NodeId]) -> String {
        nodes.iter().map(NodeId::as_str).collect()
    }

    /// What is held as `a1 b2`: node, and a number that stands for all that it holds.
    fn held(text: &str) -> Held {
        let one = |word: &str| {
            let digest = Digest(word[1..].parse().unwrap());
            (word[..1].parse().unwrap(), SortCount { sort: 1, keys: 5, bytes: 50, digest })
        };
        text.split_whitespace().map(one).collect()
    }

    /// What is held, owners now and then; the copies (`?`: unclear, `+`: mixed), and how many keys a count finds where.
    #[test]
    fn copies_are_made_where_all_owners_of_now_hold_the_same() {
        let table = [
            ("", "a", "b", "", "?"),
            ("a1", "a", "a", "", "a"),
            ("a1", "a", "b", "a>b", "a"),
            ("a1 b1", "a", "b", "", "ab"),
            ("a1 b2", "a", "b", "a>b+", "?"),
            ("a1 b1", "ab", "bc", "b>c", "ab"),
            ("a1 b2", "ab", "bc", "?", "?"),
            ("a1", "ab", "ab", "?", "?"),
            ("a1", "a", "ab", "a>b", "a"),
            ("a1", "a", "abc", "a>bc", "a"),
            ("a1 c2", "a", "b", "?", "?"),
            ("a1 c1", "a", "b", "a>b", "ac"),
            ("c1", "a", "b", "?", "?"),
            ("c1", "a", "c", "?", "?"),
        ];
        for (text, now, then, expected, found) in table {
            let sort = Sort { now: ids(now), then: ids(then) };
            let got = match copies(&sort, &held(text)) {
                Copies::None => String::new(),
                Copies::Unclear => "?".to_owned(),
                Copies::All { from, to, mixed, count } => {
                    assert_eq!(count.digest, Digest(1));
                    format!("{from}>{}{}", names(&to), if mixed { "+" } else { "" })
                }
            };
            let counted = counted(&sort, &held(text)).map(|(keys, found)| {
                assert_eq!(keys, 5);
                names(&found.into_iter().map(|found| found.node).collect::<Vec<_>>())
            });
            let counted = counted.unwrap_or_else(|| "?".to_owned());
            assert_eq!((&*got, &*counted), (expected, found), "{text:?} {now} {then}");
        }
    }

    #[test]
    fn copies_are_dropped_where_all_owners_hold_the_same() {
        let table = [
            ("", "ab", ""),
            ("a1 b1", "ab", ""),
            ("a1 b2", "ab", ""),
            ("a1 b1 c1", "ab", "c/"),
            ("a1 b1 c2", "ab", "/c"),
            ("a1 b1 c2 d1 e1 f3", "ab", "de/cf"),
            ("a1 b2 c1", "ab", "?"),
            ("a1 c1", "ab", "?"),
            ("c1", "ab", "?"),
        ];
        for (text, owners, expected) in table {
            let sort = Sort { now: ids(owners), then: ids(owners) };
            let got = match drops(&sort, &held(text)) {
                Drops::None => String::new(),
                Drops::Unclear => "?".to_owned(),
                Drops::At { alike, others, count } => {
                    assert_eq!(count.digest, Digest(1));
                    format!("{}/{}", names(&alike), names(&others))
                }
            };
            assert_eq!(got, expected, "{text:?} {owners}");
        }
    }
}
