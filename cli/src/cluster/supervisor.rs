//! The owner of the child processes: starts them, does to them what is asked, ends them.
//!
//! Each child has a lock of its own, held while something is done to it. So `restart n1` does not
//! hold up `kill n2`, and two `restart n1` come one after the other.
//!
//! What an action means is decided in [`super::life`]; here its effects are carried out.
//!
//! # Caveats
//!
//! A child that ends by itself is not started again, and is noticed when somebody next asks about
//! it. The failure detector of the coordinator is what tells of it at once.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::protocol::Status;
use ringkv_shared::{ErrorName, Failure, NodeId};
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::life::{Action, COORDINATOR, Effect, Life, Report};
use super::ports;
use super::process::{Launch, Process};
use super::state::{ClusterFile, NodeEntry, ServerEntry};

/// How long a child may take to end after SIGTERM before it gets SIGKILL.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a supervisor needs to know.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The program that knows `coordinator` and `node`.
    pub(super) program: PathBuf,
    /// The directory that gets a directory for each child.
    pub(super) data: PathBuf,
    /// Whether `spawn` ignores ports and lets the system choose.
    pub(super) free_ports: bool,
    /// Whether the cluster runs on without a shell, so that `shutdown` may end it.
    pub(super) detached: bool,
    /// The address of the endpoint, for the coordinator to tell.
    pub(super) endpoint: String,
    /// How many bytes of values each node keeps in memory; `None`: all.
    pub(super) memory_max: Option<u64>,
}

/// The owner of the children of one cluster.
pub(super) struct Supervisor {
    setup: Setup,
    /// In the order they were started, the coordinator first.
    members: StdMutex<Vec<(String, Arc<Mutex<Member>>)>>,
    end: CancellationToken,
}

/// A child and what is known about it.
struct Member {
    id: String,
    /// What it is told to listen on; the port it got, once it has had one.
    listen: String,
    /// The id of its process, or of its last one.
    pid: u32,
    paused: bool,
    process: Option<Process>,
}

impl Supervisor {
    /// One without children.
    pub(super) fn new(setup: Setup) -> Self {
        Self { setup, members: StdMutex::default(), end: CancellationToken::new() }
    }

    /// Starts the child `id` (a node's id, or `coordinator`) at `listen`, and gives its address.
    pub(super) async fn add(&self, id: &str, listen: String) -> Result<String, Failure> {
        let member = Arc::new(Mutex::new(Member {
            id: id.into(),
            listen,
            pid: 0,
            paused: false,
            process: None,
        }));
        // Locked before anybody else can see it, so that nobody meets a child half started.
        let mut started = member.lock().await;
        {
            let mut members = self.lock();
            if members.iter().any(|(known, _)| known == id) {
                let message = format!("{id} is being started already");
                return Err(Failure::new(ErrorName::Busy, message));
            }
            members.push((id.to_owned(), Arc::clone(&member)));
        }
        let result = started.spawn(&self.setup).await;
        if result.is_err() {
            self.lock().retain(|(known, _)| known != id);
        }
        result?;
        Ok(started.listen.clone())
    }

    /// Does something to a child.
    pub(super) async fn act(&self, action: Action, id: &str) -> Result<Report, Failure> {
        let member = self.member(id)?;
        let mut member = member.lock().await;
        let mut forced = false;
        for effect in action.effects(member.life(), id)? {
            forced |= member.apply(*effect, &self.setup).await?;
        }
        let (pid, addr) = (member.pid, member.listen.clone());
        Ok(Report { status: Status::Ok, id: id.to_owned(), action, pid, addr, forced })
    }

    /// Makes sure that the node `id` runs at `port`, and gives its address.
    pub(super) async fn spawn(&self, id: &NodeId, port: u16) -> Result<String, Failure> {
        let id = id.as_str();
        if id == COORDINATOR {
            let message = "a node cannot be called coordinator: that is the coordinator";
            return Err(Failure::new(ErrorName::BadArgument, message));
        }
        let port = if self.setup.free_ports { 0 } else { port };
        match self.member(id) {
            Ok(member) => self.spawn_again(&mut *member.lock().await, port).await,
            Err(_) => {
                ensure_free(port)?;
                let addr = self.add(id, loopback(port)).await?;
                self.save().await;
                Ok(addr)
            }
        }
    }

    /// A node that was started before: it may still run although it left the ring.
    async fn spawn_again(&self, member: &mut Member, port: u16) -> Result<String, Failure> {
        let same = port == 0 || member.listen == loopback(port);
        match member.life() {
            Life::Stopped => {
                if !same {
                    ensure_free(port)?;
                    member.listen = loopback(port);
                }
                member.spawn(&self.setup).await?;
            }
            _ if same => {}
            _ => {
                let message = format!("{} runs already at {}", member.id, member.listen);
                return Err(Failure::new(ErrorName::NodeExists, message)
                    .hint(format!("use its port, or first: stop {}", member.id)));
            }
        }
        Ok(member.listen.clone())
    }

    /// Every child with its state.
    pub(super) async fn picture(&self) -> ClusterFile {
        let mut coordinator = ServerEntry { addr: String::new(), pid: 0, life: None };
        let mut nodes = Vec::new();
        for (id, member) in self.all() {
            let mut member = member.lock().await;
            let life = Some(member.life());
            let server = ServerEntry { addr: member.listen.clone(), pid: member.pid, life };
            if id == COORDINATOR {
                coordinator = server;
            } else {
                let data = self.setup.data.join(&id);
                nodes.push(NodeEntry { id, server, data });
            }
        }
        let supervisor = self.setup.detached.then(|| ServerEntry {
            addr: self.setup.endpoint.clone(),
            pid: std::process::id(),
            life: None,
        });
        ClusterFile { coordinator, nodes, data: self.setup.data.clone(), supervisor }
    }

    /// The picture without what changes from moment to moment: for files and for `--detach`.
    pub(super) async fn file(&self) -> ClusterFile {
        let mut file = self.picture().await;
        file.coordinator.life = None;
        for node in &mut file.nodes {
            node.server.life = None;
        }
        file
    }

    /// Writes the file in the data directory. A failure only costs the comeback of a node that
    /// was added, so it is logged.
    pub(super) async fn save(&self) {
        let path = ClusterFile::path_in(&self.setup.data);
        if let Err(error) = self.file().await.write(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot write");
        }
    }

    /// Asks for the end of a detached cluster.
    pub(super) fn request_end(&self) -> Result<(), Failure> {
        if self.setup.detached {
            self.end.cancel();
            return Ok(());
        }
        let message = "this cluster belongs to a shell or script that still runs";
        Err(Failure::new(ErrorName::NotApplied, message).hint("leave that shell: exit"))
    }

    /// Waits until somebody has asked for the end.
    pub(super) async fn end_requested(&self) {
        self.end.cancelled().await;
    }

    /// Stops every child, all at once, and says how many there were to stop.
    pub(super) async fn stop_all(&self) -> usize {
        let stops = self
            .all()
            .into_iter()
            .map(|(id, _)| async move { self.act(Action::Stop, &id).await.is_ok() });
        join_all(stops).await.into_iter().filter(|&stopped| stopped).count()
    }

    fn member(&self, id: &str) -> Result<Arc<Mutex<Member>>, Failure> {
        let members = self.lock();
        if let Some((_, member)) = members.iter().find(|(known, _)| known == id) {
            return Ok(Arc::clone(member));
        }
        let known: Vec<&str> = members.iter().map(|(id, _)| id.as_str()).collect();
        Err(Failure::new(
            ErrorName::NodeNotFound,
            format!("no process called {id} in this cluster"),
        )
        .hint(format!("there are: {}", known.join(" "))))
    }

    fn all(&self) -> Vec<(String, Arc<Mutex<Member>>)> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, Arc<Mutex<Member>>)>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Where it is in its life, looking whether it has ended meanwhile.
    fn life(&mut self) -> Life {
        if self.process.as_mut().is_some_and(Process::has_ended) {
            self.process = None;
        }
        match (&self.process, self.paused) {
            (None, _) => Life::Stopped,
            (Some(_), true) => Life::Paused,
            (Some(_), false) => Life::Running,
        }
    }

    /// Carries out one effect. True when a process had to be forced to end.
    async fn apply(&mut self, effect: Effect, setup: &Setup) -> Result<bool, Failure> {
        match effect {
            Effect::Kill => self.signal(Signal::KILL),
            Effect::Terminate => self.signal(Signal::TERM),
            Effect::Halt => {
                self.signal(Signal::STOP);
                self.paused = true;
            }
            Effect::Continue => {
                self.signal(Signal::CONT);
                self.paused = false;
            }
            Effect::Spawn => self.spawn(setup).await?,
            Effect::Reap => {
                if let Some(process) = self.process.take() {
                    return Ok(process.reap(STOP_PATIENCE).await);
                }
            }
        }
        Ok(false)
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    async fn spawn(&mut self, setup: &Setup) -> Result<(), Failure> {
        let process = Process::spawn(&self.launch(setup)).await?;
        self.listen = process.addr().to_owned();
        self.pid = process.pid();
        self.paused = false;
        self.process = Some(process);
        Ok(())
    }

    fn launch(&self, setup: &Setup) -> Launch {
        let mut args: Vec<OsString> = match self.id.as_str() {
            COORDINATOR => {
                vec!["coordinator".into(), "--supervisor".into(), (&setup.endpoint).into()]
            }
            id => vec!["node".into(), "--id".into(), id.into()],
        };
        args.extend(["--listen".into(), (&self.listen).into()]);
        args.extend(["--data".into(), setup.data.join(&self.id).into()]);
        args.push("--stop-on-eof".into());
        if let Some(bytes) = setup.memory_max.filter(|_| self.id != COORDINATOR) {
            args.extend(["--memory-max".into(), bytes.to_string().into()]);
        }
        Launch {
            name: self.id.clone(),
            program: setup.program.clone(),
            args,
            log: setup.data.join(format!("{}.stderr", self.id)),
        }
    }
}

/// The loopback address with `port`.
pub(super) fn loopback(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

/// Whether nobody listens on `port` of the loopback interface.
pub(super) fn is_free(port: u16) -> bool {
    // Bound and let go at once. Unlike the children's own bind this is without SO_REUSEADDR on
    // some systems, so connections that are still winding down may make a port look taken.
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn ensure_free(port: u16) -> Result<(), Failure> {
    if is_free(port) { Ok(()) } else { Err(ports::taken(port)) }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
