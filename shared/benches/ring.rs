//! The ring and what is planned on it, small and at 1,000 nodes: `cargo bench -p ringkv-shared --bench ring`.
//!
//! | group | what one iteration is |
//! |---|---|
//! | lookup | 4,096 random positions (N=3), which caches hold; *cold*: 65,536, so that each is far from the last |
//! | build | a ring from its members, up to the first lookup |
//! | join | a member more, up to the first lookup |

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is run, not used, and may fail")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringkv_shared::ring::{Ring, Seat, VNODES_DEFAULT};
use ringkv_shared::topology::{Placement, Topology};
use ringkv_shared::{KeyspaceName, NodeId};

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

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
}

criterion_group! {
    name = benches;
    config = short();
    targets = lookup, build, join
}
criterion_main!(benches);
