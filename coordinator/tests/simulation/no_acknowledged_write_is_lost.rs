//! What was acknowledged is there in the end, or was replaced by a write that had seen it: never by one
//! that had not.

use std::collections::BTreeMap;

use ringkv_shared::causal::Siblings;
use ringkv_shared::{Blob, Version};

use crate::cluster::{Cluster, Plan};
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
    };
    with_seeds(300, plan, |cluster| {
        cluster.run();
        cluster.heal();
        let lost = cluster.history.lost(&everywhere(cluster));
        lost.first().map_or(Ok(()), |write| Err(format!("acknowledged, and lost: {write:?}")))
    });
}

/// Of each key the versions that nothing has replaced, all nodes taken together.
fn everywhere(cluster: &Cluster) -> BTreeMap<Blob, Vec<Version>> {
    let held = |key: Blob| {
        let mut all = Siblings::default();
        for node in cluster.world.replicas.keys() {
            if let Some(record) = cluster.held(node, &key) {
                all.merge(&record.versions_held());
            }
        }
        (key, all.values().iter().map(|(version, ())| *version).collect())
    };
    Cluster::keys().into_iter().map(held).collect()
}
