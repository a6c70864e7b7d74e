//! A cluster whose supervisor lives in this process: that of the shell, of a script, and the
//! inside of a detached one.
//!
//! # Caveats
//!
//! [`LocalCluster::start`] and [`LocalCluster::stop`] must run inside a `LocalSet`: the endpoint
//! is a local task. A cluster that is dropped instead of stopped has its processes killed, not
//! asked; what they had acknowledged is in their logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use ringkv_shared::net::{Peer, ServerLimits, serve};
use ringkv_shared::{Failure, NodeId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::life::COORDINATOR;
use super::ports::PortPlan;
use super::register::register;
use super::rpc::Endpoint;
use super::state::ClusterFile;
use super::supervisor::{Setup, Supervisor, is_free, loopback};

/// How long the endpoint may take to end once all processes have.
const ENDPOINT_DEADLINE: Duration = Duration::from_secs(2);

/// What cluster to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct DemoOptions {
    /// How many nodes, `n1` and so on; 0 is allowed.
    pub(crate) nodes: usize,
    /// The replication factor.
    pub(crate) replicas: usize,
    /// Where to keep the data; `None` for a temporary directory, removed at the end.
    pub(crate) data: Option<PathBuf>,
    /// The coordinator's port, the nodes get those above it. `None` for 5000 or, when something
    /// there is taken, the next free block.
    pub(crate) port: Option<u16>,
    /// Every process takes a port that the system gives it: for tests.
    pub(crate) free_ports: bool,
    /// How many bytes of values each node keeps in memory; `None`: all.
    pub(crate) memory_max: Option<u64>,
}

/// A running cluster of child processes.
pub(crate) struct LocalCluster {
    supervisor: Arc<Supervisor>,
    endpoint: JoinHandle<()>,
    stop_endpoint: CancellationToken,
    coordinator: String,
    /// Id and address.
    nodes: Vec<(NodeId, String)>,
    plan: PortPlan,
    data: Data,
}

/// Where the data is and whether it stays.
enum Data {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Data {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(path) => path,
        }
    }
}

/// Which processes to start where.
struct Layout {
    coordinator: String,
    nodes: Vec<(NodeId, String)>,
    /// How many of the nodes, from the front, were members before.
    known: usize,
    plan: PortPlan,
}

impl LocalCluster {
    /// Starts the processes and makes the nodes members.
    ///
    /// # Errors
    ///
    /// A port or the data directory is taken, or a child does not come up (its own words are in
    /// the message). Nothing is left running then.
    pub(crate) async fn start(options: DemoOptions) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        Self::launch(options, program, false).await
    }

    /// [`Self::start`] with a program to run and the knowledge whether a shell stays beside it.
    pub(super) async fn launch(
        options: DemoOptions,
        program: PathBuf,
        detached: bool,
    ) -> anyhow::Result<Self> {
        let data = open_data(options.data.as_deref())?;
        let layout = layout(&options, data.path())?;
        let listener = TcpListener::bind(loopback(0)).await?;
        let supervisor = Arc::new(Supervisor::new(Setup {
            program,
            data: data.path().to_owned(),
            free_ports: options.free_ports,
            detached,
            endpoint: listener.local_addr()?.to_string(),
            memory_max: options.memory_max,
        }));
        let stop_endpoint = CancellationToken::new();
        let service = Endpoint::new(Arc::clone(&supervisor));
        let serving = serve(listener, service, ServerLimits::default(), stop_endpoint.clone());
        let mut cluster = Self {
            supervisor,
            endpoint: tokio::task::spawn_local(serving),
            stop_endpoint,
            coordinator: String::new(),
            nodes: Vec::new(),
            plan: layout.plan,
            data,
        };
        match cluster.populate(layout, options.replicas).await {
            Ok(()) => Ok(cluster),
            Err(failure) => {
                cluster.stop().await;
                Err(failure.into())
            }
        }
    }

    /// Starts all processes at once, then registers the nodes that are new.
    async fn populate(&mut self, layout: Layout, replicas: usize) -> Result<(), Failure> {
        let coordinator = self.supervisor.add(COORDINATOR, layout.coordinator);
        let nodes = layout.nodes.iter().map(|(id, listen)| async {
            let addr = self.supervisor.add(id.as_str(), listen.clone()).await?;
            Ok::<_, Failure>((id.clone(), addr))
        });
        let (coordinator, nodes) = tokio::join!(coordinator, join_all(nodes));
        self.coordinator = coordinator?;
        self.nodes = nodes.into_iter().collect::<Result<_, _>>()?;
        let peer = Peer::new(&self.coordinator);
        register(&peer, &self.nodes[layout.known..], replicas).await?;
        self.supervisor.save().await;
        Ok(())
    }

    /// Where the coordinator serves.
    #[must_use]
    pub(crate) fn coordinator_addr(&self) -> &str {
        &self.coordinator
    }

    /// What a shell says when it starts.
    #[must_use]
    pub(crate) fn banner(&self) -> String {
        let mut text = String::new();
        if let PortPlan::Block { base, instead_of: Some(wanted) } = self.plan {
            text += &format!("Ports from {wanted} on are taken: using those from {base} on.\n");
        }
        let count = match self.nodes.len() {
            1 => "1 node".to_owned(),
            n => format!("{n} nodes"),
        };
        let dir = self.data.path().display();
        text += &match self.data {
            Data::Temporary(_) => {
                format!("Started {count} in {dir} (deleted on exit; keep them with --data DIR)\n")
            }
            Data::Kept(_) => format!("Started {count} in {dir} (kept on exit)\n"),
        };
        text += "  ";
        for (id, addr) in &self.nodes {
            text += &format!("{id} {addr}   ");
        }
        text += &format!("coordinator {}\n", self.coordinator);
        text += "  try: put apple 123, show, kill n1, get apple      help for more";
        text
    }

    /// Ends all processes and tells how many there were. A temporary directory goes too.
    pub(crate) async fn stop(self) -> usize {
        let stopped = self.supervisor.stop_all().await;
        self.close().await;
        stopped
    }

    /// Takes a temporary directory away and ends the endpoint, in this order: who sees the
    /// endpoint gone sees nothing else left.
    pub(super) async fn close(self) {
        drop(self.data);
        self.stop_endpoint.cancel();
        let _ended = timeout(ENDPOINT_DEADLINE, self.endpoint).await;
    }

    /// The owner of the processes.
    pub(super) const fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }
}

fn open_data(asked: Option<&Path>) -> anyhow::Result<Data> {
    let Some(dir) = asked else {
        let dir = tempfile::Builder::new().prefix("ringkv-").tempdir();
        return Ok(Data::Temporary(dir.context("cannot make a temporary directory")?));
    };
    let cannot = || format!("cannot use {} for data", dir.display());
    std::fs::create_dir_all(dir).with_context(cannot)?;
    Ok(Data::Kept(dir.canonicalize().with_context(cannot)?))
}

/// The processes that the data directory tells of, and then those that were asked for beyond.
fn layout(options: &DemoOptions, data: &Path) -> anyhow::Result<Layout> {
    let before = ClusterFile::read(&ClusterFile::path_in(data))?;
    let asked: Vec<NodeId> = (1..=options.nodes)
        .map(|n| format!("n{n}").parse().expect("n and a number is a node id"))
        .collect();
    let Some(before) = before else {
        let plan = match options.free_ports {
            true => PortPlan::Free,
            false => PortPlan::choose(options.port, options.nodes, is_free)?,
        };
        let nodes = asked.into_iter().enumerate();
        let nodes = nodes.map(|(i, id)| (id, loopback(plan.port(i + 1)))).collect();
        return Ok(Layout { coordinator: loopback(plan.port(0)), nodes, known: 0, plan });
    };
    let mut nodes = Vec::new();
    for node in before.nodes {
        nodes.push((node.id.parse()?, node.server.addr));
    }
    let known = nodes.len();
    // What comes on top has no place in the old block that is known to be free.
    let new: Vec<NodeId> =
        asked.into_iter().filter(|id| nodes.iter().all(|(old, _)| old != id)).collect();
    nodes.extend(new.into_iter().map(|id| (id, loopback(0))));
    Ok(Layout { coordinator: before.coordinator.addr, nodes, known, plan: PortPlan::Free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_cluster_comes_back_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"coordinator":{"addr":"127.0.0.1:6000","pid":1},"nodes":[
            {"id":"n2","addr":"127.0.0.1:6002","pid":2,"data":"/d/n2"}],"data":"/d"}"#;
        std::fs::write(ClusterFile::path_in(dir.path()), text).unwrap();
        let options = DemoOptions { nodes: 2, replicas: 1, ..DemoOptions::default() };
        let layout = layout(&options, dir.path()).unwrap();
        let nodes: Vec<String> =
            layout.nodes.iter().map(|(id, addr)| format!("{id} {addr}")).collect();
        assert_eq!(layout.coordinator, "127.0.0.1:6000");
        assert_eq!(nodes, ["n2 127.0.0.1:6002", "n1 127.0.0.1:0"]);
        assert_eq!(layout.known, 1);
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_cluster_that_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let data = Some(dir.path().join("deep/down"));
        let options = DemoOptions { nodes: 1, data, free_ports: true, ..DemoOptions::default() };
        let local = tokio::task::LocalSet::new();
        let start = LocalCluster::launch(options, "/bin/false".into(), false);
        let error = local.run_until(start).await.err().unwrap();
        let failure: &Failure = error.downcast_ref().unwrap();
        assert!(failure.message.starts_with("coordinator ended before it was ready"), "{failure}");
    }
}
