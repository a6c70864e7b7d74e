//! `kill`, `stop`, `start`, `restart`, `pause`, `resume`: breaking a local cluster on purpose.
//!
//! The processes belong to the supervisor of the local cluster, whose address the coordinator
//! tells. When the coordinator is what is broken, that is found by what it told before, or by the
//! file that a detached cluster keeps. A cluster that was started by hand has no supervisor, and
//! these commands say so.
//!
//! # Caveats
//!
//! The coordinator learns of a fault as it would of a real one: by missed heartbeats, a little
//! later.

use std::time::Duration;

use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::{ErrorName, Failure, NodeId};

use crate::cluster::{self, Action, Control};
use crate::report::Report;
use crate::session::Session;

/// How long the coordinator may take to name the supervisor: a halted one never does.
const INFO_DEADLINE: Duration = Duration::from_secs(2);

/// Does it.
pub(super) async fn run(s: &mut Session, action: Action, id: NodeId) -> Result<Report, Failure> {
    let sentence = Control::new(supervisor(s).await?).act(action, &id).await?;
    Ok(Report::sentence(sentence))
}

/// The address of the supervisor.
pub(crate) async fn supervisor(s: &mut Session) -> Result<String, Failure> {
    match s.wire.call(INFO_DEADLINE, async |c| ClusterApiClient::info(c).await).await {
        Ok(info) => s.supervisor = info.supervisor,
        Err(failure) => {
            let known = s.supervisor.take().or_else(|| cluster::supervisor_of(&s.addr));
            s.supervisor = Some(known.ok_or(failure)?);
        }
    }
    s.supervisor.clone().ok_or_else(|| {
        let message =
            "this cluster was started by hand: its processes are not ours to stop or start";
        Failure::new(ErrorName::NotApplied, message).hint("start one to break:  kv demo")
    })
}
