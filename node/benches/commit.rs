//! Acknowledged writes a second against what the disk can sync: `cargo bench -p ringkv-node --bench commit`.
//!
//! Each writer puts 16+100 bytes, waits until that is durable, and puts the next. Before and after
//! each row, the same disk is asked alone how many times a second it takes one such line and syncs it.
//! Appends a sync is how large the groups were.
//!
//! # Caveats
//!
//! In one process, without network. The temporary directory decides which disk is measured; on a
//! memory file system a sync costs nothing and the figures say nothing. `TMPDIR` chooses another.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints")]

mod support;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ringkv_node::{Engine, EngineOptions};
use support::{key, value};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

const MEASURED: Duration = Duration::from_secs(3);
const WRITERS: [u64; 3] = [1, 16, 256];
/// About what a line of 16+100 bytes has.
const LINE: [u8; 160] = [b'x'; 160];

fn main() {
    let dir = tempfile::tempdir().unwrap();
    println!("writers   appends/s   alone, syncs/s    ratio   appends a sync");
    disk_alone(dir.path());
    for writers in WRITERS {
        let before = disk_alone(dir.path());
        let (appends, group) = engine(&dir.path().join(writers.to_string()), writers);
        let alone = f64::midpoint(before, disk_alone(dir.path()));
        let ratio = appends / alone;
        println!("{writers:>7}{appends:>12.0}{alone:>17.0}{ratio:>9.2}{group:>17.1}");
    }
}

#[allow(clippy::cast_precision_loss)]
fn disk_alone(dir: &Path) -> f64 {
    let mut file = File::create(dir.join("alone")).unwrap();
    let (started, mut syncs) = (Instant::now(), 0_u64);
    while started.elapsed() < MEASURED {
        file.write_all(&LINE).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    syncs as f64 / started.elapsed().as_secs_f64()
}

/// Appends a second, and appends a sync.
#[allow(clippy::cast_precision_loss)]
fn engine(dir: &Path, writers: u64) -> (f64, f64) {
    let options = EngineOptions::new("n1".parse().unwrap(), dir.to_owned());
    let (engine, committer, compactor) = Engine::open(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stop = CancellationToken::new();
    let local = LocalSet::new();
    let seconds = local.block_on(&runtime, async {
        tokio::task::spawn_local(compactor.run(stop.clone()));
        let committing = tokio::task::spawn_local(committer.run(stop.clone()));
        let started = Instant::now();
        let writing = (0..writers).map(|writer| write(&engine, writer, started));
        futures::future::join_all(writing).await;
        let seconds = started.elapsed().as_secs_f64();
        stop.cancel();
        committing.await.unwrap().unwrap();
        seconds
    });
    let figures = engine.figures();
    (figures.appends as f64 / seconds, figures.appends as f64 / figures.syncs as f64)
}

/// One writer: a thousand keys of its own, in turns.
async fn write(engine: &Engine, writer: u64, started: Instant) {
    for n in 0.. {
        if started.elapsed() > MEASURED {
            break;
        }
        let n = writer * 1000 + n % 1000;
        engine.write(key(n), Some(value(n, 100)), None).unwrap();
        engine.settle().await;
    }
}
