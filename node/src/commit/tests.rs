use super::*;
use crate::disk::{Operation, SimDisk};
use crate::engine::Engine;
use crate::options::EngineOptions;
use bytes::Bytes;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn open(durability: Durability) -> (Engine, Committer, SimDisk) {
    let disk = SimDisk::new(1);
    let options = EngineOptions {
        disk: Arc::new(disk.clone()),
        durability,
        ..EngineOptions::new("n1".parse().unwrap(), "/data".into())
    };
    let (engine, committer, _) = Engine::open(options).unwrap();
    (engine, committer, disk)
}

fn put(engine: &Engine, key: &'static str) {
    engine.write(Bytes::from_static(key.as_bytes()), Some(Bytes::new()), None).unwrap();
}

fn is_settled(settle: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
    settle.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

#[tokio::test]
async fn a_failed_write_ends_the_committer_and_acknowledges_nothing() {
    let (engine, committer, disk) = open(Durability::Always);
    disk.fail_nth(1, Some(Operation::Write), std::io::ErrorKind::Other);
    put(&engine, "a");
    let mut settle = pin!(engine.settle());
    let failure = committer.run(CancellationToken::new()).await.unwrap_err();
    assert_eq!(crate::NodeError::from(failure).exit_code(), 74);
    assert!(!is_settled(settle.as_mut()));
}

#[tokio::test]
async fn a_burst_is_one_sync_and_replies_wait_for_it() {
    let (engine, mut committer, _) = open(Durability::Always);
    ["a", "b", "c"].into_iter().for_each(|key| put(&engine, key));
    let mut settle = pin!(engine.settle());
    assert!(!is_settled(settle.as_mut()));
    committer.commit(true).await.unwrap();
    assert!(is_settled(settle.as_mut()));
    assert_eq!(engine.figures().syncs, 1);
    assert_eq!(engine.figures().durable, 3);
}

#[tokio::test]
async fn a_read_waits_only_for_what_it_tells() {
    let (engine, mut committer, _) = open(Durability::Always);
    put(&engine, "old");
    committer.commit(true).await.unwrap();
    put(&engine, "new");
    drop(engine.settle());
    for (key, settled) in [(&b"old"[..], true), (b"new", false), (b"none", true)] {
        assert_eq!((engine.get(key).unwrap().is_some(), settled), (key != b"none", settled));
        assert_eq!(is_settled(pin!(engine.settle())), settled, "{key:?}");
    }
    let version = engine.get(b"old").unwrap().unwrap().version;
    let only = crate::Condition::Only(version);
    engine.forget([(Bytes::from_static(b"old"), only)]).unwrap();
    drop(engine.settle());
    assert!(engine.get(b"old").unwrap().is_none());
    assert!(!is_settled(pin!(engine.settle())), "a crash could bring the key back");
}

/// Writes without a pause, each before the write of the one before has ended, until `done`.
async fn write_on(engine: &Engine, done: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        put(engine, "key");
        tokio::task::yield_now().await;
    }
    panic!("it never happened: {:?}", engine.figures());
}

#[tokio::test]
async fn the_clock_is_heard_while_writes_go_on() {
    let (engine, committer, _) = open(Durability::Interval);
    put(&engine, "first");
    tokio::select! {
        biased;
        ended = committer.run(CancellationToken::new()) => panic!("{ended:?}"),
        () = write_on(&engine, || engine.figures().durable > 0) => (),
    }
}

#[tokio::test]
async fn a_stop_is_heard_while_writes_go_on_and_then_says_no_farewell() {
    let (engine, committer, disk) = open(Durability::Always);
    // Too much to be written here: others are heard meanwhile.
    for _ in 0..100 {
        let value = Bytes::from_static(&[b'x'; 1000]);
        engine.write(Bytes::new(), Some(value), None).unwrap();
    }
    let (stop, ended) = (CancellationToken::new(), std::cell::Cell::new(false));
    stop.cancel();
    let run = async {
        committer.run(stop).await.unwrap();
        ended.set(true);
    };
    tokio::join!(run, write_on(&engine, || ended.get()));
    let log = disk.contents(&engine.active_path()).unwrap();
    let lines: Vec<_> = log.split(|byte| *byte == b'\n').collect();
    assert!(lines[100].starts_with(b"PUT %- x"), "{}", lines.len());
    // A disk may be so quick that nobody came meanwhile: then the farewell has the next number.
    let end = lines[101];
    assert!(end.is_empty() || end.starts_with(b"BYE s=101 "), "{}", lines.len());
}

#[tokio::test]
async fn the_weaker_policies_acknowledge_what_is_written() {
    let (engine, mut committer, _) = open(Durability::Os);
    put(&engine, "a");
    let mut settle = pin!(engine.settle());
    committer.commit(false).await.unwrap();
    assert!(is_settled(settle.as_mut()));
    assert_eq!((engine.figures().durable, engine.figures().syncs), (0, 0));
}
