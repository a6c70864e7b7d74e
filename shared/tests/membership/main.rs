//! A thousand random histories of a ring: nodes join, leave, replace each other, get other weights and zones,
//! and N changes. After each step the laws of the ring hold, and what the planner predicted is what there is.
//!
//! Every history comes from its seed; a failure names it, with the step and the ring before it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod balance;
mod history;
mod laws;
mod prediction;

use history::History;

const HISTORIES: u64 = 1_000;
const STEPS: usize = 8;

#[test]
fn every_step_keeps_the_laws_of_the_ring() {
    for seed in 0..HISTORIES {
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            let step = history.step();
            laws::hold(&step);
        }
    }
}

#[test]
fn what_is_predicted_is_what_there_is() {
    for seed in 0..HISTORIES {
        let mut history = History::new(seed);
        let mut keys = prediction::Keys::new(&history.placement);
        for _ in 0..STEPS {
            keys.disturb(&mut history);
            let step = history.step();
            keys.change(&step);
        }
    }
}
