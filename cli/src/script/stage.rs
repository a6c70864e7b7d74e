//! The world a script acts on: a cluster that comes and goes, a shell, a directory.
//!
//! [`Stage`] is what playing and comparing need; [`Live`] is the real one, and tests have one
//! that answers from a table.
//!
//! # Caveats
//!
//! A command before any `@cluster` is refused: a script never acts on a cluster that somebody
//! else has data in.

use std::path::Path;
use std::time::Duration;

use ringkv_shared::net::{Client, ClusterApiClient, Peer};
use ringkv_shared::protocol::cluster::{NodeRow, ShowReply};
use ringkv_shared::{ErrorName, Failure};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::parse::{ClusterSpec, Until, Wait};
use crate::cluster::{DemoOptions, LocalCluster};

/// How often `@wait` looks.
const WAIT_POLL: Duration = Duration::from_millis(20);
/// How long one look may take.
const SHOW_DEADLINE: Duration = Duration::from_secs(2);

/// Runs the commands of a script.
pub(crate) trait Shell {
    /// Runs one line; all that it printed, results and errors in order, and its exit code.
    async fn run_line(&mut self, line: &str) -> (String, u8);
}

/// What a script needs of the world.
pub(super) trait Stage {
    /// Replaces the cluster by a fresh one.
    async fn cluster(&mut self, spec: ClusterSpec) -> Result<(), Failure>;
    /// Runs one command line.
    async fn run_line(&mut self, line: &str) -> (String, u8);
    /// What `show` says.
    async fn show(&mut self) -> Result<ShowReply, Failure>;
    /// The directory of the script's files.
    fn dir(&self) -> &Path;
    /// Ends the cluster.
    async fn close(&mut self);
}

/// Real clusters, and shells on them made by `connect` from the coordinator's address.
pub(crate) struct Live<S, C: FnMut(&str) -> S> {
    connect: C,
    cluster: Option<(LocalCluster, S)>,
    dir: TempDir,
}

impl<S: Shell, C: FnMut(&str) -> S> Live<S, C> {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// The temporary directory cannot be made.
    pub(crate) fn new(connect: C) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("ringkv-script-").tempdir()?;
        Ok(Self { connect, cluster: None, dir })
    }
}

impl<S: Shell, C: FnMut(&str) -> S> Live<S, C> {
    /// Nodes are told of their cluster in the background: a script begins when they all have been.
    async fn all_know_the_ring(&mut self) -> Result<(), Failure> {
        let by = Instant::now() + SHOW_DEADLINE;
        while self.show().await?.nodes.iter().any(|row| row.ring_epoch.is_some()) {
            if Instant::now() >= by {
                return Err(Failure::new(
                    ErrorName::NotApplied,
                    "the nodes do not get to know their cluster",
                ));
            }
            sleep(WAIT_POLL).await;
        }
        Ok(())
    }
}

impl<S: Shell, C: FnMut(&str) -> S> Stage for Live<S, C> {
    async fn cluster(&mut self, spec: ClusterSpec) -> Result<(), Failure> {
        self.close().await;
        let options = DemoOptions {
            nodes: spec.nodes,
            replicas: spec.replicas,
            data: None,
            port: spec.ports.map(|first| first - 1),
            free_ports: spec.ports.is_none(),
            memory_max: spec.memory_max,
        };
        let cluster = LocalCluster::start(options).await.map_err(as_failure)?;
        let shell = (self.connect)(cluster.coordinator_addr());
        self.cluster = Some((cluster, shell));
        self.all_know_the_ring().await
    }

    async fn run_line(&mut self, line: &str) -> (String, u8) {
        match &mut self.cluster {
            Some((_, shell)) => shell.run_line(line).await,
            None => ("error: no cluster yet\n  begin with: @cluster nodes=3\n".to_owned(), 2),
        }
    }

    async fn show(&mut self) -> Result<ShowReply, Failure> {
        let Some((cluster, _)) = &self.cluster else {
            return Err(Failure::new(ErrorName::BadArgument, "no cluster yet"));
        };
        let peer = Peer::new(cluster.coordinator_addr());
        let call = async |c: &Client| ClusterApiClient::show(c).await;
        peer.call(SHOW_DEADLINE, call).await.map_err(|e| e.into_failure("the coordinator"))
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    async fn close(&mut self) {
        if let Some((cluster, shell)) = self.cluster.take() {
            drop(shell);
            cluster.stop().await;
        }
    }
}

fn as_failure(error: anyhow::Error) -> Failure {
    error.downcast().unwrap_or_else(|e| Failure::new(ErrorName::NotApplied, format!("{e:#}")))
}

/// Waits until `show` says what the script waits for; else tells what it says instead.
pub(super) async fn wait(stage: &mut impl Stage, wait: &Wait) -> Result<(), String> {
    let by = Instant::now() + wait.within;
    loop {
        let said = stage.show().await;
        let row = match &said {
            Ok(show) => show.nodes.iter().find(|row| row.id == wait.node),
            Err(_) => None,
        };
        if row.is_some_and(|row| holds(row, wait.until)) {
            return Ok(());
        }
        if Instant::now() >= by {
            let now = match (&said, row) {
                (Err(failure), _) => failure.to_string(),
                (_, Some(row)) => describe(row),
                (Ok(_), None) => format!("{} is no node of the cluster", wait.node),
            };
            return Err(format!("waited {} ms in vain: {now}", wait.within.as_millis()));
        }
        sleep(WAIT_POLL).await;
    }
}

fn holds(row: &NodeRow, until: Until) -> bool {
    match until {
        Until::Health(health) => row.health == health,
        Until::Keys(count) => row.keys == Some(count),
        Until::KeysFrom(count) => row.keys.is_some_and(|keys| keys >= count),
    }
}

fn describe(row: &NodeRow) -> String {
    match row.keys {
        Some(keys) => format!("{} is {:?} with {keys} keys", row.id, row.health),
        None => format!("{} is {:?}", row.id, row.health),
    }
}

/// Runs a command with `$DIR` filled in; in what it prints, the directory is `$DIR` again.
pub(super) async fn command(stage: &mut impl Stage, text: &str) -> (Vec<String>, u8) {
    let dir = stage.dir().display().to_string();
    let (printed, exit) = stage.run_line(&text.replace("$DIR", &dir)).await;
    let printed = printed.replace(&dir, "$DIR");
    let mut lines: Vec<String> = printed.lines().map(|line| line.trim_end().to_owned()).collect();
    let blank = lines.iter().rev().take_while(|line| line.is_empty()).count();
    lines.truncate(lines.len() - blank);
    let blank = lines.iter().take_while(|line| line.is_empty()).count();
    lines.drain(..blank);
    (lines, exit)
}

#[cfg(test)]
pub(super) mod fake {
    //! A stage that answers from a table.

    use std::collections::HashMap;

    use super::*;

    /// Commands and what they print; every other one is unknown.
    pub(in crate::script) struct Fake {
        pub(in crate::script) answers: HashMap<&'static str, (&'static str, u8)>,
        pub(in crate::script) dir: TempDir,
        pub(in crate::script) seen: Vec<String>,
    }

    impl Fake {
        pub(in crate::script) fn new(answers: &[(&'static str, &'static str, u8)]) -> Self {
            let answers = answers.iter().map(|&(line, says, exit)| (line, (says, exit)));
            Self { answers: answers.collect(), dir: tempfile::tempdir().unwrap(), seen: Vec::new() }
        }
    }

    impl Stage for Fake {
        async fn cluster(&mut self, spec: ClusterSpec) -> Result<(), Failure> {
            self.seen.push(format!("{spec:?}"));
            Ok(())
        }

        async fn run_line(&mut self, line: &str) -> (String, u8) {
            self.seen.push(line.to_owned());
            let (says, exit) = self.answers.get(line).copied().unwrap_or(("error: unknown\n", 2));
            (says.to_owned(), exit)
        }

        async fn show(&mut self) -> Result<ShowReply, Failure> {
            Err(Failure::new(ErrorName::Unreachable, "nobody there"))
        }

        fn dir(&self) -> &Path {
            self.dir.path()
        }

        async fn close(&mut self) {
            self.seen.push("close".to_owned());
        }
    }
}
