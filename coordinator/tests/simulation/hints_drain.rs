//! When all is mended, what was owed is handed over, and nothing is owed any more.

use ringkv_shared::protocol::node::SizeReply;

use crate::cluster::{Cluster, Plan};
use crate::message::Call;
use crate::router::Quorums;
use crate::with_seeds;
use crate::world::Weather;

#[test]
fn hints_drain() {
    let plan = |seed: u64| Plan {
        quorums: Quorums { n: 3, r: 1, w: 1, sloppy: seed.is_multiple_of(2) },
        weather: Weather { lost: 5, twice: 5, way_max: 8_000, late: 0 },
        nodes: 5,
        ops: 60,
        with_context: 30,
        deletes: 15,
        direct: 0,
        faults: 10,
        spares: 0,
        changes: 0,
        haste: 0,
        upkeep_every: 0,
    };
    let mut owed_before = 0;
    let owed = std::cell::RefCell::new(&mut owed_before);
    with_seeds(40, plan, |cluster| {
        cluster.run();
        cluster.heal();
        **owed.borrow_mut() += owes(cluster);
        cluster.upkeep.hand_over(&mut cluster.world, &cluster.router.topology);
        match owes(cluster) {
            0 => Ok(()),
            keys => Err(format!("{keys} keys are still owed")),
        }
    });
    assert!(owed_before > 0, "nothing was ever owed");
}

fn owes(cluster: &Cluster) -> u64 {
    let size =
        |node| cluster.world.replicas[node].look(&Call::Other("size", serde_json::json!([])));
    let sizes = cluster.world.replicas.keys().map(size);
    let sizes =
        sizes.map(|reply| reply.and_then(|reply| reply.ok::<SizeReply>()).expect("it answers"));
    sizes.flat_map(|size| size.debts).map(|debt| debt.keys).sum()
}
