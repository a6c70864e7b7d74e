//! Why a change moves what it moves, and what one should know before: a plain sentence each.
//!
//! # Caveats
//!
//! Room on disks is not looked at: a node says only whether it takes writes.

use std::collections::BTreeSet;

use super::{NodeCount, Preview};
use crate::protocol::cluster::Difference;
use crate::topology::{Placement, differences};
use crate::zones::crowded;
use crate::{KeyspaceName, NodeId};

/// Why what is moved is moved, and why what is not is not. Who is `silent` was not counted.
#[must_use]
pub fn reasons(
    now: &Placement,
    then: &Placement,
    preview: &Preview,
    silent: &BTreeSet<NodeId>,
) -> Vec<String> {
    let changes = differences(now, then);
    let mut told: Vec<String> =
        changes.iter().map(|change| reason(change, now, then, preview, silent)).collect();
    let behind: u64 = preview.spaces.values().map(|space| space.behind).sum();
    if behind > 0 {
        told.push(format!(
            "{} not at all owners of now as {} should be{}: what is missing is copied, too",
            keys_are(behind),
            if behind == 1 { "it" } else { "they" },
            unheard(now, silent)
        ));
    } else if changes.is_empty() {
        told.push("nothing is staged, and every owner has its copies".to_owned());
    }
    let strays = preview.removed();
    if changes.is_empty() && strays > 0 {
        told.push(match strays {
            1 => "1 copy lies where it does not belong: it is dropped".to_owned(),
            many => format!("{many} copies lie where they do not belong: they are dropped"),
        });
    }
    told
}

/// Which owners may have a key without having said so: ` (n2 n5 did not answer)`.
fn unheard(now: &Placement, silent: &BTreeSet<NodeId>) -> String {
    let owners = silent.iter().filter(|node| now.has(node));
    let names: Vec<&str> = owners.map(NodeId::as_str).collect();
    if names.is_empty() { String::new() } else { format!(" ({} did not answer)", names.join(" ")) }
}

fn reason(
    change: &Difference,
    now: &Placement,
    then: &Placement,
    preview: &Preview,
    silent: &BTreeSet<NodeId>,
) -> String {
    let count = |node: &NodeId| preview.nodes.get(node).copied().unwrap_or_default();
    match change {
        Difference::Add { node, weight, .. } => {
            let all: u32 = then.ring.members().values().map(|seat| seat.weight).sum();
            let moved =
                gets(node, count(node), preview).unwrap_or_else(|| match count(node).before.keys {
                    0 => nothing(node, now, then, preview, silent),
                    held => format!("{node} gets 0 because it has {} from before", copies(held)),
                });
            format!("{moved}: it has weight {weight} of {all}")
        }
        Difference::Remove { node } => {
            let NodeCount { before, drops, .. } = count(node);
            match before.keys {
                0 if silent.contains(node) => {
                    format!("{node} leaves: it did not answer, what it holds is not counted")
                }
                0 => format!("{node} leaves: it holds nothing"),
                held if then.ring.members().is_empty() => {
                    format!("{node} leaves, and nobody is left for its {}", copies(held))
                }
                held => format!(
                    "{node} leaves: of its {} {} dropped there when the others have what is theirs",
                    copies(held),
                    is_are(drops.keys)
                ),
            }
        }
        Difference::Replace { old, node } => format!(
            "{node} takes the seat of {old}: it gets what {old} owns, {}, and nobody else's keys move",
            copies(count(node).gets.keys)
        ),
        Difference::Weight { node, from, to } => {
            let (share_from, share_to) = (now.ring.share(node), then.ring.share(node));
            let NodeCount { gets, drops, .. } = count(node);
            let moved = if gets.keys + drops.keys > 0 {
                format!("{node} gets {} and gives up {}", copies(gets.keys), drops.keys)
            } else {
                nothing(node, now, then, preview, silent)
            };
            format!(
                "{moved}: its weight goes from {from} to {to}, its share of the ring from {} to {}",
                percent(share_from),
                percent(share_to)
            )
        }
        Difference::Zone { node, to, .. } => {
            let NodeCount { gets, drops, .. } = count(node);
            let to = to.as_ref().map_or("no zone".to_owned(), |zone| format!("zone {zone}"));
            format!(
                "{node} gets {} and gives up {}: it stands in {to}, and copies of a key lie in distinct zones while zones last",
                copies(gets.keys),
                drops.keys
            )
        }
        Difference::Copies { keyspace, from, to } => {
            let nodes = then.ring.members().len();
            let kept = if nodes < *to {
                format!(", as far as {} can", counted(nodes, "node"))
            } else {
                String::new()
            };
            let verb = if to > from { "gets" } else { "loses" };
            let by = from.abs_diff(*to);
            format!(
                "each key of {keyspace} {verb} {}{kept}: N goes from {from} to {to}",
                copies(by as u64)
            )
        }
    }
}

fn gets(node: &NodeId, count: NodeCount, preview: &Preview) -> Option<String> {
    let all: u64 = preview.nodes.values().map(NodeCount::after).sum();
    (count.gets.keys > 0).then(|| {
        format!(
            "{node} gets {} of all copies ({})",
            percent(ratio(count.gets.keys, all)),
            count.gets.keys
        )
    })
}

/// Why a node gets nothing.
fn nothing(
    node: &NodeId,
    now: &Placement,
    then: &Placement,
    preview: &Preview,
    silent: &BTreeSet<NodeId>,
) -> String {
    if preview.keys() == 0 && !silent.is_empty() {
        return format!("{node} gets 0 because nobody who answered holds a key");
    }
    if preview.keys() == 0 {
        return format!("{node} gets 0 because the cluster holds no key");
    }
    let nodes = now.ring.members().len();
    let everywhere = |space: &KeyspaceName| now.n(space) >= nodes && then.n(space) >= nodes;
    if then.ring.members().len() == nodes && preview.spaces.keys().all(everywhere) {
        return format!("{node} gets 0 because each of the {nodes} nodes has every key");
    }
    let keys = preview.keys();
    format!("{node} gets 0 because none of the {keys} keys lies where its part of the ring changes")
}

/// What one should know before it runs, as far as the rings and the counts tell.
#[must_use]
pub fn risks(now: &Placement, then: &Placement, preview: &Preview) -> Vec<String> {
    let mut told = Vec::new();
    let nodes = then.ring.members().len();
    for (space, count) in &preview.spaces {
        let of = if space.is_default() { String::new() } else { format!(" of {space}") };
        let (n, n_then) = (now.n(space), then.n(space));
        if count.single_now > 0 && n > 1 {
            told.push(format!(
                "{}{of} {} one copy now, where there should be {}: until more are made, who loses that node loses them",
                keys(count.single_now),
                if count.single_now == 1 { "has" } else { "have" },
                n.min(now.ring.members().len()),
            ));
        }
        if count.single_then > 0 && (n > 1 || n_then > 1) {
            let share = percent(ratio(count.single_then, count.keys));
            told.push(format!(
                "{share} of the keys{of} ({}) would have one copy",
                count.single_then
            ));
        }
        if n_then > nodes && nodes > 0 {
            told.push(format!(
                "N={n_then}{of} and {}: each key would have {}",
                counted(nodes, "node"),
                copies(nodes as u64)
            ));
        }
        told.extend(crowded(then, space));
    }
    if nodes == 0 && preview.keys() > 0 {
        told.push(format!("no node is left: all {} are given up", keys(preview.keys())));
    }
    if now != then && preview.copies().keys > 0 {
        told.push(
            "until it is done each write goes to the owners of before and of after, and needs both"
                .to_owned(),
        );
    }
    told
}

#[allow(clippy::cast_precision_loss, reason = "a share that people read")]
fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn copies(count: u64) -> String {
    if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") }
}

fn keys(count: u64) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}

fn keys_are(count: u64) -> String {
    if count == 1 { "1 key is".to_owned() } else { format!("{count} keys are") }
}

fn is_are(count: u64) -> String {
    if count == 1 { "1 is".to_owned() } else { format!("{count} are") }
}

#[cfg(test)]
mod tests {
    use super::super::{Found, Load, Walked};
    use super::*;
    use crate::protocol::node::Record;
    use crate::ring::{Ring, Seat};

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn ring(nodes: &[&str]) -> Ring {
        Ring::new(64, nodes.iter().map(|name| (id(name), 1)))
    }

    /// So many keys, each at its owners of now but the first `thin`, which only the first owner has.
    fn preview(now: &Placement, then: &Placement, keys: u32, thin: u32) -> Preview {
        let mut preview = Preview::new(now != then);
        let space = KeyspaceName::default();
        for key in 0..keys {
            let bytes = key.to_be_bytes();
            let (owners, next) = (now.owners(&space, &bytes), then.owners(&space, &bytes));
            let held = if key < thin { &owners[..1] } else { &owners[..] };
            let record = || Record::new(bytes.to_vec().into(), None, crate::Version::new(1, 1));
            let found: Vec<Found> = held
                .iter()
                .map(|node| Found { node: node.clone(), record: record(), bytes: 10 })
                .collect();
            preview.key(&Walked {
                keyspace: &space,
                found: &found,
                keys: 1,
                now: &owners,
                up: &owners,
                then: &next,
            });
        }
        preview
    }

    #[test]
    fn each_change_says_why() {
        let three = ring(&["n1", "n2", "n3"]);
        let now = Placement::new(three.clone(), 2);
        let zoned = |zone: &str| Seat { zone: Some(zone.parse().unwrap()), ..Seat::from(1) };
        let table = [
            (
                now.clone(),
                Placement::new(three.with(id("n4"), 1), 2),
                0,
                "n4 gets 0 because the cluster holds no key: it has weight 1 of 4",
            ),
            (now.clone(), Placement::new(three.with(id("n4"), 1), 2), 1000, " of all copies ("),
            (now.clone(), Placement::new(three.without(&id("n3")), 2), 1000, "n3 leaves: of its "),
            (
                now.clone(),
                Placement::new(three.replaced(&id("n3"), id("n9")), 2),
                1000,
                "n9 takes the seat of n3: it gets what n3 owns, ",
            ),
            (
                Placement::new(three.clone(), 3),
                Placement::new(three.with(id("n1"), 2), 3),
                1000,
                "n1 gets 0 because each of the 3 nodes has every key: its weight goes from 1 to 2, its share of the ring from ",
            ),
            (
                now.clone(),
                Placement::new(three.with(id("n1"), zoned("a")), 2),
                1000,
                "it stands in zone a",
            ),
            (
                now.clone(),
                Placement::new(three.clone(), 3),
                1000,
                "each key of default gets 1 copy: N goes from 2 to 3",
            ),
            (now.clone(), now.clone(), 1000, "nothing is staged, and every owner has its copies"),
        ];
        for (now, then, keys, says) in table {
            let told = reasons(&now, &then, &preview(&now, &then, keys, 0), &BTreeSet::new());
            assert!(told.len() == 1 && told[0].contains(says), "{told:?}: {says}");
        }
        let behind = preview(&now, &now, 1000, 31);
        let told = reasons(&now, &now, &behind, &BTreeSet::new());
        assert_eq!(
            told,
            [
                "31 keys are not at all owners of now as they should be: what is missing is copied, too"
            ]
        );
    }

    /// Who did not answer was not counted, and is not said to hold nothing.
    #[test]
    fn who_is_silent_is_named() {
        let three = ring(&["n1", "n2", "n3"]);
        let now = Placement::new(three.clone(), 1);
        let without = Placement::new(three.without(&id("n3")), 1);
        let nothing = Preview::new(true);
        let leaves = |silent: &[&str]| {
            let silent = silent.iter().map(|name| id(name)).collect();
            reasons(&now, &without, &nothing, &silent)
        };
        assert_eq!(leaves(&[]), ["n3 leaves: it holds nothing"]);
        assert_eq!(leaves(&["n3"]), ["n3 leaves: it did not answer, what it holds is not counted"]);
        let grown = Placement::new(three.with(id("n4"), 1), 1);
        assert_eq!(
            reasons(&now, &grown, &nothing, &[id("n1")].into()),
            ["n4 gets 0 because nobody who answered holds a key: it has weight 1 of 4"]
        );
        let two = Placement::new(three, 2);
        let silent = [id("n2"), id("n9")].into();
        assert_eq!(
            reasons(&two, &two, &preview(&two, &two, 1, 1), &silent),
            [
                "1 key is not at all owners of now as it should be (n2 did not answer): what is missing is copied, too"
            ]
        );
    }

    #[test]
    fn the_last_who_leaves_hands_nothing_over_and_who_was_away_brings_its_copies() {
        let one = Placement::new(ring(&["n1"]), 1);
        let none = Placement::new(ring(&[]), 1);
        let told = |now: &Placement, then: &Placement, preview: &Preview| {
            reasons(now, then, preview, &BTreeSet::new())
        };
        assert_eq!(
            told(&one, &none, &preview(&one, &none, 5, 0)),
            ["n1 leaves, and nobody is left for its 5 copies"]
        );
        let two = Placement::new(ring(&["n1", "n2"]), 1);
        let mut counted = preview(&two, &two, 5, 0);
        counted.nodes.entry(id("n3")).or_default().before = Load { keys: 5, bytes: 300 };
        let three = Placement::new(ring(&["n1", "n2", "n3"]), 1);
        assert_eq!(
            told(&two, &three, &counted),
            ["n3 gets 0 because it has 5 copies from before: it has weight 1 of 3"]
        );
    }

    #[test]
    fn risks_have_counts() {
        let three = ring(&["n1", "n2", "n3"]);
        let now = Placement::new(three.clone(), 2);
        let one = Placement::new(three.clone(), 1);
        assert_eq!(risks(&now, &now, &preview(&now, &now, 1000, 0)), [""; 0]);
        assert_eq!(
            risks(&now, &now, &preview(&now, &now, 1000, 31)),
            [
                "31 keys have one copy now, where there should be 2: until more are made, who loses that node loses them"
            ]
        );
        assert_eq!(
            risks(&now, &one, &preview(&now, &one, 1000, 0)),
            ["100.0 % of the keys (1000) would have one copy"]
        );
        let alone = Placement::new(ring(&["n1"]), 2);
        let told = risks(&now, &alone, &preview(&now, &alone, 1000, 0));
        assert!(told[1].starts_with("N=2 and 1 node: each key would have 1 copy"), "{told:?}");
        let seat = || Seat { zone: Some("a".parse().unwrap()), ..Seat::from(1) };
        let zoned = Placement::new(Ring::new(64, ["n1", "n2"].map(|name| (id(name), seat()))), 2);
        let told = risks(&zoned, &zoned, &preview(&zoned, &zoned, 10, 0));
        assert!(told[0].starts_with("N=2 of default needs 2 zones and there is 1"), "{told:?}");
    }
}
