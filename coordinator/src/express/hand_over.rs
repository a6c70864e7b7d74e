//! The way back to the machines: what was asked, what has come, and futures for what is still to come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ringkv_shared::net::{PeerError, Taken};
use ringkv_shared::protocol::node::WriteReply;
use ringkv_shared::{Blob, NodeId};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::read::ReadFlight;
use super::write::{Begun, Heard, WriteFlight};
use super::{Ear, Ears};
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
        let Begun { cluster, view, keyspace, record, linger, owners, back, started, met, held } =
            self.end();
        let by = started + cluster.timeout();
        let usual = |Taken { status, siblings }: Taken| WriteReply {
            status,
            version: record.version,
            superseded: false,
            siblings: usize::try_from(siblings).unwrap_or(usize::MAX),
        };
        let (found, ears) = sort(&cluster, owners, by, usual);
        let (sloppy, w) = (keyspace.sloppy, keyspace.w);
        let how = How { keyspace, w, sloppy, linger, explain: false };
        let sending = Sending::resume(
            &cluster,
            view,
            record.clone(),
            &how,
            (found.asked, &found.down),
            (started, met),
            held,
        );
        tokio::spawn(async move {
            let Some(back) = back else { return sending.settle().await };
            let (key, intent) = (record.key.clone(), Intent::Again(record));
            let end = cluster.finish(sending, intent, &how, |_| ()).await;
            back.end(&cluster, started, key, end);
        });
        ears
    }
}

impl ReadFlight {
    /// Goes on as a [`Reading`].
    pub(super) fn hand_over(self) -> Ears {
        let Self { cluster, view, keyspace, key, owners, back, started, user, .. } = self;
        let by = started + cluster.timeout();
        let (found, ears) = sort(&cluster, owners, by, |never| match never {});
        let key = Blob::from(&*key);
        let reading = Reading::resume(
            &cluster,
            view,
            &keyspace,
            key.clone(),
            (found.asked, &found.down),
            started,
            user,
        );
        tokio::spawn(async move {
            let end = match reading {
                Ok(reading) => reading.finish(&keyspace).await,
                Err(failure) => Err(failure),
            };
            if let Some(back) = back {
                back.end(&cluster, started, key, end);
            }
        });
        ears
    }
}

/// What a flight has found of its owners. Whom nothing could be sent is not among them: the machine asks him.
struct Owners<T> {
    /// Who was asked: the answers that have come, and futures of the others.
    asked: Vec<(NodeId, Asked<T>)>,
    down: BTreeSet<NodeId>,
}

/// How it stands with the owners, and who hears the answers that are still to come.
fn sort<U, T: DeserializeOwned + Send + 'static>(
    cluster: &Cluster,
    owners: Vec<(Arc<Node>, Heard<U>)>,
    by: Instant,
    usual: impl Fn(U) -> T,
) -> (Owners<T>, Ears) {
    let deadline = cluster.timeout();
    let (mut asked, mut down) = (Vec::with_capacity(owners.len()), BTreeSet::new());
    let one = |(node, heard): (Arc<Node>, Heard<U>)| {
        let id = node.id.clone();
        let answer = match heard {
            Heard::Usual(answer) => Ok(usual(answer)),
            Heard::Line(line) => node.peer.read(line.as_deref()),
            Heard::Nothing => {
                let (ear, answer) = hear(node, by, deadline);
                asked.push((id, Asked::Waiting(answer)));
                return Some(ear);
            }
            Heard::Down => {
                down.insert(id);
                return None;
            }
            Heard::Unsent => return None,
        };
        asked.push((id, Asked::Answered(answer)));
        None
    };
    let ears = owners.into_iter().map(one).collect();
    (Owners { asked, down }, Ears(ears))
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
