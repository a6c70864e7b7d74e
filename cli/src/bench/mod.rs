//! `kv bench`: how fast is it, and does it keep what it acknowledged?
//!
//! ```text
//! load every key ─ open idle connections ─ warm up ─ measure ─ read back
//!                                                      └ kill a node, if asked to
//! ```
//!
//! The same loader puts the same load on our nodes, our coordinator, or [another store](peer), so that
//! a ratio of two runs says something about the stores and nothing about two loaders.
//!
//! | what | where |
//! |---|---|
//! | words | [`args`], [`peer`] |
//! | which requests | [`source`], [`values`] |
//! | how they are spelled | [`dialect`] |
//! | through a library | [`streams`]: [`etcd`], [`straight`] |
//! | sending and reading | [`loader`], [`connection`], [`phase`] |
//! | what may be read | [`book`] |
//! | what is counted | [`tally`], [`meter`], [`idle`] |
//! | whose processes | [`target`] |
//! | what is told | [`told`] |
//!
//! What is checked: every get, also while the load runs, must give a value that this run put under that
//! key, and not one that had been replaced before the get was sent; [`book`] says what can be known
//! of that with many connections. A value that is wrong or lost, in the load or when keys are read
//! back, and an older one when they are read back, end the command with exit code 6.
//!
//! # Caveats
//!
//! Servers and loader on one machine share its cores: ratios hold there, figures do not carry elsewhere.
//! One figure is noise: compare in pairs, many times, as `scripts/bench.sh` does, and do not believe a run beside
//! which others have used the machine (*foreign*).

mod args;
mod book;
mod connection;
mod dialect;
mod etcd;
mod idle;
mod loader;
mod meter;
mod peer;
mod phase;
mod run;
mod source;
mod straight;
mod streams;
mod tally;
mod target;
mod told;
mod values;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringkv_shared::{ErrorName, Failure, NodeId};
use tokio::sync::oneshot;

pub(crate) use args::BenchArgs;

use crate::cluster::{Action, Control};
use crate::commands::faults;
use crate::report::Report;
use crate::session::Session;
use crate::{exit, interrupt};
use run::{Outcome, Task};
use target::Target;

/// A node that was killed in the middle.
#[derive(Clone, Debug)]
struct Killed {
    node: NodeId,
    /// From the beginning of the measured part.
    at: Duration,
    /// What the supervisor said, or why it was not done.
    told: Result<String, String>,
}

/// Measures.
pub(crate) async fn run(s: &mut Session, args: BenchArgs) -> Result<Report, Failure> {
    let target = Target::find(s, &args).await?;
    let supervisor = match &args.kill {
        Some(node) => Some((Control::new(faults::supervisor(s).await?), node.clone())),
        None => None,
    };
    let keyspace = s.keyspace_named().map(|name| name.to_string());
    let (begun, begins) = oneshot::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let task = Task {
        args: args.clone(),
        target: target.clone(),
        keyspace,
        stop: Arc::clone(&stop),
        begun,
    };
    let killed = Arc::new(Mutex::new(None));
    let loading = tokio::task::spawn_blocking(move || run::run(task));
    let killing = kill(supervisor, args.kill_at(), begins, Arc::clone(&killed));
    let stopping = async {
        s.interrupt.cancelled().await;
        stop.store(true, Ordering::Relaxed);
    };
    let beside = async { tokio::join!(killing, stopping, std::future::pending::<()>()) };
    let outcome = tokio::select! {
        outcome = loading => outcome,
        _ = beside => std::future::pending().await,
    };
    let broken = |error| Failure::new(ErrorName::NotApplied, format!("the loader broke: {error}"));
    let outcome: Outcome = match outcome.map_err(broken)? {
        Err(_) if s.interrupt.is_cancelled() => {
            let message = "interrupted: some keys may have been put, nothing was measured";
            return Ok(interrupt::told(Failure::new(ErrorName::OutcomeUnknown, message)));
        }
        outcome => outcome?,
    };
    let killed = killed.lock().unwrap_or_else(PoisonError::into_inner).take();
    let killed = killed.or_else(|| {
        let told = Err("the run had ended before".to_owned());
        Some(Killed { node: args.kill.clone()?, at: args.kill_at(), told })
    });
    let report = told::report(&args, &target, &outcome, killed.as_ref());
    if s.interrupt.is_cancelled() {
        let report = report.warn("error: interrupted: what was measured until then is told");
        return Ok(Report { exit: exit::INTERRUPTED, ..report });
    }
    Ok(report)
}

/// Kills the node when it is time.
async fn kill(
    whom: Option<(Control, NodeId)>,
    at: Duration,
    begins: oneshot::Receiver<()>,
    killed: Arc<Mutex<Option<Killed>>>,
) {
    let Some((control, node)) = whom else { return };
    if begins.await.is_err() {
        return;
    }
    tokio::time::sleep(at).await;
    let told = control.act(Action::Kill, &node).await.map_err(|failure| failure.message);
    *killed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Killed { node, at, told });
}
