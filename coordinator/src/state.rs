//! What the coordinator must never forget, as a pure machine: events in, members and placements
//! out. The log is the list of events, so a restarted coordinator is the same machine fed again.
//!
//! | event line | meaning |
//! |---|---|
//! | `RING <vnodes>` | the ring is new: virtual nodes for each unit of weight, once and for all |
//! | `BOOT <epoch>` | a coordinator started; versions are numbered under this epoch from now on |
//! | `COORDINATOR <uuid>` | the identity of this log's directory: whom nodes obey |
//! | `AFTER <uuid>` | it was rebuilt from what nodes knew, and takes over from the coordinator of that directory |
//! | `ADD <id> <addr> <weight> <uuid> [<zone>]` | a member, staged onto the ring |
//! | `REPLACE <old> <id> <addr> <uuid>` | a member, staged into the seat of another, which is staged off |
//! | `MOVE <id> <addr>` | a member answers at another address |
//! | `REMOVE <id>` | staged off the ring |
//! | `WEIGHT <id> <weight>` | staged: another weight |
//! | `ZONE <id> <zone>` | staged: another zone; `-`: none |
//! | `REPLICAS <n>` | staged: keep n copies of what is in `default` |
//! | `REPLICAS <keyspace> <n>` | the same for another keyspace |
//! | `CLEAR` | nothing is staged any more |
//! | `COMMIT` | what is staged is pending: writes go to both placements |
//! | `PAUSE` `RESUME` | copying rests, goes on |
//! | `CANCEL` | nothing is pending any more: back to the ring as it was |
//! | `FINAL` | what is pending, or staged with nothing to copy, is in force |
//! | `LEFT <id> <addr> <uuid>` | a node that is on no ring any more may have old copies |
//! | `DONE` | old copies are dropped, as far as they can be |
//! | `EPOCH <n>` | of the ring, in a log that was rewritten |
//! | `KEYSPACE <name> n=… r=… w=… policy=… sloppy=… ttl=…` | what holds for a keyspace; a new one has n copies at once, of one that is there only `REPLICAS` changes n |
//! | `KEYSPACE default <ttl>` | as logs had it when there was one keyspace: only its time to live |
//! | `DROPPED <name>` | a keyspace is there no more; its nodes are to forget it |
//! | `FORGOTTEN <name> <id>` | a node has |
//! | `CLOCK <ms>` | stamps of `lww` keyspaces may have been given up to this unix millisecond, without it |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use ringkv_shared::ring::{Ring, Seat, VNODES_DEFAULT};
use ringkv_shared::topology::{Placement, Topology};
use ringkv_shared::{Keyspace, KeyspaceName, NodeId, Zone};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// `host:port`.
    pub(crate) addr: String,
    /// The identity of its data directory.
    pub(crate) uuid: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Ring { vnodes: u32 },
    Boot { epoch: u32 },
    Coordinator { uuid: String },
    After { uuid: String },
    Add { id: NodeId, member: Member, weight: u32, zone: Option<Zone> },
    Replace { old: NodeId, id: NodeId, member: Member },
    Move { id: NodeId, addr: String },
    Remove { id: NodeId },
    Weight { id: NodeId, weight: u32 },
    Zone { id: NodeId, zone: Option<Zone> },
    Replicas { name: KeyspaceName, n: usize },
    Clear,
    Commit,
    Pause,
    Resume,
    Cancel,
    Final,
    Left { id: NodeId, member: Member },
    Done,
    Epoch { epoch: u64 },
    Keyspace(Keyspace),
    DefaultTtl { ttl_ms: u64 },
    Dropped { name: KeyspaceName },
    Forgotten { name: KeyspaceName, id: NodeId },
    Clock { ms: u64 },
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// How often a coordinator of this cluster has started.
    pub(crate) boot_epoch: u32,
    /// The identity of its directory; empty in a log that was never started with one.
    pub(crate) uuid: String,
    /// The coordinators that it takes over from, oldest first.
    pub(crate) after: Vec<String>,
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
                let seat = Seat { zone: zone.clone(), ..Seat::from(*weight) };
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
            Event::Left { id, member } => {
                let left = self.clearing.get_or_insert_default();
                left.insert(id.clone(), member.clone());
            }
            Event::Done => self.clearing = None,
            Event::Epoch { epoch } => self.topology.epoch = *epoch,
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

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring { vnodes } => write!(f, "RING {vnodes}"),
            Self::Boot { epoch } => write!(f, "BOOT {epoch}"),
            Self::Coordinator { uuid } => write!(f, "COORDINATOR {uuid}"),
            Self::After { uuid } => write!(f, "AFTER {uuid}"),
            Self::Add { id, member: Member { addr, uuid }, weight, zone } => {
                write!(f, "ADD {id} {addr} {weight} {uuid}")?;
                zone.as_ref().map_or(Ok(()), |zone| write!(f, " {zone}"))
            }
            Self::Replace { old, id, member: Member { addr, uuid } } => {
                write!(f, "REPLACE {old} {id} {addr} {uuid}")
            }
            Self::Move { id, addr } => write!(f, "MOVE {id} {addr}"),
            Self::Remove { id } => write!(f, "REMOVE {id}"),
            Self::Replicas { name, n } if name.is_default() => write!(f, "REPLICAS {n}"),
            Self::Replicas { name, n } => write!(f, "REPLICAS {name} {n}"),
            Self::Weight { id, weight } => write!(f, "WEIGHT {id} {weight}"),
            Self::Zone { id, zone } => {
                write!(f, "ZONE {id} {}", zone.as_ref().map_or("-", Zone::as_str))
            }
            Self::Clear => write!(f, "CLEAR"),
            Self::Commit => write!(f, "COMMIT"),
            Self::Pause => write!(f, "PAUSE"),
            Self::Resume => write!(f, "RESUME"),
            Self::Cancel => write!(f, "CANCEL"),
            Self::Final => write!(f, "FINAL"),
            Self::Left { id, member: Member { addr, uuid } } => {
                write!(f, "LEFT {id} {addr} {uuid}")
            }
            Self::Done => write!(f, "DONE"),
            Self::Epoch { epoch } => write!(f, "EPOCH {epoch}"),
            Self::Keyspace(Keyspace { name, n, r, w, policy, sloppy, ttl_ms }) => {
                let sloppy = if *sloppy { "on" } else { "off" };
                let ttl = ttl_ms.unwrap_or(0);
                write!(
                    f,
                    "KEYSPACE {name} n={n} r={r} w={w} policy={policy} sloppy={sloppy} ttl={ttl}"
                )
            }
            Self::DefaultTtl { ttl_ms } => write!(f, "KEYSPACE default {ttl_ms}"),
            Self::Dropped { name } => write!(f, "DROPPED {name}"),
            Self::Forgotten { name, id } => write!(f, "FORGOTTEN {name} {id}"),
            Self::Clock { ms } => write!(f, "CLOCK {ms}"),
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
            ["COORDINATOR", uuid] => Self::Coordinator { uuid: uuid.to_owned() },
            ["AFTER", uuid] => Self::After { uuid: uuid.to_owned() },
            ["ADD", id, addr, weight, uuid, ref zone @ ..] if zone.len() <= 1 => Self::Add {
                id: id.parse().map_err(|_| bad())?,
                member: member(addr, uuid),
                weight: weight.parse().map_err(|_| bad())?,
                zone: zone.first().map(|zone| zone.parse()).transpose().map_err(|_| bad())?,
            },
            ["REPLACE", old, id, addr, uuid] => Self::Replace {
                old: old.parse().map_err(|_| bad())?,
                id: id.parse().map_err(|_| bad())?,
                member: member(addr, uuid),
            },
            ["WEIGHT", id, weight] => Self::Weight {
                id: id.parse().map_err(|_| bad())?,
                weight: weight.parse().map_err(|_| bad())?,
            },
            ["ZONE", id, zone] => {
                let zone = Some(zone).filter(|zone| *zone != "-").map(str::parse).transpose();
                Self::Zone { id: id.parse().map_err(|_| bad())?, zone: zone.map_err(|_| bad())? }
            }
            ["CLEAR"] => Self::Clear,
            ["COMMIT"] => Self::Commit,
            ["PAUSE"] => Self::Pause,
            ["RESUME"] => Self::Resume,
            ["CANCEL"] => Self::Cancel,
            ["LEFT", id, addr, uuid] => {
                Self::Left { id: id.parse().map_err(|_| bad())?, member: member(addr, uuid) }
            }
            ["DONE"] => Self::Done,
            ["EPOCH", epoch] => Self::Epoch { epoch: epoch.parse().map_err(|_| bad())? },
            ["MOVE", id, addr] => {
                Self::Move { id: id.parse().map_err(|_| bad())?, addr: addr.to_owned() }
            }
            ["REMOVE", id] => Self::Remove { id: id.parse().map_err(|_| bad())? },
            ["REPLICAS", n] => {
                let name = KeyspaceName::default();
                Self::Replicas { name, n: n.parse().map_err(|_| bad())? }
            }
            ["REPLICAS", name, n] => Self::Replicas {
                name: name.parse().map_err(|_| bad())?,
                n: n.parse().map_err(|_| bad())?,
            },
            ["FINAL"] => Self::Final,
            ["KEYSPACE", "default", ttl_ms] => {
                Self::DefaultTtl { ttl_ms: ttl_ms.parse().map_err(|_| bad())? }
            }
            ["KEYSPACE", name, ref rest @ ..] => {
                Self::Keyspace(parse_keyspace(name, rest).ok_or_else(bad)?)
            }
            ["DROPPED", name] if name != "default" => {
                Self::Dropped { name: name.parse().map_err(|_| bad())? }
            }
            ["FORGOTTEN", name, id] => Self::Forgotten {
                name: name.parse().map_err(|_| bad())?,
                id: id.parse().map_err(|_| bad())?,
            },
            ["CLOCK", ms] => Self::Clock { ms: ms.parse().map_err(|_| bad())? },
            _ => return Err(bad()),
        };
        if event.to_string() == text { Ok(event) } else { Err(bad()) }
    }
}

fn member(addr: &str, uuid: &str) -> Member {
    Member { addr: addr.to_owned(), uuid: uuid.to_owned() }
}

/// What holds for a keyspace, from `n=3`, `r=2` and so on.
fn parse_keyspace(name: &str, words: &[&str]) -> Option<Keyspace> {
    let [n, r, w, policy, sloppy, ttl] = words else { return None };
    let number = |word: &str, name: &str| word.strip_prefix(name)?.parse::<usize>().ok();
    let (n, r, w) = (number(n, "n=")?, number(r, "r=")?, number(w, "w=")?);
    let policy = policy.strip_prefix("policy=")?.parse().ok()?;
    let sloppy = match sloppy.strip_prefix("sloppy=")? {
        "on" => true,
        "off" => false,
        _ => return None,
    };
    let ttl_ms: u64 = ttl.strip_prefix("ttl=")?.parse().ok()?;
    let ttl_ms = Some(ttl_ms).filter(|ttl_ms| *ttl_ms > 0);
    Some(Keyspace { name: name.parse().ok()?, n, r, w, policy, sloppy, ttl_ms })
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
            "KEYSPACE other n=1 r=1 w=1 policy=siblings sloppy=off",
            "KEYSPACE other n=01 r=1 w=1 policy=siblings sloppy=off ttl=0",
            "KEYSPACE other n=1 r=1 w=1 policy=last sloppy=off ttl=0",
            "KEYSPACE other n=1 r=1 w=1 policy=lww sloppy=no ttl=0",
            "KEYSPACE other n=1 w=1 r=1 policy=lww sloppy=on ttl=0",
            "KEYSPACE Other n=1 r=1 w=1 policy=lww sloppy=on ttl=0",
            "REPLICAS default 2",
            "REPLICAS other",
            "DROPPED",
            "DROPPED default",
            "FORGOTTEN other",
            "CLOCK",
            "CLOCK -1",
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
