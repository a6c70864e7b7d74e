//! A node as its coordinator asks it: claimed first on each connection, with the epochs in every line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringkv_shared::ErrorName;
use ringkv_shared::net::{Claimant, NodeApiClient, Peer, PeerError};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(10);

/// A node that writes down what it is asked, and answers each claim as it is told.
#[derive(Clone)]
struct Node {
    addr: String,
    /// Each line, with the number of its connection.
    asked: Arc<Mutex<Vec<(usize, Value)>>>,
    answer_to_claim: Arc<Mutex<Value>>,
    /// The method at which it hangs up instead of answering.
    hangs_up_at: Arc<Mutex<&'static str>>,
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self {
            addr: listener.local_addr().unwrap().to_string(),
            asked: Arc::default(),
            answer_to_claim: Arc::new(Mutex::new(json!({"result": claimed()}))),
            hangs_up_at: Arc::new(Mutex::new("")),
        };
        let served = node.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(served.clone().serve(connection, stream));
            }
        });
        node
    }

    async fn serve(self, connection: usize, stream: TcpStream) {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).unwrap();
            let method = request["method"].as_str().unwrap().to_owned();
            self.asked.lock().unwrap().push((connection, request.clone()));
            if method == *self.hangs_up_at.lock().unwrap() {
                return;
            }
            let mut answer = match method.as_str() {
                "claim" => self.answer_to_claim.lock().unwrap().clone(),
                _ => json!({"result": {"status": "ok"}}),
            };
            answer["jsonrpc"] = json!("2.0");
            answer["id"] = request["id"].clone();
            writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        }
    }

    fn refuses(&self, name: &str) {
        let data = json!({"name": name, "hint": "a hint"});
        *self.answer_to_claim.lock().unwrap() =
            json!({"error": {"code": 8, "message": "no", "data": data}});
    }

    /// Connection, method and epoch of all that was asked.
    fn asked(&self) -> Vec<(usize, String, String)> {
        let asked = self.asked.lock().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        asked.iter().map(|(n, line)| (*n, text(&line["method"]), text(&line["epoch"]))).collect()
    }
}

fn claimed() -> Value {
    json!({"status": "ok", "coordinator": "c", "reign": "3.0", "told": "0.0"})
}

fn claimant() -> Arc<Claimant> {
    Arc::new(Claimant::new("coordinator", vec!["before".to_owned()], 3))
}

async fn release(peer: &Peer) -> Result<(), PeerError> {
    let call = async |client: &_| NodeApiClient::release(client).await;
    peer.call(DEADLINE, call).await.map(|_| ())
}

fn asked(table: &[(usize, &str, &str)]) -> Vec<(usize, String, String)> {
    table.iter().map(|(n, method, epoch)| (*n, (*method).into(), (*epoch).into())).collect()
}

#[tokio::test]
async fn each_connection_begins_with_a_claim_and_each_line_has_the_epochs_of_its_moment() {
    let (node, claimant) = (Node::start().await, claimant());
    let peer = Peer::of_member(&node.addr, "node", Arc::clone(&claimant));
    release(&peer).await.unwrap();
    claimant.set_ring(12);
    release(&peer).await.unwrap();
    *node.hangs_up_at.lock().unwrap() = "release";
    assert!(matches!(release(&peer).await, Err(PeerError::Lost(_))));
    *node.hangs_up_at.lock().unwrap() = "";
    release(&peer).await.unwrap();
    let expected = [
        (0, "claim", "3.0"),
        (0, "release", "3.0"),
        (0, "release", "3.12"),
        (0, "release", "3.12"),
        (1, "claim", "3.12"),
        (1, "release", "3.12"),
    ];
    assert_eq!(node.asked(), asked(&expected));
    let claim = node.asked.lock().unwrap()[0].1["params"][0].clone();
    let expected =
        json!({"node": "node", "coordinator": "coordinator", "epoch": 3, "after": ["before"]});
    assert_eq!(claim, expected);
}

/// Nothing but claims was sent; the next call tries again.
#[tokio::test]
async fn a_refused_claim_is_the_answer_to_every_call_until_it_is_not() {
    let node = Node::start().await;
    let peer = Peer::of_member(&node.addr, "node", claimant());
    node.refuses("STALE_EPOCH");
    for _ in 0..2 {
        let Err(PeerError::Refused(why)) = release(&peer).await else { panic!("refused") };
        assert_eq!((why.name, why.hint.as_deref()), (ErrorName::StaleEpoch, Some("a hint")));
    }
    node.refuses("NODE_NOT_FOUND");
    let Err(PeerError::Unreachable(why)) = release(&peer).await else { panic!("a stranger") };
    assert_eq!(why.to_string(), "no");
    node.refuses("BAD_ARGUMENT");
    assert!(matches!(release(&peer).await, Err(PeerError::Unreachable(_))), "no node at all");
    *node.hangs_up_at.lock().unwrap() = "claim";
    assert!(matches!(release(&peer).await, Err(PeerError::Unreachable(_))));
    assert!(node.asked().iter().all(|(_, method, _)| method == "claim"));
    *node.hangs_up_at.lock().unwrap() = "";
    *node.answer_to_claim.lock().unwrap() = json!({"result": claimed()});
    release(&peer).await.unwrap();
    assert_eq!(node.asked().last().unwrap().1, "release");
}

#[tokio::test]
async fn who_is_no_coordinator_has_no_epoch() {
    let node = Node::start().await;
    release(&Peer::new(&node.addr)).await.unwrap();
    let asked = node.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1.get("epoch"), None);
}

/// More than waits to be written at a time, all at once: each has its turn.
#[tokio::test]
async fn who_waits_for_room_is_not_forgotten() {
    let node = Node::start().await;
    let (peer, large) = (Peer::new(&node.addr), "x".repeat(1 << 20));
    let call = |large: String| {
        peer.call(DEADLINE, async move |client: &_| NodeApiClient::thaw(client, large).await)
    };
    let calls = (0..12).map(|_| call(large.clone()));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
}
