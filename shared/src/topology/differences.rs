//! Two placements, compared: what a person would have to type to get from one to the other.
//!
//! A node that takes the seat of one that leaves *replaces* it: it has that one's tokens, so nobody else's keys
//! move. A replacement may get another weight or zone as well; that is told beside it.
//!
//! # Caveats
//!
//! A member of both that has other tokens than before is told as leaving and joining, for that is what it
//! amounts to; no command makes such a change.

use super::Placement;
use crate::NodeId;
use crate::protocol::change::Difference;
use crate::ring::{Ring, Seat};

/// What changes between two placements: node by node, then N of each keyspace that is on both.
#[must_use]
pub fn differences(from: &Placement, to: &Placement) -> Vec<Difference> {
    let (old, new) = (&from.ring, &to.ring);
    let mut found = Vec::new();
    for node in old.members().keys().filter(|node| heir(old, new, node).is_none()) {
        found.push(Difference::Remove { node: node.clone() });
    }
    for (node, seat) in new.members() {
        match old.sits_for(seat.tokens_of(node)) {
            Some(before) if before == node => {
                changed_seat(node, &old.members()[before], seat, &mut found);
            }
            Some(before) if heir(old, new, before) == Some(node) => {
                found.push(Difference::Replace { old: before.clone(), node: node.clone() });
                changed_seat(node, &old.members()[before], seat, &mut found);
            }
            _ => found.push(Difference::Add {
                node: node.clone(),
                weight: seat.weight,
                zone: seat.zone.clone(),
            }),
        }
    }
    for (keyspace, before) in &from.copies {
        let after = to.copies.get(keyspace).filter(|after| *after != before);
        found.extend(after.map(|after| Difference::Copies {
            keyspace: keyspace.clone(),
            from: *before,
            to: *after,
        }));
    }
    found
}

/// Who has the tokens of a member of the old ring on the new one: itself, or a newcomer if it has left.
fn heir<'a>(old: &Ring, new: &'a Ring, node: &NodeId) -> Option<&'a NodeId> {
    let tokens = old.members().get(node)?.tokens_of(node);
    let has_them = |(id, seat): &(&NodeId, &Seat)| seat.tokens_of(id) == tokens;
    let mut heirs = new.members().iter().filter(has_them).map(|(id, _)| id);
    heirs.find(|id| {
        *id == node || !(old.members().contains_key(id) || new.members().contains_key(node))
    })
}

fn changed_seat(node: &NodeId, before: &Seat, after: &Seat, found: &mut Vec<Difference>) {
    if before.weight != after.weight {
        let (from, to) = (before.weight, after.weight);
        found.push(Difference::Weight { node: node.clone(), from, to });
    }
    if before.zone != after.zone {
        let (from, to) = (before.zone.clone(), after.zone.clone());
        found.push(Difference::Zone { node: node.clone(), from, to });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyspaceName;

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn three() -> Placement {
        Placement::new(Ring::new(4, ["n1", "n2", "n3"].map(|name| (id(name), 1))), 2)
    }

    /// In short: `+n4 *2 @a`, `-n1`, `n1>n9`, `n2 *3`, `n2 @a`, `N=3`.
    fn told(from: &Placement, to: &Placement) -> Vec<String> {
        let at = |zone: &Option<crate::Zone>| {
            zone.as_ref().map(|zone| format!(" @{zone}")).unwrap_or_default()
        };
        let short = |difference: &Difference| match difference {
            Difference::Add { node, weight, zone } => format!("+{node} *{weight}{}", at(zone)),
            Difference::Remove { node } => format!("-{node}"),
            Difference::Replace { old, node } => format!("{old}>{node}"),
            Difference::Weight { node, to, .. } => format!("{node} *{to}"),
            Difference::Zone { node, to, .. } => format!("{node}{}", at(to)),
            Difference::Copies { to, .. } => format!("N={to}"),
        };
        differences(from, to).iter().map(short).collect()
    }

    fn on(ring: Ring) -> Placement {
        Placement { ring, ..three() }
    }

    #[test]
    fn every_change_has_its_word() {
        let before = three();
        let seat = Seat { zone: Some("a".parse().unwrap()), ..Seat::from(2) };
        let ring = before.ring.with(id("n4"), seat.clone()).without(&id("n1"));
        assert_eq!(told(&before, &on(ring)), ["-n1", "+n4 *2 @a"]);
        assert_eq!(told(&before, &on(before.ring.with(id("n2"), seat))), ["n2 *2", "n2 @a"]);
        let more = before.clone().with_n(KeyspaceName::default(), 3);
        assert_eq!(told(&before, &more), ["N=3"]);
        assert_eq!(told(&before, &before), [] as [&str; 0]);
    }

    #[test]
    fn a_seat_that_is_taken_over_is_a_replacement_and_back_again() {
        let before = three();
        let replaced = before.ring.replaced(&id("n1"), id("n9"));
        assert_eq!(told(&before, &on(replaced.clone())), ["n1>n9"]);
        assert_eq!(told(&on(replaced.clone()), &before), ["n9>n1"]);
        let twice = replaced.replaced(&id("n9"), id("n8"));
        assert_eq!(told(&before, &on(twice)), ["n1>n8"]);
        let seat = Seat { weight: 3, ..replaced.members()[&id("n9")].clone() };
        assert_eq!(told(&before, &on(replaced.with(id("n9"), seat))), ["n1>n9", "n9 *3"]);
        // A newcomer that was replaced before anybody moved is a newcomer still.
        let newcomer = before.ring.with(id("n4"), 1).replaced(&id("n4"), id("n5"));
        assert_eq!(told(&before, &on(newcomer)), ["+n5 *1"]);
        // Who is there twice has not replaced anybody, and who has other tokens is not who it was.
        assert_eq!(
            told(&before, &on(before.ring.replaced(&id("n1"), id("n2")))),
            ["-n1", "-n2", "+n2 *1"]
        );
    }
}
