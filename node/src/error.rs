//! What can go wrong with the disk and with starting a node.

use std::io;
use std::path::{Path, PathBuf};

use ringkv_shared::NodeId;
use ringkv_shared::net::{ConfigError, ListenError};

use crate::cluster::BadCluster;
use crate::disk;
use crate::log::record::BadLine;

/// The data directory cannot be used, or what was written to it cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process has the directory.
    #[error("data directory {} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another node.
    #[error("data directory {} belongs to node {found}, not {wanted}", dir.display())]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who asked for it.
        wanted: NodeId,
    },
    /// Acknowledged data is damaged.
    #[error(
        "{}: line {line} offset {offset}: {reason}; {later_fine} later lines look fine; acknowledged data is damaged. Nothing was changed",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Where the line starts, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
        /// How many lines after it have a good checksum.
        later_fine: u64,
    },
    /// It cannot be told whom the node obeys.
    #[error("{}: damaged: {why}; so it is not known whom the node obeys. Nothing was changed", file.display())]
    BadCluster {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: BadCluster,
    },
    /// A value that is only on the disk cannot be read back; other keys are not affected.
    #[error(
        "{}: offset {offset}: {reason}; the value that was written there cannot be read back",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Where the line starts, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: BadLine,
    },
    /// The operating system refused or failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl StorageError {
    /// For `map_err`: names what was tried with which file.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// Whether there was no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if disk::is_full(source))
    }

    /// Whether nothing may be written at all.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Io { source, .. } if disk::is_read_only(source))
    }

    /// Damage that is not in one line: a file that is missing, foreign or too short.
    pub fn damaged(file: &Path, reason: impl Into<String>) -> Self {
        let (file, reason) = (file.to_owned(), reason.into());
        Self::Damaged { file, line: 1, offset: 0, reason, later_fine: 0 }
    }

    fn hint(&self) -> String {
        match self {
            Self::InUse { .. } => "stop that one, or give --data another directory".to_owned(),
            Self::OtherNode { found, .. } => {
                format!("start with --id {found}, or give --data another directory")
            }
            Self::Damaged { .. } => {
                "restore the file from a copy; or see what is wrong and rescue \
                 what is good: kv wal DIR verify, kv salvage DIR; or replace this node: removenode \
                 it, start it with an empty directory, addnode and rebalance"
                    .to_owned()
            }
            Self::BadCluster { .. } => "move the file away and start the node: its coordinator tells it again; but until then \
                 the node obeys whoever claims it first, even a coordinator that was replaced: stop that one before"
                .to_owned(),
            Self::Unreadable { .. } => "write the key again, or replace this node: removenode it, \
                 start it with an empty directory, addnode and rebalance"
                .to_owned(),
            Self::Io { .. } => "check the disk, its free space and the permissions".to_owned(),
        }
    }
}

/// Why a node could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Flags, environment or configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The address cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The runtime or its signals.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl NodeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => Some(error.hint()),
            Self::Storage(error) => Some(error.hint()),
            Self::Listen(error) => Some(error.hint()),
            Self::Start(_) => None,
        }
    }

    /// The exit code of a process that ends with this error.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Storage(StorageError::InUse { .. }) => 73,
            Self::Storage(
                StorageError::Damaged { .. }
                | StorageError::BadCluster { .. }
                | StorageError::Unreadable { .. }
                | StorageError::Io { .. },
            ) => 74,
            Self::Storage(StorageError::OtherNode { .. }) | Self::Listen(_) | Self::Start(_) => 1,
        }
    }
}
