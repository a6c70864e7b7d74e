//! etcd: the same load over gRPC.
//!
//! gRPC is HTTP/2 with a frame around each protobuf message, so an HTTP/2 client and four messages are all
//! that is needed. Each connection is a TCP connection of its own; what is under way on it at once are its
//! streams.
//!
//! ```text
//! POST /etcdserverpb.KV/Put     00 | length (4 bytes) | PutRequest { key = 1, value = 2 }
//! POST /etcdserverpb.KV/Range   00 | length (4 bytes) | RangeRequest { key = 1 }       linearizable
//! ```
//!
//! # Caveats
//!
//! HTTP/2 costs the loader more than lines do. A connection that is lost stays so.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use ringkv_shared::{ErrorName, Failure};
use tokio::runtime::Runtime;

use super::streams::{Refused, Store};

/// How long etcd may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    found: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

/// Connections to an etcd.
pub(super) struct Etcd {
    senders: Vec<SendRequest<Bytes>>,
    put: Request<()>,
    get: Request<()>,
}

impl Etcd {
    /// Connects so many times.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or nobody who speaks HTTP/2.
    pub(super) fn connect(
        runtime: &Runtime,
        addr: SocketAddr,
        count: u32,
    ) -> Result<Self, Failure> {
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::new(ErrorName::Unreachable, format!("cannot connect to {addr}: {error}"))
        };
        let mut senders = Vec::new();
        for _ in 0..count {
            let sender = runtime.block_on(connect(addr)).map_err(|error| unreachable(&error))?;
            senders.push(sender);
        }
        let request = |method: &str| {
            Request::post(format!("http://{addr}/etcdserverpb.KV/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .map_err(|error| unreachable(&error))
        };
        let (put, get) = (request("Put")?, request("Range")?);
        Ok(Self { senders, put, get })
    }

    async fn call(
        &self,
        connection: usize,
        request: &Request<()>,
        message: &impl Message,
    ) -> Result<Bytes, Refused> {
        let call = call(&self.senders[connection], request.clone(), framed(message));
        let called = tokio::time::timeout(ANSWER_DEADLINE, call).await;
        let called = called.unwrap_or_else(|_| Err("TIMEOUT".to_owned()));
        // Whether a put that failed was applied nobody knows.
        called.map_err(|name| {
            let is_lost = name == "CONNECTION_LOST";
            Refused { name, harmless: false, is_lost }
        })
    }
}

impl Store for Etcd {
    async fn put(&self, connection: usize, key: Bytes, value: Bytes) -> Result<(), Refused> {
        self.call(connection, &self.put, &PutRequest { key, value }).await.map(drop)
    }

    async fn get(&self, connection: usize, key: Bytes) -> Result<Option<Bytes>, Refused> {
        let frame = self.call(connection, &self.get, &RangeRequest { key }).await?;
        match frame.get(5..).map(RangeResponse::decode) {
            Some(Ok(response)) => Ok(response.found.into_iter().next().map(|found| found.value)),
            _ => Err(Refused { name: "PROTOCOL".to_owned(), harmless: false, is_lost: false }),
        }
    }
}

async fn connect(addr: SocketAddr) -> Result<SendRequest<Bytes>, Box<dyn std::error::Error>> {
    let stream = tokio::net::TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    // Its end is seen by the streams on it.
    tokio::spawn(connection);
    Ok(sender)
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode(&mut frame).expect("there is room for all of it");
    frame.freeze()
}

/// One call; the message that it answered, or the name of what went wrong.
async fn call(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<Bytes, String> {
    let lost = |_| "CONNECTION_LOST".to_owned();
    let mut sender = sender.clone().ready().await.map_err(lost)?;
    let (response, mut body) = sender.send_request(request, false).map_err(lost)?;
    body.send_data(message, true).map_err(lost)?;
    let response = response.await.map_err(lost)?;
    if let Some(status) = response.headers().get("grpc-status").filter(|status| *status != "0") {
        return Err(format!("grpc status {}", String::from_utf8_lossy(status.as_bytes())));
    }
    let mut stream = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(lost)?;
        stream.flow_control().release_capacity(piece.len()).map_err(lost)?;
        answer.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await.map_err(lost)?;
    match trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")) {
        Some(status) if status == "0" => Ok(answer.freeze()),
        Some(status) => Err(format!("grpc status {}", String::from_utf8_lossy(status.as_bytes()))),
        None => Err("PROTOCOL".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spelled_as_etcd_reads_them() {
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        assert_eq!(&framed(&put)[..], b"\0\0\0\0\x06\x0a\x01k\x12\x01v");
        let range = RangeRequest { key: Bytes::from_static(b"k") };
        assert_eq!(&framed(&range)[..], b"\0\0\0\0\x03\x0a\x01k");
        // header = 1, kvs = 2 (key = 1, value = 5), count = 4
        let answer = b"\x0a\x02\x10\x01\x12\x06\x0a\x01k\x2a\x01v\x20\x01";
        let answer = RangeResponse::decode(&answer[..]).unwrap();
        assert_eq!(answer.found[0].value, Bytes::from_static(b"v"));
    }
}
