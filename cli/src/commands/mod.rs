//! The commands, one file a family. Each asks the cluster, and makes a
//! [`Report`] of the typed reply with a pure function that its tests call
//! too.
//!
//! | family | commands |
//! |---|---|
//! | [`data`] | `put` `get` `del` |
//! | [`topology`] | `addnode` `removenode` `setreplica` |
//! | [`rebalance`] | `rebalance` |
//! | [`observe`] | `show` `stats` `where` `ring` `config` |
//! | [`figures`] | `stats` of one node |
//! | [`keyspace`] | `keyspace` `setquorum` `use` |
//! | [`pages`] | `scan` `count` |
//! | [`export`] | `export` |
//! | [`load`] | `load` |
//! | [`wal`], [`salvage`] | `wal` `salvage` |
//! | [`raw`] | `compact` `rpc` |
//! | [`faults`] | `kill` `stop` `start` `restart` `pause` `resume` |
//! | [`settings`] | the shell's own, and `source` |
//!
//! # Caveats
//!
//! `rebalance`, `scan`, `load` and `export` print while they run and may end half-way; what was
//! printed until then was true.

mod data;
mod expiry;
mod export;
mod faults;
mod figures;
mod keyspace;
mod load;
mod log_lines;
mod observe;
mod pages;
mod place;
mod progress;
mod raw;
mod rebalance;
mod records;
mod salvage;
pub(crate) mod settings;
mod topology;
mod wal;

use clap::CommandFactory as _;
use ringkv_shared::Failure;

use crate::cluster::Action;
use crate::grammar::{Command, Line};
use crate::report::Report;
use crate::session::Session;
use crate::usage;

/// Runs one command and gives back what it found out.
pub(crate) async fn run(session: &mut Session, command: Command) -> Result<Report, Failure> {
    match command {
        Command::Put { key, value, ttl, literal } => {
            data::put(session, key, value, ttl, literal).await
        }
        Command::Get { key, all: false } => data::get(session, key).await,
        Command::Get { key, all: true } => data::get_all(session, key).await,
        Command::Del { key } => data::del(session, key).await,
        Command::Addnode { id, addr, weight } => topology::add(session, id, addr, weight).await,
        Command::Removenode { id, force } => topology::remove(session, id, force).await,
        Command::Setreplica { n } => topology::set_replication(session, n).await,
        Command::Rebalance { dry_run } => rebalance::run(session, dry_run).await,
        Command::Show => observe::show(session).await,
        Command::Stats { id: None } => observe::stats(session).await,
        Command::Stats { id: Some(id) } => figures::stats(session, id).await,
        Command::Where { key } => observe::locate(session, key).await,
        Command::Ring { tokens } => observe::ring(session, tokens).await,
        Command::Config { key, value } => observe::config(session, key, value).await,
        Command::Keyspace(args) => keyspace::run(session, args).await,
        Command::Setquorum { r, w } => keyspace::set_quorum(session, r, w).await,
        Command::Use { name } => keyspace::enter(session, name).await,
        Command::Scan { prefix, limit } => pages::scan(session, prefix, limit).await,
        Command::Count { prefix } => pages::count(session, prefix).await,
        Command::Export { file, partial } => export::export(session, &file, partial).await,
        Command::Load { file, form } => load::load(session, &file, form).await,
        Command::Wal { target, view, subject, tail } => {
            wal::wal(session, &target, view, subject, tail).await
        }
        Command::Salvage { target, into, id } => salvage::run(session, &target, into, id).await,
        Command::Compact { id } => raw::compact(session, id).await,
        Command::Rpc { target, method, params } => raw::rpc(session, target, method, params).await,
        Command::Source { file } => settings::source(session, &file).await,
        Command::Help { command } => {
            let width = session.out.width();
            usage::help(&Line::command(), command.as_deref(), width).map(Report::sentence)
        }
        Command::Kill { id } => faults::run(session, Action::Kill, id).await,
        Command::Stop { id } => faults::run(session, Action::Stop, id).await,
        Command::Start { id } => faults::run(session, Action::Start, id).await,
        Command::Restart { id } => faults::run(session, Action::Restart, id).await,
        Command::Pause { id } => faults::run(session, Action::Pause, id).await,
        Command::Resume { id } => faults::run(session, Action::Resume, id).await,
    }
}
