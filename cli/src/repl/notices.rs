//! Notices: what happened in the cluster, shown above the prompt as it happens.
//!
//! # Caveats
//!
//! What happened before the shell started is not shown. While the coordinator does not answer
//! there are no notices; the next command will say so.

use std::time::Duration;

use ringkv_shared::net::{Client, ClusterApiClient};

use super::editor::Printer;
use crate::wire::Wire;

/// How long the coordinator may hold a request when nothing happens.
const WAIT_MS: u64 = 10_000;
/// How long to wait for its answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows events for ever.
pub(super) async fn show(addr: &str, printer: Printer) {
    // A connection of its own: a request that waits must not hold up the commands'.
    let wire = Wire::new(addr, "coordinator");
    let mut last = None;
    loop {
        let (after, wait) = (last.or(Some(0)), last.map(|_| WAIT_MS));
        let poll = async |c: &Client| ClusterApiClient::events(c, after, wait).await;
        let Ok(reply) = wire.call(DEADLINE, poll).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // A smaller number than before: the coordinator has started anew and counts from 1.
        let restarted = last.is_some_and(|last| reply.last < last);
        if last.is_some() && !restarted {
            for event in &reply.events {
                if printer.send(format!("! {}\n", event.text)).await.is_err() {
                    return;
                }
            }
        }
        last = Some(if restarted { 0 } else { reply.last });
    }
}
