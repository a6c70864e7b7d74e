//! The whole cluster in one thread: real engines on simulated disks, the machines that the coordinator
//! carries out, and a network, clocks and faults that all come from one seed.
//!
//! Each file that is named by a sentence holds one invariant and the runs that it is looked for in.
//! A failure prints its seed, its story, and the command that plays it again. `SEED=n` plays one seed, `SEEDS=n`
//! as many from a random one.
//!
//! # Caveats
//!
//! What carries the machines out here is not what carries them out in the coordinator: sockets, tasks and timeouts
//! are tested with real processes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod change;
mod cluster;
mod history;
mod message;
mod replica;
mod router;
mod upkeep;
mod world;

mod a_read_meets_what_was_acknowledged;
mod each_rule_is_needed;
mod every_request_has_one_answer;
mod hints_drain;
mod no_acknowledged_write_is_lost;
mod no_change_of_the_ring_costs_a_key;
mod nothing_comes_back;
mod replicas_converge;

use cluster::{Cluster, Plan};

/// Runs a plan from many seeds. What fails is run once more, to tell its story.
fn with_seeds(
    count: u64,
    plan: impl Fn(u64) -> Plan,
    run: impl Fn(&mut Cluster) -> Result<(), String>,
) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let (from, count) = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(count)) => (uuid::Uuid::new_v4().as_u64_pair().0 >> 32, count),
        (None, None) => (1, count),
    };
    for seed in from..from + count {
        if let Err(why) = run(&mut Cluster::new(seed, plan(seed))) {
            let mut again = Cluster::new(seed, plan(seed));
            again.world.story = Some(Vec::new());
            assert_eq!(run(&mut again), Err(why.clone()), "seed {seed} is not the same twice");
            panic!("{why}\n\n{}", again.story());
        }
    }
}
