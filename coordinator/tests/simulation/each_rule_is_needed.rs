//! With one rule broken, an invariant finds it: the runs are such that the rule matters.

use crate::cluster::{Broken, Cluster, Plan};
use crate::{no_acknowledged_write_is_lost, no_change_of_the_ring_costs_a_key, nothing_comes_back};

/// In so many runs a broken rule must be noticed: as many as its invariant plays.
const SEEDS: u64 = 60;

type Run = fn(&mut Cluster) -> Result<(), String>;
type Invariant = (fn(u64) -> Plan, Run);

#[test]
fn each_rule_is_needed() {
    let lost: Invariant = (no_acknowledged_write_is_lost::plan, no_acknowledged_write_is_lost::run);
    let back: Invariant = (nothing_comes_back::plan, nothing_comes_back::run);
    let change: Invariant =
        (no_change_of_the_ring_costs_a_key::plan, no_change_of_the_ring_costs_a_key::run);
    let hasty: Invariant =
        (no_change_of_the_ring_costs_a_key::hasty, no_change_of_the_ring_costs_a_key::run);
    let table = [
        (Broken::NoFloor, back),
        (Broken::DropUnchecked, lost),
        (Broken::SeenAll, lost),
        (Broken::OneRing, change),
        (Broken::NoWait, hasty),
        (Broken::Uncopied, change),
        (Broken::Jump, change),
    ];
    for (broken, (plan, run)) in table {
        let found = (1..=SEEDS).any(|seed| {
            let mut cluster = Cluster::new(seed, plan(seed));
            cluster.break_rule(broken);
            run(&mut cluster).is_err()
        });
        assert!(found, "{broken:?}, and nothing was wrong");
    }
}
