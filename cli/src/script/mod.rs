//! Transcripts that are demos and tests: the files `scripts/*.kv`.
//!
//! A script is what somebody saw who typed the commands, with the least added that makes it
//! repeatable. `kv run FILE` plays it to an audience, `kv check FILE…` compares it with what
//! happens now, `kv check --update FILE…` writes down what happens now.
//!
//! ```text
//! # 05-replica-failover — a replica dies, reads go on     title: the first line
//! @cluster nodes=3 rf=2                                    fresh processes
//! > put apple 123                                          a command
//! Replicas for key apple: n1 n2                            what it prints
//! [n1] PUT apple = 123 -> {"status":"ok"}
//! ...                                                      any number of lines
//! > kill n1
//! Killed n1 (pid [..], SIGKILL).                           `[..]`: any text within a line
//! @wait status n1 DOWN 5s                                  no sleeps: wait for what matters
//! > get nope
//! nope not found on n2 n3
//! ! exit 3                                                 its exit code, when it is not 0
//! ```
//!
//! - text to steps: [`parse`]; what fits what, and the diff: [`matcher`], with [`mask`] for what
//!   changes from run to run
//! - the world a script acts on: [`stage`], with the real shell: [`shell`]
//! - playing: [`run`]; comparing: [`check`]
//!
//! # Caveats
//!
//! A script is meant to be exact: `[..]` for what changes from run to run, and no `...` without
//! need, for what accepts anything tests nothing. What a command prints after it has ended (the shell's notices about nodes going up and down) is not part of a transcript.

mod check;
mod mask;
mod matcher;
mod parse;
mod run;
mod shell;
mod stage;

pub(crate) use shell::{check_files, run_file};
