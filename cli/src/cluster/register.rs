//! Makes the started nodes members: `addnode` for each, then `setreplica`.
//!
//! A node that the coordinator knows already, at the same address, is fine: its log had it.
//!
//! # Caveats
//!
//! Should the coordinator refuse a node in the middle, those before it stay registered. The
//! caller stops the whole cluster then.

use std::time::Duration;

use ringkv_shared::net::{Client, ClusterApiClient, Peer};
use ringkv_shared::protocol::cluster::ShowReply;
use ringkv_shared::{ErrorName, Failure, NodeId};

/// How long one call to the coordinator may take; it asks the node who it is meanwhile.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Registers `nodes` (id, address) with the coordinator and sets the replication factor, where
/// it is not what is wished already.
pub(super) async fn register(
    coordinator: &Peer,
    nodes: &[(NodeId, String)],
    replicas: usize,
) -> Result<(), Failure> {
    for (id, addr) in nodes {
        match add(coordinator, id, addr).await {
            Err(failure) if failure.name == ErrorName::NodeExists => {
                confirm(coordinator, id, addr, failure).await?;
            }
            other => other?,
        }
    }
    if replicas > 1 {
        let show = show(coordinator).await?;
        if show.pending_replication.unwrap_or(show.replication) != replicas {
            let call = async |c: &Client| ClusterApiClient::setreplica(c, replicas, None).await;
            coordinator
                .call(CALL_DEADLINE, call)
                .await
                .map_err(|e| e.into_failure("the coordinator"))?;
        }
    }
    Ok(())
}

async fn add(coordinator: &Peer, id: &NodeId, addr: &str) -> Result<(), Failure> {
    let call = async |c: &Client| {
        ClusterApiClient::addnode(c, id.clone(), addr.to_owned(), None, None).await
    };
    let reply = coordinator.call(CALL_DEADLINE, call).await;
    reply.map(drop).map_err(|e| e.into_failure("the coordinator"))
}

/// Passes when the coordinator has `id` at `addr`, else fails with what it said.
async fn confirm(
    coordinator: &Peer,
    id: &NodeId,
    addr: &str,
    failure: Failure,
) -> Result<(), Failure> {
    let show = show(coordinator).await?;
    match show.nodes.iter().any(|row| row.id == *id && row.addr == addr) {
        true => Ok(()),
        false => Err(failure),
    }
}

/// The coordinator's `show`.
async fn show(coordinator: &Peer) -> Result<ShowReply, Failure> {
    let call = async |c: &Client| ClusterApiClient::show(c).await;
    coordinator.call(CALL_DEADLINE, call).await.map_err(|e| e.into_failure("the coordinator"))
}
