//! Whether copies lie in distinct zones, and what is taken by a zone that fails.
//!
//! With fewer zones than copies some of a key's copies must share one, however they are placed. That is worth a plain
//! sentence before the zone fails, with the share of keys it is about.

use std::collections::BTreeMap;

use crate::availability::{arcs, share};
use crate::topology::Placement;
use crate::{KeyspaceName, NodeId, Zone};

/// What it means that replicas of a keyspace cannot be in distinct zones; `None` where they are, or where no
/// member has a zone.
#[must_use]
pub fn crowded(placement: &Placement, keyspace: &KeyspaceName) -> Option<String> {
    let members = placement.ring.members();
    let zone_of = |node: &NodeId| members[node].zone.as_ref();
    let n = placement.n(keyspace).min(members.len());
    let zones = zones(placement);
    if zones >= n || members.values().all(|seat| seat.zone.is_none()) {
        return None;
    }
    let mut least = n;
    // Of each zone, how long the arcs are of which it has so many copies.
    let mut taken: BTreeMap<(usize, &Zone), u128> = BTreeMap::new();
    for (length, position) in arcs([placement]) {
        let owners = placement.ring.owners_at(position, n);
        let mut copies: BTreeMap<&Zone, usize> = BTreeMap::new();
        owners.iter().filter_map(zone_of).for_each(|zone| *copies.entry(zone).or_default() += 1);
        least = least.min(copies.values().copied().max().unwrap_or(1));
        copies
            .iter()
            .for_each(|(zone, copies)| *taken.entry((*copies, zone)).or_default() += length);
    }
    let most = taken.keys().map(|(copies, _)| *copies).max()?;
    let worst = taken.iter().filter(|((copies, _), _)| *copies == most);
    // Of equal ones the first by name.
    let ((_, zone), length) = worst.min_by_key(|(_, length)| std::cmp::Reverse(**length))?;
    let percent = share(*length) * 100.0;
    Some(format!(
        "N={n} of {keyspace} needs {n} zones and there {are}: every key has {least} copies in one zone; \
         losing {zone} takes {most} copies of {percent:.1} % of the keys",
        are = if zones == 1 { "is 1".to_owned() } else { format!("are {zones}") },
    ))
}

/// How many zones there are; a member that has none is one by itself.
fn zones(placement: &Placement) -> usize {
    let seats = placement.ring.members().values();
    let (in_zones, alone): (Vec<_>, Vec<_>) = seats.partition(|seat| seat.zone.is_some());
    let named: std::collections::BTreeSet<_> = in_zones.iter().map(|seat| &seat.zone).collect();
    named.len() + alone.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Ring, Seat, key_position};

    /// `a a b -`: a zone a member.
    fn placement(zones: &str, n: usize) -> Placement {
        let seat = |(i, zone): (usize, &str)| {
            let zone = Some(zone).filter(|zone| *zone != "-").map(|zone| zone.parse().unwrap());
            (format!("n{i}").parse().unwrap(), Seat { zone, ..Seat::from(1) })
        };
        Placement::new(Ring::new(32, (1..).zip(zones.split(' ')).map(seat)), n)
    }

    #[test]
    fn it_is_said_where_copies_must_share_a_zone() {
        #[rustfmt::skip]
        let table = [
            ("- - -",     3, None),
            ("a b c",     3, None),
            ("a b -",     3, None),
            ("a a b",     2, None),
            ("a a",       1, None),
            ("a a a",     2, Some(("needs 2 zones and there is 1: every key has 2 copies", "losing a takes 2 copies of 100.0 %"))),
            ("a a b",     3, Some(("needs 3 zones and there are 2: every key has 2 copies", "losing a takes 2 copies of 100.0 %"))),
            ("a a -",     3, Some(("needs 3 zones and there are 2: every key has 2 copies", "losing a takes 2 copies of 100.0 %"))),
            ("a a b b",   4, Some(("needs 4 zones and there are 2: every key has 2 copies", "losing a takes 2 copies of 100.0 %"))),
            ("a a b b b", 5, Some(("needs 5 zones and there are 2: every key has 3 copies", "losing b takes 3 copies of 100.0 %"))),
            // More copies than nodes: there are as many as nodes.
            ("a a",       9, Some(("N=2 of default needs 2 zones and there is 1", "losing a takes 2 copies of 100.0 %"))),
        ];
        for (zones, n, expected) in table {
            let told = crowded(&placement(zones, n), &KeyspaceName::default());
            match expected {
                None => assert_eq!(told, None, "{zones} N={n}"),
                Some((says, loses)) => {
                    let told = told.unwrap();
                    assert!(told.contains(says) && told.contains(loses), "{zones} N={n}: {told}");
                }
            }
        }
    }

    /// The share that a zone takes two copies of is that of keys asked one by one.
    #[test]
    fn the_share_is_exact() {
        let placement = placement("a a b b", 3);
        let told = crowded(&placement, &KeyspaceName::default()).unwrap();
        let (zone, percent) =
            told.split_once("losing ").unwrap().1.split_once(" takes 2 copies of ").unwrap();
        let percent: f64 = percent.split(' ').next().unwrap().parse().unwrap();
        let zone: Zone = zone.parse().unwrap();
        const KEYS: u32 = 20_000;
        let twice = (0..KEYS).filter(|key| {
            let owners = placement.ring.owners_at(key_position(&key.to_be_bytes()), 3);
            let members = placement.ring.members();
            owners.iter().filter(|o| members[*o].zone.as_ref() == Some(&zone)).count() == 2
        });
        let counted = f64::from(u32::try_from(twice.count()).unwrap()) / f64::from(KEYS) * 100.0;
        assert!((percent - counted).abs() < 2.0 && percent >= 50.0, "{told}; counted {counted}");
    }
}
