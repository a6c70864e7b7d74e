//! Lines written and read: `cargo bench -p ringkv-node --bench log`.

#![allow(missing_docs, reason = "the macro's main has none")]

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_node::log::encode::encode_record;
use ringkv_node::log::place::FileId;
use ringkv_node::log::scan::{Kind, scan_all};
use ringkv_node::log::tail::Tail;
use support::{Order, RECORDS, log, record, replay};

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("write a line of 16+100 bytes");
    group.throughput(Throughput::Elements(1));
    let one = record(1_000_000, 1, 100);
    let mut out = Vec::new();
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            encode_record(&one, 7, &mut out)
        });
    });
    let mut tail = Tail::new(uuid::Uuid::nil(), 1, 0, 0);
    group.bench_function("append to the tail", |b| {
        b.iter(|| {
            let record = tail.append(one.clone());
            if record.seq.is_multiple_of(1000) {
                tail.take();
            }
        });
    });
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay 1 M records of 16+100 bytes");
    group.sample_size(10);
    for (name, order) in [("in key order", Order::Sorted), ("in random order", Order::Random)] {
        let log = log(order, 100);
        group.throughput(Throughput::Bytes(log.len() as u64));
        group.bench_function(format!("scan, {name}"), |b| {
            b.iter(|| {
                let scan = scan_all(&log, Kind::Segment, FileId(2), |record, _| {
                    std::hint::black_box(record);
                });
                assert_eq!(scan.records, RECORDS);
            });
        });
        group.throughput(Throughput::Elements(RECORDS));
        group.bench_function(format!("scan and apply, {name}"), |b| {
            b.iter_with_large_drop(|| replay(&log));
        });
    }
}

criterion_group!(benches, write, read);
criterion_main!(benches);
