//! The commands, one file a family. Each asks the cluster, and makes a
//! [`Report`] of the typed reply with a pure function that its tests call
//! too.
//!
//! | family | commands |
//! |---|---|
//! | [`mod@write`], [`mod@read`] | `put` `del` `get` |
//! | [`conflict`] | `resolve`, and keys with several values |
//! | [`batch`] | `mput` `mget` `mdel` |
//! | [`explain`] | `explain` |
//! | [`watch`], [`events`] | `watch` `events` |
//! | [`why`], [`check`] | `why` `check` |
//! | [`topology`] | `addnode` `removenode` `replacenode` `setweight` `setzone` `setreplica` |
//! | [`plan`], [`what_if`] | `plan` `what-if` |
//! | [`rebalance`], [`course`] | `rebalance`; `progress` `pause` `resume` `cancel` |
//! | [`doctor`], [`why_down`] | `doctor` `why-down` |
//! | [`observe`] | `show` `stats` `where` `ring` `config` |
//! | [`figures`], [`troubles`] | `stats` of one node; what `stats` tells of hints, differences and conflicts |
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
//! `rebalance`, `scan`, `load`, `watch`, `events` and `export` print while they run and may end half-way; what was
//! printed until then was true.

mod batch;
mod check;
mod conflict;
mod course;
mod doctor;
mod events;
mod expiry;
mod explain;
mod export;
pub(crate) mod faults;
mod figures;
mod follow;
mod keyspace;
mod load;
mod log_lines;
mod observe;
mod pages;
mod place;
mod plan;
mod progress;
mod raw;
mod read;
mod rebalance;
mod records;
mod salvage;
pub(crate) mod settings;
mod topology;
mod troubles;
mod wal;
mod watch;
mod what_if;
mod why;
mod why_down;
mod write;

use clap::CommandFactory as _;
use ringkv_shared::Failure;

use crate::cluster::Action;
use crate::grammar::{Command, Data, Follow, GetArgs, Line, PlanWord, Topology};
use crate::report::Report;
use crate::session::Session;
use crate::usage;

/// Runs one command and gives back what it found out.
pub(crate) async fn run(session: &mut Session, command: Command) -> Result<Report, Failure> {
    match command {
        Command::Data(data) => on_keys(session, data).await,
        Command::Follow(Follow::Watch { prefix, from, until }) => {
            watch::run(session, prefix, from, until).await
        }
        Command::Follow(Follow::Events { follow, until }) => {
            events::run(session, follow, until).await
        }
        Command::Follow(Follow::Why { key }) => why::run(session, key).await,
        Command::Follow(Follow::Check(args)) => check::run(session, args).await,
        Command::Topology(topology) => on_ring(session, topology).await,
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
    }
}

async fn on_keys(session: &mut Session, data: Data) -> Result<Report, Failure> {
    match data {
        Data::Put(args) => write::put(session, args).await,
        Data::Get(GetArgs { read, all: false }) => read::get(session, read).await,
        Data::Get(GetArgs { read, all: true }) => read::get_all(session, read.key).await,
        Data::Del(args) => write::del(session, args).await,
        Data::Resolve { key, value, keep } => conflict::resolve(session, key, value, keep).await,
        Data::Mput { pairs, ttl, how } => batch::put(session, pairs, ttl, how).await,
        Data::Mget { keys, r } => batch::get(session, keys, r).await,
        Data::Mdel { keys, how } => batch::del(session, keys, how).await,
        Data::Explain { what } => explain::run(session, what).await,
    }
}

async fn on_ring(session: &mut Session, topology: Topology) -> Result<Report, Failure> {
    if topology.changes_the_plan() {
        session.planned = None;
    }
    match topology {
        Topology::Addnode { id, addr, weight, zone } => {
            topology::add(session, id, addr, weight, zone).await
        }
        Topology::Removenode { id, force } => topology::remove(session, id, force).await,
        Topology::Replacenode { old, new, addr } => {
            topology::replace(session, old, new, addr).await
        }
        Topology::Setweight { id, weight } => topology::set_weight(session, id, weight).await,
        Topology::Setzone { id, zone } => topology::set_zone(session, id, zone.0).await,
        Topology::Setreplica { n } => topology::set_replication(session, n).await,
        Topology::Plan { word: None } => plan::show(session).await,
        Topology::Plan { word: Some(PlanWord::Clear) } => plan::clear(session).await,
        Topology::Rebalance { dry_run, epoch, detach } => {
            rebalance::run(session, dry_run, epoch, detach).await
        }
        Topology::Progress => course::progress(session).await,
        Topology::Pause { id: None } => course::pause(session).await,
        Topology::Resume { id: None } => course::resume(session).await,
        Topology::Pause { id: Some(id) } => faults::run(session, Action::Pause, id).await,
        Topology::Resume { id: Some(id) } => faults::run(session, Action::Resume, id).await,
        Topology::Cancel => course::cancel(session).await,
        Topology::WhatIf { what } => what_if::run(session, what).await,
        Topology::Doctor => doctor::run(session).await,
        Topology::WhyDown { id } => why_down::run(session, id).await,
    }
}
