//! What is measured: its address, how it speaks, and its processes.
//!
//! Our own servers tell their process ids (`info` of the coordinator, `stats` of a node). Of a peer on
//! this machine it is the process that listens at the port.
//!
//! # Caveats
//!
//! A server that is not at a loopback address may be on another machine, where its process id would mean
//! somebody else: then CPU time is counted only for processes that `--server-pid` names.

use std::fs::{read_link, read_to_string};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use ringkv_shared::net::{Client, ClusterApiClient, NodeApiClient};
use ringkv_shared::{ErrorName, Failure};

use super::args::BenchArgs;
use super::meter::{Server, processes};
use super::peer::Peer;
use crate::session::Session;
use crate::wire::Wire;

/// How long a node may take to tell its process id.
const STATS_DEADLINE: Duration = Duration::from_secs(2);
/// The state of a socket that listens, as `/proc/net/tcp` writes it.
const LISTENS: &str = "0A";

/// What is measured.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// In words: `coordinator at 127.0.0.1:5000`.
    pub(super) name: String,
    /// Where it listens.
    pub(super) addr: SocketAddr,
    /// How it speaks.
    pub(super) speaks: Speaks,
    /// Its processes, as far as they are known.
    pub(super) servers: Vec<Server>,
}

/// How it speaks.
#[derive(Clone, Debug)]
pub(super) enum Speaks {
    /// As our coordinator.
    Coordinator,
    /// As our nodes.
    Node,
    /// As another store.
    Peer(Peer),
    /// As a cluster, whose nodes are asked through the client library.
    Client,
}

impl Target {
    /// Finds what the words mean.
    ///
    /// # Errors
    ///
    /// No such node, or nobody answers.
    pub(super) async fn find(s: &mut Session, args: &BenchArgs) -> Result<Self, Failure> {
        let mut target = match (&args.peer, &args.to) {
            (Some(peer), _) => Self::peer(peer)?,
            (None, Some(to)) => Self::node(s, to).await?,
            (None, None) => Self::coordinator(s).await?,
        };
        if args.client {
            target.name = format!("nodes behind the {}", target.name);
            target.speaks = Speaks::Client;
        }
        if !args.server_pids.is_empty() {
            let server = |pid: &u32| Server { name: format!("pid {pid}"), pid: *pid };
            target.servers = args.server_pids.iter().map(server).collect();
        }
        Ok(target)
    }

    fn peer(peer: &Peer) -> Result<Self, Failure> {
        let addr = resolve(&peer.addr)?;
        let pid = if addr.ip().is_loopback() { listener(addr.port()) } else { None };
        let name = peer.kind.name().to_owned();
        let servers = pid.map(|pid| Server { name: name.clone(), pid }).into_iter().collect();
        let name = format!("{name} at {}", peer.addr);
        Ok(Self { name, addr, speaks: Speaks::Peer(peer.clone()), servers })
    }

    async fn node(s: &mut Session, to: &str) -> Result<Self, Failure> {
        let (name, addr) = if to.contains(':') {
            (format!("node at {to}"), to.to_owned())
        } else {
            let show = s.call(async |c| ClusterApiClient::show(c).await).await?;
            let row = show.nodes.iter().find(|row| row.id.as_str() == to).ok_or_else(|| {
                Failure::new(ErrorName::NodeNotFound, format!("there is no node {to}"))
                    .hint("see them all:  show")
            })?;
            (format!("{to} at {}", row.addr), row.addr.clone())
        };
        let stats = Wire::new(&addr, name.clone());
        let stats =
            stats.call(STATS_DEADLINE, async |c: &Client| NodeApiClient::stats(c).await).await?;
        let addr = resolve(&addr)?;
        let server = Server { name: stats.id.to_string(), pid: stats.pid };
        let servers = if addr.ip().is_loopback() { vec![server] } else { Vec::new() };
        Ok(Self { name, addr, speaks: Speaks::Node, servers })
    }

    async fn coordinator(s: &mut Session) -> Result<Self, Failure> {
        let addr = resolve(&s.addr)?;
        let info = s.call(async |c| ClusterApiClient::info(c).await).await?;
        let show = s.call(async |c| ClusterApiClient::show(c).await).await?;
        let mut servers = Vec::new();
        if addr.ip().is_loopback() {
            servers.push(Server { name: "coordinator".to_owned(), pid: info.pid });
        }
        for row in show.nodes {
            if !resolve(&row.addr).is_ok_and(|addr| addr.ip().is_loopback()) {
                continue;
            }
            let wire = Wire::new(&row.addr, row.id.to_string());
            let stats = wire.call(STATS_DEADLINE, async |c: &Client| NodeApiClient::stats(c).await);
            // A node that is down costs nothing.
            if let Ok(stats) = stats.await {
                servers.push(Server { name: row.id.to_string(), pid: stats.pid });
            }
        }
        let name = format!("coordinator at {}", s.addr);
        Ok(Self { name, addr, speaks: Speaks::Coordinator, servers })
    }
}

fn resolve(addr: &str) -> Result<SocketAddr, Failure> {
    let found = addr.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| {
        Failure::new(ErrorName::Unreachable, format!("{addr:?} is the address of nobody"))
    })
}

/// The process that listens at a port of this machine.
fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| read_to_string(path).ok());
    let inode = tables.iter().flatten().find_map(|table| inode_of_listener(table, port))?;
    let socket = format!("socket:[{inode}]");
    processes().find(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .into_iter()
            .any(|file| read_link(file.path()).is_ok_and(|target| target.to_str() == Some(&socket)))
    })
}

fn inode_of_listener(table: &str, port: u16) -> Option<u64> {
    let local_end = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&local_end) && *fields.get(3)? == LISTENS;
        if listens { fields.get(9)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n   \
            1: 0100007F:18EC 0100007F:18EB 01 00000000:00000000 00:00000000 00000000     0        0 4243 1\n";
        assert_eq!(inode_of_listener(table, 6379), Some(4242));
        assert_eq!(inode_of_listener(table, 6380), None);
    }
}
