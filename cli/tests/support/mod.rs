//! Real servers as child processes on free ports, and a JSON-RPC caller of a few lines.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long a test waits for an answer or for a change before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Calls in flight at a time, where many are made.
const WINDOW: usize = 100;
/// How often it looks whether something has changed.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `done` gives something.
pub(crate) fn wait_for<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    wait_looking_each(POLL, what, done)
}

/// The same for what does not last: it looks more often.
pub(crate) fn wait_closely<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    wait_looking_each(Duration::from_millis(1), what, done)
}

fn wait_looking_each<T>(pause: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < by, "waited in vain: {what}");
        std::thread::sleep(pause);
    }
}

/// A server process; ended when dropped, and by itself when the test dies.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: String,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts `kv <args>` and waits for its ready line.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        command.args(args);
        Self::run(command)
    }

    /// Starts a command that becomes a server and waits for its ready line.
    pub(crate) fn run(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a ready line");
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command:?}: no ready line"));
        let addr = ready["ready"].as_str().expect("an address").to_owned();
        Self { child, addr, _stdout: stdout }
    }

    pub(crate) fn node(id: &str, data: &Path, listen: &str) -> Self {
        Self::start(&node_args(id, data, listen))
    }

    pub(crate) fn coordinator(data: &Path) -> Self {
        Self::start(&[&coordinator_args(data)[..], &PATIENT].concat())
    }

    /// Processor time that it has used so far, in its own code and in the system's.
    pub(crate) fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // Behind the name, which may have spaces, the 12th and 13th: hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// SIGKILL: no goodbye.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it ran");
        self.child.wait().expect("it ended");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(mut self) -> ExitStatus {
        wait_for("the server ends", || self.child.try_wait().expect("our child"))
    }

    /// SIGSTOP: it is there and does nothing.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our child");
    }

    /// Lets its files grow as they like, where they were kept small.
    #[cfg(target_os = "linux")]
    pub(crate) fn make_room(&self) {
        use rustix::process::{Resource, Rlimit, prlimit};
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, unlimited).expect("the hard limit is not lower");
    }

    fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.expect("a process id")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn node_args<'a>(id: &'a str, data: &'a Path, listen: &'a str) -> [&'a str; 10] {
    let data = text(data);
    let (compact, eof) = ("--compact-after", "--stop-on-eof");
    ["node", "--id", id, "--listen", listen, "--data", data, compact, "50", eof]
}

/// Lets a replica take its time: the disk of a busy machine may need seconds for a sync.
pub(crate) const PATIENT: [&str; 6] =
    ["--timeout", "10000", "--linger", "10000", "--hedge", "10000"];

pub(crate) fn coordinator_args(data: &Path) -> [&str; 6] {
    ["coordinator", "--listen", "127.0.0.1:0", "--data", text(data), "--stop-on-eof"]
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// `kv <args>` in a process whose files may not grow beyond so many blocks: a disk that is full.
pub(crate) fn with_full_disk(blocks: u32, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_kv")]).args(args);
    command
}

/// Runs `kv <args>` to its end.
pub(crate) fn kv(args: &[&str]) -> Output {
    kv_with(args, &[])
}

/// Runs `kv <args>` with these variables to its end, which must come soon: a server that starts
/// where it should refuse would never end.
pub(crate) fn kv_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.args(args).envs(variables.iter().copied());
    run_to_end(command)
}

pub(crate) fn run_to_end(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let by = Instant::now() + PATIENCE;
    while child.try_wait().expect("our child").is_none() {
        if Instant::now() > by {
            child.kill().expect("it ran");
            let said = child.wait_with_output().expect("it ended");
            panic!("{command:?} runs on: {}", String::from_utf8_lossy(&said.stdout));
        }
        std::thread::sleep(POLL);
    }
    child.wait_with_output().expect("it ended")
}

/// A connection that speaks JSON lines.
pub(crate) struct Caller(BufReader<TcpStream>);

impl Caller {
    pub(crate) fn to(addr: &str) -> Self {
        Self::try_to(addr).expect("it listens")
    }

    /// `None` when nobody listens there.
    pub(crate) fn try_to(addr: &str) -> Option<Self> {
        let stream = TcpStream::connect(addr).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        Some(Self(BufReader::new(stream)))
    }

    /// Sends one call without waiting; an error means that the server is gone.
    pub(crate) fn send(&mut self, id: u64, method: &str, params: &Value) -> std::io::Result<()> {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send_raw(format!("{call}\n").as_bytes())
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Sends nothing more, and reads until the server has closed the connection.
    pub(crate) fn rest(mut self) -> String {
        let _ = self.0.get_mut().shutdown(Shutdown::Write);
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server keeps the connection open")
            }
            // Closed with bytes of ours unread: a reset.
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// The next answer; `None` when the connection is gone.
    pub(crate) fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(count) if count > 0 => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }

    /// One call to its whole answer.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.send(0, method, params).expect("the server is there");
        self.answer().unwrap_or_else(|| panic!("no answer to {method} {params}"))
    }

    /// One call to its answer's result; panics on an error.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, &params);
        assert!(answer["error"].is_null(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    /// One call that must fail, to its error.
    pub(crate) fn error(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, &params);
        assert!(answer["result"].is_null(), "{method} {params}: {answer}");
        answer["error"].clone()
    }

    /// Calls to their results in order, [`WINDOW`] at a time; panics on an error.
    pub(crate) fn calls(&mut self, method: &str, params: &[Value]) -> Vec<Value> {
        let mut results = vec![Value::Null; params.len()];
        for (first, window) in (0..).step_by(WINDOW).zip(params.chunks(WINDOW)) {
            for (id, params) in (first..).zip(window) {
                self.send(id, method, params).expect("the server is there");
            }
            for _ in window {
                let answer = self.answer().expect("an answer");
                assert!(answer["error"].is_null(), "{method}: {answer}");
                let id = answer["id"].as_u64().expect("our id");
                results[usize::try_from(id).expect("our id")] = answer["result"].clone();
            }
        }
        results
    }

    /// Runs a rebalance to its end, whatever that is.
    pub(crate) fn rebalance_ends(&mut self) -> Value {
        // One that goes on by itself, after a restart, is as good.
        let begun = self.ask("rebalance", &json!({}));
        let busy = begun["error"]["data"]["name"] == "BUSY";
        assert!(busy || begun["result"].is_object(), "{begun}");
        wait_for("the rebalance ends", || {
            let report = self.call("progress", json!([]));
            (report["state"] != "running").then_some(report)
        })
    }

    /// Runs a rebalance that must do all there is to do.
    pub(crate) fn rebalance(&mut self) {
        let report = self.rebalance_ends();
        assert_eq!(
            (&report["state"], &report["failed"]),
            (&json!("complete"), &json!(0)),
            "{report}"
        );
    }

    /// Waits until `show` has `value` as member `name` of a node.
    pub(crate) fn wait_until(&mut self, node: &str, name: &str, value: Value) {
        wait_for(&format!("{node} has {name} {value}"), || {
            let show = self.call("show", json!([]));
            let rows = show["nodes"].as_array().expect("rows");
            rows.iter().any(|row| row["id"] == node && row[name] == value).then_some(())
        });
    }
}
