//! Tells the nodes what the cluster is from now on: the *map*, the lines of the log that make its state again.
//!
//! A node that was told of a ring refuses requests under older ones, so a request that was delayed for long does
//! nothing at an owner that is none any more. And from what nodes were told a lost coordinator is rebuilt, see
//! [`crate::recover`].
//!
//! What rests on it waits for it ([`Cluster::adopted`]); a change that somebody made is told before it is answered;
//! everything else is told in the background, the newest map only. A node that was away is told when it answers a heartbeat again with an older ring.
//! Order matters: first nobody works from an older view any more, then requests are made under the new ring, and
//! only then nodes refuse the older one.
//!
//! A node whose joining was taken back is released, so that it can join another cluster.
//!
//! # Caveats
//!
//! A node that was DOWN when it left, or holds something, still obeys this coordinator: only with an empty data
//! directory it joins another cluster. Up to when stamps were given (`CLOCK`) changes with the writes; it is told only each [`CLOCK_TOLD`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::net::{Claimant, Client, NodeApiClient};
use ringkv_shared::protocol::node::{Claim, ClusterMap};
use ringkv_shared::{ErrorName, Failure};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Node};

/// How often nodes are told up to when stamps were given, when that is all that has changed. With the time it takes
/// less than the minute that a recovery allows for.
const CLOCK_TOLD: Duration = Duration::from_secs(30);
/// How long news are gathered in the background, so that one map tells several. What a person changes is told at once.
const GATHERED: Duration = Duration::from_secs(1);
/// How many times as long as a request all nodes that are UP have to confirm what is waited for.
const ADOPT_DEADLINES: u32 = 5;

/// What was told to whom.
#[derive(Default)]
pub(crate) struct Herald {
    /// One telling at a time, so that no node gets an older map after a newer one.
    one: tokio::sync::Mutex<()>,
    /// There may be somebody to tell.
    news: Notify,
    /// How often there was something new. Monotonic.
    edition: AtomicU64,
    /// Nodes that are on no ring any more, to be let go. Each is tried once; at most as many as ever left since
    /// the last telling.
    gone: Mutex<Vec<Arc<Node>>>,
    /// What each node has confirmed, by the identity of its data directory.
    told: Mutex<BTreeMap<String, Told>>,
}

#[derive(Clone, Copy)]
struct Told {
    edition: u64,
    ring: u64,
}

impl Herald {
    /// The cluster has changed.
    pub(crate) fn has_news(&self) {
        self.edition.fetch_add(1, Ordering::AcqRel);
        self.news.notify_one();
    }

    /// These nodes are in the cluster no more.
    pub(crate) fn are_gone(&self, nodes: impl Iterator<Item = Arc<Node>>) {
        self.gone.lock().expect("no panic while the lock is held").extend(nodes);
    }

    /// A node knows this ring of ours, or none. Who knows less than it should is told.
    pub(crate) fn heard(&self, uuid: &str, ring: Option<u64>) {
        let mut told = self.told();
        if told.get(uuid).is_some_and(|told| ring.is_none_or(|ring| ring < told.ring)) {
            told.remove(uuid);
        }
        let edition = told.get(uuid).map(|told| told.edition);
        if edition != Some(self.edition.load(Ordering::Acquire)) {
            self.news.notify_one();
        }
    }

    fn knows(&self, node: &Node, edition: u64) -> bool {
        self.told().get(&node.member.uuid).is_some_and(|told| told.edition >= edition)
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.told.lock().expect("no panic while the lock is held")
    }
}

/// Tells in the background until `shutdown`.
pub(crate) async fn tell(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let mut clock_ms = cluster.clock_ms();
    let mut clock_at = Instant::now() + CLOCK_TOLD;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cluster.herald.news.notified() => tokio::time::sleep(GATHERED).await,
            () = sleep_until(clock_at) => {
                clock_at = Instant::now() + CLOCK_TOLD;
                if std::mem::replace(&mut clock_ms, cluster.clock_ms()) == clock_ms {
                    continue;
                }
                cluster.herald.edition.fetch_add(1, Ordering::AcqRel);
            }
        }
        if cluster.deposed().is_none() {
            cluster.tell_members().await;
            cluster.let_go().await;
        }
    }
}

impl Cluster {
    /// Waits until no request works from an older view, and until all members that are UP have confirmed
    /// that they know what the cluster is now. Who is DOWN is told when it is back; who has no room to write it down
    /// is told when there is, for it writes nothing else either, and may be the one that is to leave.
    ///
    /// # Errors
    ///
    /// Nobody is UP; a node that is UP has not confirmed in time; another coordinator has taken over.
    pub(crate) async fn adopted(&self) -> Result<(), Failure> {
        let edition = self.herald.edition.load(Ordering::Acquire);
        let (pause, by) = {
            let settings = self.settings();
            let wait = settings.timeout() * ADOPT_DEADLINES;
            // Long enough to find out that a node is DOWN: a beat that is missed takes two.
            let dying = settings.heartbeat() * 2 * settings.down_after();
            (settings.heartbeat(), Instant::now() + wait.max(dying))
        };
        loop {
            self.reigns()?;
            let refused = self.tell_members().await;
            let view = self.view();
            let up: Vec<_> = view.nodes.values().filter(|node| !node.is_down()).collect();
            if up.is_empty() && !view.nodes.is_empty() {
                return Err(Failure::new(
                    ErrorName::Unreachable,
                    "no node is UP to be told of the change",
                )
                .hint("start the nodes; show tells what is wrong with each"));
            }
            let (known, behind): (Vec<_>, Vec<_>) =
                up.into_iter().partition(|node| self.herald.knows(node, edition));
            let behind = behind.into_iter().find(|node| {
                let why = refused.iter().find(|(of, _)| of.id == node.id);
                known.is_empty() || why.is_none_or(|(_, why)| !takes_no_writes(why))
            });
            let Some(behind) = behind else { return Ok(()) };
            if Instant::now() >= by {
                let id = &behind.id;
                let why = refused.into_iter().find(|(of, _)| of.id == *id);
                let why = why.map_or_else(|| "no answer".to_owned(), |(_, why)| why.to_string());
                let message =
                    format!("{id} is UP and has not confirmed what the ring is now: {why}");
                return Err(Failure::new(ErrorName::NotReady, message)
                    .hint(format!("why-down {id} tells how it answers; then try again")));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells all members that answer within two heartbeats, and claims those that were not claimed yet; the others
    /// are told later. Before the first request is served, and before a change that somebody made is answered: so
    /// what was answered is not lost with the coordinator.
    pub(crate) async fn tell_now(&self) {
        let deadline = self.settings().heartbeat() * 2;
        if self.deposed().is_none() {
            let _ = tokio::time::timeout(deadline, self.tell_members()).await;
        }
    }

    /// Tells the members that are not DOWN and do not know yet; those that have not confirmed, and why.
    async fn tell_members(&self) -> Vec<(Arc<Node>, Failure)> {
        let _one = self.herald.one.lock().await;
        // In this order: the map is at least as new as its edition says.
        let edition = self.herald.edition.load(Ordering::Acquire);
        let map = self.map();
        self.older_views_unused().await;
        self.claimant.set_ring(map.ring_epoch);
        let view = self.view();
        let behind = view.nodes.values().filter(|node| {
            !node.is_down() && !node.opinion(0).stranger && !self.herald.knows(node, edition)
        });
        let told = join_all(behind.map(|node| self.tell_map(node, &map, edition))).await;
        told.into_iter().flatten().collect()
    }

    async fn tell_map(
        &self,
        node: &Arc<Node>,
        map: &ClusterMap,
        edition: u64,
    ) -> Option<(Arc<Node>, Failure)> {
        let (ring, map) = (map.ring_epoch, map.clone());
        let Claimant { coordinator, after, epoch, .. } = &*self.claimant;
        let claim = Claim {
            node: node.member.uuid.clone(),
            coordinator: coordinator.clone(),
            epoch: *epoch,
            after: after.clone(),
        };
        // Claimed once more: it may have been released since the connection was made.
        let adopt = async move |client: &Client| {
            NodeApiClient::claim(client, claim).await?;
            NodeApiClient::adopt(client, map).await
        };
        match node.peer.call(self.timeout(), adopt).await {
            Ok(_) => {
                let uuid = node.member.uuid.clone();
                self.herald.told().insert(uuid, Told { edition, ring });
                None
            }
            Err(error) => {
                let failure = error.into_failure(&node.name());
                tracing::info!(node = %node.id, "not told what the cluster is: {failure}");
                Some((node.clone(), failure))
            }
        }
    }

    /// Lets nodes go whose joining was taken back, and others that left with nothing.
    async fn let_go(&self) {
        let gone =
            std::mem::take(&mut *self.herald.gone.lock().expect("no panic while the lock is held"));
        let view = self.view();
        let members = view.identities();
        let is_back = |node: &Node| members.contains(node.member.uuid.as_str());
        let releases = gone.iter().filter(|node| !is_back(node)).map(|node| async {
            if let Err(failure) = self.release(node).await {
                tracing::info!(node = %node.id, "still obeys this coordinator: {failure}");
            }
        });
        join_all(releases).await;
    }

    /// Lets a node go that is on no ring any more: it obeys nobody from then on, and can join any cluster.
    ///
    /// # Errors
    ///
    /// It was not reached, or it still holds something; it obeys this coordinator as before.
    pub(crate) async fn release(&self, node: &Node) -> Result<(), Failure> {
        let release = async |client: &Client| NodeApiClient::release(client).await;
        let released = node.peer.call(self.timeout(), release).await;
        released.map_err(|error| error.into_failure(&node.name()))?;
        self.herald.told().remove(&node.member.uuid);
        Ok(())
    }
}

/// Whether a node said no since its disk takes no writes.
fn takes_no_writes(why: &Failure) -> bool {
    why.name == ErrorName::DiskFull
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::log::Log;
    use crate::settings::Settings;
    use crate::state::State;

    /// Answers every request, `adopt` so.
    async fn answer(stream: TcpStream, adopt: Value) {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).unwrap();
            let mut answer = match request["method"].as_str() {
                Some("adopt") => adopt.clone(),
                _ => json!({"result": {"status": "ok", "reign": "1.0"}}),
            };
            (answer["jsonrpc"], answer["id"]) = (json!("2.0"), request["id"].clone());
            writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        }
    }

    /// Where a node answers that is told of the cluster so.
    async fn node(adopt: Value) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, adopt.clone()));
            }
        });
        addr
    }

    #[tokio::test]
    async fn a_node_that_can_write_nothing_down_is_not_waited_for() {
        let told = json!({"result": {"status": "ok", "reign": "1.1"}});
        let full = json!({"name": "DISK_FULL", "hint": "make room"});
        let full = json!({"error": {"code": 11, "message": "it is read-only", "data": full}});
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::new();
        let log = Log::open(dir.path(), &mut state).unwrap();
        for (id, adopt) in [("n1", told), ("n2", full)] {
            let addr = node(adopt).await;
            state.apply(&format!("ADD {id} {addr} 1 u-{id}").parse().unwrap());
        }
        let settings = Settings::default();
        let cluster = Cluster::new(state, log, settings, dir.path().to_owned(), None).unwrap();
        cluster.adopted().await.unwrap();
    }

    async fn is_news(herald: &Herald) -> bool {
        tokio::select! {
            biased;
            () = herald.news.notified() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn who_knows_less_than_it_was_told_is_told_again() {
        let herald = Herald::default();
        herald.heard("u1", None);
        assert!(is_news(&herald).await, "never told");
        herald.told().insert("u1".to_owned(), Told { edition: 0, ring: 7 });
        herald.heard("u1", Some(7));
        assert!(!is_news(&herald).await, "it knows");
        herald.heard("u1", Some(6));
        assert!(is_news(&herald).await, "an older ring");
        herald.told().insert("u1".to_owned(), Told { edition: 0, ring: 7 });
        herald.heard("u1", None);
        assert!(is_news(&herald).await, "it obeys nobody of us");
        herald.told().insert("u1".to_owned(), Told { edition: 0, ring: 7 });
        herald.has_news();
        assert!(is_news(&herald).await);
        herald.heard("u1", Some(7));
        assert!(is_news(&herald).await, "there is a newer edition");
    }
}
