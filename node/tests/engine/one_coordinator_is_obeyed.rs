//! Coordinators and a node over TCP: which of them it obeys, what it is told, and that the others change nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::dir;
use crate::support::served::{Running, config, start};
use ringkv_shared::limits::MAP_BYTES_MAX;
use ringkv_shared::net::{Claimant, NODE_METHODS, NodeApiClient, Peer, PeerError, connect};
use ringkv_shared::protocol::node::{ClusterMap, KeyVersion, ObeysReply, SizeReply};
use ringkv_shared::{ErrorName, Failure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(10);
const A: &str = "00000000-0000-4000-8000-00000000000a";
const B: &str = "00000000-0000-4000-8000-00000000000b";
/// What nobody but the coordinator could harm with, or needs when it is not obeyed any more.
const ALWAYS: [&str; 7] = ["claim", "cluster", "compact", "history", "log", "size", "stats"];

struct Node {
    addr: SocketAddr,
    uuid: String,
    stop: CancellationToken,
    running: Running,
}

impl Node {
    async fn start(data: &Path) -> Self {
        let (addr, stop, running) = start(config(data, "127.0.0.1:0")).await;
        let uuid = size_at(addr).await.uuid;
        Self { addr, uuid, stop, running }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// The node as a coordinator asks it, with its claimant.
    fn asked_by(&self, coordinator: &str, after: &[&str], epoch: u32) -> (Peer, Arc<Claimant>) {
        let after = after.iter().map(|uuid| (*uuid).to_owned()).collect();
        let claimant = Arc::new(Claimant::new(coordinator, after, epoch));
        (Peer::of_member(self.addr.to_string(), &self.uuid, Arc::clone(&claimant)), claimant)
    }

    async fn size(&self) -> SizeReply {
        size_at(self.addr).await
    }

    /// One line as it is, and the answer.
    async fn line(&self, line: &str) -> Value {
        let mut stream = BufReader::new(TcpStream::connect(self.addr).await.unwrap());
        stream.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_line(&mut answer);
        tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

async fn size_at(addr: SocketAddr) -> SizeReply {
    connect(&addr.to_string(), DEADLINE).await.unwrap().size().await.unwrap()
}

async fn put(peer: &Peer, value: &str) -> Result<(), PeerError> {
    let put = async |client: &_| {
        NodeApiClient::put(client, "key".into(), value.into(), None, None, None).await
    };
    peer.call(DEADLINE, put).await.map(drop)
}

async fn adopt(peer: &Peer, ring_epoch: u64, lines: &str) -> Result<ObeysReply, PeerError> {
    let map = ClusterMap { ring_epoch, lines: lines.into() };
    peer.call(DEADLINE, async |client| NodeApiClient::adopt(client, map).await).await
}

async fn cluster(peer: &Peer) -> ObeysReply {
    peer.call(DEADLINE, async |client| NodeApiClient::cluster(client).await).await.unwrap()
}

fn stale<T: std::fmt::Debug>(answer: Result<T, PeerError>, words: &[&str]) -> Failure {
    let Err(PeerError::Refused(failure)) = answer else { panic!("{answer:?} is no refusal") };
    assert_eq!(failure.name, ErrorName::StaleEpoch, "{failure}");
    for word in words.iter().chain(&["nothing was applied"]) {
        assert!(failure.message.contains(word), "{failure}: no {word}");
    }
    failure
}

fn with_node(story: impl AsyncFnOnce(Node, &Path)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let home = dir();
        story(Node::start(home.path()).await, home.path()).await;
    });
}

#[test]
fn a_later_start_fences_out_the_one_before() {
    with_node(async |node, home| {
        assert_eq!(node.size().await.coordinator, None);
        let (first, _) = node.asked_by(A, &[], 1);
        put(&first, "of the first").await.unwrap();
        let (second, _) = node.asked_by(A, &[], 2);
        put(&second, "of the second").await.unwrap();
        stale(put(&first, "of a ghost").await, &["epoch 1.0", "n1 knows of 2.0"]);
        let told = first.call(DEADLINE, async |client| NodeApiClient::size(client).await).await;
        let told = told.unwrap();
        assert_eq!((told.coordinator.as_deref(), told.reign.coordinator), (Some(A), 2));
        let (again, _) = node.asked_by(A, &[], 1);
        stale(put(&again, "of a ghost").await, &["later start", "epoch 2"]);
        node.stop().await;
        let node = Node::start(home).await;
        let (again, _) = node.asked_by(A, &[], 1);
        stale(put(&again, "of a ghost").await, &["later start"]);
        let client = connect(&node.addr.to_string(), DEADLINE).await.unwrap();
        let held = client.get("key".into(), None).await.unwrap();
        assert_eq!(held.value, Some("of the second".into()));
        client.put("key".into(), "by hand".into(), None, None, None).await.unwrap();
        node.stop().await;
    });
}

#[test]
fn another_coordinator_is_obeyed_only_if_it_takes_over() {
    with_node(async |node, _| {
        let (first, _) = node.asked_by(A, &[], 5);
        put(&first, "of the first").await.unwrap();
        let (other, _) = node.asked_by(B, &[], 9);
        let why = stale(put(&other, "of the other").await, &["n1 obeys another coordinator", A]);
        assert!(why.hint.unwrap().contains("kv coordinator --recover"));
        put(&first, "undisturbed").await.unwrap();
        let (not_greater, _) = node.asked_by(B, &[A], 5);
        stale(put(&not_greater, "of the other").await, &[A, "under the epoch 5"]);
        let (heir, _) = node.asked_by(B, &[A], 6);
        put(&heir, "of the heir").await.unwrap();
        stale(put(&first, "of the first").await, &["epoch 5.0", "6.0"]);
        let (back, _) = node.asked_by(A, &[], 7);
        stale(put(&back, "of the first").await, &["n1 obeys another coordinator", B]);
        node.stop().await;
    });
}

#[test]
fn a_ring_that_was_told_fences_out_older_ones() {
    with_node(async |node, home| {
        let (peer, claimant) = node.asked_by(A, &[], 1);
        let (slow, behind) = node.asked_by(A, &[], 1);
        claimant.set_ring(12);
        behind.set_ring(11);
        put(&slow, "before").await.unwrap();
        assert_eq!(cluster(&peer).await.map, None);
        let told = adopt(&peer, 12, "RING 12\n").await.unwrap();
        assert_eq!((told.reign.to_string(), told.map), ("1.12".to_owned(), None));
        stale(put(&slow, "under an older ring").await, &["epoch 1.11", "knows of 1.12"]);
        stale(adopt(&peer, 11, "RING 11\n").await, &[]);
        behind.set_ring(13);
        put(&slow, "under a newer one").await.unwrap();
        node.stop().await;
        let node = Node::start(home).await;
        let found = node.size().await;
        assert_eq!(
            (found.coordinator.as_deref(), found.reign.to_string().as_str()),
            (Some(A), "1.12")
        );
        // One that was rebuilt may know less, but it is newer.
        let (heir, knows) = node.asked_by(B, &[A], 2);
        knows.set_ring(10);
        let kept = cluster(&heir).await;
        assert_eq!((kept.reign.to_string(), kept.told.to_string()), ("2.0".into(), "1.12".into()));
        assert_eq!(kept.map.unwrap(), ClusterMap { ring_epoch: 12, lines: "RING 12\n".into() });
        put(&heir, "of the heir").await.unwrap();
        adopt(&heir, 10, "RING 10\n").await.unwrap();
        let told = cluster(&heir).await;
        assert_eq!((told.reign.to_string(), told.told.to_string()), ("2.10".into(), "2.10".into()));
        assert_eq!(told.map.unwrap().lines.as_ref(), "RING 10\n");
        node.stop().await;
    });
}

#[test]
fn under_an_older_epoch_only_questions_of_the_node_itself_are_answered() {
    with_node(async |node, _| {
        let (peer, claimant) = node.asked_by(A, &[], 3);
        claimant.set_ring(12);
        adopt(&peer, 12, "RING 12\n").await.unwrap();
        for (method, _) in NODE_METHODS {
            for epoch in ["2.13", "3.11"] {
                let line = json!({"jsonrpc": "2.0", "id": 1, "epoch": epoch, "method": method});
                let answer = node.line(&line.to_string()).await;
                let refused = answer["error"]["data"]["name"] == "STALE_EPOCH";
                assert_eq!(refused, !ALWAYS.contains(&method), "{method} under {epoch}: {answer}");
            }
        }
        node.stop().await;
    });
}

#[test]
fn a_node_with_other_data_is_not_reached() {
    with_node(async |node, _| {
        let claimant = Arc::new(Claimant::new(A, Vec::new(), 1));
        let stranger = Peer::of_member(node.addr.to_string(), B, claimant);
        let Err(PeerError::Unreachable(why)) = put(&stranger, "value").await else {
            panic!("a stranger")
        };
        assert_eq!(why.to_string(), "n1 with other data answers there");
        assert_eq!((node.size().await.size, node.size().await.coordinator), (0, None));
        node.stop().await;
    });
}

#[test]
fn only_its_coordinator_tells_a_node_of_the_cluster_and_only_so_much() {
    with_node(async |node, _| {
        let map = |lines: &str| json!({"ring_epoch": 1, "lines": lines});
        let claim = |coordinator: &str, after: &[&str]| json!({"node": node.uuid, "coordinator": coordinator, "epoch": 1, "after": after});
        let nobody = Some("0.1");
        let (long, longest) =
            ("x".repeat(MAP_BYTES_MAX) + "\n", "x".repeat(MAP_BYTES_MAX - 1) + "\n");
        for (method, epoch, params, expected) in [
            ("adopt", nobody, map("RING\n"), "NOT_APPLIED"),
            ("claim", None, claim("somebody", &[]), "BAD_ARGUMENT"),
            ("claim", None, claim(A, &["somebody"]), "BAD_ARGUMENT"),
            ("claim", None, claim(A, &[]), ""),
            ("adopt", None, map("RING\n"), "NOT_APPLIED"),
            ("adopt", Some("2.1"), map("RING\n"), "NOT_APPLIED"),
            ("adopt", Some("1.1"), map("RING"), "BAD_ARGUMENT"),
            ("adopt", Some("1.1"), map(""), "BAD_ARGUMENT"),
            ("adopt", Some("1.1"), map("RI\u{1b}NG\n"), "BAD_ARGUMENT"),
            ("adopt", Some("1.1"), map(&long), "TOO_LARGE"),
            ("adopt", Some("1.1"), map(&longest), ""),
        ] {
            let mut line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": [params]});
            if let Some(epoch) = epoch {
                line["epoch"] = json!(epoch);
            }
            let answer = node.line(&line.to_string()).await;
            let name = answer["error"]["data"]["name"].as_str().unwrap_or_default();
            assert_eq!(name, expected, "{method} under {epoch:?}: {:.300}", answer.to_string());
        }
        let told = node.line(r#"{"jsonrpc":"2.0","id":1,"method":"cluster"}"#).await;
        assert_eq!(told["result"]["map"]["lines"], longest);
        node.stop().await;
    });
}

#[test]
fn a_released_node_may_be_claimed_by_anybody() {
    with_node(async |node, home| {
        let (peer, _) = node.asked_by(A, &[], 5);
        put(&peer, "value").await.unwrap();
        let release = async |peer: &Peer| {
            peer.call(DEADLINE, async |client| NodeApiClient::release(client).await).await
        };
        let Err(PeerError::Refused(why)) = release(&peer).await else { panic!("it holds a key") };
        assert_eq!(why.name, ErrorName::NotApplied);
        assert!(why.message.contains("1 keys and 0 tombstones"), "{why}");
        assert_eq!(node.size().await.coordinator.as_deref(), Some(A));
        let client = connect(&node.addr.to_string(), DEADLINE).await.unwrap();
        let version = client.get("key".into(), None).await.unwrap().version.unwrap();
        let held = KeyVersion { key: "key".into(), version, context: None };
        assert_eq!(client.drop_keys(vec![held], None).await.unwrap().changed, 1);
        release(&peer).await.unwrap();
        node.stop().await;
        let node = Node::start(home).await;
        assert_eq!(node.size().await.coordinator, None);
        let (other, _) = node.asked_by(B, &[], 1);
        put(&other, "of the other").await.unwrap();
        node.stop().await;
    });
}
