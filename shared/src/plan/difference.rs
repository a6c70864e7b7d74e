//! What a change of the ring changes, in the words of those who asked for it.

use crate::NodeId;
use crate::protocol::cluster::Difference;
use crate::topology::Placement;

/// What differs, in id order: who joins, who leaves, whose seat is another, which keyspace has another N.
#[must_use]
pub fn differences(now: &Placement, then: &Placement) -> Vec<Difference> {
    let (old, new) = (now.ring.members(), then.ring.members());
    let heir = |node: &NodeId| then.ring.sits_for(old[node].tokens_of(node));
    let mut found = Vec::new();
    for (node, seat) in new {
        let Some(before) = old.get(node) else {
            let from =
                now.ring.sits_for(seat.tokens_of(node)).filter(|old| !new.contains_key(*old));
            found.push(match from {
                Some(old) => Difference::Replace { old: old.clone(), node: node.clone() },
                None => {
                    let (weight, zone) = (seat.weight, seat.zone.clone());
                    Difference::Add { node: node.clone(), weight, zone }
                }
            });
            continue;
        };
        if before.weight != seat.weight {
            let (from, to) = (before.weight, seat.weight);
            found.push(Difference::Weight { node: node.clone(), from, to });
        }
        if before.zone != seat.zone {
            let (from, to) = (before.zone.clone(), seat.zone.clone());
            found.push(Difference::Zone { node: node.clone(), from, to });
        }
    }
    let gone = old.keys().filter(|node| !new.contains_key(*node) && heir(node).is_none());
    found.extend(gone.map(|node| Difference::Remove { node: node.clone() }));
    for (keyspace, to) in &then.copies {
        let from = now.n(keyspace);
        if from != *to {
            found.push(Difference::Copies { keyspace: keyspace.clone(), from, to: *to });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Ring, Seat};

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn each_wish_is_one_difference() {
        let ring = Ring::new(8, ["n1", "n2", "n3"].map(|name| (id(name), 1)));
        let now = Placement::new(ring.clone(), 2);
        let zone = Some("a".parse().unwrap());
        let table: [(Placement, &str); 8] = [
            (now.clone(), "[]"),
            (
                Placement::new(ring.with(id("n4"), 2), 2),
                r#"[{"change":"add","node":"n4","weight":2}]"#,
            ),
            (Placement::new(ring.without(&id("n2")), 2), r#"[{"change":"remove","node":"n2"}]"#),
            (
                Placement::new(ring.replaced(&id("n2"), id("n9")), 2),
                r#"[{"change":"replace","old":"n2","node":"n9"}]"#,
            ),
            (
                Placement::new(ring.with(id("n1"), 3), 2),
                r#"[{"change":"weight","node":"n1","from":1,"to":3}]"#,
            ),
            (
                Placement::new(ring.with(id("n1"), Seat { zone, ..Seat::from(1) }), 2),
                r#"[{"change":"zone","node":"n1","to":"a"}]"#,
            ),
            (
                Placement::new(ring.clone(), 3),
                r#"[{"change":"copies","keyspace":"default","from":2,"to":3}]"#,
            ),
            (
                Placement::new(ring.without(&id("n3")).with(id("n4"), 1), 2),
                r#"[{"change":"add","node":"n4","weight":1},{"change":"remove","node":"n3"}]"#,
            ),
        ];
        for (then, told) in table {
            assert_eq!(serde_json::to_string(&differences(&now, &then)).unwrap(), told);
        }
    }
}
