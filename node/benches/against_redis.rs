//! A node and redis on the same machine, with the same data, in turns: restart and memory.
//!
//! ```text
//! $ cargo bench -p ringkv-node --bench against_redis
//! 1000000 keys of 16 bytes, 3 rounds, medians
//!
//! values                     8 B                       100 B
//!                     ringkv     redis         ringkv     redis
//! ```
//!
//! Both are processes of their own, filled over TCP by the same loop, log without a sync (`--durability
//! os`, `appendfsync no`) and without compaction, and are stopped and started again on what they
//! wrote. *Replay* is what each says of itself: `replay_us` in `stats`, "DB loaded from …" in redis's
//! log. *Memory* is the growth of resident memory by filling an empty server, divided by the keys.
//!
//! # Caveats
//!
//! Redis's log is RESP, ours is text with a checksum: a record of 16+100 bytes is 144 bytes there and
//! more here, so records a second compare, megabytes a second do not quite. Keys come in an order
//! that is not theirs: the harder case for a sorted map. Skipped aloud where there is no `redis-server`.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints")]

mod peer;

use std::path::Path;
use std::process::{Command, Stdio};

use peer::{Node, Redis, Server};

const KEYS: u64 = 1_000_000;
const ROUNDS: usize = 3;

/// What one round found.
#[derive(Clone, Copy, Default)]
struct Figures {
    /// Records a second.
    replay: f64,
    /// Bytes of the log, in megabytes a second.
    replay_mb: f64,
    /// Bytes of resident memory a key.
    memory: f64,
}

fn main() {
    let asked = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    if asked.is_err() {
        println!("SKIPPED: no redis-server on this machine to compare with");
        return;
    }
    println!("{KEYS} keys of 16 bytes, {ROUNDS} rounds in turns, medians\n");
    println!("{:22}{:>12}{:>12}{:>8}", "", "ringkv", "redis", "ratio");
    for value_bytes in [8, 100] {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(round::<Node>(value_bytes));
            theirs.push(round::<Redis>(value_bytes));
        }
        println!("values of {value_bytes} bytes");
        let row = |name: &str, figure: fn(&Figures) -> f64| {
            let (ours, theirs) = (median(&ours, figure), median(&theirs, figure));
            println!("  {name:20}{ours:>12.0}{theirs:>12.0}{:>8.2}", ours / theirs);
        };
        row("replay, records/s", |f| f.replay);
        row("replay, MB/s", |f| f.replay_mb);
        row("memory, bytes a key", |f| f.memory);
    }
}

fn median(rounds: &[Figures], figure: fn(&Figures) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[allow(clippy::cast_precision_loss)]
fn round<S: Server>(value_bytes: usize) -> Figures {
    let dir = tempfile::tempdir().unwrap();
    let mut server = S::start(dir.path());
    let empty = server.resident_bytes();
    server.fill(KEYS, value_bytes);
    let memory = (server.resident_bytes() - empty) as f64 / KEYS as f64;
    server.stop();
    let bytes = log_bytes(dir.path()) as f64;
    let mut server = S::start(dir.path());
    let seconds = server.replay_seconds();
    assert_eq!(server.keys(), KEYS);
    server.stop();
    Figures { replay: KEYS as f64 / seconds, replay_mb: bytes / 1e6 / seconds, memory }
}

/// Bytes in the files below a directory.
fn log_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        data if data.is_dir() => log_bytes(&entry.path()),
        data => data.len(),
    });
    bytes.sum()
}
