//! A node as its process runs it, in this thread.

use std::net::SocketAddr;
use std::path::Path;

use ringkv_node::{CompactionPolicy, Durability, NodeConfig, NodeError, run};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::sync::CancellationToken;

/// A node that runs.
pub type Running = JoinHandle<Result<(), NodeError>>;

/// A node at that address, with its data there.
pub fn config(data: &Path, listen: &str) -> NodeConfig {
    NodeConfig {
        id: "n1".parse().unwrap(),
        listen: listen.parse().unwrap(),
        data: data.to_owned(),
        durability: Durability::Always,
        compaction: CompactionPolicy { after: 100, every: None },
        snapshots_kept: 3,
        segment_bytes: 1 << 20,
        memory: None,
        connections_max: 100,
        stop_on_eof: false,
    }
}

/// Starts it: its address, and what stops it.
pub async fn start(config: NodeConfig) -> (SocketAddr, CancellationToken, Running) {
    let (ready, addr) = oneshot::channel();
    let stop = CancellationToken::new();
    let told = move |addr| ready.send(addr).unwrap();
    let running = spawn_local(run(config, stop.clone(), told));
    (addr.await.unwrap(), stop, running)
}
