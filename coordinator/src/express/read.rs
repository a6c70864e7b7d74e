//! A read from its start to its last answer: the first R owners that are not DOWN, who all hold the same.

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
use super::write::{Heard, spell_down};
use super::{Next, REPLICAS_MAX, Return, Times, spell_status, token};
use crate::cluster::{Cluster, Node, Standing, View};

/// A read under way.
pub(super) struct ReadFlight {
    pub(super) cluster: Arc<Cluster>,
    pub(super) view: Arc<View>,
    pub(super) keyspace: Keyspace,
    pub(super) key: Box<str>,
    /// The first owners in preference order, R of them asked and those before the last of these DOWN, with what they
    /// answered.
    pub(super) owners: Vec<(Arc<Node>, Heard<Infallible>)>,
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
    /// Asks the first R owners that are not DOWN; `None` if anything is not as usual: nobody was asked then.
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
        if view.topology.pending.is_some() {
            return None;
        }
        let mut owners = first(view.owners(&keyspace.name, hash, REPLICAS_MAX), needed)?;
        cluster.counters.gets.fetch_add(1, Ordering::Relaxed);
        let asked = |(_, (_, heard)): &(usize, &mut (_, Heard<_>))| heard.is_open();
        for (place, (node, heard)) in owners.iter_mut().enumerate().filter(asked) {
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
            owners,
            first: None,
            last: 0,
            back: Some(back()),
            started: Instant::now(),
            user,
        }))
    }

    pub(super) fn is_whole(&self) -> bool {
        !self.owners.iter().any(|(_, heard)| matches!(heard, Heard::Unsent))
    }

    /// A node has answered.
    pub(super) fn hear(&mut self, place: usize, answer: Option<&[u8]>) -> Next {
        let Some((_, heard)) = self.owners.get_mut(place) else { return Next::Fly };
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
        if self.owners.iter().any(|(_, heard)| heard.is_open()) {
            return Next::Fly;
        }
        let found: Vec<Option<Found<'_>>> = self.owners.iter().map(|(_, h)| h.found()).collect();
        let mut pairs = found.iter().flatten().zip(found.iter().flatten().skip(1));
        if pairs.any(|(one, other)| !one.is_same(other)) {
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

    /// Answers with what was found, by the places of the owners.
    fn answer(&self, found: &[Option<Found<'_>>], back: Return) {
        if self.keyspace.policy == Policy::Lww
            && let Some(stamp) = found.iter().flatten().find_map(Found::stamp)
        {
            self.cluster.heard_stamp(&self.key, stamp);
        }
        let times = (self.started, Instant::now());
        back.done(&self.cluster, times, |out| self.spell(found, out));
    }

    /// A [`ClusterGet`](ringkv_shared::protocol::cluster::ClusterGet).
    fn spell(&self, found: &[Option<Found<'_>>], out: &mut Vec<u8>) {
        // Of a value the first who gave it, of nothing the last who said so.
        let is_value = found.iter().flatten().any(|found| matches!(found, Found::Value { .. }));
        let from = if is_value { self.first.unwrap_or(self.last) } else { self.last };
        out.raw(spell_status(if is_value { Status::Ok } else { Status::NotFound }));
        out.raw(r#","key":""#).raw(&self.key).raw("\"");
        if let Some(Found::Value { value, version, expires, .. }) = found[from] {
            out.raw(r#","value":""#).raw(value).raw(r#"","version":"#).version(version);
            if let Some(expires) = expires {
                out.raw(r#","expires":"#).number(expires);
            }
        }
        out.raw(r#","from":""#).raw(self.owners[from].0.id.as_str()).raw("\"");
        let needed = found.iter().flatten().count();
        if needed > 1 {
            out.raw(r#","needed":"#).number(needed as u64);
        }
        let others = self.owners.iter().zip(found).enumerate().filter(|(place, _)| *place != from);
        for (n, (_, ((node, _), found))) in others.enumerate() {
            out.raw(if n == 0 { r#","tried":[{"node":""# } else { r#",{"node":""# });
            out.raw(node.id.as_str());
            match found {
                Some(found) => {
                    out.raw(r#"","outcome":"ok","reply":"#).extend_from_slice(found.raw());
                }
                None => spell_down(out, node.id.as_str()),
            }
            out.raw("}");
        }
        out.raw(if self.owners.len() > 1 { "]}" } else { "}" });
    }
}

/// The first owners up to the one that makes so many who are not DOWN; `None` if there are fewer, or one of them has to be
/// connected to first.
fn first<'a>(
    owners: impl Iterator<Item = &'a Arc<Node>>,
    needed: usize,
) -> Option<Vec<(Arc<Node>, Heard<Infallible>)>> {
    let (mut first, mut open) = (Vec::with_capacity(needed), 0);
    for node in owners {
        let heard = match node.standing() {
            Standing::Connected => Heard::Nothing,
            Standing::Down => Heard::Down,
            Standing::Apart => return None,
        };
        open += usize::from(heard.is_open());
        first.push((Arc::clone(node), heard));
        if open == needed {
            return Some(first);
        }
    }
    None
}

impl Heard<Infallible> {
    /// Whether its answer is to come.
    const fn is_open(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    fn found(&self) -> Option<Found<'_>> {
        match self {
            Self::Line(line) => line.as_deref().and_then(Found::read),
            Self::Nothing | Self::Unsent | Self::Down => None,
            Self::Usual(never) => match *never {},
        }
    }
}
