//! When all is mended, hand-off and comparison leave every owner with the same, and nobody else with
//! anything.

use crate::cluster::{Cluster, Plan};
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

pub(crate) fn plan(seed: u64) -> Plan {
    Plan {
        quorums: Quorums { n: 3, r: 1 + (seed % 2) as usize, w: 1, sloppy: seed / 2 % 2 == 1 },
        weather: Weather { lost: 10, twice: 10, way_max: 10_000, late: 0 },
        nodes: 5,
        ops: 60,
        with_context: 60,
        deletes: 15,
        direct: 20,
        faults: 10,
        spares: 0,
        changes: 0,
        haste: 0,
        upkeep_every: if seed.is_multiple_of(3) { 0 } else { 9_000 },
    }
}

#[test]
fn replicas_converge() {
    with_seeds(40, plan, run);
}

pub(crate) fn run(cluster: &mut Cluster) -> Result<(), String> {
    cluster.run();
    cluster.heal();
    // Copies first, then what is left over is dropped.
    (0..3).for_each(|_| cluster.upkeep());
    check(cluster)
}

pub(crate) fn check(cluster: &Cluster) -> Result<(), String> {
    for key in Cluster::keys() {
        let owners = cluster.router.owners(&key);
        let first = cluster.held(&owners[0], &key);
        for node in cluster.router.topology.current.ring.members().keys() {
            let held = cluster.held(node, &key);
            let expected = first.as_ref().filter(|_| owners.contains(node));
            if held.as_ref() != expected {
                return Err(format!("{node} has {held:?} of {key}, {} has {first:?}", owners[0]));
            }
        }
    }
    Ok(())
}
