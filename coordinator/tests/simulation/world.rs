//! Time, network and faults: everything that is left to chance, from one seed.
//!
//! A message may be late, come twice or not at all, and a link may be cut. Time goes from event to
//! event; nothing waits.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use ringkv_shared::NodeId;
use ringkv_shared::protocol::node::Reign;

use crate::message::{Call, Reply};
use crate::replica::Replica;

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A request arrives at a node; of who routes, with its epochs.
    Call { to: NodeId, ticket: u64, call: Box<Call>, reign: Option<Reign> },
    /// A reply arrives at who routes.
    Reply { ticket: u64, reply: Reply },
    /// Nobody answered in time.
    Late { ticket: u64 },
    /// A node writes its log.
    Commit { node: NodeId },
    /// A client does its next thing.
    Client { client: usize },
    /// Something breaks or is mended.
    Nemesis,
    /// Who routes looks who is there.
    Heartbeat,
    /// Who routes is killed, and started again.
    Restart,
    /// Who routes brings replicas together.
    Upkeep,
    /// A step of a change of the ring.
    Change,
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Of 100 messages, how many get lost.
    pub(crate) lost: u32,
    /// Of 100 messages, how many come twice.
    pub(crate) twice: u32,
    /// The longest way of a message, in microseconds.
    pub(crate) way_max: u64,
    /// Of 100 messages, how many arrive when everybody has given them up, perhaps.
    pub(crate) late: u32,
}

impl Weather {
    pub(crate) const FAIR: Self = Self { lost: 0, twice: 0, way_max: 500, late: 0 };
}

/// All that is not the cluster's own doing.
pub(crate) struct World {
    pub(crate) rng: StdRng,
    /// Microseconds since the start.
    pub(crate) now: u64,
    pub(crate) weather: Weather,
    pub(crate) replicas: BTreeMap<NodeId, Replica>,
    /// Nodes that no message reaches or leaves.
    pub(crate) cut: BTreeSet<NodeId>,
    queue: BTreeMap<(u64, u64), Event>,
    /// The number of the last event planned.
    last: u64,
    /// What happened, for who has to understand it; `None`: nobody has to.
    pub(crate) story: Option<Vec<String>>,
}

/// How long a node has for an answer.
const DEADLINE: u64 = 20_000;
/// The longest way of a message that is late.
pub(crate) const LATE_MAX: u64 = 4 * DEADLINE;
/// The longest a log takes to be written.
const COMMIT_MAX: u64 = 2_000;

impl World {
    pub(crate) fn new(seed: u64, nodes: &[NodeId], weather: Weather) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let replica =
            |(id, number): (&NodeId, u64)| (id.clone(), Replica::new(id.clone(), number, &mut rng));
        let replicas = nodes.iter().zip(1..).map(replica).collect();
        let (cut, queue, story) = (BTreeSet::new(), BTreeMap::new(), None);
        Self { rng, now: 0, weather, replicas, cut, queue, last: 0, story }
    }

    /// The next event, at its time.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = at;
        Some(event)
    }

    pub(crate) fn plan(&mut self, after: u64, event: Event) {
        self.last += 1;
        self.queue.insert((self.now + after, self.last), event);
    }

    pub(crate) fn tell(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.push(format!("{now:>8} {}", text()));
        }
    }

    pub(crate) fn chance(&mut self, of_100: u32) -> bool {
        self.rng.random_range(0..100) < of_100
    }

    /// Whether a node runs and can be reached.
    pub(crate) fn is_there(&self, node: &NodeId) -> bool {
        self.replicas[node].is_up() && !self.cut.contains(node)
    }

    /// Sends a request. A node that is not there is known to be unreachable at once, or never
    /// answers.
    pub(crate) fn send(&mut self, to: &NodeId, ticket: u64, call: Call, reign: Option<Reign>) {
        self.tell(|| format!("#{ticket} -> {to} {call:?}"));
        if !self.replicas[to].is_up() && self.chance(50) {
            let reply = Reply::failed(crate::message::Outcome::Unreachable);
            self.plan(100, Event::Reply { ticket, reply });
            return;
        }
        self.plan(DEADLINE, Event::Late { ticket });
        if !self.cut.contains(to) {
            let call = Box::new(call);
            self.travel(Event::Call { to: to.clone(), ticket, call, reign });
        }
    }

    fn travel(&mut self, event: Event) {
        if self.chance(self.weather.lost) {
            return;
        }
        // Which number a node gave it, its client would not hear any more.
        let is_new_write =
            matches!(&event, Event::Call { call, .. } if matches!(**call, Call::Put(..)));
        if !is_new_write && self.chance(self.weather.twice) {
            let after = self.way();
            self.plan(after, event.clone());
        }
        let is_late = !is_new_write && self.weather.late > 0 && self.chance(self.weather.late);
        let after = if is_late { self.rng.random_range(50..=LATE_MAX) } else { self.way() };
        self.plan(after, event);
    }

    fn way(&mut self) -> u64 {
        self.rng.random_range(50..=self.weather.way_max)
    }

    /// A request has arrived. What the node is going to answer, if it is there.
    pub(crate) fn arrive(
        &mut self,
        to: &NodeId,
        ticket: u64,
        call: &Call,
        reign: Option<Reign>,
    ) -> Option<Reply> {
        let replica = self.replicas.get_mut(to).expect("only members are written to");
        if self.cut.contains(to) {
            return None;
        }
        let reply = replica.take(ticket, call, reign)?;
        let after = self.rng.random_range(10..=COMMIT_MAX);
        self.plan(after, Event::Commit { node: to.clone() });
        Some(reply)
    }

    /// A node writes its log, and answers.
    pub(crate) fn commit(&mut self, node: &NodeId) {
        let replica = self.replicas.get_mut(node).expect("only members commit");
        for (ticket, reply) in replica.commit() {
            if !self.cut.contains(node) {
                self.travel(Event::Reply { ticket, reply });
            }
        }
    }

    /// Something breaks, or is mended.
    pub(crate) fn fault(&mut self) {
        let names: Vec<NodeId> = self.replicas.keys().cloned().collect();
        let node = names[self.rng.random_range(0..names.len())].clone();
        let up = self.replicas[&node].is_up();
        match self.rng.random_range(0..4) {
            0 if up => {
                self.tell(|| format!("{node} crashes"));
                let rng = &mut self.rng;
                self.replicas.get_mut(&node).expect("a member").crash(rng);
            }
            1 if !up => {
                self.tell(|| format!("{node} starts"));
                self.replicas.get_mut(&node).expect("a member").start();
            }
            2 if self.cut.len() + 1 < names.len() => {
                self.tell(|| format!("{node} is cut off"));
                self.cut.insert(node);
            }
            _ => {
                if let Some(mended) = self.cut.pop_first() {
                    self.tell(|| format!("{mended} is connected again"));
                }
            }
        }
    }

    /// All is mended, and nothing breaks any more.
    pub(crate) fn heal(&mut self) {
        self.tell(|| "all is mended".to_owned());
        self.weather = Weather::FAIR;
        self.queue.retain(|_, event| !matches!(event, Event::Nemesis | Event::Restart));
        self.cut.clear();
        for replica in self.replicas.values_mut().filter(|replica| !replica.is_up()) {
            replica.start();
        }
    }
}
