//! The way back to the machines: what was asked, what has come, and futures for what is still to come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ringkv_shared::net::{PeerError, Spell as _, Taken, failure_into_object};
use ringkv_shared::protocol::node::WriteReply;
use ringkv_shared::{Failure, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::read::ReadFlight;
use super::write::{Begun, Heard, WriteFlight};
use super::{Ear, Ears, Return};
use crate::cluster::{Cluster, Node};
use crate::get::Reading;
use crate::put::{How, Intent};
use crate::sending::Sending;

/// What a node was asked, for the machines: its answer, or a future of it.
pub(crate) enum Asked<T> {
    Answered(Result<T, PeerError>),
    Waiting(BoxFuture<'static, Result<T, PeerError>>),
}

impl WriteFlight {
    /// Goes on as a [`Sending`]: who does not know yet what became of it, is told by that.
    pub(super) fn hand_over(self) -> Ears {
        let Begun { cluster, view, keyspace, record, linger, asked, back, started, met, held } =
            self.end();
        let by = started + cluster.timeout();
        let usual = |Taken { status, siblings }: Taken| WriteReply {
            status,
            version: record.version,
            superseded: false,
            siblings: usize::try_from(siblings).unwrap_or(usize::MAX),
        };
        let (asked, ears) = sort(&cluster, asked, by, usual);
        let (sloppy, w) = (keyspace.sloppy, keyspace.w);
        let how = How { keyspace, w, sloppy, linger, explain: false };
        let sending =
            Sending::resume(&cluster, view, record.clone(), &how, asked, (started, met), held);
        tokio::spawn(async move {
            let Some(back) = back else { return sending.settle().await };
            let intent = Intent::Again(record);
            let end = cluster.finish(sending, intent, &how, |_| ()).await;
            back.answer(&cluster, started, end);
        });
        ears
    }
}

impl ReadFlight {
    /// Goes on as a [`Reading`].
    pub(super) fn hand_over(self) -> Ears {
        let Self { cluster, view, keyspace, key, asked, back, started, user, .. } = self;
        let by = started + cluster.timeout();
        let (asked, ears) = sort(&cluster, asked, by, |never| match never {});
        let key = (&*key).into();
        let reading = Reading::resume(&cluster, view, &keyspace, key, asked, started, user);
        tokio::spawn(async move {
            let end = match reading {
                Ok(reading) => reading.finish(&keyspace).await,
                Err(failure) => Err(failure),
            };
            if let Some(back) = back {
                back.answer(&cluster, started, end);
            }
        });
        ears
    }
}

/// The answers that have come, futures of the others, and who hears these.
fn sort<U, T: DeserializeOwned + Send + 'static>(
    cluster: &Cluster,
    asked: Vec<(Arc<Node>, Heard<U>)>,
    by: Instant,
    usual: impl Fn(U) -> T,
) -> (Vec<(NodeId, Asked<T>)>, Ears) {
    let deadline = cluster.timeout();
    let one = |(node, heard): (Arc<Node>, Heard<U>)| {
        let id = node.id.clone();
        let answer = match heard {
            Heard::Usual(answer) => Ok(usual(answer)),
            Heard::Line(line) => node.peer.read(line.as_deref()),
            Heard::Unsent => Err(PeerError::Unreachable(io::Error::other("nothing could be sent"))),
            Heard::Nothing => {
                let (ear, answer) = hear(node, by, deadline);
                return ((id, Asked::Waiting(answer)), Some(ear));
            }
        };
        ((id, Asked::Answered(answer)), None)
    };
    let (asked, ears) = asked.into_iter().map(one).unzip();
    (asked, Ears(ears))
}

/// Who hears an answer, and a future of it that ends at its deadline at the latest.
fn hear<T: DeserializeOwned + Send + 'static>(
    node: Arc<Node>,
    by: Instant,
    deadline: Duration,
) -> (Ear, BoxFuture<'static, Result<T, PeerError>>) {
    let (teller, told) = oneshot::channel();
    let (hearing, connection) = (Arc::clone(&node), node.peer.connection_number());
    // Who does not wait any more does not want it.
    let ear = move |line: Option<&[u8]>| drop(teller.send(hearing.peer.read(line)));
    let answer = async move {
        match timeout_at(by, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => node.peer.read(None),
            Err(_) => {
                node.peer.give_up(connection, deadline);
                Err(PeerError::TimedOut(deadline))
            }
        }
    };
    (Box::new(ear), Box::pin(answer))
}

impl Return {
    fn answer<T: Serialize>(self, cluster: &Cluster, started: Instant, end: Result<T, Failure>) {
        let now = Instant::now();
        cluster.latency.note(now, now - started);
        self.ticket.answer(|out| match end {
            Ok(result) => {
                out.answer_to_number(self.id);
                write_json(&result, out);
                out.raw("}");
            }
            Err(failure) => {
                out.raw(r#"{"jsonrpc":"2.0","id":"#).number(self.id).raw(r#","error":"#);
                write_json(&failure_into_object(failure), out);
                out.raw("}");
            }
        });
    }
}

fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("what we answer is JSON, and memory takes it");
}
