//! When all is mended, hand-off and comparison leave every owner with the same, and nobody else with
//! anything.

use crate::cluster::{Cluster, Plan};
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

#[test]
fn replicas_converge() {
    let plan = |seed: u64| Plan {
        quorums: Quorums { n: 3, r: 1 + (seed % 2) as usize, w: 1, sloppy: seed / 2 % 2 == 1 },
        weather: Weather { lost: 10, twice: 10, way_max: 10_000 },
        nodes: 5,
        ops: 60,
        with_context: 60,
        direct: 20,
        faults: 10,
        upkeep_every: if seed.is_multiple_of(3) { 0 } else { 9_000 },
    };
    with_seeds(80, plan, |cluster| {
        cluster.run();
        cluster.heal();
        // Copies first, then what is left over is dropped.
        (0..3).for_each(|_| cluster.upkeep());
        check(cluster)
    });
}

fn check(cluster: &Cluster) -> Result<(), String> {
    for key in Cluster::keys() {
        let owners = cluster.router.owners(&key);
        let first = cluster.held(&owners[0], &key);
        for node in cluster.world.replicas.keys() {
            let held = cluster.held(node, &key);
            let expected = first.as_ref().filter(|_| owners.contains(node));
            if held.as_ref() != expected {
                return Err(format!("{node} has {held:?} of {key}, {} has {first:?}", owners[0]));
            }
        }
    }
    Ok(())
}
