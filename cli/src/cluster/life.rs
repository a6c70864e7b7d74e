//! The life of a child process, as a table: what an action does in each state, and what to say.
//!
//! | | Running | Paused | Stopped |
//! |---|---|---|---|
//! | kill | SIGKILL, reap | SIGKILL, reap | refused |
//! | stop | SIGTERM, reap | SIGTERM, SIGCONT, reap | refused |
//! | start | refused | refused | spawn |
//! | restart | SIGKILL, reap, spawn | SIGKILL, reap, spawn | spawn |
//! | pause | SIGSTOP | refused | refused |
//! | resume | refused | SIGCONT | refused |
//!
//! A paused process cannot react to SIGTERM before it is continued, hence the pair for `stop`.
//!
//! # Caveats
//!
//! Only signals of the supervisor are known here. A process that somebody else stops with
//! SIGSTOP still counts as running.

use ringkv_shared::protocol::Status;
use ringkv_shared::{ErrorName, Failure};
use serde::{Deserialize, Serialize};

use crate::report::counted;

/// The name of the coordinator among the children; no node may have it.
pub(crate) const COORDINATOR: &str = "coordinator";

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Life {
    /// It runs.
    Running,
    /// It is there, halted by SIGSTOP.
    Paused,
    /// There is no process.
    Stopped,
}

/// What somebody wants done to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// End it at once, as a crash would.
    Kill,
    /// Ask it to end, and wait.
    Stop,
    /// Start it again on its address and data.
    Start,
    /// End it at once if it runs, and start it again.
    Restart,
    /// Halt it: connections stay open, nothing answers.
    Pause,
    /// Let it run on.
    Resume,
}

/// One thing to do to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Send SIGKILL.
    Kill,
    /// Send SIGTERM.
    Terminate,
    /// Send SIGSTOP.
    Halt,
    /// Send SIGCONT.
    Continue,
    /// Wait until it has ended.
    Reap,
    /// Start a process and wait for its ready line.
    Spawn,
}

/// What an action did: the answer of the supervisor's methods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// `ok`.
    pub(super) status: Status,
    /// The node, or `coordinator`.
    pub(super) id: String,
    /// What was asked for.
    pub(super) action: Action,
    /// The process: the new one after a start, else the one it was done to.
    pub(super) pid: u32,
    /// Its address.
    pub(super) addr: String,
    /// True when `stop` had to use SIGKILL in the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) forced: bool,
}

impl Action {
    /// The effects of this action in `life`, in order, or why it cannot be done.
    pub(super) fn effects(self, life: Life, id: &str) -> Result<&'static [Effect], Failure> {
        use Effect::{Continue, Halt, Kill, Reap, Spawn, Terminate};
        match (self, life) {
            (Self::Kill, Life::Running | Life::Paused) => Ok(&[Kill, Reap]),
            (Self::Stop, Life::Running) => Ok(&[Terminate, Reap]),
            (Self::Stop, Life::Paused) => Ok(&[Terminate, Continue, Reap]),
            (Self::Start | Self::Restart, Life::Stopped) => Ok(&[Spawn]),
            (Self::Restart, Life::Running | Life::Paused) => Ok(&[Kill, Reap, Spawn]),
            (Self::Pause, Life::Running) => Ok(&[Halt]),
            (Self::Resume, Life::Paused) => Ok(&[Continue]),
            (_, Life::Stopped) => Err(refuse(id, "is not running", "start")),
            (Self::Start | Self::Pause, Life::Paused) => Err(refuse(id, "is paused", "resume")),
            (Self::Start, Life::Running) => Err(refuse(id, "runs already", "restart")),
            (Self::Resume, Life::Running) => Err(refuse(id, "is not paused", "pause")),
        }
    }
}

fn refuse(id: &str, why: &str, instead: &str) -> Failure {
    Failure::new(ErrorName::NotApplied, format!("{id} {why}")).hint(format!("{instead} {id}"))
}

impl Report {
    /// The sentence a person reads; `keys` is what a started node says it holds.
    pub(super) fn sentence(&self, keys: Option<u64>) -> String {
        let Self { id, pid, addr, .. } = self;
        match self.action {
            Action::Kill => format!("Killed {id} (pid {pid}, SIGKILL)."),
            Action::Stop if self.forced => {
                format!("Stopped {id} (pid {pid}, SIGKILL, for SIGTERM did not end it).")
            }
            Action::Stop => format!("Stopped {id} (pid {pid}, SIGTERM)."),
            Action::Pause => format!("Paused {id} (pid {pid}, SIGSTOP)."),
            Action::Resume => format!("Resumed {id} (pid {pid}, SIGCONT)."),
            Action::Start | Action::Restart => match keys {
                Some(n) => {
                    format!("Started {id} (pid {pid}) at {addr}: replayed {}.", counted(n, "key"))
                }
                None => format!("Started {id} (pid {pid}) at {addr}."),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 6] =
        [Action::Kill, Action::Stop, Action::Start, Action::Restart, Action::Pause, Action::Resume];

    #[test]
    fn every_action_in_every_state() {
        let mut table = String::new();
        for action in ACTIONS {
            for life in [Life::Running, Life::Paused, Life::Stopped] {
                let what = match action.effects(life, "n1") {
                    Ok(effects) => format!("{effects:?}"),
                    Err(f) => format!("{f} ({})", f.hint.clone().unwrap_or_default()),
                };
                table += &format!("{action:?} {life:?}: {what}\n");
            }
        }
        assert_eq!(
            table,
            "\
Kill Running: [Kill, Reap]
Kill Paused: [Kill, Reap]
Kill Stopped: n1 is not running (start n1)
Stop Running: [Terminate, Reap]
Stop Paused: [Terminate, Continue, Reap]
Stop Stopped: n1 is not running (start n1)
Start Running: n1 runs already (restart n1)
Start Paused: n1 is paused (resume n1)
Start Stopped: [Spawn]
Restart Running: [Kill, Reap, Spawn]
Restart Paused: [Kill, Reap, Spawn]
Restart Stopped: [Spawn]
Pause Running: [Halt]
Pause Paused: n1 is paused (resume n1)
Pause Stopped: n1 is not running (start n1)
Resume Running: n1 is not paused (pause n1)
Resume Paused: [Continue]
Resume Stopped: n1 is not running (start n1)
"
        );
    }

    #[test]
    fn sentences() {
        let report = |action| Report {
            status: Status::Ok,
            id: "n1".into(),
            action,
            pid: 4711,
            addr: "127.0.0.1:5001".into(),
            forced: false,
        };
        assert_eq!(report(Action::Kill).sentence(None), "Killed n1 (pid 4711, SIGKILL).");
        assert_eq!(
            report(Action::Start).sentence(Some(663)),
            "Started n1 (pid 4711) at 127.0.0.1:5001: replayed 663 keys."
        );
        assert_eq!(
            report(Action::Restart).sentence(None),
            "Started n1 (pid 4711) at 127.0.0.1:5001."
        );
    }
}
