//! A storage node of the simulated cluster: the real engine on a simulated disk, without its process.
//!
//! Requests go through the node's own methods. A reply is held, as the server does, until the log has
//! what it depends on; a commit is a step of the simulation, so a crash may come before it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt as _;
use rand::RngCore;
use ringkv_node::disk::{Disk as _, SimDisk};
use ringkv_node::{Committer, CompactionPolicy, Engine, EngineOptions, NodeService};
use ringkv_shared::NodeId;
use ringkv_shared::net::Service as _;
use ringkv_shared::protocol::node::Reign;

use crate::message::{Call, Outcome, Reply};

/// A node, running or not.
pub(crate) struct Replica {
    id: NodeId,
    disk: SimDisk,
    running: Option<Running>,
}

struct Running {
    engine: Engine,
    committer: Committer,
    service: NodeService,
    held: Vec<Held>,
}

/// A reply that waits for its line in the log.
struct Held {
    settle: Pin<Box<dyn Future<Output = ()>>>,
    ticket: u64,
    reply: Reply,
}

impl Replica {
    pub(crate) fn new(id: NodeId, number: u64, rng: &mut impl RngCore) -> Self {
        let disk = SimDisk::new(rng.next_u64());
        disk.create_dir("/data".as_ref()).unwrap();
        let uuid = uuid::Uuid::from_u64_pair(number, rng.next_u64());
        disk.set_contents("/data/node.id".as_ref(), format!("{uuid} {id}\n").into_bytes());
        let mut replica = Self { id, disk, running: None };
        replica.start();
        replica
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts on what the disk has.
    pub(crate) fn start(&mut self) {
        let options = EngineOptions {
            disk: Arc::new(self.disk.clone()),
            compaction: CompactionPolicy { after: u64::MAX, every: None },
            ..EngineOptions::new(self.id.clone(), "/data".into())
        };
        let (engine, committer, _) = Engine::open(options).unwrap();
        let service = NodeService::new(engine.clone());
        self.running = Some(Running { engine, committer, service, held: Vec::new() });
    }

    /// The power fails: what was not synced is gone or not.
    pub(crate) fn crash(&mut self, rng: &mut impl RngCore) {
        self.running = None;
        self.disk = self.disk.crash(rng);
    }

    /// Carries out a request; the reply is for who looks on, its receiver gets it with a commit.
    pub(crate) fn take(&mut self, ticket: u64, call: &Call, reign: Option<Reign>) -> Option<Reply> {
        let running = self.running.as_mut()?;
        let reply = running.answer(call, reign);
        let settle = Box::pin(running.engine.settle());
        running.held.push(Held { settle, ticket, reply: reply.clone() });
        Some(reply)
    }

    /// Makes durable what was done, and lets the replies go that waited for it.
    pub(crate) fn commit(&mut self) -> Vec<(u64, Reply)> {
        let Some(running) = &mut self.running else { return Vec::new() };
        running.committer.commit_now().unwrap();
        let mut waker = Context::from_waker(Waker::noop());
        let mut ready = Vec::new();
        for mut held in std::mem::take(&mut running.held) {
            match held.settle.as_mut().poll(&mut waker) {
                Poll::Ready(()) => ready.push((held.ticket, held.reply)),
                Poll::Pending => running.held.push(held),
            }
        }
        ready
    }

    /// What it would answer now, durable or not, if it runs; for who looks on, and never a part of the
    /// story.
    pub(crate) fn look(&self, call: &Call) -> Option<Reply> {
        self.look_under(call, None)
    }

    /// The same, as a coordinator asks.
    pub(crate) fn look_under(&self, call: &Call, reign: Option<Reign>) -> Option<Reply> {
        self.running.as_ref().map(|running| running.answer(call, reign))
    }
}

impl Running {
    fn answer(&self, call: &Call, reign: Option<Reign>) -> Reply {
        let methods = self.service.methods();
        let (method, params) = call.request();
        if let Err(failure) = self.service.admit(method, reign) {
            return Reply { outcome: Outcome::Refused, result: failure.to_string().into() };
        }
        let request =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let response = methods.raw_json_request(&request, 1).now_or_never();
        let (response, _) = response.expect("a node's methods answer at once").unwrap();
        let mut response: serde_json::Value = serde_json::from_str(response.get()).unwrap();
        match response.get_mut("result") {
            Some(result) => Reply { outcome: Outcome::Ok, result: result.take() },
            None => Reply { outcome: Outcome::Refused, result: response },
        }
    }
}
