//! The shell as a person sees it: `kv` on a real (pseudo) terminal.
#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::pty::{CTRL_C, CTRL_D, Terminal, UP};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Enough keys that a load of them can be met half-way.
const MANY_KEYS: usize = 200_000;

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// The directory of the shell's own cluster, and what its file says.
fn cluster(home: &Path) -> (PathBuf, Value) {
    let is_data = |path: &PathBuf| path.join("cluster.json").exists();
    let mut entries = std::fs::read_dir(home).expect("a directory").flatten().map(|e| e.path());
    let data = entries.find(is_data).expect("the data of the cluster");
    let text = std::fs::read_to_string(data.join("cluster.json")).expect("the file");
    (data, serde_json::from_str(&text).expect("JSON"))
}

fn pids(cluster: &Value) -> Vec<i32> {
    let nodes = cluster["nodes"].as_array().expect("nodes").iter();
    let pid = |server: &Value| server["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    nodes.chain([&cluster["coordinator"]]).map(|server| pid(server).expect("a pid")).collect()
}

fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, signal).expect("it ran");
}

/// Waits until none of the processes runs and the data are gone.
fn all_gone(pids: &[i32], data: &Path) {
    let by = Instant::now() + Duration::from_secs(20);
    let alive = |pid: &&i32| Path::new(&format!("/proc/{pid}")).exists();
    while pids.iter().any(|pid| alive(&pid)) || data.exists() {
        let left: Vec<&i32> = pids.iter().filter(alive).collect();
        assert!(Instant::now() < by, "left: {left:?}, {}", data.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_shell_from_its_first_prompt_to_its_last() {
    let home = home();
    let args = ["demo", "--free-ports"];
    let Some(mut kv) = Terminal::start(home.path(), &args, 30, 100) else { return };
    let banner = kv.sees("the first prompt", |s| s.trim_end().ends_with("\nkv>"));
    assert!(banner.starts_with("Started 3 nodes in "), "{banner}");
    let (data, cluster) = cluster(home.path());

    words_are_completed(&mut kv);
    a_line_is_cleared_by_ctrl_c(&mut kv);
    a_notice_leaves_the_half_typed_line(&mut kv, pids(&cluster)[1]);
    a_quote_goes_on_in_the_next_line(&mut kv);
    a_load_is_interrupted(&mut kv, home.path());
    let addr = cluster["coordinator"]["addr"].as_str().expect("an address");
    a_load_without_a_shell_is_interrupted_too(home.path(), addr);
    a_watch_goes_on_until_ctrl_c(&mut kv, addr);
    an_export_leaves_no_bar_behind(&mut kv, home.path());
    what_a_halted_node_holds_up_is_interrupted(&mut kv);
    tables_fit(&mut kv);

    let (_, cluster) = self::cluster(home.path());
    let pids = pids(&cluster);
    assert_eq!(pids.len(), 5);
    kv.keys(CTRL_D);
    let (code, seen) = kv.end();
    assert_eq!(code, 0);
    assert!(seen.trim_end().ends_with("\nStopped 5 processes. Bye."), "{seen}");
    all_gone(&pids, &data);
}

fn words_are_completed(kv: &mut Terminal) {
    kv.keys("reb\t");
    kv.sees("a completed command", |s| s.contains("kv> rebalance"));
    kv.keys("\x15wal n\t\t");
    kv.sees("the nodes to choose from", |s| s.contains("n1  n2  n3"));
    kv.keys("3\t");
    kv.sees("the chosen node", |s| s.contains("kv> wal n3"));
    kv.keys("\x15restart coor\t");
    kv.sees("the coordinator", |s| s.contains("kv> restart coordinator"));
    kv.keys("\x15");
}

fn a_line_is_cleared_by_ctrl_c(kv: &mut Terminal) {
    kv.keys("put half a line");
    kv.sees("the line", |s| s.ends_with("kv> put half a line"));
    kv.keys(CTRL_C);
    kv.sees("a new prompt", |s| s.trim_end().ends_with("(exit or Ctrl-D leaves)\nkv>"));
}

fn a_notice_leaves_the_half_typed_line(kv: &mut Terminal, pid_of_n2: i32) {
    kv.keys("put fruit ");
    kv.sees("the first half", |s| s.contains("kv> put fruit"));
    signal(pid_of_n2, Signal::KILL);
    kv.keys("'an ");
    kv.sees("the notice above the line", |s| {
        s.contains("\n! n2 is DOWN") && s.ends_with("\nkv> put fruit 'an")
    });
    kv.keys("apple'\r");
    kv.sees("the whole value", |s| s.contains("PUT fruit = an apple"));
    kv.command("restart n2", "Started n2");
    kv.sees("its return", |s| s.contains("! n2 is UP"));
}

fn a_quote_goes_on_in_the_next_line(kv: &mut Terminal) {
    kv.keys("put poem 'roses\r");
    kv.keys("red'\r");
    kv.sees("the value of two lines", |s| s.contains("PUT poem = roses\\nred"));
    kv.command("get poem", "poem -> roses\\nred");
}

fn a_load_is_interrupted(kv: &mut Terminal, home: &Path) {
    let lines: String = (0..MANY_KEYS).map(|n| format!("key-{n}\n")).collect();
    std::fs::write(home.join("many.txt"), lines).expect("a file");
    kv.keys("load many.txt\r");
    kv.sees("a bar", |s| s.contains(&format!("/{MANY_KEYS} keys")));
    kv.keys(CTRL_C);
    let seen = kv
        .sees("its end", |s| s.contains("error: interrupted: ") && s.trim_end().ends_with("\nkv>"));
    assert!(!seen.contains(&format!("/{MANY_KEYS} keys")), "the bar is gone: {seen}");
    let number = |before: &str, after: &str| -> usize {
        let rest = &seen[seen.rfind(before).expect(before) + before.len()..];
        rest[..rest.find(after).expect(after)].parse().expect("a number")
    };
    let loaded = number("Loaded ", " keys in");
    assert_eq!(loaded + number("interrupted: ", " keys were not sent"), MANY_KEYS);
    kv.command("count key-", &format!("\n{loaded} keys"));
}

fn a_load_without_a_shell_is_interrupted_too(home: &Path, addr: &str) {
    let args = ["--connect", addr, "load", "many.txt"];
    let mut kv = Terminal::start(home, &args, 30, 100).expect("it could be opened before");
    kv.sees("a bar", |s| s.contains(&format!("/{MANY_KEYS} keys")));
    kv.keys(CTRL_C);
    let (code, seen) = kv.end();
    assert_eq!(code, 130);
    assert!(seen.starts_with("Loaded ") && seen.contains("keys were not sent"), "{seen}");
}

fn a_watch_goes_on_until_ctrl_c(kv: &mut Terminal, addr: &str) {
    kv.begin("watch seen:");
    kv.sees("that it watches", |s| s.contains("Watching; Ctrl-C ends it."));
    for (key, value) in [("unseen", "1"), ("seen:a", "2")] {
        let put = Command::new(env!("CARGO_BIN_EXE_kv"))
            .args(["--connect", addr, "put", key, value])
            .output();
        assert!(put.expect("kv runs").status.success());
    }
    kv.sees("the write", |s| s.contains("  seen:a = 2"));
    kv.keys(CTRL_C);
    let screen = kv.sees("where to go on", |s| s.trim_end().ends_with("\nkv>"));
    assert!(screen.contains("1 change; go on:  watch seen: --from "), "{screen}");
    assert!(!screen.contains("unseen"), "{screen}");
}

/// Whoever typed `-` by mistake has not ended the input, and still gets away.
#[test]
fn waiting_for_a_value_is_interrupted() {
    let home = home();
    for command in [["put", "k", "-"].as_slice(), &["load", "-"]] {
        let args = [&["--connect", "127.0.0.1:1"], command].concat();
        let Some(mut kv) = Terminal::start(home.path(), &args, 24, 80) else { return };
        kv.keys("a value\r");
        wait_until_it_heeds_ctrl_c(kv.pid());
        kv.keys(CTRL_C);
        let (code, seen) = kv.end();
        assert_eq!(code, 130, "{seen}");
        assert!(seen.contains("error: interrupted: "), "{seen}");
    }
}

/// Waits until the process has a handler for SIGINT.
fn wait_until_it_heeds_ctrl_c(pid: i32) {
    let by = Instant::now() + Duration::from_secs(20);
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? >> (Signal::INT.as_raw() - 1) & 1 == 1)
    };
    while caught() != Some(true) {
        assert!(Instant::now() < by, "Ctrl-C would kill it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn an_export_leaves_no_bar_behind(kv: &mut Terminal, home: &Path) {
    let before = kv.raw().len();
    let seen = kv.command("export all.jsonl", "Exported ");
    assert!(kv.raw()[before..].contains(" keys, "), "there was one");
    assert!(!seen.contains(" keys, "), "{seen}");
    assert!(home.join("all.jsonl").exists());
}

fn what_a_halted_node_holds_up_is_interrupted(kv: &mut Terminal) {
    kv.command("addnode n4 5999", "Added n4 (127.0.0.1:");
    // With a halted node that nobody gives up, it cannot end before its time.
    kv.command("config heartbeat 60000", "heartbeat = 60000");
    kv.command("config timeout 60000", "timeout = 60000");
    kv.command("pause n3", "Paused n3");
    kv.keys("rebalance\r");
    kv.sees("a bar", |s| s.contains("[Coordinator] Starting") && s.ends_with(" keys, counting"));
    kv.keys(CTRL_C);
    kv.sees("the outcome", |s| {
        s.contains("error: interrupted: the rebalance goes on in the coordinator")
            && s.trim_end().ends_with("\nkv>")
    });
    kv.begin("show");
    kv.keys(CTRL_C);
    kv.sees("that it ended", |s| {
        s.trim_end().ends_with("error: interrupted: nothing was changed\nkv>")
    });
    kv.command("resume n3", "Resumed n3");
    let seen = kv.command("rebalance", "[Coordinator] Rebalance complete.");
    assert!(!seen.contains("error"), "{seen}");
}

fn tables_fit(kv: &mut Terminal) {
    kv.resize(30, 50);
    let seen = kv.command("show", "left out: ");
    assert!(seen.contains("\nNODE  ADDRESS"), "{seen}");
    assert!(seen.lines().any(|l| l.starts_with("n4 ") && l.contains(" UP ")), "{seen}");
    let seen = kv.command("stats", "epoch ");
    // A line that the terminal has wrapped is read as one, longer than the terminal is wide.
    assert!(seen.lines().any(|l| l.starts_with("nodes 4") && l.len() <= 50), "{seen}");
    kv.resize(30, 80);
    let seen = kv.command("show", "epoch ");
    assert!(seen.contains("LAST SEEN\n"), "{seen}");
    let seen = kv.command("config", "down_after");
    assert!(seen.lines().any(|line| line.starts_with("             ")), "it wraps: {seen}");
}

#[test]
fn a_closed_window_leaves_nothing_running() {
    let home = home();
    let Some(mut kv) = Terminal::start(home.path(), &[], 24, 80) else { return };
    kv.sees("the first prompt", |s| s.trim_end().ends_with("\nkv>"));
    let (data, cluster) = cluster(home.path());
    assert_eq!(pids(&cluster).len(), 4);
    kv.keys("put half a li");
    kv.sees("half a line", |s| s.ends_with("kv> put half a li"));
    signal(kv.pid(), Signal::HUP);
    assert_eq!(kv.end().0, 0);
    all_gone(&pids(&cluster), &data);
}

#[test]
fn a_demo_that_reads_lines_leaves_nothing_when_it_is_told_to_end() {
    let home = home();
    let mut kv = Command::new(env!("CARGO_BIN_EXE_kv"));
    kv.args(["demo", "--free-ports"]).env_remove("KV_CONNECT").env("TMPDIR", home.path());
    let mut kv = kv.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kv starts");
    let mut input = kv.stdin.take().expect("piped");
    input.write_all(b"put apple red\n").expect("it reads");
    let mut output = BufReader::new(kv.stdout.take().expect("piped"));
    let mut answer = String::new();
    output.read_line(&mut answer).expect("an answer");
    assert_eq!(answer.split(':').next(), Some("Replicas for key apple"));
    let (data, cluster) = cluster(home.path());
    signal(i32::try_from(kv.id()).expect("a process id"), Signal::TERM);
    assert_eq!(kv.wait().expect("it ran").code(), Some(130));
    all_gone(&pids(&cluster), &data);
}

#[test]
fn history_is_kept_from_shell_to_shell() {
    let home = home();
    let args = ["--connect", "127.0.0.1:1"];
    let Some(mut kv) = Terminal::start(home.path(), &args, 40, 100) else { return };
    kv.sees("that nobody is there", |s| {
        s.contains("error: coordinator at 127.0.0.1:1") && s.trim_end().ends_with("\nkv>")
    });
    kv.command("help get", "get apple --all");
    kv.keys(" help secret\r");
    kv.sees("the mistake", |s| s.contains("unknown command \"secret\""));
    kv.keys("exit\r");
    assert_eq!(kv.end().0, 0);

    let Some(mut kv) = Terminal::start(home.path(), &args, 40, 100) else { return };
    kv.sees("the prompt", |s| s.trim_end().ends_with("\nkv>"));
    kv.keys(&format!("{UP}{UP}"));
    kv.sees("the line before the last", |s| s.ends_with("\nkv> help get"));
    kv.keys("\x15");
    let seen = kv.command(".history", "help get\nexit\n.history\nkv>");
    assert!(!seen.contains("secret"), "{seen}");
    assert!(!kv.raw().contains("panicked"));
}
