//! The ring and what is planned on it, small and at 1,000 nodes: `cargo bench -p ringkv-shared --bench ring`.
//!
//! | group | what one iteration is |
//! |---|---|
//! | lookup | 4,096 random positions (N=3), which caches hold; *cold*: 65,536, so that each is far from the last |
//! | build | a ring from its members, up to the first lookup |
//! | join | a member more, up to the first lookup; and the share of positions that it moves |
//! | plan | what a plan of that join takes: 100,000 keys, N=3, each held by three of all nodes, walked and counted; the differences between the rings; whose each leaf is |

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is run, not used, and may fail")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringkv_shared::plan::{Merge, Preview, Walked};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::ring::{Ring, Seat, VNODES_DEFAULT};
use ringkv_shared::sync::Leaves;
use ringkv_shared::topology::{Placement, Topology, differences};
use ringkv_shared::{KeyspaceName, NodeId, Version};

const NODES: [u32; 4] = [3, 8, 64, 1000];
const COPIES: usize = 3;

fn id(node: u32) -> NodeId {
    format!("n{node}").parse().unwrap()
}

fn members(nodes: u32) -> Vec<(NodeId, Seat)> {
    (1..=nodes).map(|node| (id(node), Seat::from(1))).collect()
}

fn zoned(nodes: u32, zones: u32) -> Vec<(NodeId, Seat)> {
    let zone = |node: u32| format!("z{}", node % zones).parse().ok();
    (1..=nodes).map(|node| (id(node), Seat { zone: zone(node), ..Seat::from(1) })).collect()
}

fn ring(members: &[(NodeId, Seat)]) -> Ring {
    let ring = Ring::new(VNODES_DEFAULT, members.iter().cloned());
    black_box(ring.preferred(0, COPIES).len());
    ring
}

/// Positions in no order.
fn positions(count: usize) -> Vec<u64> {
    let mut position = 0x9e37_79b9_7f4a_7c15u64;
    let next = |_| {
        position ^= position << 13;
        position ^= position >> 7;
        position ^= position << 17;
        position
    };
    (0..count).map(next).collect()
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for nodes in NODES {
        let ring = ring(&members(nodes));
        for (name, count) in [("preferred, cold", 65_536), ("preferred", 4096)] {
            let positions = positions(count);
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(name, nodes), |b| {
                b.iter(|| {
                    let owners = |at: &u64| usize::from(ring.preferred(*at, COPIES).numbers()[0]);
                    positions.iter().map(owners).sum::<usize>()
                });
            });
        }
        let positions = positions(4096);
        let (space, current) = (KeyspaceName::default(), Placement::new(ring, COPIES));
        let next = Placement::new(current.ring.with(id(nodes + 1), 1), COPIES);
        for (name, pending) in [("route", None), ("route, pending", Some(next))] {
            let topology = Topology { epoch: 1, current: current.clone(), staged: None, pending };
            group.bench_function(BenchmarkId::new(name, nodes), |b| {
                b.iter(|| {
                    let asked = |at: &u64| topology.route(&space, *at).owners().count();
                    positions.iter().map(asked).sum::<usize>()
                });
            });
        }
    }
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for nodes in NODES {
        let members = members(nodes);
        group.bench_function(BenchmarkId::from_parameter(nodes), |b| b.iter(|| ring(&members)));
    }
    for zones in [3, 20] {
        let members = zoned(1000, zones);
        group.bench_function(format!("1000 in {zones} zones"), |b| b.iter(|| ring(&members)));
    }
}

fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("join");
    for nodes in NODES {
        let before = ring(&members(nodes));
        group.bench_function(BenchmarkId::from_parameter(nodes), |b| {
            b.iter(|| before.with(id(nodes + 1), 1).preferred(0, COPIES).len());
        });
        let after = before.with(id(nodes + 1), 1);
        group.bench_function(BenchmarkId::new("moved share", nodes), |b| {
            b.iter(|| before.moved_share(COPIES, &after, COPIES));
        });
    }
}

/// A walk that has the pages of all nodes already.
fn fed(placement: &Placement, keys: u32) -> Merge {
    let (space, version) = (KeyspaceName::default(), Version::new(1, 1));
    let mut pages = vec![Vec::new(); placement.ring.ids().len()];
    for key in 0..keys {
        let record = Record::new(format!("key:{key:012}").as_str().into(), None, version);
        let position = ringkv_shared::ring::key_position(record.key.as_bytes());
        for owner in placement.preferred(&space, position).numbers() {
            pages[usize::from(*owner)].push(record.clone());
        }
    }
    let mut merge = Merge::new(placement.ring.ids().iter().cloned());
    for (node, page) in placement.ring.ids().iter().zip(pages) {
        let sizes = vec![116; page.len()];
        merge.feed(node, page, &sizes, None);
    }
    merge
}

fn plan(c: &mut Criterion) {
    const KEYS: u32 = 100_000;
    let space = KeyspaceName::default();
    for nodes in NODES {
        let mut group = c.benchmark_group("plan");
        let now = Placement::new(ring(&members(nodes)), COPIES);
        let then = Placement::new(now.ring.with(id(nodes + 1), 1), COPIES);
        group.bench_function(BenchmarkId::new("differences", nodes), |b| {
            b.iter(|| differences(&now, &then).len());
        });
        group.bench_function(BenchmarkId::new("leaves", nodes), |b| {
            b.iter(|| Leaves::new(&now.ring, COPIES).cut());
        });
        group.throughput(Throughput::Elements(KEYS.into()));
        let walk = |mut merge: Merge| {
            let mut preview = Preview::new(true);
            while let Some(found) = merge.next_key() {
                let key = found[0].record.key.as_bytes();
                let (owners, next) = (now.owners(&space, key), then.owners(&space, key));
                let (found, now, up, then) = (&found[..], &owners[..], &owners[..], &next[..]);
                preview.key(&Walked { keyspace: &space, found, keys: 1, now, up, then });
            }
            preview.copies().keys
        };
        group.bench_function(BenchmarkId::new("keys", nodes), |b| {
            b.iter_batched(|| fed(&now, KEYS), walk, BatchSize::LargeInput);
        });
    }
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
}

criterion_group! {
    name = benches;
    config = short();
    targets = lookup, build, join, plan
}
criterion_main!(benches);
