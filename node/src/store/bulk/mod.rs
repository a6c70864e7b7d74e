//! Many writes arrive at once, as when a log is read: they are put in from one end of the map to the other.
//!
//! ```text
//!   writes, of some parts of a log     a c f k … t     b c d m … z     a b q r …
//!                                          └──────┬───────┴───────┬──────┘
//!   stretches of the map               leaves up to k        from l on        one beside the other
//!   new leaves                         ▓▓▓▓ ▓▓▓▓ ▓▓▓▓        ▓▓▓▓ ▓▓▓▓
//! ```
//!
//! To put in one write costs some looks at memory far away, and a leaf that is full is cut and put in order. All this is
//! done once a leaf here, and not once a key: a leaf is made of the one that was there and of all writes that
//! belong into it, which are at hand in its order. Stretches have nothing to do with each other, so each
//! is a matter of its own for whichever thread is free.
//!
//! What is held for a key then is what would be held if the writes had come one by one. Of plain keys that is decided on the spot
//! (see `merge.rs`); the writes of others are put in one by one, when all else is done.
//!
//! | file | idea |
//! |---|---|
//! | here | which way, and who does it |
//! | `writes` | writes in key order |
//! | `weave` | leaves of a stretch made anew |
//!
//! # Caveats
//!
//! Leaves come out full, or alike if there was something in them. The first write into a full one cuts it.

#[cfg(test)]
mod tests;
mod weave;
mod writes;

use std::sync::Mutex;
use std::thread;

use super::Store;
use super::leaf::{Bounded, Stock};
use weave::{Counts, Weaver, Woven};

pub use writes::{Unsorted, Writes};

/// Of a map with so many keys for each write most leaves would be made anew for little, or not at all.
const SPARSE: usize = 32;
/// Fewer writes are not worth a thread more.
const PER_THREAD_MIN: usize = if cfg!(test) { 64 } else { 16 * 1024 };
/// Into how many stretches the map is cut for each thread, so that one that was held up does less.
const STRETCHES_PER_THREAD: usize = 8;
/// How many keys of all writes are looked at for each stretch, to have them alike.
const SAMPLES: usize = 16;

impl Store {
    /// Does what some writes say, as if they came one by one, on so many threads.
    pub fn apply_all(&mut self, all: &[Writes], threads: usize) {
        let count: usize = all.iter().map(Writes::len).sum();
        if count == 0 {
            return;
        }
        if count < self.entries.len() / SPARSE || self.is_frozen() {
            return all.iter().for_each(|writes| self.apply_each(writes));
        }
        let threads = threads.min(count / PER_THREAD_MIN).max(1);
        let cuts = cuts(all, if threads > 1 { threads * STRETCHES_PER_THREAD } else { 1 });
        let leaves = std::mem::take(&mut self.entries).into_leaves();
        let stretches = stretches(leaves, &cuts);
        let (woven, counts) = weave_all(all, stretches, &cuts, threads);
        for Counts { tally, digests } in &counts {
            self.tally.join(tally);
            self.digests.join(digests);
        }
        let mut later = Vec::new();
        let leaves = woven.into_iter().flat_map(|woven| {
            later.extend(woven.later);
            woven.leaves
        });
        self.entries = super::index::Index::of_leaves(leaves);
        let last = all.iter().map(|writes| writes.last).max();
        self.applied_seq = self.applied_seq.max(last.unwrap_or(0));
        later.into_iter().for_each(|line| self.apply_one(&all[line.writes()], line.tag, line.at));
    }

    fn apply_each(&mut self, writes: &Writes) {
        writes.items.iter().for_each(|item| self.apply_one(writes, item.tag, item.at));
    }

    fn apply_one(&mut self, writes: &Writes, tag: u16, at: u32) {
        let piece = writes.piece(tag, at);
        let (record, place) = writes.record(piece.slot(), at);
        self.apply(&record, place);
    }
}

/// Keys that part all writes into so many stretches, about alike; fewer if they are few.
fn cuts(all: &[Writes], stretches: usize) -> Vec<&[u8]> {
    if stretches == 1 {
        return Vec::new();
    }
    let samples = stretches * SAMPLES;
    let count: usize = all.iter().map(Writes::len).sum();
    let mut sampled: Vec<&[u8]> = Vec::with_capacity(samples + all.len());
    for writes in all {
        let step = (count / samples).max(1);
        sampled.extend(writes.items.iter().step_by(step).map(|item| writes.key(item.at)));
    }
    sampled.sort_unstable();
    let nth = |n: usize| sampled[n * sampled.len() / stretches];
    let mut cuts: Vec<&[u8]> = (1..stretches).map(nth).collect();
    cuts.dedup();
    cuts
}

/// The leaves up to each cut, and those behind.
fn stretches(leaves: Vec<Bounded>, cuts: &[&[u8]]) -> Vec<Vec<Bounded>> {
    let (mut rest, mut stretches) = (leaves, Vec::with_capacity(cuts.len() + 1));
    for cut in cuts.iter().rev() {
        // The least key of the first leaf is none: it is not above any.
        let at = rest.partition_point(|(low, _)| **low <= **cut) - 1;
        let mut stretch = vec![((*cut).into(), rest[at].1.split_off(cut))];
        stretch.extend(rest.drain(at + 1..));
        stretches.push(stretch);
    }
    stretches.push(rest);
    stretches.reverse();
    stretches
}

/// Weaves all stretches, and says what has changed by it.
fn weave_all(
    all: &[Writes],
    stretches: Vec<Vec<Bounded>>,
    cuts: &[&[u8]],
    threads: usize,
) -> (Vec<Woven>, Vec<Counts>) {
    let prefix = weave::prefix(all);
    let stock = Stock::of(if threads > 1 { all.iter().map(Writes::slot_bytes).sum() } else { 0 });
    let todo = Mutex::new(stretches.into_iter().enumerate());
    let (done, counts) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let ok = "nobody panics while weaving";
    let work = || {
        let (mut weaver, mut lines) = (Weaver::new(all, &stock), Vec::new());
        loop {
            let Some((nth, leaves)) = todo.lock().expect(ok).next() else { break };
            let low = nth.checked_sub(1).map(|before| cuts[before]);
            weave::lines(all, prefix, low, cuts.get(nth).copied(), &mut lines);
            let woven = weaver.weave(leaves, &lines);
            done.lock().expect(ok).push((nth, woven));
        }
        counts.lock().expect(ok).push(weaver.counts());
    };
    thread::scope(|scope| {
        // Threads that begin when others have ended get the memory that those have given back; this one has its own.
        let helpers = if threads > 1 { threads } else { 0 };
        let begin = |_: &usize| thread::Builder::new().spawn_scoped(scope, work).is_ok();
        if (0..helpers).filter(begin).count() == 0 {
            work();
        }
    });
    let mut done = done.into_inner().expect(ok);
    done.sort_unstable_by_key(|(nth, _)| *nth);
    (done.into_iter().map(|(_, woven)| woven).collect(), counts.into_inner().expect(ok))
}
