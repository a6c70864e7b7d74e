//! A read from its start to its last answer: the first R owners, who all hold the same.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringkv_shared::net::{Found, Piece, Spell as _, ask_get};
use ringkv_shared::protocol::Status;
use ringkv_shared::ring::key_position;
use ringkv_shared::{Keyspace, Policy};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::ask::ReadAsk;
use super::write::Heard;
use super::{Next, REPLICAS_MAX, Return, Times, spell_status, token};
use crate::cluster::{Cluster, Node, View};

/// A read under way.
pub(super) struct ReadFlight {
    pub(super) cluster: Arc<Cluster>,
    pub(super) view: Arc<View>,
    pub(super) keyspace: Keyspace,
    pub(super) key: Box<str>,
    /// Those asked, in preference order, with what they answered.
    pub(super) asked: Vec<(Arc<Node>, Heard<Infallible>)>,
    /// Who answered first, and last.
    first: Option<usize>,
    last: usize,
    /// Whether it proves that there is no such key when none of those asked has it.
    absence_proved: bool,
    pub(super) back: Option<Return>,
    pub(super) started: Instant,
    pub(super) user: TaskTrackerToken,
}

impl ReadFlight {
    /// Asks the first R owners; `None` if anything is not as usual: nobody was asked then.
    pub(super) fn begin(
        cluster: &Arc<Cluster>,
        at: usize,
        ask: &ReadAsk<'_>,
        back: impl FnOnce() -> Return,
    ) -> Option<Box<Self>> {
        let (view, user) = cluster.enter();
        let keyspace = view.keyspaces.values().find(|k| k.name.as_str() == ask.keyspace)?.clone();
        let needed = view.topology.current.needed(&keyspace.name, keyspace.r).max(1);
        let hash = key_position(ask.key.as_bytes());
        let nodes = view.ready(&keyspace.name, hash, needed)?.cloned();
        let mut asked: Vec<_> = nodes.map(|node| (node, Heard::Nothing)).collect();
        if asked.is_empty() || asked.len() > REPLICAS_MAX {
            return None;
        }
        cluster.counters.gets.fetch_add(1, Ordering::Relaxed);
        for (place, (node, heard)) in asked.iter_mut().enumerate() {
            let read = |out: &mut Vec<u8>| ask_get(out, &keyspace.name, Piece::Text(ask.key));
            if !node.peer.route(token(at, place), "get", read) {
                *heard = Heard::Unsent;
            }
        }
        let meets = view.topology.meets_every_write(&keyspace, keyspace.r);
        Some(Box::new(Self {
            cluster: Arc::clone(cluster),
            absence_proved: meets && keyspace.r > 1,
            view,
            keyspace,
            key: ask.key.into(),
            asked,
            first: None,
            last: 0,
            back: Some(back()),
            started: Instant::now(),
            user,
        }))
    }

    pub(super) fn is_whole(&self) -> bool {
        !self.asked.iter().any(|(_, heard)| matches!(heard, Heard::Unsent))
    }

    /// A node has answered.
    pub(super) fn hear(&mut self, place: usize, answer: Option<&[u8]>) -> Next {
        let Some((_, heard)) = self.asked.get_mut(place) else { return Next::Fly };
        *heard = Heard::Line(answer.map(Into::into));
        self.first.get_or_insert(place);
        self.last = place;
        let usual = match answer.and_then(Found::read) {
            Some(Found::Value { .. }) => true,
            Some(Found::Nothing) => self.absence_proved,
            None => false,
        };
        if !usual {
            return Next::HandOver;
        }
        if self.asked.iter().any(|(_, heard)| matches!(heard, Heard::Nothing)) {
            return Next::Fly;
        }
        let found: Vec<Found<'_>> = self.asked.iter().filter_map(|(_, h)| h.found()).collect();
        if found.windows(2).any(|two| !two[0].is_same(&two[1])) {
            return Next::HandOver;
        }
        if let Some(back) = self.back.take() {
            self.answer(&found, back);
        }
        Next::Land
    }

    pub(super) fn looked_at(&self, now: Instant, times: Times) -> Next {
        if now - self.started >= times.hedge { Next::HandOver } else { Next::Fly }
    }

    fn answer(&self, found: &[Found<'_>], back: Return) {
        if self.keyspace.policy == Policy::Lww
            && let Some(stamp) = found.iter().find_map(Found::stamp)
        {
            self.cluster.heard_stamp(&self.key, stamp);
        }
        let times = (self.started, Instant::now());
        back.done(&self.cluster, times, |out| self.spell(found, out));
    }

    /// A [`ClusterGet`](ringkv_shared::protocol::cluster::ClusterGet).
    fn spell(&self, found: &[Found<'_>], out: &mut Vec<u8>) {
        // Of a value the first who gave it, of nothing the last who said so.
        let (from, is_value) = match found[0] {
            Found::Value { .. } => (self.first.unwrap_or(0), true),
            Found::Nothing => (self.last, false),
        };
        out.raw(spell_status(if is_value { Status::Ok } else { Status::NotFound }));
        out.raw(r#","key":""#).raw(&self.key).raw("\"");
        if let Found::Value { value, version, expires, .. } = found[from] {
            out.raw(r#","value":""#).raw(value).raw(r#"","version":"#).version(version);
            if let Some(expires) = expires {
                out.raw(r#","expires":"#).number(expires);
            }
        }
        out.raw(r#","from":""#).raw(self.asked[from].0.id.as_str()).raw("\"");
        if found.len() == 1 {
            out.raw("}");
            return;
        }
        out.raw(r#","needed":"#).number(found.len() as u64).raw(r#","tried":["#);
        let others = (0..found.len()).filter(|place| *place != from);
        for (n, place) in others.enumerate() {
            out.raw(if n == 0 { "" } else { "," }).raw(r#"{"node":""#);
            out.raw(self.asked[place].0.id.as_str()).raw(r#"","outcome":"ok","reply":"#);
            out.extend_from_slice(found[place].raw());
            out.raw("}");
        }
        out.raw("]}");
    }
}

impl Heard<Infallible> {
    fn found(&self) -> Option<Found<'_>> {
        match self {
            Self::Line(line) => line.as_deref().and_then(Found::read),
            Self::Nothing | Self::Unsent => None,
            Self::Usual(never) => match *never {},
        }
    }
}
