//! Reads of a map of a million keys: `cargo bench -p ringkv-node --bench store`.

#![allow(missing_docs, reason = "the macro's main has none")]

mod support;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{Order, RECORDS, key, log, nth, replay};

fn lookup(c: &mut Criterion) {
    let mut store = replay(&log(Order::Random, 100));
    let mut group = c.benchmark_group("1 M keys of 16+100 bytes");
    group.throughput(Throughput::Elements(1));
    let keys: Vec<_> = (0..RECORDS).map(|n| key(nth(n, Order::Random))).collect();
    let mut turn = keys.iter().cycle();
    group.bench_function("a key that is there", |b| {
        b.iter(|| black_box(store.read(turn.next().expect("endless"), 0).is_some()));
    });
    let hot = &keys[..1000];
    let mut turn = hot.iter().cycle();
    group.bench_function("one of a thousand keys", |b| {
        b.iter(|| black_box(store.read(turn.next().expect("endless"), 0).is_some()));
    });
    let absent: Vec<_> = keys.iter().map(|key| [key, &b"x"[..]].concat()).collect();
    let mut turn = absent.iter().cycle();
    group.bench_function("a key that is not there", |b| {
        b.iter(|| black_box(store.get(turn.next().expect("endless"), 0).is_some()));
    });
}

criterion_group!(benches, lookup);
criterion_main!(benches);
