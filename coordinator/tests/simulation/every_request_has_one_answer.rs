//! Whatever is lost, late or doubled: who asks is told once, and only once.

use crate::cluster::{Cluster, Plan};
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

#[test]
fn every_request_has_one_answer() {
    let plan = |seed: u64| Plan {
        quorums: Quorums {
            n: 3,
            r: 1 + (seed % 3) as usize,
            w: 1 + (seed / 3 % 3) as usize,
            sloppy: seed.is_multiple_of(2),
        },
        weather: Weather { lost: 10, twice: 10, way_max: 10_000, late: 0 },
        nodes: 5,
        ops: 60,
        with_context: 50,
        deletes: 15,
        direct: 10,
        faults: 8,
        spares: 0,
        changes: 0,
        haste: 0,
        upkeep_every: 0,
    };
    with_seeds(40, plan, |cluster| {
        cluster.run();
        cluster.heal();
        check(cluster)
    });
}

fn check(cluster: &Cluster) -> Result<(), String> {
    let writes = cluster.history.writes.iter().filter(|write| write.answers != 1).count();
    let reads = cluster.history.reads.iter().filter(|read| read.answers != 1).count();
    match writes + reads {
        0 => Ok(()),
        _ => Err(format!("{writes} writes and {reads} reads were not answered once")),
    }
}
