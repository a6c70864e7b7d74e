//! `kv demo --detach`: a cluster that runs on, and `kv demo stop`.
//!
//! ```text
//! kv demo --detach            starts itself again as `kv demo --supervise …`, waits for its line,
//!                             prints it, ends
//! kv demo --supervise …       owns the processes until `shutdown`, SIGTERM or SIGINT
//! kv demo stop [--data DIR]   finds the supervisor by its file, asks it, waits until it is gone
//! ```
//!
//! The supervisor has a process group of its own and none of the terminal's streams, so that
//! Ctrl-C, a closed window or a waiting `$(…)` does not reach it.
//!
//! # Caveats
//!
//! `kv demo stop` without `--data` means the cluster that was detached last and still runs.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ringkv_shared::{ErrorName, Failure};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::control::{Control, no_cluster};
use super::local::{DemoOptions, LocalCluster};
use super::state::ClusterFile;

/// How long the whole cluster may take to start: its processes start at once, with ten seconds
/// each, and are then registered.
const START_DEADLINE: Duration = Duration::from_secs(40);
/// How long it may take to end: SIGTERM is given ten seconds before SIGKILL.
const END_DEADLINE: Duration = Duration::from_secs(20);
/// How often it is looked whether it has ended.
const END_POLL: Duration = Duration::from_millis(20);

/// Starts a cluster that runs on, and prints its line.
///
/// # Errors
///
/// One runs on these data already, or the cluster does not start: then the supervisor's own
/// failure.
pub(crate) async fn demo_detached(options: DemoOptions) -> anyhow::Result<()> {
    if let Some(data) = &options.data {
        refuse_second(data).await?;
    }
    let mut words = tempfile::tempfile().context("cannot make a temporary file")?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program)
        .args(arguments(&options))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(words.try_clone()?)
        .process_group(0)
        .spawn()
        .context("cannot start the supervisor")?;
    let stdout = child.stdout.take().expect("standard output is a pipe");
    let said = match timeout(START_DEADLINE, first_line(stdout)).await {
        Ok(line) => serde_json::from_str(&line?).ok(),
        Err(_) => None,
    };
    match said {
        Some(Said::Cluster(mut cluster)) => {
            cluster.supervisor = None;
            print(&cluster.line())
        }
        Some(Said::Failure { error }) => Err(error.into()),
        None => {
            let _gone = child.kill().await;
            let mut said = String::new();
            words.seek(SeekFrom::Start(0))?;
            words.read_to_string(&mut said)?;
            bail!("the cluster did not start\n{}", said.trim_end());
        }
    }
}

/// What the supervisor says first: what it has started, or, with `--json`, why it has not.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Cluster(ClusterFile),
    Failure { error: Failure },
}

/// Refuses when a detached cluster runs on these data.
async fn refuse_second(data: &Path) -> Result<(), Failure> {
    let file = ClusterFile::read(&ClusterFile::path_in(data)).ok().flatten();
    let Some(supervisor) = file.and_then(|file| file.supervisor) else { return Ok(()) };
    if Control::new(supervisor.addr).status().await.is_err() {
        return Ok(());
    }
    let dir = data.display();
    let message = format!("a detached cluster runs on {dir} already");
    Err(Failure::new(ErrorName::NodeExists, message).hint(format!("kv demo stop --data {dir}")))
}

/// The supervisor of a detached cluster: runs until it is asked to end.
///
/// # Errors
///
/// The cluster does not start, or its files cannot be written.
pub(crate) async fn supervise(options: DemoOptions) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let kept = options.data.is_some();
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let cluster = LocalCluster::launch(options, program, true).await?;
    let supervisor = Arc::clone(cluster.supervisor());
    let announced = announce(&supervisor.file().await);
    if announced.is_ok() {
        tokio::select! {
            () = supervisor.end_requested() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    let mut file = supervisor.file().await;
    file.withdraw()?;
    supervisor.stop_all().await;
    let noted = match kept {
        true => {
            file.supervisor = None;
            file.write(&ClusterFile::path_in(&file.data))
        }
        false => Ok(()),
    };
    // The last thing that others see of this process.
    cluster.close().await;
    noted?;
    announced
}

/// Ends a detached cluster: that with its data in `data`, or the one started last that runs.
///
/// # Errors
///
/// There is none, or it does not end.
pub(crate) async fn demo_stop(data: Option<PathBuf>) -> anyhow::Result<String> {
    let (known, what) = match &data {
        Some(dir) => {
            let file = ClusterFile::read(&ClusterFile::path_in(dir))?;
            (file.into_iter().collect(), format!("has its data in {}", dir.display()))
        }
        None => (ClusterFile::detached(), "runs here".to_owned()),
    };
    for file in known {
        let Some(supervisor) = file.supervisor.clone() else { continue };
        let control = Control::new(supervisor.addr.clone());
        match control.status().await {
            Ok(status) => return end(&control, &supervisor.addr, &status).await,
            // It was killed and could not take its pointer with it.
            Err(_) => file.withdraw()?,
        }
    }
    Err(no_cluster(&what).into())
}

/// Asks a supervisor to end, and waits until it has.
async fn end(control: &Control, addr: &str, status: &ClusterFile) -> anyhow::Result<String> {
    control.shutdown().await?;
    let gone = async {
        while TcpStream::connect(addr).await.is_ok() {
            sleep(END_POLL).await;
        }
    };
    timeout(END_DEADLINE, gone).await.context("the cluster has not ended in 20 s")?;
    Ok(match status.alive() {
        1 => "Stopped 1 process.".to_owned(),
        count => format!("Stopped {count} processes."),
    })
}

fn arguments(options: &DemoOptions) -> Vec<std::ffi::OsString> {
    let mut args = vec!["demo".into(), "--json".into(), "--supervise".into()];
    args.extend(["--nodes".into(), options.nodes.to_string().into()]);
    args.extend(["--replicas".into(), options.replicas.to_string().into()]);
    if let Some(data) = &options.data {
        args.extend(["--data".into(), data.into()]);
    }
    if let Some(port) = options.port {
        args.extend(["--port".into(), port.to_string().into()]);
    }
    if options.free_ports {
        args.push("--free-ports".into());
    }
    if let Some(bytes) = options.memory_max {
        args.extend(["--memory-max".into(), bytes.to_string().into()]);
    }
    args
}

async fn first_line(stdout: ChildStdout) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    Ok(line)
}

/// Leaves the pointer to this cluster and tells whoever started it.
fn announce(file: &ClusterFile) -> anyhow::Result<()> {
    file.write(&file.pointer()).context("cannot write the file that `demo stop` reads")?;
    print(&file.line())
}

fn print(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("nobody reads the line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisor_gets_all_options() {
        let options = DemoOptions {
            nodes: 3,
            replicas: 2,
            data: Some("/d".into()),
            port: Some(6000),
            free_ports: true,
            memory_max: Some(4096),
        };
        assert_eq!(
            arguments(&options).join(" ".as_ref()),
            "demo --json --supervise --nodes 3 --replicas 2 --data /d --port 6000 --free-ports --memory-max 4096"
        );
    }

    #[tokio::test]
    async fn there_may_be_nothing_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let error = demo_stop(Some(dir.path().to_owned())).await.unwrap_err();
        assert!(error.to_string().starts_with("no detached cluster has its data in"), "{error}");
    }
}
