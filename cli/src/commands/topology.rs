//! `addnode`, `removenode`, `replacenode`, `setweight`, `setzone`, `setreplica`: changes of who owns what.
//!
//! A change that would leave data in the wrong place is *staged*: nothing happens until `rebalance`
//! carries it out, and the sentences say so. In a local cluster `addnode` and `replacenode` start the node as
//! well, when nothing answers at its address yet.
//!
//! # Caveats
//!
//! Whether a change loses data is the coordinator's decision; the shell only passes `--force` on. A node that was
//! started for a change that is taken back afterwards runs on, in no cluster.

use std::time::Duration;

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{ChangeReply, Stage};
use ringkv_shared::{Failure, NodeId, Zone};
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
    zone: Option<Zone>,
) -> Result<Report, Failure> {
    let addr = spawn_if_needed(s, &id, None, addr).await?;
    let name = id.clone();
    let reply =
        s.call(async |c| ClusterApiClient::addnode(c, name, addr, weight, zone).await).await?;
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

/// Puts a node in the place of another.
pub(super) async fn replace(
    s: &mut Session,
    old: NodeId,
    new: NodeId,
    addr: String,
) -> Result<Report, Failure> {
    let addr = spawn_if_needed(s, &new, Some(&old), addr).await?;
    let (from, to) = (old.clone(), new.clone());
    let reply = s.call(async |c| ClusterApiClient::replacenode(c, from, to, addr).await).await?;
    refresh_nodes(s).await;
    Ok(replace_report(&old, &new, &reply))
}

/// Gives a node another share.
pub(super) async fn set_weight(
    s: &mut Session,
    id: NodeId,
    weight: u32,
) -> Result<Report, Failure> {
    let name = id.clone();
    let reply = s.call(async |c| ClusterApiClient::setweight(c, name, weight).await).await?;
    Ok(seat_report(&format!("Weight of {id}: {weight}"), &reply))
}

/// Says where a node stands.
pub(super) async fn set_zone(
    s: &mut Session,
    id: NodeId,
    zone: Option<Zone>,
) -> Result<Report, Failure> {
    let (name, place) = (id.clone(), zone.clone());
    let reply = s.call(async |c| ClusterApiClient::setzone(c, name, place).await).await?;
    let zone = zone.as_ref().map_or("none", Zone::as_str);
    Ok(seat_report(&format!("Zone of {id}: {zone}"), &reply))
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
/// port already, started by hand, is taken as it is. None is started that would be refused: one that is there
/// already, one in the place of nobody, or any while a change is under way.
async fn spawn_if_needed(
    s: &Session,
    id: &NodeId,
    old: Option<&NodeId>,
    addr: String,
) -> Result<String, Failure> {
    let info = s.call(async |c| ClusterApiClient::info(c).await).await?;
    let port = addr.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
    let (Some(supervisor), Some(port)) = (info.supervisor, port) else { return Ok(addr) };
    let show = s.call(async |c| ClusterApiClient::show(c).await).await?;
    let is_there = |id: &NodeId| show.nodes.iter().any(|row| row.id == *id);
    let busy = matches!(show.stage, Stage::Copying | Stage::Clearing);
    if busy || is_there(id) || old.is_some_and(|old| !is_there(old)) {
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
    let tail = if reply.pending { " Its keys come with: rebalance (see plan)" } else { "" };
    let epoch = reply.epoch;
    report.say(format!("Added {id} ({addr}), {share:.1} % of the ring, epoch {epoch}.{tail}"))
}

/// The report of `removenode`.
fn remove_report(id: &NodeId, reply: &ChangeReply) -> Report {
    let epoch = reply.epoch;
    Report::new(reply).say(match reply.pending {
        true => format!(
            "Removing {id} from the ring, epoch {epoch}. Its copies are made again by: rebalance (see plan; {id} keeps its data until then)"
        ),
        false => format!("Removed {id} from the ring, epoch {epoch}."),
    })
}

/// The report of `replacenode`.
fn replace_report(old: &NodeId, new: &NodeId, reply: &ChangeReply) -> Report {
    let addr = reply.addr.as_deref().unwrap_or("address unknown");
    let epoch = reply.epoch;
    Report::new(reply).say(match reply.pending {
        true => format!(
            "Replacing {old} by {new} ({addr}), epoch {epoch}. The keys of {old} come with: rebalance (see plan)"
        ),
        false => format!("Replaced {old} by {new} ({addr}), epoch {epoch}."),
    })
}

/// The report of `setweight` and `setzone`.
fn seat_report(what: &str, reply: &ChangeReply) -> Report {
    let epoch = reply.epoch;
    let moved = reply.moved_share * 100.0;
    let tail = match reply.pending {
        true => format!(
            " What is staged gives {moved:.1} % of the ring other owners; keys move with: rebalance (see plan)"
        ),
        false => String::new(),
    };
    Report::new(reply).say(format!("{what}, epoch {epoch}.{tail}"))
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

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn a_staged_change_says_what_it_waits_for() {
        let (n1, n3, reply) = (id("n1"), id("n3"), change(true));
        let table = [
            (
                add_report(&n3, &reply),
                "Rebalancing after adding node n3...\n\
                 Added n3 (127.0.0.1:5003), 33.1 % of the ring, epoch 4. Its keys come with: rebalance (see plan)",
            ),
            (
                remove_report(&n3, &reply),
                "Removing n3 from the ring, epoch 4. Its copies are made again by: rebalance (see plan; n3 keeps its data until then)",
            ),
            (
                replace_report(&n1, &n3, &reply),
                "Replacing n1 by n3 (127.0.0.1:5003), epoch 4. The keys of n1 come with: rebalance (see plan)",
            ),
            (
                seat_report("Weight of n1: 2", &reply),
                "Weight of n1: 2, epoch 4. What is staged gives 33.0 % of the ring other owners; keys move with: rebalance (see plan)",
            ),
            (
                replication_report(&reply),
                "Replication factor 1 -> 2. Run rebalance to make the copies.",
            ),
        ];
        for (report, told) in table {
            assert_eq!(text(&report.narrated), told);
        }
    }

    #[test]
    fn a_change_in_force_says_no_more() {
        let (n1, n3, reply) = (id("n1"), id("n3"), change(false));
        let table = [
            (add_report(&n3, &reply), "Added n3 (127.0.0.1:5003), 33.1 % of the ring, epoch 4."),
            (remove_report(&n3, &reply), "Removed n3 from the ring, epoch 4."),
            (replace_report(&n1, &n3, &reply), "Replaced n1 by n3 (127.0.0.1:5003), epoch 4."),
            (seat_report("Zone of n1: none", &reply), "Zone of n1: none, epoch 4."),
            (replication_report(&reply), "Replication factor 1 -> 2."),
        ];
        for (report, told) in table {
            assert_eq!(text(&report.narrated), told);
        }
        assert_eq!(replication_report(&reply).members["pending"], false);
    }
}
