//! `kill`, `stop`, `start`, `restart`, `pause`, `resume`: breaking a local cluster on purpose.
//!
//! The processes belong to the supervisor of the local cluster, whose address the coordinator
//! tells. A cluster that was started by hand has none, and these commands say so.
//!
//! # Caveats
//!
//! The coordinator learns of a fault as it would of a real one: by missed heartbeats, a little
//! later. A shell that meets a dead coordinator first cannot know its supervisor.

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::{ErrorName, Failure, NodeId};

use crate::cluster::Control;
use crate::report::Report;
use crate::session::Session;

/// What to do to a node.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// End it at once.
    Kill,
    /// End it in good order.
    Stop,
    /// Start it on its own data.
    Start,
    /// Stop and start.
    Restart,
    /// Freeze it.
    Pause,
    /// Let it go on.
    Resume,
}

/// Does it.
pub(super) async fn run(s: &mut Session, fault: Fault, id: NodeId) -> Result<Report, Failure> {
    match s.call(async |c| ClusterApiClient::info(c).await).await {
        Ok(info) => s.supervisor = info.supervisor,
        // A dead coordinator cannot tell; what it told before still holds.
        Err(failure) if s.supervisor.is_none() => return Err(failure),
        Err(_) => {}
    }
    let Some(supervisor) = s.supervisor.clone() else {
        return Err(Failure::new(
            ErrorName::NotApplied,
            "this cluster was started by hand: its processes are not ours to stop or start",
        )
        .hint("start one to break:  kv demo"));
    };
    let control = Control::new(supervisor);
    let sentence = match fault {
        Fault::Kill => control.kill(&id).await?,
        Fault::Stop => control.stop(&id).await?,
        Fault::Start => control.start(&id).await?,
        Fault::Restart => control.restart(&id).await?,
        Fault::Pause => control.pause(&id).await?,
        Fault::Resume => control.resume(&id).await?,
    };
    Ok(Report::sentence(sentence))
}
