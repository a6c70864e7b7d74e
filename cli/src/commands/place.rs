//! Where the log is that somebody wants to see: a path, or the data directory of a node.
//!
//! | written | meant |
//! |---|---|
//! | `n1` | the node; it is asked for its directory, or, when it is dead, the supervisor of the local cluster is |
//! | `./n1`, `/var/lib/kv/n1`, `n1/data.log` | that directory or file |
//!
//! # Caveats
//!
//! A node on another machine has its directory there: only what its methods tell can be seen from
//! here. A directory is taken for the node's when it has the node's identity in it.

use std::path::{Path, PathBuf};

use ringkv_node::disk::RealDisk;
use ringkv_node::inspect::LogFiles;
use ringkv_shared::net::NodeApiClient;
use ringkv_shared::{ErrorName, Failure, NodeId};

use super::{faults, raw};
use crate::cluster::Control;
use crate::session::Session;
use crate::wire::{DEADLINE, Wire};

/// Where a log is.
pub(super) enum Place {
    /// On this machine.
    Here(PathBuf),
    /// On this machine, and its node answers.
    Running(PathBuf, Wire),
    /// At a node whose directory is not on this machine.
    Elsewhere(String, Wire),
}

impl Place {
    /// The place that a word means.
    pub(super) async fn of(s: &mut Session, word: &str) -> Result<Self, Failure> {
        match word.parse::<NodeId>() {
            Ok(id) => Self::of_node(s, &id).await,
            Err(_) => Ok(Self::Here(word.into())),
        }
    }

    async fn of_node(s: &mut Session, id: &NodeId) -> Result<Self, Failure> {
        let asked = async {
            let wire = raw::connect(s, id.as_str(), &s.trace).await?;
            let stats = wire.call(DEADLINE, async |c| NodeApiClient::stats(c).await).await?;
            Ok::<_, Failure>((wire, stats))
        };
        let failure = match asked.await {
            Ok((wire, stats)) if is_of(Path::new(&stats.data), &stats.uuid) => {
                return Ok(Self::Running(stats.data.into(), wire));
            }
            Ok((wire, stats)) => return Ok(Self::Elsewhere(stats.data, wire)),
            Err(failure) => failure,
        };
        match of_supervisor(s, id).await {
            Some(data) => Ok(Self::Here(data)),
            None => Err(match failure.hint {
                Some(_) if failure.name == ErrorName::NodeNotFound => failure,
                _ => failure.hint(format!(
                    "if its data directory is on this machine, name that: ./{id} or /path/to/{id}"
                )),
            }),
        }
    }

    /// The directory or file, if it is on this machine.
    pub(super) fn path(&self) -> Result<&Path, Failure> {
        match self {
            Self::Here(path) | Self::Running(path, _) => Ok(path),
            Self::Elsewhere(data, _) => {
                let message = format!("the data directory {data} is not on this machine");
                Err(Failure::new(ErrorName::BadArgument, message).hint(
                    "only the last lines can be seen from here: wal ID; for more, run kv there",
                ))
            }
        }
    }

    /// The files of the log there.
    pub(super) fn log(&self) -> Result<LogFiles, Failure> {
        let path = self.path()?;
        let log = LogFiles::open(&RealDisk, path).map_err(|error| {
            Failure::new(ErrorName::BadArgument, error.to_string())
                .hint("name a node (n1), a data directory (./n1) or a file of it (n1/data.log)")
        })?;
        if log.files.is_empty() {
            let message = format!("no log in {}", path.display());
            return Err(Failure::new(ErrorName::BadArgument, message)
                .hint("a data directory has a data.log in it"));
        }
        Ok(log)
    }
}

/// Whether a directory here is the one with that identity.
fn is_of(data: &Path, uuid: &str) -> bool {
    let text = std::fs::read_to_string(data.join("node.id"));
    text.is_ok_and(|text| text.starts_with(uuid))
}

/// The directory of a node of the local cluster, dead or alive.
async fn of_supervisor(s: &mut Session, id: &NodeId) -> Option<PathBuf> {
    let supervisor = faults::supervisor(s).await.ok()?;
    Control::new(supervisor).data_of(id).await.ok()?
}
