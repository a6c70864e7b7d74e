//! The preference list of every arc, made once for all lookups.
//!
//! One sweep against the clock makes them all. The list of an arc is that of the arc behind it with the owner of
//! the token between them moved to the front: who is met first from here was met later from there, or had not
//! been met at all. So each list costs a few moves of small numbers, whatever the number of members.
//!
//! With zones there is such a list for each zone, and one of the zones themselves; the list of an arc takes the
//! first of each zone, then the second of each, and so on, each round in the order in which they are met.
//!
//! # Caveats
//!
//! Lists end after [`DEPTH`] members. Who asks for more gets them by a walk, see [`super::walk`].

use super::circle::{Arc, Number};
use super::walk::Zones;

/// The members kept for each arc: 16 bytes an arc. More copies of a key than that are rare.
const DEPTH: usize = 8;

/// Numbers in order, each once; [`NOBODY`] behind the last.
pub(super) type List = [Number; DEPTH];

/// No member: rings are far smaller.
pub(super) const NOBODY: Number = Number::MAX;
const EMPTY: List = [NOBODY; DEPTH];

/// Makes the lists of arcs, in order, that know only whose their token is; says how many members each has: as many
/// as there is room for, or all who have a token.
pub(super) fn fill(arcs: &mut [Arc], zones: &Zones) -> usize {
    let met = met_first(arcs, zones.numbers().len());
    // As if the first tokens of all had just been passed.
    if zones.decide() {
        let mut sweep = Sweep::new(zones, &met, arcs.len());
        for arc in arcs.iter_mut().rev() {
            sweep.pass(arc.owner());
            sweep.write(&mut arc.list);
        }
    } else {
        let first = met.iter().take(DEPTH).rev();
        let mut list = first.fold(EMPTY, |list, member| with_first(&list, *member));
        for arc in arcs.iter_mut().rev() {
            list = with_first(&list, arc.owner());
            arc.list = list;
        }
    }
    met.len().min(DEPTH)
}

/// All who have a token, in the order in which they are met from the first one.
fn met_first(arcs: &[Arc], members: usize) -> Vec<Number> {
    let mut seen = vec![false; members];
    let first = |member: &Number| !std::mem::replace(&mut seen[usize::from(*member)], true);
    arcs.iter().map(Arc::owner).filter(first).collect()
}

/// The list with a number moved to the front, or put there; then the last one goes if there is no room.
fn with_first(list: &List, number: Number) -> List {
    // Without a branch that depends on the numbers: they come in no order that could be guessed.
    let mut moved = *list;
    let mut open = true;
    moved[0] = number;
    for at in 1..DEPTH {
        open &= list[at - 1] != number;
        moved[at] = if open { list[at - 1] } else { list[at] };
    }
    moved
}

/// The sweep with zones.
struct Sweep<'a> {
    zones: &'a Zones,
    /// The zones that are met first.
    order: List,
    /// Of each zone its members that are met first.
    nearest: Vec<List>,
    /// Of each member when a token of it was last passed: less is later, and nearer.
    passed: Vec<usize>,
    /// Counts down.
    now: usize,
}

impl<'a> Sweep<'a> {
    /// As if the first tokens of all, who are met in this order, had just been passed.
    fn new(zones: &'a Zones, met: &[Number], tokens: usize) -> Self {
        let (members, now) = (zones.numbers().len(), tokens + met.len());
        let (nearest, passed) = (vec![EMPTY; members], vec![now; members]);
        let mut sweep = Self { zones, order: EMPTY, nearest, passed, now };
        met.iter().rev().for_each(|member| sweep.pass(*member));
        sweep
    }

    fn pass(&mut self, member: Number) {
        let zone = self.zones.of(member);
        self.now -= 1;
        self.passed[usize::from(member)] = self.now;
        let nearest = &mut self.nearest[usize::from(zone)];
        *nearest = with_first(nearest, member);
        self.order = with_first(&self.order, zone);
    }

    /// The list from here: the first of each zone, the second of each, and so on.
    fn write(&self, row: &mut List) {
        let zones = || self.order.iter().take_while(|zone| **zone != NOBODY);
        let mut filled = 0;
        for place in 0..DEPTH {
            let (mut round, mut count) = (EMPTY, 0);
            for zone in zones() {
                round[count] = self.nearest[usize::from(*zone)][place];
                count += usize::from(round[count] != NOBODY);
            }
            if place > 0 {
                // Zones are in the order of their first members.
                round[..count].sort_unstable_by_key(|member| self.passed[usize::from(*member)]);
            }
            let taken = count.min(DEPTH - filled);
            row[filled..filled + taken].copy_from_slice(&round[..taken]);
            filled += taken;
            if filled == DEPTH || count == 0 {
                return;
            }
        }
    }
}
