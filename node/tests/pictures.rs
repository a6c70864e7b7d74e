//! Pictures of the map that a reader far away asks for: they end when nobody reads them, when too
//! much is overwritten, and are never another's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ringkv_node::disk::SimDisk;
use ringkv_node::store::{FreezeError, KEPT_BYTES_MAX};
use ringkv_node::{Clock, EngineOptions, PageRequest};
use ringkv_shared::Version;
use support::{Rig, options};

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
        keys_max: 10,
        bytes_max: usize::MAX,
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
        assert_eq!(entries[0].1.value.as_deref(), Some(&b"before"[..]));
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

#[tokio::test]
async fn a_picture_is_given_up_rather_than_memory() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    let version = rig.put("a", "before").version;
    let name = rig.engine.begin_picture().unwrap();
    // Bytes that no compression makes fewer.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(1 << 20)
    .collect();
    let value = Bytes::from(noise);
    for _ in 0..KEPT_BYTES_MAX / value.len() + 2 {
        rig.engine.write("a".into(), Some(value.clone()), None).unwrap();
        rig.engine.settle().await;
    }
    let id = rig.engine.picture(name).unwrap();
    let error = rig.engine.page(&page((id, version))).unwrap_err().to_string();
    assert!(error.starts_with("the picture is gone: more than 64 MiB were overwritten"), "{error}");
    assert_eq!(rig.engine.get(b"a").unwrap().unwrap().value, Some(value), "writes went on");
}
