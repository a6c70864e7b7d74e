//! What was acknowledged is there in the end, or was replaced by a write that had seen it: never by one
//! that had not.

use crate::cluster::{Cluster, Plan};
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

pub(crate) fn plan(seed: u64) -> Plan {
    Plan {
        quorums: Quorums {
            n: 3,
            r: 1 + (seed % 2) as usize,
            w: 1 + (seed / 2 % 3) as usize,
            sloppy: seed / 6 % 2 == 1,
        },
        weather: Weather { lost: 10, twice: 10, way_max: 10_000, late: 5 },
        nodes: 4,
        ops: 80,
        with_context: if seed.is_multiple_of(2) { 70 } else { 20 },
        deletes: if seed.is_multiple_of(2) { 15 } else { 50 },
        direct: 15,
        faults: 8,
        spares: 0,
        changes: 0,
        haste: 0,
        upkeep_every: if seed.is_multiple_of(2) { 15_000 } else { 5_000 },
    }
}

#[test]
fn no_acknowledged_write_is_lost() {
    with_seeds(30, plan, run);
}

pub(crate) fn run(cluster: &mut Cluster) -> Result<(), String> {
    cluster.run();
    cluster.heal();
    check(cluster)
}

pub(crate) fn check(cluster: &Cluster) -> Result<(), String> {
    let lost = cluster.history.lost(&cluster.everywhere(), &cluster.upkeep.forgotten);
    lost.first().map_or(Ok(()), |write| Err(format!("acknowledged, and lost: {write:?}")))
}
