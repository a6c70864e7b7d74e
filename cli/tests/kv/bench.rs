//! `kv bench` on a real cluster: what it counts, what it checks, how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Place;
use serde_json::{Value, json};

/// A cluster, and how to measure it.
struct Track {
    place: Place,
    at: String,
}

impl Track {
    fn open() -> Self {
        let place = Place::new();
        let line = place.detach(&[]);
        let at = line["coordinator"]["addr"].as_str().unwrap().to_owned();
        let track = Self { place, at };
        // A busy machine may take its time.
        track.kv("config timeout 10000", 0);
        track.kv("keyspace create orders --n 3 --r 2 --w 2", 0);
        track
    }

    fn kv(&self, line: &str, code: i32) -> String {
        let args: Vec<&str> = line.split(' ').collect();
        self.place.kv(&self.at, &args, b"").with(code)
    }

    fn bench(&self, words: &str, code: i32) -> Value {
        serde_json::from_str(&self.kv(&format!("--json bench {words}"), code)).unwrap()
    }
}

/// One start of a cluster, many runs on it.
#[test]
fn it_measures_and_checks() {
    let track = Track::open();
    a_closed_loop_counts_all_requests(&track);
    an_open_loop_keeps_to_its_plan(&track);
    a_node_is_measured_without_the_coordinator(&track);
    the_client_goes_straight(&track);
    idle_connections_stay_open(&track);
    a_value_that_is_none_of_ours_is_found(&track);
    what_cannot_be_done_is_refused(&track);
    people_get_a_table(&track);
    a_node_is_killed_in_the_middle(&track);
}

fn a_closed_loop_counts_all_requests(track: &Track) {
    let run = track.bench(
        "--keyspace orders -c 4 -P 8 --key-count 300 --ops 2000 --warm-up 50ms --verify all",
        0,
    );
    assert_eq!(run["ops"], 2000);
    assert_eq!(run["puts"].as_u64().unwrap() + run["gets"].as_u64().unwrap(), 2000);
    assert!(run["gets"].as_u64().unwrap().abs_diff(1000) < 200, "half are reads: {run}");
    assert_eq!(
        (&run["errors"], &run["wrong"], &run["missing"]),
        (&json!({}), &json!(0), &json!(0))
    );
    assert_eq!((&run["loaded"]["keys"], &run["verified"]["read"]), (&json!(300), &json!(300)));
    let ms = |name: &str| run[name].as_f64().unwrap();
    assert!(0.0 < ms("p50_ms") && ms("p50_ms") <= ms("p99_ms") && ms("p99_ms") <= ms("max_ms"));
    let names: Vec<&Value> =
        run["servers"].as_array().unwrap().iter().map(|server| &server["name"]).collect();
    assert_eq!(names, ["coordinator", "n1", "n2", "n3"]);
}

fn an_open_loop_keeps_to_its_plan(track: &Track) {
    let run = track.bench(
        "--keyspace orders --rate 200 -c 3 --key-count 100 --keys zipf --for 1s --warm-up 0s",
        0,
    );
    // The plan has 200 in this second, however late they are answered.
    assert!(run["ops"].as_u64().unwrap().abs_diff(200) <= 1, "{run}");
    assert_eq!((&run["rate"], &run["keys"]), (&json!(200), &json!("zipf")));
}

fn a_node_is_measured_without_the_coordinator(track: &Track) {
    let run = track.bench("--to n1 -c 2 --key-count 50 --ops 200 --reads 0 --verify all", 0);
    assert_eq!((&run["puts"], &run["gets"]), (&json!(200), &json!(0)));
    assert_eq!(run["verified"]["read"], 50);
    let again = track.bench("--to n1 -c 2 --key-count 50 --ops 200 --reads 100 --no-load", 0);
    assert_eq!(
        (&again["gets"], &again["missing"], &again["loaded"]),
        (&json!(200), &json!(0), &json!(null))
    );
}

fn the_client_goes_straight(track: &Track) {
    let words = "--client --keyspace orders -c 3 -P 4 --key-count 100 --ops 1000 --verify all";
    let run = track.bench(words, 0);
    assert_eq!(
        (&run["ops"], &run["missing"], &run["verified"]["read"]),
        (&json!(1000), &json!(0), &json!(100))
    );
    let name = run["target"].as_str().unwrap();
    assert!(name.starts_with("nodes behind the coordinator at "), "{name}");
    track.kv("bench --client --rate 100", 2);
}

fn idle_connections_stay_open(track: &Track) {
    let run = track.bench("--to n1 -c 2 --key-count 10 --ops 100 --idle 20", 0);
    assert_eq!((&run["idle"]["opened"], &run["idle"]["closed"]), (&json!(20), &json!(0)));
}

fn a_value_that_is_none_of_ours_is_found(track: &Track) {
    track.kv("--keyspace orders put key:000000000000 nonsense", 0);
    let run = track.bench(
        "--keyspace orders -c 1 --key-count 1 --ops 5 --reads 100 --no-load --warm-up 0s --verify all",
        6,
    );
    assert_eq!((&run["wrong"], &run["verified"]["wrong"]), (&json!(5), &json!(1)));
    assert_eq!(
        run["verified"]["keys"][0],
        "key:000000000000: a value that was never put under this key"
    );
}

fn what_cannot_be_done_is_refused(track: &Track) {
    track.kv("bench --to n9", 3);
    track.kv("--connect 127.0.0.1:1 bench", 4);
    track.kv("bench --peer redis://127.0.0.1:1", 4);
    let late = "--keyspace orders --key-count 1 --ops 1 --kill n1 --kill-at 1h --warm-up 0s";
    let late = track.bench(late, 5);
    assert_eq!(late["killed"]["ok"], false, "nobody is killed after the end");
    track.kv("bench --rate 10 --pipeline 2", 2);
    track.kv("bench --peer mongo://127.0.0.1:1", 2);
    let refused = track.bench("--keyspace nobody --key-count 10 --ops 1", 5);
    assert!(refused["error"]["message"].as_str().unwrap().contains("10 of 10 keys"), "{refused}");
}

fn people_get_a_table(track: &Track) {
    let told = track.kv("--keyspace orders bench -c 1 --key-count 10 --ops 20", 0);
    for words in ["ops/s ", "p50 p95 p99 p99.9 ", "server CPU ", "Read 10 keys back"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(
        told.lines().any(|line| line.starts_with("errors ") && line.ends_with(" none")),
        "{told}"
    );
}

fn a_node_is_killed_in_the_middle(track: &Track) {
    let run = track.bench(
        "--keyspace orders -c 4 --key-count 200 --kill n3 --kill-at 300ms --for 2s --verify all",
        0,
    );
    assert_eq!((&run["killed"]["node"], &run["killed"]["ok"]), (&json!("n3"), &json!(true)));
    assert!(run["killed"]["message"].as_str().unwrap().starts_with("Killed n3 (pid "), "{run}");
    // Two of three have every write that was acknowledged, and answer every read.
    assert_eq!((&run["verified"]["read"], &run["verified"]["lost"]), (&json!(200), &json!(0)));
    let names: Vec<&Value> =
        run["servers"].as_array().unwrap().iter().map(|server| &server["name"]).collect();
    assert_eq!(names, ["coordinator", "n1", "n2"], "what has died is not counted");
    track.kv("bench --key-count 1 --ops 1 --to n3", 4);
}

/// A redis that ends with the test.
struct Redis {
    child: Child,
    at: String,
    _dir: tempfile::TempDir,
}

impl Redis {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &at.port().to_string()])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let redis = Self { child: child.ok()?, at: at.to_string(), _dir: dir };
        let by = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(at).is_err() {
            assert!(Instant::now() < by, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_same_load_drives_redis() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    let place = Place::new();
    let words = "-c 4 -P 8 --key-count 300 --ops 2000 --verify all";
    let line = format!("--json bench --peer redis://{} {words}", redis.at);
    let args: Vec<&str> = line.split(' ').collect();
    let run: Value = serde_json::from_str(&place.kv("", &args, b"").with(0)).unwrap();
    assert_eq!((&run["ops"], &run["verified"]["read"]), (&json!(2000), &json!(300)));
    assert_eq!(run["servers"][0]["name"], "redis", "found by its port");
    let zero = format!("bench --peer redis://{} --key-count 2 --ops 1 --kill n1", redis.at);
    let args: Vec<&str> = zero.split(' ').collect();
    place.kv("", &args, b"").with(2);
}
