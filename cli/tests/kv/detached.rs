//! `kv demo --detach`: found, broken and mended by processes that did not start it.

use crate::cluster::Place;
use serde_json::Value;

fn coordinator(line: &Value) -> &str {
    line["coordinator"]["addr"].as_str().expect("an address")
}

/// The coordinator is dead, so it cannot tell who can start it again.
#[test]
fn a_dead_coordinator_is_started_by_a_fresh_process() {
    let place = Place::new();
    // Two clusters, so that the right one must be found.
    let (line, other) = (place.detach(&[]), place.detach(&["--nodes", "1"]));
    let at = coordinator(&line);
    let kv = |args: &[&str]| place.kv(at, args, b"");
    kv(&["put", "a", "1"]).with(0);

    assert!(kv(&["kill", "coordinator"]).with(0).starts_with("Killed coordinator (pid "));
    let told = kv(&["get", "a"]);
    told.with(4);
    assert!(told.err.contains("cannot be reached"), "{}", told.err);
    assert!(kv(&["kill", "n2"]).with(0).starts_with("Killed n2 (pid "));
    kv(&["kill", "coordinator"]).with(1);
    kv(&["start", "n2"]).with(0);
    kv(&["start", "coordinator"]).with(0);
    assert_eq!(kv(&["get", "a"]).with(0), "1\n");

    // The same in one session that never saw the coordinator alive, and by another name of it.
    kv(&["kill", "coordinator"]).with(0);
    let by_name = at.replace("127.0.0.1", "localhost");
    place.kv(&by_name, &[], b"restart coordinator\nget a\n").with(0);

    // A halted one does not answer either.
    kv(&["pause", "coordinator"]).with(0);
    kv(&["resume", "coordinator"]).with(0);
    assert_eq!(kv(&["get", "a"]).with(0), "1\n");

    let shown = place.kv(coordinator(&other), &["--json", "show"], b"").with(0);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["nodes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_cluster_that_nobody_supervises_cannot_be_broken_from_here() {
    let place = Place::new();
    let told = place.kv("127.0.0.1:1", &["restart", "coordinator"], b"");
    told.with(4);
    assert!(told.err.contains("127.0.0.1:1 cannot be reached"), "{}", told.err);
}

#[test]
fn clusters_are_stopped_one_by_one_the_last_one_first() {
    let place = Place::new();
    let kv = |args: &[&str]| place.kv("", args, b"");
    let told = kv(&["demo", "stop"]);
    told.with(4);
    assert!(told.err.starts_with("error: no detached cluster runs here"), "{}", told.err);

    let data = place.path().join("kept");
    let data = data.to_str().expect("a UTF-8 path");
    let kept = place.detach(&["--data", data, "--nodes", "1"]);
    let last = place.detach(&["--nodes", "2"]);
    let told = kv(&["--json", "demo", "--detach", "--data", data]);
    let refusal: Value = serde_json::from_str(&told.with(1)).expect("JSON");
    assert_eq!(refusal["error"]["name"], "NODE_EXISTS");
    assert_eq!(refusal["error"]["hint"], format!("kv demo stop --data {data}"));

    assert_eq!(kv(&["demo", "stop"]).with(0), "Stopped 3 processes.\n");
    assert!(!std::path::Path::new(last["data"].as_str().expect("a path")).exists());
    place.kv(coordinator(&kept), &["put", "a", "1"], b"").with(0);
    assert_eq!(kv(&["demo", "stop", "--data", data]).with(0), "Stopped 2 processes.\n");

    // What was kept comes back where it was.
    let again = place.detach(&["--data", data, "--nodes", "1"]);
    assert_eq!(coordinator(&again), coordinator(&kept));
    assert_eq!(place.kv(coordinator(&again), &["get", "a"], b"").with(0), "1\n");
}

/// The supervisor is killed: its children end by themselves, and its file is no trap.
#[test]
fn nothing_is_left_of_a_killed_supervisor() {
    let place = Place::new();
    let line = place.detach(&["--nodes", "1"]);
    let at = coordinator(&line);
    let file =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("ringkv-demo-");
    let files = || std::fs::read_dir(place.path()).expect("it is there").flatten().filter(file);
    let text = std::fs::read_to_string(files().next().expect("a file").path()).expect("text");
    let found: Value = serde_json::from_str(&text).expect("JSON");
    let pid = found["supervisor"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = rustix::process::Pid::from_raw(pid.expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it ran");

    let by = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while place.kv(at, &["show"], b"").code != 4 {
        assert!(std::time::Instant::now() < by, "the coordinator still answers");
    }
    place.kv(at, &["start", "coordinator"], b"").with(4);
    place.kv("", &["demo", "stop"], b"").with(4);
    assert_eq!(files().count(), 0);
}

#[test]
fn a_taken_port_is_named() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let told = place.kv("", &["demo", "--detach", "--port", &port, "--nodes", "1"], b"");
    told.with(1);
    let expected = format!("error: port {port} is taken by another program\n");
    assert!(told.err.starts_with(&expected), "{}", told.err);
}
