//! Leaves made anew, of those that were there and of what is to be put in.
//!
//! # Caveats
//!
//! Keys with more than one entry stay as they are here, and what is written to them waits.

use std::cmp::Ordering;
use std::hint::black_box;
use std::iter::Peekable;
use std::mem;

use super::Writes;
use crate::replica::Digests;
use crate::store::digest::Spot;
use crate::store::fences::{common, head};
use crate::store::leaf::{Bounded, Leaf, Row, Stock};
use crate::store::merge;
use crate::store::piece::Piece;
use crate::store::tally::Tally;

/// How many lines are looked at ahead.
const AHEAD: usize = 32;

/// A write, among those of all parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// A piece of its key as a number of the same order.
    head: u64,
    /// Where it begins.
    pub(super) at: u32,
    /// Of which part it is.
    writes: u16,
    pub(super) tag: u16,
}

impl Line {
    pub(super) fn writes(self) -> usize {
        usize::from(self.writes)
    }
}

/// What has changed, of one that began with nothing.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) tally: Tally,
    pub(super) digests: Digests,
}

/// A stretch that is done.
#[derive(Debug, Default)]
pub(super) struct Woven {
    pub(super) leaves: Vec<Bounded>,
    /// Writes that are to be put in one by one, those of a key in their order.
    pub(super) later: Vec<Line>,
}

/// Weaves one stretch after the other.
pub(super) struct Weaver<'w> {
    all: &'w [Writes],
    counts: Counts,
    row: Row<'w>,
    /// Writes that are to be put in one by one.
    later: Vec<Line>,
}

/// What all keys of all writes begin with.
pub(super) fn prefix(all: &[Writes]) -> &[u8] {
    let mut prefixes = all.iter().filter(|writes| !writes.is_empty()).map(Writes::prefix);
    let first = prefixes.next().unwrap_or_default();
    prefixes.fold(first, |prefix, other| common(prefix, other))
}

/// The writes from a key on and before another, in key order, those of one key in the order of their lines.
pub(super) fn lines(
    all: &[Writes],
    prefix: &[u8],
    from: Option<&[u8]>,
    until: Option<&[u8]>,
    lines: &mut Vec<Line>,
) {
    lines.clear();
    for (nth, writes) in all.iter().enumerate() {
        let nth = u16::try_from(nth).expect("there are fewer parts");
        let before = |key: Option<&[u8]>, or: usize| {
            let below = |key: &[u8]| writes.items.partition_point(|i| writes.key(i.at) < key);
            key.map_or(or, below)
        };
        let items = &writes.items[before(from, 0)..before(until, writes.len())];
        let same = writes.prefix().len() == prefix.len();
        lines.extend(items.iter().map(|item| Line {
            head: if same { item.head } else { head(&writes.key(item.at)[prefix.len()..]) },
            at: item.at,
            writes: nth,
            tag: item.tag,
        }));
    }
    // Finds what is in order already, and merges it.
    lines.sort_by(|a, b| a.head.cmp(&b.head).then_with(|| key(all, *a).cmp(key(all, *b))));
}

fn key(all: &[Writes], line: Line) -> &[u8] {
    all[line.writes()].key(line.at)
}

impl<'w> Weaver<'w> {
    pub(super) fn new(all: &'w [Writes], stock: &'w Stock) -> Self {
        Self { all, counts: Counts::default(), row: Row::new(stock), later: Vec::new() }
    }

    pub(super) fn counts(self) -> Counts {
        self.counts
    }

    /// Puts the lines of a stretch into its leaves.
    pub(super) fn weave(&mut self, leaves: Vec<Bounded>, lines: &[Line]) -> Woven {
        let mut leaves = leaves.into_iter().peekable();
        let mut rest = lines;
        while let Some((low, leaf)) = leaves.next() {
            let here = match leaves.peek() {
                Some((next, _)) => self.below(rest, next),
                None => rest.len(),
            };
            let (lines, behind) = rest.split_at(here);
            rest = behind;
            if lines.is_empty() {
                self.row.keep(low, leaf);
            } else {
                self.leaf(low, leaf, lines);
            }
        }
        Woven { leaves: self.row.take(), later: mem::take(&mut self.later) }
    }

    /// How many of the first lines are below a key: mostly few.
    fn below(&self, lines: &[Line], key: &[u8]) -> usize {
        let is_below = |line: &Line| self.key(*line) < key;
        let mut step = 1;
        while step < lines.len() && is_below(&lines[step]) {
            step *= 2;
        }
        let (from, until) = (step / 2, lines.len().min(step + 1));
        from + lines[from..until].partition_point(is_below)
    }

    fn key(&self, line: Line) -> &'w [u8] {
        key(self.all, line)
    }

    /// Looks at the next lines, so that those who read them wait for them together; says how many.
    fn look_at(&self, lines: &[Line]) -> usize {
        let ahead = &lines[..lines.len().min(AHEAD)];
        let look = |line: &Line| u64::from(self.all[line.writes()].look_at(line.at));
        black_box(ahead.iter().fold(0, |seen, line| seen ^ look(line)));
        // Of keys of `default` the tag is the leaf of the digests, too.
        let look = |line: &Line| self.counts.digests.leaf("default", line.tag).0;
        black_box(ahead.iter().fold(0, |seen, line| seen ^ look(line)));
        ahead.len()
    }

    /// Makes leaves of one that was there and of some lines.
    fn leaf(&mut self, low: Box<[u8]>, mut leaf: Leaf, mut lines: &[Line]) {
        leaf.sort();
        let mut apart = leaf.take_apart();
        let mut old = (0..leaf.len()).map(|at| leaf.piece(at, &mut apart)).peekable();
        let empty = Row::new(self.row.stock());
        let mut row = mem::replace(&mut self.row, empty);
        row.goes_on_from(low);
        let mut seen = 0;
        while let Some(first) = lines.first() {
            if seen == 0 {
                seen = self.look_at(lines);
            }
            let key = self.key(*first);
            let same = |line: &&Line| line.head == first.head && self.key(**line) == key;
            let (group, behind) = lines.split_at(1 + lines[1..].iter().take_while(same).count());
            lines = behind;
            seen = seen.saturating_sub(group.len());
            let held = up_to(key, &mut old, &mut row);
            self.decide(held, group).into_iter().for_each(|piece| row.push(piece));
        }
        old.for_each(|piece| row.push(piece));
        row.recycle(leaf);
        self.row = row;
    }

    /// What is held for a key after some writes.
    fn decide<'p>(&mut self, held: Option<Piece<'p>>, group: &[Line]) -> Option<Piece<'p>>
    where
        'w: 'p,
    {
        let mut last: Option<Piece<'p>> = None;
        for line in group {
            let new = self.all[line.writes()].piece(line.tag, line.at);
            let replaces = last.as_ref().or(held.as_ref()).map_or(Some(true), |before| {
                let (before, new) = (before.slot(), new.slot());
                if before.has_more() {
                    None
                } else {
                    merge::replaces(&before.entry(), &new.entry())
                }
            });
            match replaces.filter(|_| !new.slot().has_more()) {
                Some(true) => last = Some(new),
                Some(false) => {}
                None => {
                    self.later.extend(group);
                    return held;
                }
            }
        }
        if let Some(last) = &last {
            self.count(held.as_ref(), last);
        }
        last.or(held)
    }

    fn count(&mut self, before: Option<&Piece<'_>>, after: &Piece<'_>) {
        let Counts { tally, digests } = &mut self.counts;
        let slot = after.slot();
        let (spot, new) = (Spot::of(slot.key()), slot.entry());
        let mut hash = 0;
        if let Some(before) = before {
            let held = before.slot().entry();
            tally.remove(&held);
            hash = spot.plain(held.version);
        }
        tally.add(&new);
        spot.change(digests, hash, spot.plain(new.version));
    }
}

/// Moves what is held for keys below one; gives what is held for it.
fn up_to<'p>(
    key: &[u8],
    old: &mut Peekable<impl Iterator<Item = Piece<'p>>>,
    row: &mut Row<'_>,
) -> Option<Piece<'p>> {
    while let Some(piece) = old.peek() {
        match piece.key().cmp(key) {
            Ordering::Less => row.push(old.next()?),
            Ordering::Equal => return old.next(),
            Ordering::Greater => break,
        }
    }
    None
}
