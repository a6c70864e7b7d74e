//! While nodes join, leave, are replaced and weighted anew, and changes are taken back: what was acknowledged is
//! on the ring in the end, a read meets what was acknowledged before it began, and all owners have the same.

use crate::cluster::{Cluster, Plan};
use crate::router::Quorums;
use crate::world::Weather;
use crate::{a_read_meets_what_was_acknowledged, no_acknowledged_write_is_lost, replicas_converge};
use crate::{nothing_comes_back, with_seeds};

pub(crate) fn plan(seed: u64) -> Plan {
    let (r, w) = [(2, 2), (1, 3), (3, 1)][(seed % 3) as usize];
    Plan {
        quorums: Quorums { n: 3, r, w, sloppy: false },
        weather: Weather { lost: 5, twice: 10, way_max: 8_000, late: 5 },
        nodes: 4,
        ops: 250,
        with_context: 30,
        deletes: 20,
        direct: 0,
        faults: 6,
        spares: 3,
        changes: 12,
        haste: 50,
        upkeep_every: 60_000,
    }
}

/// Changes that are done while requests are on their way, one after the other.
pub(crate) fn hasty(seed: u64) -> Plan {
    let quorums = Quorums { n: 3, r: 1, w: 3, sloppy: false };
    Plan { quorums, changes: 40, haste: 100, ops: 300, ..plan(seed) }
}

#[test]
fn no_change_of_the_ring_costs_a_key() {
    let finalised = std::cell::Cell::new(0);
    let either = |seed| if seed % 4 == 0 { hasty(seed) } else { plan(seed) };
    with_seeds(30, either, |cluster| {
        let result = run(cluster);
        finalised.set(finalised.get() + cluster.changing.finalised);
        result
    });
    assert!(finalised.get() > 0, "no change was ever put in force");
}

pub(crate) fn run(cluster: &mut Cluster) -> Result<(), String> {
    a_read_meets_what_was_acknowledged::run(cluster)?;
    cluster.heal();
    (0..3).for_each(|_| cluster.upkeep());
    no_acknowledged_write_is_lost::check(cluster)?;
    nothing_comes_back::check(cluster)?;
    replicas_converge::check(cluster)
}
