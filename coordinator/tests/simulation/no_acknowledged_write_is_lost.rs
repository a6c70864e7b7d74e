//! What was acknowledged is there in the end, or was replaced by a write that had seen it: never by one
//! that had not.

use crate::cluster::Plan;
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

#[test]
fn no_acknowledged_write_is_lost() {
    let plan = |seed: u64| Plan {
        quorums: Quorums {
            n: 3,
            r: 1 + (seed % 2) as usize,
            w: 1 + (seed / 2 % 3) as usize,
            sloppy: seed / 6 % 2 == 1,
        },
        weather: Weather { lost: 10, twice: 10, way_max: 10_000 },
        nodes: 4,
        ops: 80,
        with_context: 70,
        direct: 15,
        faults: 8,
        upkeep_every: 15_000,
    };
    with_seeds(80, plan, |cluster| {
        cluster.run();
        cluster.heal();
        let lost = cluster.history.lost(&cluster.everywhere());
        lost.first().map_or(Ok(()), |write| Err(format!("acknowledged, and lost: {write:?}")))
    });
}
