//! A copy with several values is several lines of the log: a crash between any two of them takes nothing
//! away for which there is no replacement yet.

use crate::support::{Rig, path};
use bytes::Bytes;
use ringkv_node::disk::SimDisk;
use ringkv_shared::Version;
use ringkv_shared::protocol::node::{Record, Sibling};

const KEY: Bytes = Bytes::from_static(b"cart");

fn version(n: u64) -> Version {
    Version::new(1, n)
}

fn record(n: u64, seen: &str) -> Record {
    let context = Some(seen.parse().unwrap());
    Record { context, ..Record::new("cart".into(), Some("x".into()), version(n)) }
}

fn versions(rig: &Rig) -> Vec<u64> {
    rig.map()[&KEY].versions().map(|version| version.counter).collect()
}

#[tokio::test]
async fn what_is_replaced_goes_only_with_what_replaced_it() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.merge([(KEY, record(4, "-"))], None).unwrap();
    rig.engine.settle().await;
    let before = disk.copy();
    let log = path("data.log");
    let was = before.contents(&log).unwrap().len();
    // The greatest has seen what is held; two others have not.
    let sibling = |n| {
        let version = version(n);
        Sibling { value: Some("y".into()), deleted: false, version, expires: None, stamp: None }
    };
    let siblings = vec![sibling(5), sibling(6)];
    let copy = Record { siblings, ..record(7, "1.4") };
    rig.engine.merge([(KEY, copy)], None).unwrap();
    rig.engine.settle().await;
    assert_eq!(versions(&rig), [5, 6, 7]);
    rig.kill().await;

    let after = disk.contents(&log).unwrap();
    let ends = (was..=after.len()).filter(|at| after[at - 1] == b'\n');
    let mut found = Vec::new();
    for end in ends {
        let crashed = before.copy();
        crashed.set_contents(&log, after[..end].to_vec());
        found.push(versions(&Rig::open(&crashed).unwrap()));
    }
    assert_eq!(found, [vec![4], vec![4, 5], vec![4, 5, 6], vec![5, 6, 7]]);
}
