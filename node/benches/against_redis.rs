//! A node and redis on the same machine, with the same data, in turns: restart, memory and compaction.
//!
//! ```text
//! $ cargo bench -p ringkv-node --bench against_redis
//! $ KEYS=10000000 VALUES=8 ROUNDS=1 cargo bench -p ringkv-node --bench against_redis
//! ```
//!
//! Both are processes of their own, filled over TCP by the same loop, log without a sync (`--durability
//! os`, `appendfsync no`) and without compaction, and are stopped and started again on what they
//! wrote. *Replay* is what each says of itself: `replay_us` in `stats`, "DB loaded from …" in redis's
//! log. *Memory* is the growth of resident memory by filling an empty server, divided by the keys. *Compaction* is
//! `compact`, with all it does, and `BGREWRITEAOF`; meanwhile one connection puts, one after the other, as it did for
//! as long before.
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use peer::{Node, Redis, Server};

const KEYS: u64 = 1_000_000;
const VALUES: [usize; 2] = [8, 100];
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
    /// Keys a second.
    compaction: f64,
    /// Bytes a key after it.
    compacted: f64,
    /// Microseconds.
    put_p99: f64,
    put_p99_meanwhile: f64,
    /// Seconds from the start of the process until it serves, after the compaction.
    restart: f64,
}

fn main() {
    let asked = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    if asked.is_err() {
        println!("SKIPPED: no redis-server on this machine to compare with");
        return;
    }
    let asked = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let keys = asked("KEYS").unwrap_or(KEYS);
    let rounds = asked("ROUNDS").map_or(ROUNDS, |rounds| rounds as usize);
    let values = asked("VALUES").map_or(VALUES.to_vec(), |bytes| vec![bytes as usize]);
    println!("{keys} keys of 16 bytes, {rounds} rounds in turns, medians\n");
    println!("{:32}{:>12}{:>12}{:>8}", "", "ringkv", "redis", "ratio");
    for value_bytes in values {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..rounds {
            ours.push(round::<Node>(keys, value_bytes));
            theirs.push(round::<Redis>(keys, value_bytes));
        }
        println!("values of {value_bytes} bytes");
        let row = |name: &str, figure: fn(&Figures) -> f64| {
            let (ours, theirs) = (median(&ours, figure), median(&theirs, figure));
            println!("  {name:30}{ours:>12.1}{theirs:>12.1}{:>8.2}", ours / theirs);
        };
        row("memory, bytes a key", |f| f.memory);
        row("replay, records/s", |f| f.replay);
        row("replay, MB/s", |f| f.replay_mb);
        row("compaction, keys/s", |f| f.compaction);
        row("after it, bytes of log a key", |f| f.compacted);
        row("restart after it, s", |f| f.restart);
        row("put p99, us", |f| f.put_p99);
        row("put p99 during compaction, us", |f| f.put_p99_meanwhile);
    }
}

fn median(rounds: &[Figures], figure: fn(&Figures) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[allow(clippy::cast_precision_loss)]
fn round<S: Server>(keys: u64, value_bytes: usize) -> Figures {
    let dir = tempfile::tempdir().unwrap();
    let mut server = S::start(dir.path());
    let empty = server.resident_bytes();
    server.fill(keys, value_bytes);
    let memory = (server.resident_bytes() - empty) as f64 / keys as f64;
    server.stop();
    let bytes = log_bytes(dir.path()) as f64;
    let mut server = S::start(dir.path());
    let seconds = server.replay_seconds();
    assert_eq!(server.keys(), keys);
    let replay = keys as f64 / seconds;
    let address = server.stream().peer_addr().unwrap();
    let before = S::puts_until(address, keys, value_bytes, &AtomicBool::new(true));
    let done = AtomicBool::new(false);
    let (compaction_seconds, meanwhile) = std::thread::scope(|scope| {
        let puts = scope.spawn(|| S::puts_until(address, keys, value_bytes, &done));
        let begun = Instant::now();
        server.compact();
        let seconds = begun.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (seconds, puts.join().unwrap())
    });
    server.stop();
    let compacted = log_bytes(dir.path()) as f64 / keys as f64;
    let begun = Instant::now();
    let server = S::start(dir.path());
    let restart = begun.elapsed().as_secs_f64();
    server.stop();
    Figures {
        replay,
        replay_mb: bytes / 1e6 / seconds,
        memory,
        compaction: keys as f64 / compaction_seconds,
        compacted,
        put_p99: p99(before),
        put_p99_meanwhile: p99(meanwhile),
        restart,
    }
}

fn p99(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() * 99 / 100].as_secs_f64() * 1e6
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
