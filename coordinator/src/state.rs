//! What the coordinator must never forget, as a pure machine: events in, members and placements
//! out. The log is the list of events, so a restarted coordinator is the same machine fed again.
//!
//! | event line | meaning |
//! |---|---|
//! | `RING <vnodes>` | the ring is new: virtual nodes for each unit of weight, once and for all |
//! | `BOOT <epoch>` | a coordinator started; versions are numbered under this epoch from now on |
//! | `ADD <id> <addr> <weight> <uuid>` | a member, staged onto the ring |
//! | `MOVE <id> <addr>` | a member answers at another address |
//! | `REMOVE <id>` | staged off the ring |
//! | `REPLICAS <n>` | staged: keep n copies |
//! | `FINAL` | the pending placement is in force |
//! | `KEYSPACE <name> <ttl>` | how many milliseconds values live that are put into it without a time of their own; 0: for ever |

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ringkv_shared::ring::VNODES_DEFAULT;
use ringkv_shared::topology::{Placement, Topology};
use ringkv_shared::{KeyspaceName, NodeId};

use crate::keyspace::DEFAULT;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// `host:port`.
    pub(crate) addr: String,
    /// Units of virtual nodes.
    pub(crate) weight: u32,
    /// The identity of its data directory.
    pub(crate) uuid: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Ring { vnodes: u32 },
    Boot { epoch: u32 },
    Add { id: NodeId, member: Member },
    Move { id: NodeId, addr: String },
    Remove { id: NodeId },
    Replicas { n: usize },
    Final,
    Keyspace { name: String, ttl_ms: u64 },
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// How often a coordinator of this cluster has started.
    pub(crate) boot_epoch: u32,
    /// Virtual nodes for each unit of weight.
    pub(crate) vnodes: u32,
    /// Everybody on either ring.
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// The placements.
    pub(crate) topology: Topology,
    /// How long values live in the keyspace `default`, in milliseconds; 0: for ever.
    pub(crate) ttl_ms: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        let vnodes = VNODES_DEFAULT;
        let (members, topology) = (BTreeMap::new(), Topology::empty(vnodes));
        Self { boot_epoch: 0, vnodes, members, topology, ttl_ms: 0 }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        let Placement { ring, copies } = self.topology.newest().clone();
        match event {
            Event::Ring { vnodes } => {
                self.vnodes = *vnodes;
                self.topology = Topology::empty(*vnodes);
            }
            Event::Boot { epoch } => self.boot_epoch = *epoch,
            Event::Add { id, member } => {
                let ring = ring.with(id.clone(), member.weight);
                self.members.insert(id.clone(), member.clone());
                self.topology.stage(Placement { ring, copies });
            }
            Event::Move { id, addr } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.addr.clone_from(addr);
                }
            }
            Event::Remove { id } => {
                self.topology.stage(Placement { ring: ring.without(id), copies });
            }
            Event::Replicas { n } => {
                let placement = Placement { ring, copies }.with_n(KeyspaceName::default(), *n);
                self.topology.stage(placement);
            }
            Event::Final => self.topology.finalise(),
            Event::Keyspace { ttl_ms, .. } => self.ttl_ms = *ttl_ms,
        }
        let topology = &self.topology;
        self.members.retain(|id, _| topology.has(id));
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring { vnodes } => write!(f, "RING {vnodes}"),
            Self::Boot { epoch } => write!(f, "BOOT {epoch}"),
            Self::Add { id, member: Member { addr, weight, uuid } } => {
                write!(f, "ADD {id} {addr} {weight} {uuid}")
            }
            Self::Move { id, addr } => write!(f, "MOVE {id} {addr}"),
            Self::Remove { id } => write!(f, "REMOVE {id}"),
            Self::Replicas { n } => write!(f, "REPLICAS {n}"),
            Self::Final => write!(f, "FINAL"),
            Self::Keyspace { name, ttl_ms } => write!(f, "KEYSPACE {name} {ttl_ms}"),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no event");
        let words: Vec<&str> = text.split(' ').collect();
        let event = match words[..] {
            ["RING", vnodes] => Self::Ring { vnodes: vnodes.parse().map_err(|_| bad())? },
            ["BOOT", epoch] => Self::Boot { epoch: epoch.parse().map_err(|_| bad())? },
            ["ADD", id, addr, weight, uuid] => Self::Add {
                id: id.parse().map_err(|_| bad())?,
                member: Member {
                    addr: addr.to_owned(),
                    weight: weight.parse().map_err(|_| bad())?,
                    uuid: uuid.to_owned(),
                },
            },
            ["MOVE", id, addr] => {
                Self::Move { id: id.parse().map_err(|_| bad())?, addr: addr.to_owned() }
            }
            ["REMOVE", id] => Self::Remove { id: id.parse().map_err(|_| bad())? },
            ["REPLICAS", n] => Self::Replicas { n: n.parse().map_err(|_| bad())? },
            ["FINAL"] => Self::Final,
            ["KEYSPACE", DEFAULT, ttl_ms] => Self::Keyspace {
                name: DEFAULT.to_owned(),
                ttl_ms: ttl_ms.parse().map_err(|_| bad())?,
            },
            _ => return Err(bad()),
        };
        if event.to_string() == text { Ok(event) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(lines: &[&str]) -> State {
        let mut state = State::new();
        state.apply(&Event::Ring { vnodes: 8 });
        for line in lines {
            state.apply(&line.parse().unwrap());
        }
        state
    }

    #[test]
    fn lines_are_canonical() {
        for bad in [
            "KEYSPACE other 1",
            "KEYSPACE default",
            "KEYSPACE default 01",
            "",
            "ADD n1",
            "ADD N1 a:1 1 u",
            "BOOT 01",
            "REMOVE n1 ",
            "BOOT -1",
            "final",
        ] {
            assert!(bad.parse::<Event>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_removed_node_is_a_member_until_the_change_is_final() {
        let lines = ["BOOT 1", "ADD n1 a:1 1 u1", "ADD n2 a:2 1 u2", "FINAL", "REMOVE n2"];
        let mut state = replay(&lines);
        let n2: NodeId = "n2".parse().unwrap();
        assert!(state.members.contains_key(&n2) && state.topology.current.has(&n2));
        state.apply(&Event::Final);
        assert!(!state.members.contains_key(&n2));
        assert_eq!(state.topology.epoch, 5);
    }

    #[test]
    fn the_last_word_on_a_keyspace_holds() {
        assert_eq!(replay(&["BOOT 1"]).ttl_ms, 0);
        let state =
            replay(&["KEYSPACE default 5000", "BOOT 2", "KEYSPACE default 60000", "BOOT 3"]);
        assert_eq!(state.ttl_ms, 60_000);
    }

    #[test]
    fn adding_and_removing_before_final_leaves_nothing() {
        let state = replay(&["ADD n1 a:1 1 u1", "FINAL", "ADD n2 a:2 1 u2", "REMOVE n2"]);
        assert_eq!(state.members.len(), 1);
        assert_eq!(state.topology.pending, None);
    }
}
