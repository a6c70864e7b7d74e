//! What is written down about a cluster, so that it can be found and brought back.
//!
//! | file | what |
//! |---|---|
//! | `DIR/cluster.json` | addresses and process ids, see [`ClusterFile`] |
//! | `ringkv-demo-UID-PORT.json` in `$XDG_RUNTIME_DIR` or the temporary directory | the same, one for each detached cluster, by the port of its coordinator |
//!
//! A cluster started with `--data DIR` takes its nodes and addresses from `DIR/cluster.json`:
//! the coordinator's own log names those addresses.
//!
//! # Caveats
//!
//! A detached cluster whose supervisor was killed leaves its file behind, until a `kv demo stop`
//! or a cluster on the same port meets it. Process ids are for people. Nothing is ever signalled by a number read from a file: the
//! supervisor is asked over its endpoint, and signals only its own children.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::life::Life;

/// A cluster as `kv demo --detach` prints it and as it is kept in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClusterFile {
    /// The coordinator.
    pub(super) coordinator: ServerEntry,
    /// The nodes in the order they were started.
    pub(super) nodes: Vec<NodeEntry>,
    /// The directory with all their data.
    pub(super) data: PathBuf,
    /// The supervisor, when it runs on by itself; absent for the cluster of a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) supervisor: Option<ServerEntry>,
}

/// A process that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerEntry {
    /// Where.
    pub(super) addr: String,
    /// Its process id, that of the last one when it is stopped.
    pub(super) pid: u32,
    /// Where in its life; only in the answer to `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) life: Option<Life>,
}

/// A node's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeEntry {
    /// Its id.
    pub(super) id: String,
    /// Address, process id and life, side by side with the id.
    #[serde(flatten)]
    pub(super) server: ServerEntry,
    /// Its data directory.
    pub(super) data: PathBuf,
}

impl ClusterFile {
    /// The file of the cluster whose data is in `dir`.
    pub(super) fn path_in(dir: &Path) -> PathBuf {
        dir.join("cluster.json")
    }

    /// The file by which this cluster is found while it runs detached.
    pub(super) fn pointer(&self) -> PathBuf {
        pointer_dir().join(format!("{}{}.json", pointer_prefix(), port(&self.coordinator.addr)))
    }

    /// The detached clusters of this user, the one started last first. Files that cannot be read
    /// are passed over.
    pub(super) fn detached() -> Vec<Self> {
        let prefix = pointer_prefix();
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".json"))
        };
        let entries = fs::read_dir(pointer_dir()).into_iter().flatten().flatten();
        let mut found: Vec<(SystemTime, Self)> = entries
            .map(|entry| entry.path())
            .filter(ours)
            .filter_map(|path| {
                let written = fs::metadata(&path).and_then(|data| data.modified()).ok()?;
                Some((written, Self::read(&path).ok()??))
            })
            .collect();
        found.sort_by_key(|(written, _)| std::cmp::Reverse(*written));
        found.into_iter().map(|(_, file)| file).collect()
    }

    /// Takes the pointer away, unless it names another cluster by now.
    pub(super) fn withdraw(&self) -> io::Result<()> {
        let path = self.pointer();
        match Self::read(&path)? {
            Some(now) if now.supervisor == self.supervisor => fs::remove_file(path),
            _ => Ok(()),
        }
    }

    /// Reads one; `None` when there is none. A file of another user is not believed.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if file.metadata()?.uid() != uid() {
            let message = format!("{} belongs to another user", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        serde_json::from_reader(io::BufReader::new(file)).map(Some).map_err(|e| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))
        })
    }

    /// Writes it: whoever reads sees the old one or the new one, never half of one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        writeln!(file, "{}", self.line())?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }

    /// The same in one line of JSON.
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("plain data has a JSON form")
    }

    /// How many processes there are that have not ended, by `status`.
    pub(super) fn alive(&self) -> usize {
        let nodes = self.nodes.iter().map(|node| node.server.life);
        let lives = nodes.chain([self.coordinator.life]);
        lives.filter(|life| matches!(life, Some(Life::Running | Life::Paused))).count()
    }
}

/// The supervisor of the detached cluster whose coordinator is, or was, at `coordinator` on this
/// machine.
#[must_use]
pub(crate) fn supervisor_of(coordinator: &str) -> Option<String> {
    let host = coordinator.rsplit_once(':').map_or("", |(host, _)| host);
    if !matches!(host, "127.0.0.1" | "localhost") {
        return None;
    }
    let same = |file: &ClusterFile| port(&file.coordinator.addr) == port(coordinator);
    let supervisor = ClusterFile::detached().into_iter().find(same)?.supervisor;
    supervisor.map(|supervisor| supervisor.addr)
}

fn port(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(_, port)| port)
}

fn pointer_dir() -> PathBuf {
    let dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    dir.filter(|dir| dir.is_dir()).unwrap_or_else(std::env::temp_dir)
}

fn pointer_prefix() -> String {
    format!("ringkv-demo-{}-", uid())
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterFile {
        let entry = |addr: &str, pid| ServerEntry { addr: addr.into(), pid, life: None };
        ClusterFile {
            coordinator: entry("127.0.0.1:5000", 4710),
            nodes: vec![NodeEntry {
                id: "n1".into(),
                server: entry("127.0.0.1:5001", 4711),
                data: "/d/n1".into(),
            }],
            data: "/d".into(),
            supervisor: None,
        }
    }

    #[test]
    fn the_line_is_the_contract() {
        assert_eq!(
            cluster().line(),
            r#"{"coordinator":{"addr":"127.0.0.1:5000","pid":4710},"nodes":[{"id":"n1","addr":"127.0.0.1:5001","pid":4711,"data":"/d/n1"}],"data":"/d"}"#
        );
    }

    #[test]
    fn a_file_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = ClusterFile::path_in(dir.path());
        assert_eq!(ClusterFile::read(&path).unwrap(), None);
        cluster().write(&path).unwrap();
        assert_eq!(ClusterFile::read(&path).unwrap(), Some(cluster()));
        fs::write(&path, "{").unwrap();
        assert!(ClusterFile::read(&path).is_err());
    }

    #[test]
    fn the_living_are_counted() {
        let mut file = cluster();
        file.coordinator.life = Some(Life::Paused);
        file.nodes[0].server.life = Some(Life::Stopped);
        assert_eq!(file.alive(), 1);
    }
}
