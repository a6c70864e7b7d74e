//! Faults against real processes: the system stays whole, and says what is wrong.

#[path = "../support/mod.rs"]
mod support;

mod behind;
mod changes;
mod cluster;
mod coordinators;
mod entropy;
mod express;
mod hints;
mod keyspaces;
mod kills;
mod load;
mod membership;
mod quorums;
mod scene;
mod silence;
mod starts;
mod steps;
mod straight;
mod strangers;
mod tombstones;
mod watching;
