//! A change of the ring being carried out, as a pure machine.
//!
//! ```text
//!            count       commit      join        copy        final       settle      drop        release     done
//!   log:                 COMMIT                              FINAL                                           DONE
//!   reads:   old ------------------------------------------> new --------------------------------------------->
//!   writes:  old ------> old + new ------------------------> new --------------------------------------------->
//! ```
//!
//! It says what to do next ([`Run::next`]) and is told what came of it ([`Run::did`]); people may [`Run::pause`],
//! [`Run::resume`] and [`Run::cancel`] it meanwhile. What it wants in the log must be durable before anything
//! after it is done. A run that is begun anew ([`Run::begin`]) with what the log says goes on where it was, at the
//! latest from the last line of the log.
//!
//! | what is told | where it stands | what follows |
//! |---|---|---|
//! | pause | until FINAL is in the log | it rests; writes go where they went |
//! | cancel | before COMMIT | the end: what is staged stays staged |
//! | cancel | COMMIT to before FINAL | CANCEL, all are told, what only new owners had is copied back, drop, release, DONE |
//! | cancel, pause | FINAL is in the log | refused: too late |
//! | it failed | before FINAL | the end: begin again, or cancel |
//! | it failed | telling after FINAL or CANCEL | the end: begin again |
//! | it failed | copying back, drop, release | it goes on: what cannot be dropped stays |
//!
//! # Caveats
//!
//! A run that is begun when the change was in force or taken back looks first for what owners lack, for it
//! cannot know whether it was taken back: mostly there is nothing.

use std::fmt;

use crate::protocol::cluster::{RebalanceState, RebalanceStep, Stage};

/// What the log is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Writes go to both placements from now on.
    Commit,
    /// It rests.
    Pause,
    /// It goes on.
    Resume,
    /// It is taken back.
    Cancel,
    /// The new placement is in force.
    Final,
    /// Old copies are dropped.
    Done,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Count what is to be copied, and see whether it can be done.
    Count,
    /// Have the log say so.
    Log(Mark),
    /// Tell the nodes what holds from now on, and wait until nobody works from what held before.
    Tell,
    /// Copy what owners of the newest placement lack.
    Copy,
    /// Drop copies where they do not belong.
    Drop,
    /// Let nodes go that are on no ring any more.
    Release,
    /// Nothing, until somebody tells it to go on.
    Rest,
    /// Nothing any more.
    End(RebalanceState),
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The new ring is in force already.
    #[error("the change is in force, only old copies are being dropped")]
    InForce,
    /// It is being taken back already.
    #[error("the change is being taken back already")]
    Cancelled,
    /// It has ended.
    #[error("no rebalance is under way")]
    Ended,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Count,
    Commit,
    Join,
    Copy,
    Final,
    Settle,
    /// The log is to say that it is taken back.
    Cancel,
    /// All are to be told.
    Leave,
    /// What only nodes have that are no owners is copied.
    Return,
    Drop,
    Release,
    Done,
    Ended(RebalanceState),
}

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    phase: Phase,
    /// What the log says.
    stage: Stage,
    /// It is to rest.
    paused: bool,
    /// The log says that it rests.
    noted: bool,
    cancelled: bool,
    /// What it was last seen at, for people.
    step: RebalanceStep,
}

impl Run {
    /// A run from what the log says: how far the change is, and whether it rests.
    #[must_use]
    pub const fn begin(stage: Stage, paused: bool) -> Self {
        let resting = paused && matches!(stage, Stage::Copying);
        let (phase, step) = match stage {
            // It may have been taken back, and a new owner have what no other has.
            Stage::Clearing => (Phase::Leave, RebalanceStep::Dropping),
            _ => (Phase::Count, RebalanceStep::Counting),
        };
        Self { phase, stage, paused: resting, noted: resting, cancelled: false, step }
    }

    /// A run that has nothing to do.
    #[must_use]
    pub const fn ended(state: RebalanceState) -> Self {
        Self { phase: Phase::Ended(state), ..Self::begin(Stage::Idle, false) }
    }

    /// What is to be done now.
    #[must_use]
    pub fn next(&self) -> Task {
        if self.may_rest() && self.stage == Stage::Copying && self.paused != self.noted {
            return Task::Log(if self.paused { Mark::Pause } else { Mark::Resume });
        }
        if self.rests() {
            return Task::Rest;
        }
        match self.phase {
            Phase::Count => Task::Count,
            Phase::Commit => Task::Log(Mark::Commit),
            Phase::Join | Phase::Settle | Phase::Leave => Task::Tell,
            Phase::Copy | Phase::Return => Task::Copy,
            Phase::Final => Task::Log(Mark::Final),
            Phase::Cancel => Task::Log(Mark::Cancel),
            Phase::Drop => Task::Drop,
            Phase::Release => Task::Release,
            Phase::Done => Task::Log(Mark::Done),
            Phase::Ended(state) => Task::End(state),
        }
    }

    /// What came of the task. Of one that is not the next any more, since it was paused or cancelled, nothing is
    /// taken.
    pub fn did(&mut self, task: Task, ok: bool) {
        match task {
            Task::Log(mark @ (Mark::Pause | Mark::Resume)) => {
                let resting = mark == Mark::Pause;
                // Not in the log: it stays as it was.
                (self.paused, self.noted) =
                    if ok { (resting, resting) } else { (!resting, !resting) };
            }
            task if task == self.task_of_phase() => self.go(ok),
            _ => {}
        }
    }

    fn task_of_phase(&self) -> Task {
        Self { paused: false, noted: false, ..*self }.next()
    }

    fn go(&mut self, ok: bool) {
        let failed = Phase::Ended(RebalanceState::Failed);
        self.phase = match (self.phase, ok) {
            (Phase::Count, true) if self.stage == Stage::Staged => Phase::Commit,
            (Phase::Count, true) => Phase::Join,
            (Phase::Commit, true) => {
                self.stage = Stage::Copying;
                Phase::Join
            }
            (Phase::Join, true) => Phase::Copy,
            (Phase::Copy, true) if self.stage == Stage::Copying => Phase::Final,
            // Nothing was to be changed: copies were out of place.
            (Phase::Copy, true) => Phase::Settle,
            (Phase::Final, true) => {
                self.stage = Stage::Clearing;
                Phase::Settle
            }
            (Phase::Settle, true) => Phase::Drop,
            (Phase::Cancel, true) => {
                (self.stage, self.cancelled) = (Stage::Clearing, true);
                (self.paused, self.noted) = (false, false);
                Phase::Leave
            }
            // Not in the log: it goes on as if nobody had asked.
            (Phase::Cancel, false) => Phase::Join,
            (Phase::Leave, true) => Phase::Return,
            (Phase::Return, _) => Phase::Drop,
            (Phase::Drop, _) if self.stage == Stage::Idle => self.end(),
            (Phase::Drop, _) => Phase::Release,
            (Phase::Release, _) => Phase::Done,
            (Phase::Done, true) => {
                self.stage = Stage::Idle;
                self.end()
            }
            (Phase::Ended(state), _) => Phase::Ended(state),
            (_, false) => failed,
        };
        self.step = match self.phase {
            Phase::Count => RebalanceStep::Counting,
            Phase::Commit | Phase::Join => RebalanceStep::Joining,
            Phase::Copy => RebalanceStep::Copying,
            Phase::Final | Phase::Settle => RebalanceStep::Finalising,
            Phase::Ended(_) => self.step,
            _ => RebalanceStep::Dropping,
        };
    }

    fn end(&self) -> Phase {
        Phase::Ended(match self.cancelled {
            true => RebalanceState::Cancelled,
            false => RebalanceState::Complete,
        })
    }

    /// It is to rest, now or as soon as what is under way can be left.
    ///
    /// # Errors
    ///
    /// It is too late for that.
    pub fn pause(&mut self) -> Result<(), Refusal> {
        self.check()?;
        self.paused = true;
        Ok(())
    }

    /// It is to go on.
    ///
    /// # Errors
    ///
    /// It has ended or does not rest any more.
    pub fn resume(&mut self) -> Result<(), Refusal> {
        self.check()?;
        self.paused = false;
        Ok(())
    }

    /// It is to be taken back.
    ///
    /// # Errors
    ///
    /// It is too late for that.
    pub fn cancel(&mut self) -> Result<(), Refusal> {
        self.check()?;
        if self.stage == Stage::Copying {
            self.phase = Phase::Cancel;
        } else {
            self.phase = Phase::Ended(RebalanceState::Cancelled);
        }
        Ok(())
    }

    const fn check(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Ended(_) => Err(Refusal::Ended),
            Phase::Cancel => Err(Refusal::Cancelled),
            _ if self.cancelled => Err(Refusal::Cancelled),
            _ if matches!(self.stage, Stage::Clearing) => Err(Refusal::InForce),
            _ => Ok(()),
        }
    }

    const fn may_rest(&self) -> bool {
        matches!(
            self.phase,
            Phase::Count | Phase::Commit | Phase::Join | Phase::Copy | Phase::Final
        )
    }

    /// Whether it rests, or is to as soon as what is under way can be left.
    #[must_use]
    pub const fn rests(&self) -> bool {
        self.paused && self.may_rest()
    }

    /// Whether who carries out `task` is to leave it: it is not the next any more.
    #[must_use]
    pub fn has_left(&self, task: Task) -> bool {
        self.next() != task
    }

    /// Whether it is being taken back, or was.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        self.cancelled || matches!(self.phase, Phase::Cancel)
    }

    /// What it is at, or was at when it ended.
    #[must_use]
    pub const fn step(&self) -> RebalanceStep {
        self.step
    }

    /// What the log says by what was told.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "COMMIT",
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Cancel => "CANCEL",
            Self::Final => "FINAL",
            Self::Done => "DONE",
        })
    }
}

#[cfg(test)]
mod tests;
