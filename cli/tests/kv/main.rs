//! `kv` as people, scripts and programs use it, on real processes.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/pty.rs"]
mod pty;
#[path = "../support/mod.rs"]
mod support;

mod backup;
mod bench;
mod commands;
mod detached;
mod moved;
mod readme;
mod terminal;
mod transcripts;
mod words;
