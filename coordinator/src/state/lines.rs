//! The shortest list of events that makes a state: what a rewritten log has, and what nodes are told.
//!
//! First the coordinator itself, then keyspaces and members as they are in force, put there by one `FINAL`; then
//! what is staged or pending, as the difference to that; then what is still to be told or dropped. Applying an
//! event counts the ring's epoch up, so the true one stands behind them,
//! and last how many events there were. Equal states have equal lines.

use ringkv_shared::protocol::cluster::Difference;
use ringkv_shared::ring::Seat;
use ringkv_shared::topology::differences;
use ringkv_shared::{Keyspace, KeyspaceName, NodeId};

use super::{Event, State};

impl State {
    /// Events that make this state out of a new one.
    pub(crate) fn lines(&self) -> Vec<Event> {
        let mut lines = vec![Event::Ring { vnodes: self.vnodes }];
        self.coordinator(&mut lines);
        self.keyspaces(&mut lines);
        self.in_force(&mut lines);
        self.to_be(&mut lines);
        self.to_be_told(&mut lines);
        lines.push(Event::Epoch { epoch: self.topology.epoch });
        lines.push(Event::Changes { count: self.changes });
        lines
    }

    fn coordinator(&self, lines: &mut Vec<Event>) {
        if !self.uuid.is_empty() {
            lines.push(Event::Coordinator { uuid: self.uuid.clone() });
        }
        lines.extend(self.after.iter().map(|uuid| Event::After { uuid: uuid.clone() }));
        if self.boot_epoch > 0 {
            lines.push(Event::Boot { epoch: self.boot_epoch });
        }
        if self.clock_ms > 0 {
            lines.push(Event::Clock { ms: self.clock_ms });
        }
    }

    /// Those that were dropped first: the name of one may have been given again.
    fn keyspaces(&self, lines: &mut Vec<Event>) {
        lines.extend(self.ever_dropped.iter().map(|name| Event::Dropped { name: name.clone() }));
        for (name, keyspace) in &self.keyspaces {
            let n = self.topology.current.n(name);
            lines.push(Event::Keyspace(Keyspace { n, ..keyspace.clone() }));
        }
    }

    fn in_force(&self, lines: &mut Vec<Event>) {
        let current = &self.topology.current;
        let before = lines.len();
        for (id, seat) in current.ring.members() {
            self.seat(id, seat, lines);
        }
        // A new state has one copy of what is in `default`; of another keyspace its own line told N.
        let name = KeyspaceName::default();
        let n = current.n(&name);
        if n != 1 {
            lines.push(Event::Replicas { name, n });
        }
        if lines.len() > before {
            lines.push(Event::Final);
        }
        if let Some(left) = &self.clearing {
            lines.push(Event::Clearing);
            let left = left.iter().map(|(id, member)| (id.clone(), member.clone()));
            lines.extend(left.map(|(id, member)| Event::Left { id, member }));
        }
    }

    fn to_be(&self, lines: &mut Vec<Event>) {
        let topology = &self.topology;
        for difference in differences(&topology.current, topology.newest()) {
            match difference {
                Difference::Add { node, .. } => {
                    let seat = &topology.newest().ring.members()[&node];
                    self.seat(&node, seat, lines);
                    // As a member that stays it would keep the tokens that somebody else has by now.
                    if seat.of.is_none() && topology.current.has(&node) {
                        lines.push(Event::Tokens { id: node.clone(), of: node });
                    }
                }
                Difference::Remove { node } => lines.push(Event::Remove { id: node }),
                Difference::Replace { old, node } => {
                    let member = self.members[&node].clone();
                    lines.push(Event::Replace { old, id: node, member });
                }
                Difference::Weight { node, to, .. } => {
                    lines.push(Event::Weight { id: node, weight: to });
                }
                Difference::Zone { node, to, .. } => lines.push(Event::Zone { id: node, zone: to }),
                Difference::Copies { keyspace, to, .. } => {
                    lines.push(Event::Replicas { name: keyspace, n: to });
                }
            }
        }
        if topology.pending.is_some() {
            lines.push(Event::Commit);
        }
        if self.paused {
            lines.push(Event::Pause);
        }
    }

    /// A dropped keyspace is told to all members; those who know are taken off again.
    fn to_be_told(&self, lines: &mut Vec<Event>) {
        for (name, unheard) in &self.dropped {
            lines.push(Event::Dropped { name: name.clone() });
            let heard = self.members.keys().filter(|id| !unheard.contains(id));
            lines.extend(heard.map(|id| Event::Forgotten { name: name.clone(), id: id.clone() }));
        }
    }

    fn seat(&self, id: &NodeId, seat: &Seat, lines: &mut Vec<Event>) {
        let member = self.members[id].clone();
        let Seat { weight, zone, of } = seat.clone();
        lines.push(Event::Add { id: id.clone(), member, weight, zone });
        lines.extend(of.map(|of| Event::Tokens { id: id.clone(), of }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replay(lines: &[Event]) -> State {
        let mut state = State::new();
        // As the log does: through its text.
        lines.iter().for_each(|line| state.apply(&line.to_string().parse().unwrap()));
        state
    }

    fn made(lines: &[&str]) -> State {
        replay(&lines.iter().map(|line| line.parse().unwrap()).collect::<Vec<_>>())
    }

    fn text(state: &State) -> Vec<String> {
        state.lines().iter().map(Event::to_string).collect()
    }

    #[test]
    fn a_history_becomes_a_description() {
        let state = made(&[
            "RING 8",
            "COORDINATOR c1",
            "BOOT 1",
            "BOOT 2",
            "ADD n1 a:1 1 u1",
            "ADD n2 a:2 1 u2 east",
            "REPLICAS 2",
            "FINAL",
            "KEYSPACE clicks n=2 r=1 w=2 policy=lww sloppy=on ttl=5000",
            "CLOCK 7000",
            "DROPPED clicks",
            "FORGOTTEN clicks n2",
            "MOVE n1 a:11",
            "REPLACE n2 n9 a:9 u9",
            "COMMIT",
            "FINAL",
            "DONE",
            "REPLACE n1 n8 a:8 u8",
            "WEIGHT n8 3",
            "ADD n3 a:3 1 u3",
            "COMMIT",
            "PAUSE",
        ]);
        let expected = [
            "RING 8",
            "COORDINATOR c1",
            "BOOT 2",
            "CLOCK 7000",
            "DROPPED clicks",
            "KEYSPACE default n=2 r=1 w=1 policy=siblings sloppy=off ttl=0",
            "ADD n1 a:11 1 u1",
            "ADD n9 a:9 1 u9 east",
            "TOKENS n9 n2",
            "REPLICAS 2",
            "FINAL",
            "ADD n3 a:3 1 u3",
            "REPLACE n1 n8 a:8 u8",
            "WEIGHT n8 3",
            "COMMIT",
            "PAUSE",
            "DROPPED clicks",
            "FORGOTTEN clicks n3",
            "FORGOTTEN clicks n8",
            "FORGOTTEN clicks n9",
            "EPOCH 11",
            "CHANGES 22",
        ];
        assert_eq!(text(&state), expected);
        assert_eq!(made(&expected), state);
    }

    #[test]
    fn who_stays_without_its_tokens_is_described_so() {
        let lines = ["RING 8", "ADD n1 a:1 1 u1", "FINAL", "REPLACE n1 n2 a:2 u2", "FINAL"];
        let state = made(&[&lines[..], &["REPLACE n2 n3 a:3 u3", "ADD n2 a:2 1 u2"]].concat());
        assert_eq!(replay(&state.lines()), state, "{:?}", text(&state));
    }

    /// The event that a number stands for, if it may happen as things are: what the coordinator checks first.
    fn event(state: &State, (what, a, b): (u8, u8, u8)) -> Option<Event> {
        let id = |number: u8| -> NodeId { format!("n{}", number % 6).parse().unwrap() };
        let space = |number: u8| -> KeyspaceName {
            ["default", "clicks", "orders"][usize::from(number % 3)].parse().unwrap()
        };
        let zone = ["-", "east", "west"][usize::from(b % 3)];
        let zone = Some(zone).filter(|zone| *zone != "-").map(|zone| zone.parse().unwrap());
        let member =
            |id: &NodeId| super::super::Member { addr: format!("h{b}:1"), uuid: format!("u-{id}") };
        let topology = &state.topology;
        let newest = &topology.newest().ring;
        let may_stage = topology.pending.is_none() && state.clearing.is_none();
        let there = newest.members().contains_key(&id(a));
        let (unknown, seated) = (!state.members.contains_key(&id(a)), newest.sits_for(&id(a)));
        let (weight, n) = (u32::from(b % 3) + 1, usize::from(b % 4) + 1);
        let event = match what % 25 {
            0..=3 if may_stage && unknown && seated.is_none() => {
                Event::Add { member: member(&id(a)), id: id(a), weight, zone }
            }
            // It stays after all.
            24 if may_stage && seated.is_none() && !there && !unknown => {
                Event::Add { member: state.members[&id(a)].clone(), id: id(a), weight, zone }
            }
            // Another one's seat, or its own back.
            4 | 5
                if may_stage
                    && unknown
                    && newest.members().contains_key(&id(b))
                    && seated.is_none_or(|sitter| *sitter == id(b)) =>
            {
                Event::Replace { old: id(b), member: member(&id(a)), id: id(a) }
            }
            6 if may_stage && there => Event::Remove { id: id(a) },
            7 if may_stage && there => Event::Weight { id: id(a), weight },
            8 if may_stage && there => Event::Zone { id: id(a), zone },
            9 if may_stage && state.keyspaces.contains_key(&space(a)) => {
                Event::Replicas { name: space(a), n }
            }
            10 if topology.pending.is_none() => Event::Clear,
            11 | 12 if topology.staged.is_some() => Event::Commit,
            13 | 14 if topology.newest() != &topology.current => Event::Final,
            15 if topology.pending.is_some() => Event::Cancel,
            16 if topology.pending.is_some() => Event::Pause,
            17 => Event::Resume,
            18 => Event::Done,
            19 if !state.dropped.contains_key(&space(a)) => {
                Event::Keyspace(Keyspace { n, r: 1, w: 1, ..Keyspace::new(space(a)) })
            }
            20 if state.keyspaces.contains_key(&space(a)) && !space(a).is_default() => {
                Event::Dropped { name: space(a) }
            }
            21 => Event::Forgotten { name: space(a), id: id(b) },
            22 if state.members.contains_key(&id(a)) => {
                Event::Move { id: id(a), addr: format!("moved{b}:1") }
            }
            23 => Event::Clock { ms: u64::from(b) },
            _ => return None,
        };
        Some(event)
    }

    proptest! {
        #[test]
        fn the_lines_of_a_state_make_it_again(
            steps in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..80),
            boot in 0u32..3,
        ) {
            let mut state = made(&["RING 2", "COORDINATOR c2", "AFTER c0", "AFTER c1"]);
            state.apply(&Event::Boot { epoch: boot });
            for step in steps {
                if let Some(event) = event(&state, step) {
                    state.apply(&event);
                }
            }
            let again = replay(&state.lines());
            prop_assert_eq!(&again, &state);
            prop_assert_eq!(text(&again), text(&state));
        }
    }
}
