//! Which request comes next: drawn from the seed before the clock starts, so that it costs a load
//! from memory.
//!
//! # Caveats
//!
//! [`DRAWN_MAX`] requests at most are drawn; a longer run plays them again from the start. So of more
//! keys than that, some are never asked for in the measured part.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Zipf};

use super::args::Distribution;

/// How many requests are drawn: 16 MiB of them.
const DRAWN_MAX: usize = 1 << 22;
/// How fast the wanting falls: the exponent that YCSB has, too.
const ZIPF_EXPONENT: f64 = 0.99;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    /// The number of its key.
    pub(super) key: u32,
    /// A get rather than a put.
    pub(super) read: bool,
}

/// Where requests come from, one after another.
#[derive(Clone, Debug)]
pub(super) struct Source {
    ops: Arc<[u32]>,
    at: usize,
    /// How many are still to come.
    left: u64,
}

const fn packed(key: u32, read: bool) -> u32 {
    key << 1 | read as u32
}

impl Source {
    /// Every key once, in order.
    #[must_use]
    pub(super) fn each(keys: u32, read: bool) -> Self {
        Self::of((0..keys).map(|key| packed(key, read)).collect())
    }

    /// These keys once, to be put.
    #[must_use]
    pub(super) fn these(keys: &[u32]) -> Self {
        Self::of(keys.iter().map(|key| packed(*key, false)).collect())
    }

    /// Up to `count` keys, each once, by the seed, to be read.
    #[must_use]
    pub(super) fn sample(keys: u32, count: usize, seed: u64) -> Self {
        if keys as usize <= count {
            return Self::each(keys, true);
        }
        let mut random = StdRng::seed_from_u64(seed);
        let chosen = rand::seq::index::sample(&mut random, keys as usize, count);
        Self::of(chosen.into_iter().map(|key| packed(key as u32, true)).collect())
    }

    /// Requests as the measured part has them, without end.
    #[must_use]
    pub(super) fn mixed(keys: u32, how: Distribution, reads: u8, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = (keys as usize * 4).clamp(1 << 16, DRAWN_MAX);
        let mut draw: Box<dyn FnMut(&mut StdRng) -> u32> = match how {
            Distribution::Uniform => Box::new(move |random| random.random_range(0..keys)),
            Distribution::Zipf => {
                // Which keys are wanted most is drawn, too: else they would be neighbours.
                let mut ranked: Vec<u32> = (0..keys).collect();
                ranked.shuffle(&mut random);
                let zipf = Zipf::new(f64::from(keys), ZIPF_EXPONENT).expect("at least one key");
                Box::new(move |random| ranked[zipf.sample(random) as usize - 1])
            }
        };
        let ops = (0..count).map(|_| {
            let key = draw(&mut random);
            packed(key, random.random_range(0..100) < reads)
        });
        let source = Self::of(ops.collect());
        Self { left: u64::MAX, ..source }
    }

    fn of(ops: Vec<u32>) -> Self {
        Self { left: ops.len() as u64, ops: ops.into(), at: 0 }
    }

    /// Only so many from now on.
    pub(super) fn limit(&mut self, count: u64) {
        self.left = count;
    }

    /// How many there are.
    #[must_use]
    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    /// Nothing comes any more.
    pub(super) fn end(&mut self) {
        self.left = 0;
    }
}

impl Iterator for Source {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        self.left = self.left.checked_sub(1)?;
        let packed = self.ops[self.at];
        self.at += 1;
        if self.at == self.ops.len() {
            self.at = 0;
        }
        Some(Op { key: packed >> 1, read: packed & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        for how in [Distribution::Uniform, Distribution::Zipf] {
            let ops = |seed| Source::mixed(1000, how, 50, seed).take(10_000).collect::<Vec<_>>();
            assert_eq!(ops(1), ops(1));
            assert_ne!(ops(1), ops(2));
            let reads = ops(1).iter().filter(|op| op.read).count();
            assert!((4500..5500).contains(&reads), "{reads}");
        }
    }

    #[test]
    fn zipf_wants_a_few_keys_very_often() {
        let mut counts = vec![0; 1000];
        for op in Source::mixed(1000, Distribution::Zipf, 0, 1).take(100_000) {
            counts[op.key as usize] += 1;
        }
        counts.sort_unstable();
        // 1/H(1000, 0.99), the share of the first.
        assert!((11_000..15_000).contains(&counts[999]), "{}", counts[999]);
        assert!(counts[500] < 200, "{}", counts[500]);
    }

    #[test]
    fn a_sample_has_each_key_once() {
        let mut keys: Vec<u32> = Source::sample(1000, 100, 1).map(|op| op.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 100);
        assert_eq!(Source::sample(10, 100, 1).count(), 10);
        assert_eq!(Source::each(3, false).last(), Some(Op { key: 2, read: false }));
    }
}
