//! What the coordinator must never forget, as a pure machine: events in, members and placements
//! out. The log is the list of events, so a restarted coordinator is the same machine fed again.
//!
//! Three files: what an event is and how it is written (`event`), what it does (here), and which events make
//! the same state again (`lines`).

mod event;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use ringkv_shared::ring::{Ring, Seat, VNODES_DEFAULT};
use ringkv_shared::topology::{Placement, Topology};
use ringkv_shared::{Keyspace, KeyspaceName, NodeId};

pub(crate) use event::{Event, Member};

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// How often a coordinator of this cluster has started.
    pub(crate) boot_epoch: u32,
    /// The identity of its directory; empty in a log that was never started with one.
    pub(crate) uuid: String,
    /// The coordinators that it takes over from, oldest first.
    pub(crate) after: Vec<String>,
    /// How many events there have been. Monotonic, through compactions and recoveries.
    pub(crate) changes: u64,
    /// Every stamp that was given is from before this unix millisecond. Monotonic.
    pub(crate) clock_ms: u64,
    /// Virtual nodes for each unit of weight.
    pub(crate) vnodes: u32,
    /// Everybody on any of the rings.
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// The placements.
    pub(crate) topology: Topology,
    /// Whether the copying of what is pending rests.
    pub(crate) paused: bool,
    /// A change has ended and old copies are to be dropped: these nodes are on no ring any more.
    pub(crate) clearing: Option<BTreeMap<NodeId, Member>>,
    /// What holds for each keyspace; `default` is always there. N is the newest.
    pub(crate) keyspaces: BTreeMap<KeyspaceName, Keyspace>,
    /// Keyspaces that were dropped, and the members that may still hold something of them.
    pub(crate) dropped: BTreeMap<KeyspaceName, BTreeSet<NodeId>>,
    /// The names of all that ever were dropped: who joins with old data may hold something of them.
    pub(crate) ever_dropped: BTreeSet<KeyspaceName>,
}

impl State {
    pub(crate) fn new() -> Self {
        let vnodes = VNODES_DEFAULT;
        let default = Keyspace::new(KeyspaceName::default());
        Self {
            boot_epoch: 0,
            uuid: String::new(),
            after: Vec::new(),
            changes: 0,
            clock_ms: 0,
            vnodes,
            members: BTreeMap::new(),
            topology: Topology::empty(vnodes),
            paused: false,
            clearing: None,
            keyspaces: BTreeMap::from([(default.name.clone(), default)]),
            dropped: BTreeMap::new(),
            ever_dropped: BTreeSet::new(),
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        self.changes += 1;
        match event {
            Event::Ring { vnodes } => {
                self.vnodes = *vnodes;
                self.topology = Topology::empty(*vnodes);
            }
            Event::Boot { epoch } => self.boot_epoch = *epoch,
            Event::Coordinator { uuid } => self.uuid.clone_from(uuid),
            Event::After { uuid } => self.after.push(uuid.clone()),
            Event::Add { id, member, weight, zone } => {
                self.members.insert(id.clone(), member.clone());
                let seat = Seat { zone: zone.clone(), of: self.kept(id), ..Seat::from(*weight) };
                self.stage_ring(|ring| ring.with(id.clone(), seat));
            }
            Event::Replace { old, id, member } => {
                self.members.insert(id.clone(), member.clone());
                self.stage_ring(|ring| ring.replaced(old, id.clone()));
            }
            Event::Move { id, addr } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.addr.clone_from(addr);
                }
            }
            Event::Remove { id } => self.stage_ring(|ring| ring.without(id)),
            Event::Weight { id, weight } => {
                self.stage_seat(id, |seat| Seat { weight: *weight, ..seat });
            }
            Event::Zone { id, zone } => {
                self.stage_seat(id, |seat| Seat { zone: zone.clone(), ..seat });
            }
            Event::Replicas { name, n } => {
                let placement = self.topology.newest().clone().with_n(name.clone(), *n);
                self.topology.stage(placement);
            }
            Event::Tokens { id, of } => {
                let of = Some(of).filter(|of| *of != id).cloned();
                self.stage_seat(id, |seat| Seat { of, ..seat });
            }
            Event::Clear => self.topology.cancel(),
            Event::Commit => {
                self.topology.commit();
                self.paused = false;
            }
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            Event::Cancel => {
                let Topology { current, .. } = &self.topology;
                self.clearing = Some(self.off(current));
                self.topology.cancel();
            }
            Event::Final => {
                let left = self.off(self.topology.newest());
                let copied = self.topology.pending.is_some();
                self.clearing = (copied || !left.is_empty()).then_some(left);
                self.topology.finalise();
            }
            Event::Clearing => drop(self.clearing.get_or_insert_default()),
            Event::Left { id, member } => {
                let left = self.clearing.get_or_insert_default();
                left.insert(id.clone(), member.clone());
            }
            Event::Done => self.clearing = None,
            Event::Epoch { epoch } => self.topology.epoch = *epoch,
            Event::Changes { count } => self.changes = *count,
            Event::Keyspace(keyspace) => self.define(keyspace),
            Event::DefaultTtl { ttl_ms } => {
                if let Some(default) = self.keyspaces.get_mut(&KeyspaceName::default()) {
                    default.ttl_ms = Some(*ttl_ms).filter(|ttl_ms| *ttl_ms > 0);
                }
            }
            Event::Dropped { name } => {
                self.keyspaces.remove(name);
                self.topology.remove_keyspace(name);
                self.ever_dropped.insert(name.clone());
                self.dropped.insert(name.clone(), self.members.keys().cloned().collect());
            }
            Event::Forgotten { name, id } => {
                if let Some(unheard) = self.dropped.get_mut(name) {
                    unheard.remove(id);
                }
            }
            Event::Clock { ms } => self.clock_ms = self.clock_ms.max(*ms),
        }
        self.settle();
    }

    /// Whose tokens a node keeps that is to leave and stays after all, if it has those of another, and nobody was
    /// given them meanwhile.
    fn kept(&self, id: &NodeId) -> Option<NodeId> {
        let Topology { current, .. } = &self.topology;
        let of = current.ring.members().get(id)?.of.clone()?;
        let newest = &self.topology.newest().ring;
        newest.sits_for(&of).is_none_or(|sits| sits == id).then_some(of)
    }

    fn stage_ring(&mut self, change: impl FnOnce(&Ring) -> Ring) {
        let Placement { ring, copies } = self.topology.newest().clone();
        self.topology.stage(Placement { ring: change(&ring), copies });
    }

    fn stage_seat(&mut self, id: &NodeId, change: impl FnOnce(Seat) -> Seat) {
        if let Some(seat) = self.topology.newest().ring.members().get(id).cloned() {
            self.stage_ring(|ring| ring.with(id.clone(), change(seat)));
        }
    }

    /// Members that are not on a placement.
    fn off(&self, placement: &Placement) -> BTreeMap<NodeId, Member> {
        let off = self.members.iter().filter(|(id, _)| !placement.has(id));
        off.map(|(id, member)| (id.clone(), member.clone())).collect()
    }

    fn define(&mut self, keyspace: &Keyspace) {
        if !self.keyspaces.contains_key(&keyspace.name) {
            self.topology.add_keyspace(&keyspace.name, keyspace.n);
        }
        self.keyspaces.insert(keyspace.name.clone(), keyspace.clone());
    }

    /// What follows from the placements: who is a member, and the newest N of each keyspace.
    fn settle(&mut self) {
        let Self { topology, members, keyspaces, dropped, .. } = self;
        members.retain(|id, _| topology.has(id));
        dropped.values_mut().for_each(|unheard| unheard.retain(|id| members.contains_key(id)));
        dropped.retain(|_, unheard| !unheard.is_empty());
        for (name, keyspace) in keyspaces {
            keyspace.n = topology.newest().n(name);
        }
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
    fn who_replaced_another_and_stays_after_all_has_the_tokens_that_it_had() {
        let lines = ["ADD n1 a:1 1 u1", "FINAL", "REPLACE n1 n9 a:9 u9", "FINAL"];
        let mut state = replay(&[&lines[..], &["ADD n2 a:2 1 u2", "FINAL"]].concat());
        let before = state.topology.current.clone();
        let mut apply = |line: &str| {
            state.apply(&line.parse().unwrap());
            state.topology.newest().clone()
        };
        assert_ne!(apply("REMOVE n9"), before);
        assert_eq!(apply("ADD n9 a:9 1 u9"), before);
        // Somebody else has them by then.
        apply("REPLACE n9 n8 a:8 u8");
        let three = apply("ADD n9 a:9 1 u9").ring;
        let (n8, n9) = ("n8".parse().unwrap(), "n9".parse().unwrap());
        assert_eq!(
            (&three.members()[&n8].of, &three.members()[&n9].of),
            (&"n1".parse().ok(), &None)
        );
    }

    fn space(name: &str) -> KeyspaceName {
        name.parse().unwrap()
    }

    /// The keyspaces as a log would have them.
    fn keyspaces(state: &State) -> Vec<String> {
        state.keyspaces.values().map(|space| Event::Keyspace(space.clone()).to_string()).collect()
    }

    const CLICKS: &str = "KEYSPACE clicks n=2 r=1 w=2 policy=lww sloppy=on ttl=5000";
    const DEFAULT: &str = "KEYSPACE default n=1 r=1 w=1 policy=siblings sloppy=off ttl=0";

    #[test]
    fn the_last_word_on_a_keyspace_holds() {
        assert_eq!(keyspaces(&replay(&["BOOT 1"])), [DEFAULT]);
        let old = replay(&["KEYSPACE default 5000", "BOOT 2", "KEYSPACE default 60000", "BOOT 3"]);
        assert_eq!(keyspaces(&old), [DEFAULT.replace("ttl=0", "ttl=60000")]);
        let changed = CLICKS.replace("w=2", "w=1").replace("ttl=5000", "ttl=0");
        let new = replay(&[CLICKS, "KEYSPACE default 1", "KEYSPACE default 0", &changed]);
        assert_eq!(keyspaces(&new), [changed, DEFAULT.to_owned()]);
    }

    #[test]
    fn a_keyspace_has_its_copies_at_once_and_other_ones_when_final() {
        let nodes = ["ADD n1 a:1 1 u1", "ADD n2 a:2 1 u2", "FINAL"];
        let mut state = replay(&[&nodes[..], &["REPLICAS 2", CLICKS]].concat());
        let n = |state: &State| {
            let (now, next) = (&state.topology.current, state.topology.newest());
            ["default", "clicks"].map(|name| (now.n(&space(name)), next.n(&space(name))))
        };
        assert_eq!(n(&state), [(1, 2), (2, 2)]);
        state.apply(&"REPLICAS clicks 1".parse().unwrap());
        assert_eq!((n(&state), state.keyspaces[&space("clicks")].n), ([(1, 2), (2, 1)], 1));
        // What is not N may change meanwhile; N is what was staged, whatever the line says.
        state.apply(&CLICKS.parse().unwrap());
        assert_eq!((n(&state), state.keyspaces[&space("clicks")].n), ([(1, 2), (2, 1)], 1));
        state.apply(&Event::Final);
        assert_eq!(n(&state), [(2, 2), (1, 1)]);
    }

    #[test]
    fn a_dropped_keyspace_is_remembered_until_all_have_forgotten_it() {
        let nodes = ["ADD n1 a:1 1 u1", "ADD n2 a:2 1 u2", "ADD n3 a:3 1 u3", "FINAL", CLICKS];
        let mut state = replay(&[&nodes[..], &["DROPPED clicks"]].concat());
        let unheard = |state: &State| {
            let unheard = state.dropped.get(&space("clicks"));
            unheard.map(|ids| ids.iter().map(NodeId::as_str).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(keyspaces(&state), [DEFAULT]);
        assert_eq!(unheard(&state).as_deref(), Some("n1 n2 n3"));
        state.apply(&"FORGOTTEN clicks n1".parse().unwrap());
        // Who is no member any more is not asked; its name is kept for the case that it joins again.
        ["REMOVE n2", "FINAL"].iter().for_each(|line| state.apply(&line.parse().unwrap()));
        assert_eq!(unheard(&state).as_deref(), Some("n3"));
        state.apply(&"FORGOTTEN clicks n3".parse().unwrap());
        assert_eq!((unheard(&state), state.ever_dropped.len()), (None, 1));
        state.apply(&CLICKS.parse().unwrap());
        assert_eq!(keyspaces(&state), [CLICKS, DEFAULT]);
    }

    #[test]
    fn adding_and_removing_before_final_leaves_nothing() {
        let state = replay(&["ADD n1 a:1 1 u1", "FINAL", "ADD n2 a:2 1 u2", "REMOVE n2"]);
        assert_eq!(state.members.len(), 1);
        assert_eq!(state.topology.pending, None);
    }
}
