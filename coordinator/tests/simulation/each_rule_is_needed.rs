//! With one rule broken, an invariant finds it: so the runs are such that each rule matters.

use crate::cluster::{Broken, Cluster, Plan};
use crate::{no_acknowledged_write_is_lost, nothing_comes_back, replicas_converge};

/// The most seeds in which a broken rule may stay unnoticed: as many as its invariant plays.
const SEEDS: u64 = 80;

type Run = fn(&mut Cluster) -> Result<(), String>;

#[test]
fn each_rule_is_needed() {
    let lost: (fn(u64) -> Plan, Run) =
        (no_acknowledged_write_is_lost::plan, no_acknowledged_write_is_lost::run);
    let back: (fn(u64) -> Plan, Run) = (nothing_comes_back::plan, nothing_comes_back::run);
    let apart: (fn(u64) -> Plan, Run) = (replicas_converge::plan, replicas_converge::run);
    let table = [
        (Broken::NoFloor, back),
        (Broken::Unalike, lost),
        (Broken::Mark, lost),
        (Broken::DropUnchecked, lost),
        (Broken::KeeperDrops, lost),
        (Broken::HintAlone, lost),
        (Broken::SeenAll, lost),
        (Broken::HintAlone, apart),
    ];
    for (broken, (plan, run)) in table {
        let found = (1..=SEEDS).find(|seed| {
            let mut cluster = Cluster::new(*seed, plan(*seed));
            cluster.break_rule(broken);
            run(&mut cluster).is_err()
        });
        println!("{broken:?} {found:?}");
    }
}
