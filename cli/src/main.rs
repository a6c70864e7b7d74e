//! `kv`: the ringkv command, its shell, scripts and local clusters. See `kv help`.
//!
//! - what may be typed: [`forms`], [`grammar`], [`words`], [`usage`], [`manual`]
//! - what it does: [`app`], [`session`], [`commands`], [`mod@bench`], [`feed`], [`wire`], [`interrupt`]
//! - what is seen: [`report`], [`table`], [`output`], [`exit`], [`repl`]
//! - what runs: [`servers`], [`cluster`], [`script`]
//!
//! # Caveats
//!
//! One thread does everything but line editing: commands wait for the network, not for the CPU.

mod app;
mod bench;
mod cluster;
mod commands;
mod exit;
mod feed;
mod forms;
mod grammar;
mod interrupt;
mod manual;
mod output;
mod repl;
mod report;
mod script;
mod servers;
mod session;
mod table;
mod usage;
mod wire;
mod words;

fn main() -> std::process::ExitCode {
    app::main()
}
