//! `addnode`, `removenode`, `setreplica`: changes of who owns what.
//!
//! A change that would leave data in the wrong place is *pending* until `rebalance` has moved it;
//! the sentences say so. In a local cluster `addnode` starts the node as well, when nothing
//! answers at its address yet.
//!
//! # Caveats
//!
//! Whether a change loses data is the coordinator's decision; the shell only passes `--force` on.

use std::time::Duration;

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::ChangeReply;
use ringkv_shared::{Failure, NodeId};
use tokio::net::TcpStream;

use super::keyspace;
use crate::cluster::Control;
use crate::report::Report;
use crate::session::Session;

/// How long a listener on this machine may take to accept before it counts as absent.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Puts a node on the ring.
pub(super) async fn add(
    s: &mut Session,
    id: NodeId,
    addr: String,
    weight: Option<u32>,
) -> Result<Report, Failure> {
    let addr = spawn_if_needed(s, &id, addr).await?;
    let name = id.clone();
    let reply =
        s.call(async |c| ClusterApiClient::addnode(c, name, addr, weight, None).await).await?;
    refresh_nodes(s).await;
    Ok(add_report(&id, &reply))
}

/// Takes a node off the ring.
pub(super) async fn remove(s: &mut Session, id: NodeId, force: bool) -> Result<Report, Failure> {
    let name = id.clone();
    let reply = s.call(async |c| ClusterApiClient::removenode(c, name, Some(force)).await).await?;
    refresh_nodes(s).await;
    Ok(remove_report(&id, &reply))
}

/// Sets the number of copies; with quorums of more than one, says what they amount to now.
pub(super) async fn set_replication(s: &mut Session, n: usize) -> Result<Report, Failure> {
    let space = s.keyspace_named();
    let reply = s.call(async |c| ClusterApiClient::setreplica(c, n, space).await).await?;
    let report = replication_report(&reply);
    // The change is made, whether this is answered or not.
    Ok(match keyspace::guarantee(s).await {
        Ok(Some(guarantee)) => report.say(format!("  {guarantee}")),
        _ => report,
    })
}

/// In a local cluster, starts the node at a port of this machine; says where it is. Who has that
/// port already, started by hand, is taken as it is.
async fn spawn_if_needed(s: &Session, id: &NodeId, addr: String) -> Result<String, Failure> {
    let info = s.call(async |c| ClusterApiClient::info(c).await).await?;
    let port = addr.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
    let (Some(supervisor), Some(port)) = (info.supervisor, port) else { return Ok(addr) };
    let taken = s.call(async |c| ClusterApiClient::show(c).await).await?;
    if taken.nodes.iter().any(|row| row.id == *id) {
        return Ok(addr);
    }
    // Asked before anybody is looked for at the port: a cluster for tests takes other ports than
    // the one that is named, and must not meet a stranger there.
    match Control::new(supervisor).spawn(id, port).await {
        Err(_) if answers(&addr).await => Ok(addr),
        spawned => spawned,
    }
}

async fn answers(addr: &str) -> bool {
    let connected = tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(addr)).await;
    matches!(connected, Ok(Ok(_)))
}

/// Learns the names of the nodes anew, for completion; not essential.
async fn refresh_nodes(s: &Session) {
    if let Ok(reply) = s.call(async |c| ClusterApiClient::show(c).await).await {
        s.note_nodes(reply.nodes.into_iter().map(|row| row.id.to_string()));
    }
}

/// The report of `addnode`.
fn add_report(id: &NodeId, reply: &ChangeReply) -> Report {
    let mut report = Report::new(reply);
    if reply.pending {
        report = report.say(format!("Rebalancing after adding node {id}..."));
    }
    let addr = reply.addr.as_deref().unwrap_or("address unknown");
    let share = reply.share.unwrap_or_default() * 100.0;
    let tail = if reply.pending { " Its keys come with: rebalance" } else { "" };
    let epoch = reply.epoch;
    report.say(format!("Added {id} ({addr}), {share:.1} % of the ring, epoch {epoch}.{tail}"))
}

/// The report of `removenode`.
fn remove_report(id: &NodeId, reply: &ChangeReply) -> Report {
    let tail = if reply.pending {
        format!(" Its copies are made again by: rebalance ({id} keeps its data until then)")
    } else {
        String::new()
    };
    Report::new(reply).say(format!("Removed {id} from the ring, epoch {}.{tail}", reply.epoch))
}

/// The report of `setreplica`.
fn replication_report(reply: &ChangeReply) -> Report {
    let tail = if reply.pending { " Run rebalance to make the copies." } else { "" };
    let (before, after) = (reply.replication_before, reply.replication);
    Report::new(reply).say(format!("Replication factor {before} -> {after}.{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use serde_json::{from_value, json};

    fn change(pending: bool) -> ChangeReply {
        from_value(json!({
            "status": "ok", "epoch": 4, "pending": pending, "replication": 2,
            "replication_before": 1, "share": 0.3309, "addr": "127.0.0.1:5003",
            "moved_share": 0.33
        }))
        .unwrap()
    }

    #[test]
    fn a_pending_change_says_what_it_waits_for() {
        let n3: NodeId = "n3".parse().unwrap();
        assert_eq!(
            text(&add_report(&n3, &change(true)).narrated),
            "Rebalancing after adding node n3...\n\
             Added n3 (127.0.0.1:5003), 33.1 % of the ring, epoch 4. Its keys come with: rebalance"
        );
        assert_eq!(
            text(&remove_report(&n3, &change(true)).narrated),
            "Removed n3 from the ring, epoch 4. Its copies are made again by: rebalance (n3 keeps its data until then)"
        );
        assert_eq!(
            text(&replication_report(&change(true)).narrated),
            "Replication factor 1 -> 2. Run rebalance to make the copies."
        );
    }

    #[test]
    fn a_change_in_force_says_no_more() {
        let n3: NodeId = "n3".parse().unwrap();
        assert_eq!(
            text(&add_report(&n3, &change(false)).narrated),
            "Added n3 (127.0.0.1:5003), 33.1 % of the ring, epoch 4."
        );
        let report = replication_report(&change(false));
        assert_eq!(text(&report.narrated), "Replication factor 1 -> 2.");
        assert_eq!(report.members["pending"], false);
    }
}
