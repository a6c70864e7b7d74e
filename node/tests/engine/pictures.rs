//! Pictures of the map that a reader far away asks for: they end when nobody reads them, and are
//! never another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Rig, options};
use bytes::Bytes;
use ringkv_node::disk::SimDisk;
use ringkv_node::store::FreezeError;
use ringkv_node::{Clock, EngineOptions, PageRequest};
use ringkv_shared::Version;

#[derive(Debug, Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn page(at: (ringkv_node::store::FreezeId, Version)) -> PageRequest {
    PageRequest {
        after: None,
        prefix: Bytes::new(),
        all_keyspaces: true,
        keys_max: 10,
        bytes_max: usize::MAX,
        leaves: None,
        arcs: None,
        until: None,
        keys_only: false,
        tombstones: false,
        at: Some(at),
    }
}

#[tokio::test]
async fn a_picture_lasts_while_it_is_read() {
    let clock = Arc::new(Hands::default());
    let disk = SimDisk::new(1);
    let rig = Rig::with(EngineOptions { clock: clock.clone(), ..options(&disk) }).unwrap();
    let version = rig.put("a", "before").version;
    let name = rig.engine.begin_picture().unwrap();
    rig.put("a", "after");
    for _ in 0..3 {
        clock.0.fetch_add(59_999, Ordering::Relaxed);
        assert_eq!(rig.engine.end_unread_pictures(), 0);
        let id = rig.engine.picture(name).unwrap();
        let entries = rig.engine.page(&page((id, version))).unwrap().entries;
        assert_eq!(entries[0].1.value, Some("before".into()));
    }
    clock.0.fetch_add(60_000, Ordering::Relaxed);
    assert_eq!(rig.engine.end_unread_pictures(), 1);
    assert_eq!(rig.engine.picture(name), Err(FreezeError::Gone));
    let name = rig.engine.begin_picture().unwrap();
    rig.engine.end_picture(name);
    assert_eq!(rig.engine.picture(name), Err(FreezeError::Gone));
}

#[tokio::test]
async fn a_name_from_before_a_restart_is_nobodys() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    let before = rig.engine.begin_picture().unwrap();
    rig.close().await;
    let rig = Rig::open(&disk).unwrap();
    rig.engine.begin_picture().unwrap();
    assert_eq!(rig.engine.picture(before), Err(FreezeError::Gone));
}
