//! A node has the share of copies that its weight asks for.
//!
//! The bound: of `V` tokens, that lie as if drawn, a node has `v`. Its arcs are `v` of `V` spacings, whose sum has the
//! mean `v / V` and the relative deviation `√((V - v) / (v · (V + 1)))`, less than `1 / √v`: 6.25 % for 256. Copies
//! beyond the first add arcs, and only make it less. The test asks a few hundred shares; five deviations are
//! missed by chance by one in a million.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use ringkv_shared::NodeId;
use ringkv_shared::ring::{Ring, VNODES_DEFAULT};

const RINGS: u64 = 40;
const DEVIATIONS: f64 = 5.0;

fn ring(rng: &mut StdRng, weight_max: u32) -> Ring {
    let first: u32 = rng.random_range(0..1_000_000);
    let nodes = rng.random_range(2..=10);
    let name = |i: u32| -> NodeId { format!("n{}", first + i).parse().unwrap() };
    Ring::new(VNODES_DEFAULT, (0..nodes).map(|i| (name(i), rng.random_range(1..=weight_max))))
}

/// Asks every node's share of all copies, given how large it should be.
fn check(seed: u64, ring: &Ring, n: usize, ideal: impl Fn(u32) -> f64) {
    let shares = ring.copy_shares(n);
    for (node, seat) in ring.members() {
        let (share, ideal) = (shares[node], ideal(seat.weight));
        let bound = ideal * DEVIATIONS / f64::from(VNODES_DEFAULT * seat.weight).sqrt();
        let off = (share - ideal).abs();
        assert!(
            off <= bound,
            "seed {seed}: {node} has {share}, not {ideal} ± {bound}, of {ring:?}"
        );
    }
}

#[test]
fn one_copy_lies_as_weights_ask() {
    for seed in 0..RINGS {
        let ring = ring(&mut StdRng::seed_from_u64(seed), 4);
        let all: u32 = ring.members().values().map(|seat| seat.weight).sum();
        check(seed, &ring, 1, |weight| f64::from(weight) / f64::from(all));
    }
}

/// With other weights a heavy node has less than its part: it can have one copy of a key only.
#[test]
fn several_copies_lie_evenly_on_equal_nodes() {
    for seed in 0..RINGS {
        let mut rng = StdRng::seed_from_u64(seed);
        let (ring, n) = (ring(&mut rng, 1), rng.random_range(2..=3));
        let nodes = u32::try_from(ring.members().len()).unwrap();
        check(seed, &ring, n, |_| 1.0 / f64::from(nodes));
    }
}
