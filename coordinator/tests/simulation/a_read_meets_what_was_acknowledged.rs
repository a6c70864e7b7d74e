//! With R+W>N, and nobody standing in for others, a read has seen every write that was acknowledged before it
//! began. What was written to one node directly was not acknowledged by W.

use ringkv_shared::Line;

use crate::cluster::{Cluster, Plan};
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

fn plan(quorums: Quorums) -> Plan {
    let weather = Weather { lost: 5, twice: 5, way_max: 8_000, late: 0 };
    Plan {
        quorums,
        weather,
        nodes: 4,
        ops: 60,
        with_context: 50,
        deletes: 15,
        direct: 10,
        faults: 6,
        spares: 0,
        changes: 0,
        haste: 0,
        upkeep_every: 20_000,
    }
}

#[test]
fn a_read_meets_what_was_acknowledged() {
    let quorums = [(2, 2), (1, 3), (3, 1)].map(|(r, w)| Quorums { n: 3, r, w, sloppy: false });
    with_seeds(50, |seed| plan(quorums[(seed % 3) as usize]), run);
}

pub(crate) fn run(cluster: &mut Cluster) -> Result<(), String> {
    cluster.run();
    missed(cluster).map_or(Ok(()), Err)
}

#[test]
fn the_check_finds_what_smaller_quorums_miss() {
    let quorums = Quorums { n: 3, r: 1, w: 1, sloppy: false };
    let found = (1..=200).any(|seed| {
        let mut cluster = Cluster::new(seed, plan(quorums));
        cluster.run();
        missed(&cluster).is_some()
    });
    assert!(found, "R+W<=N, and no read missed anything");
}

fn missed(cluster: &Cluster) -> Option<String> {
    let writes = &cluster.history.writes;
    for read in &cluster.history.reads {
        let Some(seen) = &read.answer else { continue };
        let of_key = || writes.iter().filter(|write| write.key == read.key);
        // Of a key that is not there any more nothing is told, if its tombstone was collected.
        if seen.is_empty() && of_key().any(|write| write.deletes) {
            continue;
        }
        let mut before = of_key().filter(|write| {
            write.version.line() == Line::Coordinators
                && write.is_acknowledged()
                && write.told.is_some_and(|(at, _)| at <= read.began)
        });
        if let Some(write) = before.find(|write| !seen.covers(write.version)) {
            return Some(format!("a read of {} has not seen {}", read.key, write.version));
        }
    }
    None
}
