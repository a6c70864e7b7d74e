//! What the disk is given for each byte that a user writes: `cargo bench -p ringkv-node --bench amplification`.
//!
//! Keys of 16 and values of 100 bytes are put once and then again and again in an order that is not
//! theirs, with the default compaction (after 100 operations and as many as there are keys). Counted
//! is what the process hands to the disk (`write_bytes` of `/proc/self/io`, which rounds each write up
//! to whole pages) and what it hands to `write` (`wchar`).
//!
//! # Caveats
//!
//! Linux only. With `os` one write takes thousands of lines; `always` syncs groups, and a group of one
//! line dirties a page of 4 KiB for some 200 bytes, which is what *pages* shows for one writer.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints")]

mod support;

use std::path::Path;

use ringkv_node::{Durability, Engine, EngineOptions};
use support::{key, value};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

const VALUE_BYTES: usize = 100;
const PAYLOAD_BYTES: f64 = 116.0;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    println!("  policy     keys     puts   burst  compactions   bytes   pages");
    for (durability, keys, puts, burst) in [
        (Durability::Os, 1_000, 100_000, 1_000),
        (Durability::Os, 100_000, 1_000_000, 1_000),
        (Durability::Always, 1_000, 100_000, 100),
        (Durability::Always, 1_000, 5_000, 1),
    ] {
        let data = dir.path().join(format!("{durability}-{keys}-{burst}"));
        let Cost { bytes, pages, compactions } = cost(&data, durability, keys, puts, burst);
        println!(
            "{:>8}{keys:>9}{puts:>9}{burst:>8}{compactions:>13}{bytes:>8.2}{pages:>8.2}",
            durability.to_string()
        );
    }
}

/// For each byte of key and value that was put.
struct Cost {
    /// Bytes given to `write`.
    bytes: f64,
    /// Bytes of the pages that the disk gets.
    pages: f64,
    compactions: u64,
}

/// Puts each key once, then counts.
#[allow(clippy::cast_precision_loss)]
fn cost(data: &Path, durability: Durability, keys: u64, puts: u64, burst: u64) -> Cost {
    let options =
        EngineOptions { durability, ..EngineOptions::new("n1".parse().unwrap(), data.to_owned()) };
    let (engine, committer, compactor) = Engine::open(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stop = CancellationToken::new();
    let before = LocalSet::new().block_on(&runtime, async {
        let committing = tokio::task::spawn_local(committer.run(stop.clone()));
        let compacting = tokio::task::spawn_local(compactor.run(stop.clone()));
        put(&engine, keys, keys, burst).await;
        let before = (given(), engine.figures().compactions);
        put(&engine, keys, puts, burst).await;
        stop.cancel();
        compacting.await.unwrap().unwrap();
        committing.await.unwrap().unwrap();
        before
    });
    let ((bytes_before, pages_before), compactions_before) = before;
    let (bytes, pages) = given();
    let payload = puts as f64 * PAYLOAD_BYTES;
    Cost {
        bytes: (bytes - bytes_before) as f64 / payload,
        pages: (pages - pages_before) as f64 / payload,
        compactions: engine.figures().compactions - compactions_before,
    }
}

async fn put(engine: &Engine, keys: u64, puts: u64, burst: u64) {
    for n in 0..puts {
        let key = key(n.wrapping_mul(7_368_787) % keys);
        engine.write(key, Some(value(n, VALUE_BYTES)), None).unwrap();
        if (n + 1) % burst == 0 {
            engine.settle().await;
        }
    }
    engine.settle().await;
}

/// Bytes given to `write`, and bytes of dirtied pages, by this process so far.
fn given() -> (u64, u64) {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let figure = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    (figure("wchar:"), figure("write_bytes:"))
}
