//! A write from its start to its last answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringkv_shared::net::{Piece, Spell as _, Taken, ask_write};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::node::Record;
use ringkv_shared::ring::key_position;
use ringkv_shared::{Blob, Keyspace, NodeId, Version};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::ask::WriteAsk;
use super::{Next, REPLICAS_MAX, Return, Times, spell_status, token};
use crate::cluster::{Cluster, Node, Standing, View};
use crate::keyspace::expiry;
use crate::put::{Intent, LINGER_MAX};

/// A write under way: what is looked at for each answer. With many flights there is not room for all of each in the
/// processor's cache, but for this.
pub(super) struct WriteFlight {
    version: Version,
    /// How many owners there are.
    owners: usize,
    /// How many must have it.
    needed: usize,
    /// Who was asked: the owners that are not DOWN.
    asked: Places,
    /// Who has answered as nodes nearly always do.
    heard: Places,
    /// Of these, where there was a value before.
    existed: Places,
    started: Instant,
    /// When enough had it.
    met: Option<Instant>,
    rest: Box<Rest>,
}

/// What is only needed at the ends of a flight.
struct Rest {
    cluster: Arc<Cluster>,
    view: Arc<View>,
    keyspace: Keyspace,
    /// The position of the key, which says who was asked.
    hash: u64,
    record: Record,
    linger: Duration,
    /// Who waits for the answer; `None`: it has been given.
    back: Option<Return>,
    /// Nodes that have other values beside it, and how many.
    siblings: Vec<(usize, u64)>,
    /// What nodes have answered otherwise.
    odd: Vec<(usize, Heard<Taken>)>,
    under_way: TaskTrackerToken,
    user: TaskTrackerToken,
}

/// What is left of a flight for who takes it over.
pub(super) struct Begun {
    pub(super) cluster: Arc<Cluster>,
    pub(super) view: Arc<View>,
    pub(super) keyspace: Keyspace,
    pub(super) record: Record,
    pub(super) linger: Duration,
    /// The owners in preference order, with what they answered.
    pub(super) owners: Vec<(Arc<Node>, Heard<Taken>)>,
    pub(super) back: Option<Return>,
    pub(super) started: Instant,
    pub(super) met: Option<Instant>,
    pub(super) held: (TaskTrackerToken, TaskTrackerToken),
}

/// Some of the owners, by their places in preference order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Places(u16);

const _: () = assert!(REPLICAS_MAX <= u16::BITS as usize);

impl Places {
    const fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    const fn has(self, place: usize) -> bool {
        self.0 & 1 << place != 0
    }

    const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    const fn first(self) -> usize {
        self.0.trailing_zeros() as usize
    }
}

/// What a node has answered.
pub(super) enum Heard<T> {
    /// Nothing yet.
    Nothing,
    /// What it nearly always does.
    Usual(T),
    /// This line, not to be read before all are there; or the connection was lost (`None`).
    Line(Option<Box<[u8]>>),
    /// It could not be asked.
    Unsent,
    /// It is DOWN and was not asked.
    Down,
}

impl WriteFlight {
    /// Numbers a write and sends it to its owners; `None` if anything is not as usual: nothing was done then.
    pub(super) fn begin(
        cluster: &Arc<Cluster>,
        at: usize,
        ask: &WriteAsk<'_>,
        scratch: &mut Vec<u8>,
        back: impl FnOnce() -> Return,
    ) -> Option<Self> {
        let (view, user) = cluster.enter();
        let keyspace = view.keyspaces.values().find(|k| k.name.as_str() == ask.keyspace)?.clone();
        let hash = key_position(ask.key.as_bytes());
        let owners = view.owners(&keyspace.name, hash, REPLICAS_MAX + 1);
        let (asked, owed) = sort(owners.clone())?;
        let needed = view.topology.current.needed(&keyspace.name, keyspace.w);
        // Too few to be enough, or some to stand in: the machine knows what to do.
        let is_usual = asked.len() >= needed.max(1) && (owed.is_empty() || !keyspace.sloppy);
        if view.topology.pending.is_some() || !is_usual {
            return None;
        }
        let default_ttl = keyspace.ttl_ms.unwrap_or(0);
        let expires =
            ask.value.and_then(|_| expiry(None, default_ttl).transpose()).transpose().ok()?;
        let linger =
            ask.linger_ms.map_or_else(|| cluster.settings().linger(), Duration::from_millis);
        let (key, value) = (Blob::from(ask.key), ask.value.map(Blob::from));
        let intent = Intent::New { key, value, expires, seen: None };
        let (record, under_way) = cluster.number(intent, hash, keyspace.policy).ok()?;
        let counted =
            if ask.value.is_some() { &cluster.counters.puts } else { &cluster.counters.dels };
        counted.fetch_add(1, Ordering::Relaxed);
        let pieces = (Piece::Text(ask.key), ask.value.map(Piece::Text));
        let spell = |out: &mut Vec<u8>, owe: &[NodeId]| {
            out.clear();
            ask_write(out, &keyspace.name, pieces, &record, owe);
        };
        // The first of those asked takes note of what the others are owed.
        spell(scratch, &owed);
        let mut odd = Vec::new();
        let sent_to = owners.clone().enumerate().filter(|(place, _)| asked.has(*place));
        for (place, node) in sent_to {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(scratch);
            if !node.peer.route(token(at, place), "write", write) {
                odd.push((place, Heard::Unsent));
            }
            if place == asked.first() && !owed.is_empty() {
                spell(scratch, &[]);
            }
        }
        Some(Self {
            version: record.version,
            owners: owners.count(),
            needed,
            asked,
            heard: Places::default(),
            existed: Places::default(),
            started: Instant::now(),
            met: None,
            rest: Box::new(Rest {
                cluster: Arc::clone(cluster),
                view,
                keyspace,
                hash,
                record,
                linger: linger.min(LINGER_MAX),
                back: Some(back()),
                siblings: Vec::new(),
                odd,
                under_way,
                user,
            }),
        })
    }

    pub(super) fn is_whole(&self) -> bool {
        self.rest.odd.is_empty()
    }

    /// A node has answered.
    pub(super) fn hear(&mut self, place: usize, answer: Option<&[u8]>) -> Next {
        if !self.asked.has(place) {
            return Next::Fly;
        }
        let Some(taken) = answer.and_then(|line| Taken::read(line, self.version)) else {
            self.rest.odd.push((place, Heard::Line(answer.map(Into::into))));
            return Next::HandOver;
        };
        self.heard.add(place);
        if taken.status == Status::Ok {
            self.existed.add(place);
        }
        if taken.siblings > 0 {
            self.rest.siblings.push((place, taken.siblings));
        }
        if self.heard.len() < self.needed {
            return Next::Fly;
        }
        let now = Instant::now();
        let met = *self.met.get_or_insert(now);
        if self.is_over() || self.rest.linger.is_zero() {
            self.answer(now);
        }
        if !self.is_over() {
            return Next::Fly;
        }
        if self.is_everywhere() {
            self.rest.cluster.lag.note(now - met);
        }
        Next::Land
    }

    /// Whether all have answered that were asked.
    fn is_over(&self) -> bool {
        self.heard == self.asked
    }

    /// Whether all owners have it.
    const fn is_everywhere(&self) -> bool {
        self.heard.len() == self.owners
    }

    pub(super) fn looked_at(&mut self, now: Instant, times: Times) -> Next {
        if now - self.started >= times.timeout {
            return Next::HandOver;
        }
        if self.met.is_some_and(|met| now - met >= self.rest.linger) {
            self.answer(now);
        }
        Next::Fly
    }

    /// What is left of it, for who takes it over.
    pub(super) fn end(self) -> Begun {
        let heard = |place| match self.taken(place) {
            Some(taken) => Heard::Usual(taken),
            None if self.asked.has(place) => Heard::Nothing,
            None => Heard::Down,
        };
        let heard: Vec<Heard<Taken>> = (0..self.owners).map(heard).collect();
        let Rest {
            cluster, view, keyspace, hash, record, linger, back, odd, under_way, user, ..
        } = *self.rest;
        let nodes = view.owners(&keyspace.name, hash, self.owners).map(Arc::clone);
        let mut owners: Vec<(Arc<Node>, Heard<Taken>)> = nodes.zip(heard).collect();
        for (place, heard) in odd {
            owners[place].1 = heard;
        }
        let (started, met, held) = (self.started, self.met, (under_way, user));
        Begun { cluster, view, keyspace, record, linger, owners, back, started, met, held }
    }

    /// What a node has answered as nodes nearly always do.
    fn taken(&self, place: usize) -> Option<Taken> {
        let status = if self.existed.has(place) { Status::Ok } else { Status::NotFound };
        let siblings = self.rest.siblings.iter().find(|(at, _)| *at == place);
        let siblings = siblings.map_or(0, |(_, siblings)| *siblings);
        self.heard.has(place).then_some(Taken { status, siblings })
    }

    /// Acknowledges it, if that was not done yet.
    fn answer(&mut self, now: Instant) {
        let Some(back) = self.rest.back.take() else { return };
        let Rest { cluster, keyspace, record, .. } = &*self.rest;
        cluster.changes.tell(&keyspace.name, record);
        if self.is_over() && !self.is_everywhere() {
            cluster.counters.partial_writes.fetch_add(1, Ordering::Relaxed);
        }
        back.done(cluster, (self.started, now), |out| self.spell(out));
    }

    /// A [`ClusterWrite`](ringkv_shared::protocol::cluster::ClusterWrite).
    fn spell(&self, out: &mut Vec<u8>) {
        let Rest { view, keyspace, hash, record, siblings, .. } = &*self.rest;
        let existed = self.existed.len() > 0;
        out.raw(spell_status(if existed { Status::Ok } else { Status::NotFound }));
        out.raw(r#","key":"#).blob(record.key.as_bytes());
        out.raw(r#","version":"#).version(self.version);
        spell_siblings(out, siblings.iter().map(|(_, siblings)| *siblings).max().unwrap_or(0));
        if let Some(expires) = record.expires {
            out.raw(r#","expires":"#).number(expires);
        }
        out.raw(r#","replicas":["#);
        let owners = || view.owners(&keyspace.name, *hash, self.owners);
        for (place, node) in owners().enumerate() {
            let id = node.id.as_str();
            out.raw(if place == 0 { "" } else { "," }).raw(r#"{"node":""#).raw(id);
            if !self.asked.has(place) {
                spell_down(out, id);
                if let Some(keeper) = owners().nth(self.asked.first())
                    && self.heard.has(self.asked.first())
                {
                    out.raw(r#","hinted_at":""#).raw(keeper.id.as_str()).raw("\"");
                }
                out.raw("}");
                continue;
            }
            let Some(taken) = self.taken(place) else {
                out.raw(r#"","outcome":"pending","why":""#).raw(id).raw(" has not answered yet\"}");
                continue;
            };
            out.raw(r#"","outcome":"ok","reply":"#).raw(spell_status(taken.status));
            out.raw(r#","version":"#).version(self.version);
            spell_siblings(out, taken.siblings);
            out.raw("}}");
        }
        out.raw("]}");
    }
}

/// The rest of what is told of an owner that is DOWN, up to why.
pub(super) fn spell_down(out: &mut Vec<u8>, id: &str) {
    out.raw(r#"","outcome":"unreachable","why":""#).raw(id).raw(r#" is DOWN""#);
}

/// Which owners are to be asked, and which are DOWN; `None` if any has to be connected to first, or there are too many.
fn sort<'a>(owners: impl Iterator<Item = &'a Arc<Node>>) -> Option<(Places, Vec<NodeId>)> {
    let (mut asked, mut down) = (Places::default(), Vec::new());
    for (place, node) in owners.enumerate() {
        match node.standing() {
            _ if place == REPLICAS_MAX => return None,
            Standing::Apart => return None,
            Standing::Connected => asked.add(place),
            Standing::Down => down.push(node.id.clone()),
        }
    }
    Some((asked, down))
}

fn spell_siblings(out: &mut Vec<u8>, siblings: u64) {
    if siblings > 0 {
        out.raw(r#","siblings":"#).number(siblings);
    }
}
