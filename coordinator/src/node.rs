//! A member with its connections, and what is thought of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ringkv_shared::NodeId;
use ringkv_shared::detector::{Detector, Transition};
use ringkv_shared::net::{Claimant, Peer, Router};
use ringkv_shared::probes::Probe;
use ringkv_shared::protocol::cluster::{Health, ProbeRow};
use ringkv_shared::protocol::node::{DiskState, SizeReply};

use crate::express::Express;
use crate::state::Member;

/// A member with its connections and what is known of it.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) member: Member,
    /// For requests: the node is claimed on each connection, and asked under our epochs.
    pub(crate) peer: Peer,
    /// The same for pages and batches of what works in the background, so that requests do not stand in line behind
    /// these.
    pub(crate) bulk: Peer,
    /// For heartbeats, so that they do not stand in line behind data. They are answered whomever the node obeys.
    pub(crate) pulse: Peer,
    watched: Mutex<Watched>,
    /// What the detector thinks, for who asks often.
    is_down: AtomicBool,
}

/// As whom nodes are asked, and who routes their answers.
#[derive(Clone)]
pub(crate) struct AsWhom {
    pub(crate) claimant: Arc<Claimant>,
    pub(crate) express: Arc<Express>,
}

impl AsWhom {
    fn peer(&self, member: &Member) -> Peer {
        Peer::of_member(&member.addr, &member.uuid, Arc::clone(&self.claimant))
    }

    fn router(&self) -> Arc<dyn Router> {
        Arc::clone(&self.express) as Arc<dyn Router>
    }
}

struct Watched {
    detector: Detector,
    last: Option<SizeReply>,
    error: Option<String>,
    /// The state of its disk that was told last.
    disk_told: DiskState,
    /// Who answered at its address instead, when that was the last answer.
    stranger: Option<String>,
}

/// How a request finds a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It can be asked.
    Connected,
    /// The heartbeat calls it DOWN: it is not asked.
    Down,
    /// It is to be asked, and has to be connected to first.
    Apart,
}

/// The last word on a node.
pub(crate) struct Opinion {
    pub(crate) health: Health,
    /// Since when that is thought, by the detectors' clock.
    pub(crate) since_ms: u64,
    pub(crate) last_seen_ms: Option<u64>,
    pub(crate) last: Option<SizeReply>,
    pub(crate) error: Option<String>,
    pub(crate) stranger: bool,
}

impl Node {
    pub(crate) fn new(id: &NodeId, member: &Member, as_whom: &AsWhom, now_ms: u64) -> Self {
        let detector = Detector::new(now_ms);
        let disk_told = DiskState::Ok;
        let watched = Watched { detector, last: None, error: None, disk_told, stranger: None };
        Self {
            id: id.clone(),
            member: member.clone(),
            peer: as_whom.peer(member).with_router(as_whom.router()),
            bulk: as_whom.peer(member),
            is_down: AtomicBool::new(false),
            pulse: Peer::new(&member.addr),
            watched: Mutex::new(watched),
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().expect("no panic while the lock is held")
    }

    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.is_down() {
            Standing::Down
        } else if self.peer.is_connected() {
            Standing::Connected
        } else {
            Standing::Apart
        }
    }

    /// `n1 at 127.0.0.1:5001`, for errors.
    pub(crate) fn name(&self) -> String {
        format!("{} at {}", self.id, self.member.addr)
    }

    pub(crate) fn opinion(&self, now_ms: u64) -> Opinion {
        let watched = self.watched();
        Opinion {
            health: watched.detector.health(),
            since_ms: watched.detector.since_ms(),
            last_seen_ms: watched.detector.last_seen_ms(now_ms),
            last: watched.last.clone(),
            error: watched.error.clone(),
            stranger: watched.stranger.is_some(),
        }
    }

    /// It answered, not to a heartbeat.
    pub(crate) fn answered(&self, reply: SizeReply, now_ms: u64) {
        let mut watched = self.watched();
        watched.heard(reply);
        watched.detector.answered(now_ms);
        self.is_down.store(watched.detector.health() == Health::Down, Ordering::Relaxed);
    }

    /// A heartbeat has ended: with its answer, or with why there was none.
    pub(crate) fn probed(
        &self,
        probe: &Probe,
        answer: Result<SizeReply, String>,
        now_ms: u64,
        down_after: u32,
    ) -> Option<Transition> {
        let mut watched = self.watched();
        let missed = match answer {
            Ok(reply) => {
                watched.heard(reply);
                None
            }
            Err(why) => {
                watched.error = Some(why.clone());
                Some(why)
            }
        };
        let transition = watched.detector.probed(probe, missed, now_ms, down_after);
        self.is_down.store(watched.detector.health() == Health::Down, Ordering::Relaxed);
        transition
    }

    /// The last heartbeats, oldest first.
    pub(crate) fn probes(&self) -> Vec<ProbeRow> {
        self.watched().detector.probes().cloned().collect()
    }

    /// Whether the state of its disk is news.
    pub(crate) fn met_disk(&self, state: DiskState) -> bool {
        std::mem::replace(&mut self.watched().disk_told, state) != state
    }

    /// Another data directory answered at its address; whether that is news.
    pub(crate) fn met_stranger(&self, uuid: &str) -> bool {
        self.watched().stranger.replace(uuid.to_owned()).as_deref() != Some(uuid)
    }
}

impl Watched {
    fn heard(&mut self, reply: SizeReply) {
        self.last = Some(reply);
        (self.error, self.stranger) = (None, None);
    }
}
