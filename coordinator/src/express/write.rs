//! A write from its start to its last answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ringkv_shared::net::{Spell as _, Taken, ask_write};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::node::Record;
use ringkv_shared::ring::key_position;
use ringkv_shared::{Blob, Keyspace};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::ask::WriteAsk;
use super::{Next, REPLICAS_MAX, Return, Times, spell_status, token};
use crate::cluster::{Cluster, Node, View};
use crate::keyspace::expiry;
use crate::put::{Intent, LINGER_MAX};

/// A write under way.
pub(super) struct WriteFlight {
    pub(super) cluster: Arc<Cluster>,
    pub(super) view: Arc<View>,
    pub(super) keyspace: Keyspace,
    pub(super) record: Record,
    pub(super) linger: Duration,
    /// Those asked, in preference order, with what they answered.
    pub(super) asked: Vec<(Arc<Node>, Heard<Taken>)>,
    /// Who waits for the answer; `None`: it has been given.
    pub(super) back: Option<Return>,
    pub(super) started: Instant,
    /// When enough had it.
    pub(super) met: Option<Instant>,
    /// How many must have it.
    needed: usize,
    pub(super) under_way: TaskTrackerToken,
    pub(super) user: TaskTrackerToken,
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
}

impl WriteFlight {
    /// Numbers a write and sends it to its owners; `None` if anything is not as usual: nothing was done then.
    pub(super) fn begin(
        cluster: &Arc<Cluster>,
        at: usize,
        ask: WriteAsk<'_>,
        scratch: &mut Vec<u8>,
        back: impl FnOnce() -> Return,
    ) -> Option<Box<Self>> {
        let (view, user) = cluster.enter();
        let keyspace = view.keyspaces.values().find(|k| k.name.as_str() == ask.keyspace)?.clone();
        let hash = key_position(ask.key.as_bytes());
        let nodes = view.ready(&keyspace.name, hash, REPLICAS_MAX + 1)?.cloned();
        let mut asked: Vec<_> = nodes.map(|node| (node, Heard::Nothing)).collect();
        if asked.is_empty() || asked.len() > REPLICAS_MAX {
            return None;
        }
        let default_ttl = keyspace.ttl_ms.unwrap_or(0);
        let expires =
            ask.value.and_then(|_| expiry(None, default_ttl).transpose()).transpose().ok()?;
        let linger =
            ask.linger_ms.map_or_else(|| cluster.settings().linger(), Duration::from_millis);
        let (key, value) = blobs(ask.key, ask.value);
        let intent = Intent::New { key, value, expires, seen: None };
        let (record, under_way) = cluster.number(intent, hash, keyspace.policy).ok()?;
        let counted =
            if ask.value.is_some() { &cluster.counters.puts } else { &cluster.counters.dels };
        counted.fetch_add(1, Ordering::Relaxed);
        scratch.clear();
        ask_write(scratch, &keyspace.name, &record, &[]);
        for (place, (node, heard)) in asked.iter_mut().enumerate() {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(scratch);
            if !node.peer.route(token(at, place), "write", write) {
                *heard = Heard::Unsent;
            }
        }
        let needed = view.topology.current.needed(&keyspace.name, keyspace.w);
        Some(Box::new(Self {
            cluster: Arc::clone(cluster),
            view,
            keyspace,
            record,
            linger: linger.min(LINGER_MAX),
            asked,
            back: Some(back()),
            started: Instant::now(),
            met: None,
            needed,
            under_way,
            user,
        }))
    }

    pub(super) fn is_whole(&self) -> bool {
        !self.asked.iter().any(|(_, heard)| matches!(heard, Heard::Unsent))
    }

    /// A node has answered.
    pub(super) fn hear(&mut self, place: usize, answer: Option<&[u8]>) -> Next {
        let Some((_, heard)) = self.asked.get_mut(place) else { return Next::Fly };
        let Some(taken) = answer.and_then(|line| Taken::read(line, self.record.version)) else {
            *heard = Heard::Line(answer.map(Into::into));
            return Next::HandOver;
        };
        *heard = Heard::Usual(taken);
        let have = self.asked.iter().filter(|(_, heard)| matches!(heard, Heard::Usual(_))).count();
        let everywhere = have == self.asked.len();
        if have < self.needed {
            return Next::Fly;
        }
        let now = Instant::now();
        let met = *self.met.get_or_insert(now);
        if everywhere || self.linger.is_zero() {
            self.answer(now);
        }
        if !everywhere {
            return Next::Fly;
        }
        self.cluster.lag.note(now - met);
        Next::Land
    }

    pub(super) fn looked_at(&mut self, now: Instant, times: Times) -> Next {
        if now - self.started >= times.timeout {
            return Next::HandOver;
        }
        if self.met.is_some_and(|met| now - met >= self.linger) {
            self.answer(now);
        }
        Next::Fly
    }

    /// Acknowledges it, if that was not done yet.
    fn answer(&mut self, now: Instant) {
        let Some(Return { ticket, id }) = self.back.take() else { return };
        self.cluster.changes.tell(&self.keyspace.name, &self.record);
        self.cluster.latency.note(now, now - self.started);
        ticket.answer(|out| {
            out.answer_to_number(id);
            self.spell(out);
            out.raw("}");
        });
    }

    /// A [`ClusterWrite`](ringkv_shared::protocol::cluster::ClusterWrite).
    fn spell(&self, out: &mut Vec<u8>) {
        let taken = || self.asked.iter().filter_map(|(_, heard)| heard.taken());
        let existed = taken().any(|taken| taken.status == Status::Ok);
        out.raw(spell_status(if existed { Status::Ok } else { Status::NotFound }));
        out.raw(r#","key":"#).blob(self.record.key.as_bytes());
        out.raw(r#","version":"#).version(self.record.version);
        let siblings = taken().map(|taken| taken.siblings).max().unwrap_or(0);
        spell_siblings(out, siblings);
        if let Some(expires) = self.record.expires {
            out.raw(r#","expires":"#).number(expires);
        }
        out.raw(r#","replicas":["#);
        for (place, (node, heard)) in self.asked.iter().enumerate() {
            let id = node.id.as_str();
            out.raw(if place == 0 { "" } else { "," }).raw(r#"{"node":""#).raw(id);
            let Some(taken) = heard.taken() else {
                out.raw(r#"","outcome":"pending","why":""#).raw(id).raw(" has not answered yet\"}");
                continue;
            };
            out.raw(r#"","outcome":"ok","reply":"#).raw(spell_status(taken.status));
            out.raw(r#","version":"#).version(self.record.version);
            spell_siblings(out, taken.siblings);
            out.raw("}}");
        }
        out.raw("]}");
    }
}

impl Heard<Taken> {
    const fn taken(&self) -> Option<Taken> {
        match self {
            Self::Usual(taken) => Some(*taken),
            Self::Nothing | Self::Line(_) | Self::Unsent => None,
        }
    }
}

fn spell_siblings(out: &mut Vec<u8>, siblings: u64) {
    if siblings > 0 {
        out.raw(r#","siblings":"#).number(siblings);
    }
}

/// Key and value as pieces of one allocation.
fn blobs(key: &str, value: Option<&str>) -> (Blob, Option<Blob>) {
    let both = Bytes::from([key, value.unwrap_or_default()].concat());
    let piece = |range| Blob::from(both.slice(range));
    (piece(0..key.len()), value.map(|_| piece(key.len()..both.len())))
}
