//! The preference list of one position, met by walking: as long as it is asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::circle::{Circle, Number};
use super::seat::Seat;
use crate::NodeId;

/// Which members stand in one zone.
#[derive(Debug)]
pub(super) struct Zones {
    /// Of each member the number of its zone; who has none is a zone of its own.
    numbers: Vec<Number>,
    /// Whether two members share a zone: only then zones decide anything.
    decide: bool,
}

impl Zones {
    pub(super) fn new(members: &BTreeMap<NodeId, Seat>) -> Self {
        let mut known = BTreeMap::new();
        let number = |(next, seat): (Number, &Seat)| match &seat.zone {
            Some(zone) => *known.entry(zone.clone()).or_insert(next),
            None => next,
        };
        let numbers: Vec<Number> = (0..).zip(members.values()).map(number).collect();
        let decide = numbers.iter().collect::<BTreeSet<_>>().len() < numbers.len();
        Self { numbers, decide }
    }

    pub(super) const fn decide(&self) -> bool {
        self.decide
    }

    pub(super) fn of(&self, member: Number) -> Number {
        self.numbers[usize::from(member)]
    }

    pub(super) fn numbers(&self) -> &[Number] {
        &self.numbers
    }
}

/// The first `n` of a position in preference order, fewer if fewer have a token.
pub(super) fn first(circle: &Circle, zones: &Zones, position: u64, n: usize) -> Vec<Number> {
    let n = n.min(zones.numbers.len());
    match zones.decide {
        true => first_by_zone(circle, zones, position, n),
        false => first_met(circle, position, n),
    }
}

/// The first `n` members clockwise.
fn first_met(circle: &Circle, position: u64, n: usize) -> Vec<Number> {
    let mut met: Vec<Number> = Vec::with_capacity(n);
    for (_, member) in circle.walk(position) {
        if met.len() == n {
            break;
        }
        if !met.contains(&member) {
            met.push(member);
        }
    }
    met
}

/// The first `n` by their place within their zone, and clockwise among equals.
fn first_by_zone(circle: &Circle, zones: &Zones, position: u64, n: usize) -> Vec<Number> {
    let mut seen = vec![false; zones.numbers.len()];
    let mut of_zone = vec![0usize; zones.numbers.len()];
    zones.numbers.iter().for_each(|zone| of_zone[usize::from(*zone)] += 1);
    // How many members there are of each place, and how many of them were not met yet.
    let mut unmet: Vec<usize> =
        (0..n).map(|place| of_zone.iter().filter(|size| **size > place).count()).collect();
    of_zone.fill(0);
    let (mut met, mut level, mut sure) = (Vec::new(), 0, 0);
    for (_, member) in circle.walk(position) {
        // Who is met from here on has a later place than these.
        if sure >= n {
            break;
        }
        if std::mem::replace(&mut seen[usize::from(member)], true) {
            continue;
        }
        let place = &mut of_zone[usize::from(zones.of(member))];
        met.push((*place, member));
        sure += usize::from(*place == level);
        if let Some(unmet) = unmet.get_mut(*place) {
            *unmet -= 1;
        }
        *place += 1;
        while sure < n && unmet.get(level) == Some(&0) {
            level += 1;
            sure += met.iter().filter(|(place, _)| *place == level).count();
        }
    }
    // Stable: among equals as they were met.
    met.sort_by_key(|(place, _)| *place);
    met.into_iter().take(n).map(|(_, member)| member).collect()
}
