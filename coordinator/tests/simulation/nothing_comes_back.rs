//! A key whose delete replaced all there was stays deleted: through crashes, late messages, stand-ins and
//! the collection of its tombstone.

use crate::cluster::{Cluster, Plan};
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

pub(crate) fn plan(seed: u64) -> Plan {
    Plan {
        quorums: Quorums { n: 3, r: 1, w: 1 + (seed % 2) as usize, sloppy: seed / 2 % 2 == 1 },
        weather: Weather { lost: 10, twice: 20, way_max: 15_000, late: 10 },
        nodes: 4,
        ops: 60,
        with_context: 20,
        deletes: 40,
        direct: 0,
        faults: 8,
        spares: 0,
        changes: 0,
        haste: 0,
        upkeep_every: 5_000,
    }
}

#[test]
fn nothing_comes_back() {
    let collected = std::cell::Cell::new(0);
    with_seeds(30, plan, |cluster| {
        let result = run(cluster);
        collected.set(collected.get() + cluster.upkeep.collected);
        result
    });
    assert!(collected.get() > 0, "no tombstone was ever collected");
}

pub(crate) fn run(cluster: &mut Cluster) -> Result<(), String> {
    cluster.run();
    cluster.heal();
    (0..3).for_each(|_| cluster.upkeep());
    check(cluster)
}

/// Nothing is held that a write had seen which was carried out: held itself, or acknowledged.
pub(crate) fn check(cluster: &Cluster) -> Result<(), String> {
    for (key, held) in cluster.everywhere() {
        for write in cluster.history.writes.iter().filter(|write| write.key == key) {
            let came_back = held.iter().find(|version| write.has_seen(**version));
            if let (true, Some(version)) = (write.is_acknowledged(), came_back) {
                return Err(format!("{version} of {key} is held, and {write:?} had replaced it"));
            }
        }
    }
    Ok(())
}
