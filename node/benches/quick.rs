//! A request without its socket, line in and answer out: `cargo bench -p ringkv-node --bench quick`.
//!
//! A thousand lines of one method, of a thousand keys of 16 bytes with values of 100, to a node that has them. Each
//! line goes once by the way in front of the method table, once by jsonrpsee's own call of it.
//!
//! # Caveats
//!
//! Nothing is written to the disk: the lines of the log are made, and thrown away with the node.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a bench may panic; the macro's main has no docs"
)]

mod support;

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt as _;
use ringkv_node::disk::SimDisk;
use ringkv_node::{CompactionPolicy, Engine, EngineOptions, NodeService};
use ringkv_shared::net::{Mailbox, Service as _};
use support::{key, value};

const LINES: u64 = 1000;

/// A node with all keys, and of each method lines that are as good as any.
fn node(method: &str) -> (NodeService, Vec<String>) {
    let options = EngineOptions {
        disk: Arc::new(SimDisk::new(1)),
        compaction: CompactionPolicy { after: u64::MAX, every: None },
        ..EngineOptions::new("n1".parse().unwrap(), "/data".into())
    };
    let (engine, _, _) = Engine::open(options).unwrap();
    for n in 0..LINES {
        // As whoever comes again has written it.
        let by_a_coordinator = ringkv_shared::Version::new(1, n + 1);
        let version = (method != "put").then_some(by_a_coordinator);
        engine.write(key(n), Some(value(n, 100)), version).unwrap();
    }
    let line = |n: u64| {
        let (key, value) = (key(n), value(n, 100));
        let key = std::str::from_utf8(&key).unwrap();
        let value = std::str::from_utf8(&value).unwrap();
        let params = match method {
            "get" => format!(r#""{key}""#),
            "put" => format!(r#""{key}","{value}""#),
            _ => format!(r#"{{"record":{{"key":"{key}","value":"{value}","version":"2.{n}"}}}}"#),
        };
        format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"{method}","params":[{params}]}}"#)
    };
    (NodeService::new(engine), (0..LINES).map(line).collect())
}

fn requests(c: &mut Criterion) {
    for method in ["get", "put", "write"] {
        let mut group = c.benchmark_group(method);
        group.throughput(Throughput::Elements(LINES));
        let (mailbox, mut out) = (Mailbox::default(), Vec::new());
        group.bench_function("quick", |b| {
            let serve = |(service, lines): &mut (NodeService, Vec<String>)| {
                out.clear();
                for burst in lines.chunks(16) {
                    let burst: Vec<&[u8]> = burst.iter().map(String::as_bytes).collect();
                    assert_eq!(service.quick(&burst, &mut out, &mailbox), burst.len());
                }
            };
            b.iter_batched_ref(|| node(method), serve, BatchSize::LargeInput);
        });
        group.bench_function("table", |b| {
            let serve = |(service, lines): &mut (NodeService, Vec<String>)| {
                for line in lines {
                    let answer = service.methods().raw_json_request(line, 1).now_or_never();
                    std::hint::black_box(answer.unwrap().unwrap());
                }
            };
            b.iter_batched_ref(|| node(method), serve, BatchSize::LargeInput);
        });
        group.finish();
    }
}

criterion_group!(benches, requests);
criterion_main!(benches);
