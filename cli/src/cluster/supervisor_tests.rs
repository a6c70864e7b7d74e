//! The supervisor with children that are small shell scripts.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A program that is ready at once, notes its arguments, and ends with its input.
const CHILD: &str = r#"#!/bin/sh
echo "$@" >&2
echo "{\"ready\":\"127.0.0.1:7\",\"pid\":$$}"
cat
"#;

fn supervisor(dir: &std::path::Path, detached: bool) -> Supervisor {
    let program = dir.join("child");
    std::fs::write(&program, CHILD).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Supervisor::new(Setup {
        program,
        data: dir.to_owned(),
        free_ports: true,
        detached,
        endpoint: "127.0.0.1:9".into(),
        memory_max: None,
    })
}

#[tokio::test]
async fn a_life_from_start_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let it = supervisor(dir.path(), false);
    it.add(COORDINATOR, loopback(0)).await.unwrap();
    let n1: NodeId = "n1".parse().unwrap();
    assert_eq!(it.spawn(&n1, 5001).await.unwrap(), "127.0.0.1:7");

    let killed = it.act(Action::Kill, "n1").await.unwrap();
    let again = it.act(Action::Kill, "n1").await.unwrap_err();
    assert_eq!(again.message, "n1 is not running");
    let started = it.act(Action::Restart, "n1").await.unwrap();
    assert_ne!(killed.pid, started.pid);

    it.act(Action::Pause, "n1").await.unwrap();
    assert_eq!(it.picture().await.nodes[0].server.life, Some(Life::Paused));
    assert!(!it.act(Action::Stop, "n1").await.unwrap().forced);
    assert_eq!(it.picture().await.alive(), 1);
    assert_eq!(it.stop_all().await, 1);
}

#[tokio::test]
async fn children_get_their_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let it = supervisor(dir.path(), false);
    it.add(COORDINATOR, "127.0.0.1:5000".into()).await.unwrap();
    it.add("n1", "127.0.0.1:5001".into()).await.unwrap();
    let data = dir.path().display();
    let said = |id: &str| std::fs::read_to_string(dir.path().join(format!("{id}.stderr"))).unwrap();
    assert_eq!(
        said(COORDINATOR),
        format!(
            "coordinator --supervisor 127.0.0.1:9 --listen 127.0.0.1:5000 --data {data}/coordinator --stop-on-eof\n"
        )
    );
    assert_eq!(
        said("n1"),
        format!("node --id n1 --listen 127.0.0.1:5001 --data {data}/n1 --stop-on-eof\n")
    );
    assert_eq!(it.stop_all().await, 2);
}

#[tokio::test]
async fn unknown_ids_and_a_shells_cluster_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let it = supervisor(dir.path(), false);
    it.add("n1", loopback(0)).await.unwrap();
    let failure = it.act(Action::Kill, "n9").await.unwrap_err();
    assert_eq!(failure.name, ErrorName::NodeNotFound);
    assert_eq!(failure.hint.as_deref(), Some("there are: n1"));
    assert!(it.request_end().is_err());
    let coordinator: NodeId = COORDINATOR.parse().unwrap();
    assert!(it.spawn(&coordinator, 0).await.is_err());
    it.stop_all().await;
}

#[tokio::test]
async fn a_child_that_died_by_itself_can_be_started() {
    let dir = tempfile::tempdir().unwrap();
    let it = supervisor(dir.path(), true);
    it.add("n1", loopback(0)).await.unwrap();
    let pid = it.picture().await.nodes[0].server.pid;
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let ended = async {
        while it.picture().await.alive() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    it.act(Action::Start, "n1").await.unwrap();
    it.request_end().unwrap();
    it.end_requested().await;
    assert_eq!(it.stop_all().await, 1);
}
