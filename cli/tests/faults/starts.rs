//! What a server is told when it starts, and what it says when it cannot.

use std::process::{Command, Output};

use serde_json::json;

use crate::cluster::Cluster;
use crate::support::{
    Caller, Server, coordinator_args, kv, kv_with, node_args, run_to_end, text, wait_for,
    with_full_disk,
};

/// Lines of `error: …` and the hint, for a person: no log record.
fn told(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.starts_with("error: ") && !told.contains("ERROR"), "{told}");
    assert!(told.lines().count() > 1, "no hint: {told}");
    assert!(told.lines().skip(1).all(|line| line.starts_with("  ")), "{told}");
    assert!(output.stdout.is_empty(), "no ready line");
    told
}

/// A flag beats the environment, that beats the file, that beats the default.
#[test]
fn the_nearest_setting_wins() {
    let table = [
        //  flag       env        file       heartbeat durability
        (Some("101"), Some("102"), Some("103"), "101", Some("os"), "os"),
        (None, Some("102"), Some("103"), "102", None, "interval"),
        (None, None, Some("103"), "103", None, "interval"),
        (None, None, None, "500", None, "always"),
    ];
    for (flag, env, file, heartbeat, durability_flag, durability) in table {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        let (data, config) = (at("data"), at("kv.toml"));
        let write = |text: String| std::fs::write(&config, text).expect("a file");

        write(
            file.map(|ms| format!("heartbeat = {ms}\nlisten = \"127.0.0.1:0\""))
                .unwrap_or_default(),
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(["coordinator", "--data", text(&data), "--stop-on-eof"]);
        command.args(flag.iter().flat_map(|ms| ["--heartbeat", ms]));
        command.envs(env.map(|ms| ("KV_HEARTBEAT", ms))).env("KV_CONFIG", &config);
        command.envs(file.is_none().then_some(("KV_LISTEN", "127.0.0.1:0")));
        let server = Server::run(command);
        let setting = Caller::to(&server.addr).call("config", json!({"name": "heartbeat"}));
        assert_eq!(setting["settings"][0]["value"], heartbeat, "{flag:?} {env:?} {file:?}");
        drop(server);

        let policy = if file.is_some() { "durability = \"interval\"" } else { "" };
        write(format!("{policy}\nid = \"n7\"\nlisten = \"127.0.0.1:0\"\nstop-on-eof = true"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(["node", "--config", text(&config)]).env("KV_DATA", at("node"));
        command.args(durability_flag.iter().flat_map(|policy| ["--durability", policy]));
        let server = Server::run(command);
        let stats = Caller::to(&server.addr).call("stats", json!([]));
        assert_eq!((&stats["durability"], &stats["id"]), (&json!(durability), &json!("n7")));
    }
}

/// Every key of the file is a flag and a variable, too.
#[test]
fn a_setting_has_one_name_in_three_places() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("kv.toml");
    std::fs::write(&file, "zzz = 1").expect("a file");
    for (server, least) in [("node", 6), ("coordinator", 8)] {
        let told = told(&kv(&[server, "--config", text(&file)]));
        let keys = told.split_once("keys: ").expect("a list of keys").1;
        assert!(keys.split_whitespace().count() >= least, "{told}");
        let help = String::from_utf8(kv(&[server, "--help"]).stdout).expect("text");
        for key in keys.split_whitespace() {
            let variable = format!("[env: KV_{}=", key.to_uppercase().replace('-', "_"));
            assert!(help.contains(&format!("--{key}")), "{server} --{key}: {help}");
            assert!(help.contains(&variable), "{server} {variable}: {help}");
        }
    }
}

#[test]
fn a_mistake_in_the_file_is_named_with_file_and_key() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("my.toml");
    let table = [
        ("coordinator", "heartbeet = 9", "unknown key \"heartbeet\"", "did you mean: heartbeat"),
        (
            "node",
            "compact_after = 9",
            "unknown key \"compact_after\"",
            "did you mean: compact-after",
        ),
        ("coordinator", "zzz = 9", "unknown key \"zzz\"", "keys: listen data vnodes"),
        ("coordinator", "vnodes = 0", "vnodes cannot be 0", "--help"),
        ("coordinator", "data = \"d\"\ntimeout = 1", "timeout cannot be \"1\"", "config timeout"),
        ("node", "durability = \"some\"", "one of always, interval, os", "--help"),
        ("node", "id =", "line 1", "one setting a line"),
        ("node", "id = \"n1\"", "no data directory", "--data, KV_DATA"),
    ];
    for (server, content, message, hint) in table {
        std::fs::write(&file, content).expect("a file");
        let output = kv(&[server, "--config", text(&file)]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{content}: {told}");
        assert!(told.contains(message) && told.contains(hint), "{content}: {told}");
        let about_the_file = !message.starts_with("no ") && !message.starts_with("timeout");
        assert!(!about_the_file || told.contains("my.toml"), "{content}: {told}");
    }
    let absent = kv_with(&["node"], &[("KV_CONFIG", "/nowhere/kv.toml")]);
    assert!(told(&absent).contains("/nowhere/kv.toml"));
}

/// What is taken or missing is named, with the exit code of the contract.
#[test]
fn what_is_in_the_way_is_named() {
    let cluster = Cluster::of(1, 1);
    let spare = tempfile::tempdir().expect("a temporary directory");
    let (spare, free) = (spare.path(), "127.0.0.1:0");
    let (n1, c) = (cluster.data("n1"), cluster.data("c"));
    let file = spare.join("file");
    std::fs::write(&file, "").expect("a file");
    let (node_addr, addr) = (cluster.addr_of("n1"), cluster.addr());
    let coordinator = |data, listen| ["coordinator", "--data", data, "--listen", listen];
    let table: [(Vec<&str>, i32, &str, &str); 10] = [
        (node_args("n1", &n1, free).into(), 73, text(&n1), "another directory"),
        (node_args("n2", spare, node_addr).into(), 1, node_addr, "--listen"),
        (node_args("n2", &file, free).into(), 74, text(&file), "permissions"),
        (node_args("n2", spare, "0.0.0.0:0").into(), 1, "0.0.0.0:0", "127.0.0.1"),
        (coordinator(text(&c), free).into(), 73, text(&c), "another --data"),
        (coordinator(text(spare), addr).into(), 1, addr, "--listen"),
        (coordinator(text(&file), free).into(), 74, text(&file), "permissions"),
        (coordinator(text(spare), "[::]:0").into(), 1, "[::]:0", "127.0.0.1"),
        (vec!["--connect", "127.0.0.1:1", "get", "a"], 4, "127.0.0.1:1", ""),
        (vec!["gte", "a"], 2, "gte", "did you mean: get"),
    ];
    for (args, code, named, hint) in table {
        let output = kv(&args);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.lines().next().expect("a line").contains(named), "{args:?}: {told}");
        assert!(told.contains(hint), "{args:?}: {told}");
    }
    cluster.fill(1);
    cluster.readable(1);
}

/// The directory of one node, or of one ring, is no other's.
#[test]
fn a_directory_keeps_its_owner() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    Server::node("n1", &at("n1"), "127.0.0.1:0").kill();
    let other = kv(&node_args("n2", &at("n1"), "127.0.0.1:0"));
    assert_eq!(other.status.code(), Some(1));
    assert!(told(&other).contains("belongs to node n1, not n2"));

    let c = at("c");
    let with_vnodes = |n| [&coordinator_args(&c)[..], &["--vnodes", n]].concat();
    Server::start(&with_vnodes("8")).kill();
    let other = kv(&with_vnodes("9"));
    assert_eq!(other.status.code(), Some(2));
    assert!(told(&other).contains("--vnodes 8"));
    Server::start(&with_vnodes("8")).kill();
    Server::coordinator(&c).kill();
}

/// Damage in what was acknowledged: exit code 74, file and line, and the file stays as it is.
#[test]
fn a_damaged_log_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (c, n1) = (dir.path().join("c"), dir.path().join("n1"));
    let node = Server::node("n1", &n1, "127.0.0.1:0");
    let coordinator = Server::coordinator(&c);
    let mut caller = Caller::to(&coordinator.addr);
    caller.call("addnode", json!({"id": "n1", "addr": node.addr}));
    for i in 0..10 {
        caller.call("put", json!([format!("k{i}"), "v"]));
    }
    node.kill();
    coordinator.kill();
    let table = [
        (coordinator_args(&c).to_vec(), c.join("coordinator.log")),
        (node_args("n1", &n1, "127.0.0.1:0").to_vec(), n1.join("data.log")),
    ];
    for (args, file) in table {
        let mut bytes = std::fs::read(&file).expect("a log");
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let third = ends.map(|(at, _)| at + 1).nth(1).expect("three lines");
        bytes[third] ^= 1;
        std::fs::write(&file, &bytes).expect("written");
        let output = kv(&args);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(74), "{told}");
        assert!(told.contains(&format!("{}: line 3", text(&file))), "{told}");
        assert_eq!(std::fs::read(&file).expect("a log"), bytes, "the file is as it was");
    }
}

#[test]
fn a_log_that_cannot_be_written_at_start_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = run_to_end(with_full_disk(0, &coordinator_args(dir.path())));
    assert_eq!(output.status.code(), Some(74));
    assert!(told(&output).contains(text(&dir.path().join("coordinator.log"))));
}

/// The coordinator's disk is full: it refuses changes of the ring and routes on; it takes them
/// again when there is room, and its log is good.
#[cfg(target_os = "linux")]
#[test]
fn a_coordinator_on_a_full_disk_routes_on_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    let nodes = ["n1", "n2"].map(|id| (id, Server::node(id, &at(id), "127.0.0.1:0")));
    let c = at("c");
    let full = Server::run(with_full_disk(2, &coordinator_args(&c)));
    let mut caller = Caller::to(&full.addr);
    for (id, node) in &nodes {
        caller.call("addnode", json!({"id": id, "addr": node.addr}));
    }
    let mut n = 1;
    let refused = wait_for("the disk is full", || {
        let other = 3 - n;
        let answer = caller.ask("setreplica", &json!([other]));
        n = if answer["error"].is_null() { other } else { n };
        answer["error"].is_object().then_some(answer)
    });
    let error = &refused["error"];
    assert_eq!(error["data"]["name"], "NOT_APPLIED", "{error}");
    assert!(error["message"].as_str().expect("text").contains("coordinator.log"), "{error}");
    assert_eq!(caller.error("setreplica", json!([3 - n]))["data"]["name"], "NOT_APPLIED");
    caller.call("put", json!(["a", "1"]));
    full.make_room();
    caller.call("setreplica", json!([3 - n]));
    let before = caller.call("show", json!([]));
    full.kill();

    let roomy = Server::coordinator(&c);
    let mut caller = Caller::to(&roomy.addr);
    let after = caller.call("show", json!([]));
    for member in ["epoch", "replication", "pending", "pending_replication"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!(caller.call("get", json!(["a"]))["value"], "1");
}

/// A node's disk is full: what it acknowledged is there when there is room again.
#[test]
fn a_node_on_a_full_disk_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let args = node_args("n1", dir.path(), "127.0.0.1:0");
    let full = Server::run(with_full_disk(16, &args));
    let mut caller = Caller::to(&full.addr);
    let mut acknowledged = 0;
    let put = |i: i32| json!([format!("k{i}"), "v".repeat(100)]);
    while caller.send(1, "put", &put(acknowledged)).is_ok() {
        let answer = caller.answer();
        if answer.is_none_or(|answer| answer["error"].is_object()) {
            break;
        }
        acknowledged += 1;
        assert!(acknowledged < 10_000, "the disk is full at some time");
    }
    assert!(acknowledged > 0);
    assert_eq!(full.ended().code(), Some(74));
    let roomy = Server::start(&args);
    let mut caller = Caller::to(&roomy.addr);
    for i in 0..acknowledged {
        assert_eq!(caller.call("get", json!([format!("k{i}")]))["status"], "ok", "k{i}");
    }
}
