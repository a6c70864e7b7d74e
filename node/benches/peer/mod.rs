//! Servers as processes: what the comparison asks of either.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Requests under way at a time while filling.
const WINDOW: u64 = 10_000;

pub(crate) trait Server {
    /// Starts on `dir` and waits until it serves.
    fn start(dir: &Path) -> Self;
    fn child(&mut self) -> &mut Child;
    /// How long it read its log when it started.
    fn replay_seconds(&mut self) -> f64;
    fn keys(&mut self) -> u64;
    /// The n-th put, as one burst of bytes; the answer is one line.
    fn put(n: u64, keys: u64, value_bytes: usize) -> String;
    fn stream(&self) -> &TcpStream;
    /// Writes all keys into a new file that takes the place of the log; ends when that is done.
    fn compact(&mut self);

    /// Puts `keys` keys, in an order that is not theirs.
    fn fill(&mut self, keys: u64, value_bytes: usize) {
        pipeline(self.stream(), keys, |n| Self::put(n, keys, value_bytes));
    }

    /// How long puts of one connection take, one after the other, until `done` is set, at least a thousand of them.
    fn puts_until(
        address: SocketAddr,
        keys: u64,
        value_bytes: usize,
        done: &AtomicBool,
    ) -> Vec<Duration> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let (mut times, mut line) = (Vec::new(), String::new());
        while times.len() < 1000 || !done.load(Ordering::Relaxed) {
            let request = Self::put(times.len() as u64, keys, value_bytes);
            let begun = Instant::now();
            stream.write_all(request.as_bytes()).unwrap();
            line.clear();
            answers.read_line(&mut line).unwrap();
            times.push(begun.elapsed());
        }
        times
    }

    /// Ends in good order, with everything written.
    fn stop(mut self)
    where
        Self: Sized,
    {
        let pid = i32::try_from(self.child().id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child().wait().unwrap();
    }

    fn resident_bytes(&mut self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// The n-th pair: the multiplier shares no factor with any number of keys used here.
fn pair(n: u64, keys: u64, value_bytes: usize) -> (String, String) {
    let n = n.wrapping_mul(7_368_787) % keys;
    (format!("user:{n:011}"), format!("{n:0>value_bytes$}"))
}

/// Writes `count` requests and reads as many one-line answers, a window at a time.
fn pipeline(stream: &TcpStream, count: u64, request: impl Fn(u64) -> String) {
    let mut answers = BufReader::new(stream);
    let mut line = String::new();
    for from in (0..count).step_by(usize::try_from(WINDOW).unwrap()) {
        let until = (from + WINDOW).min(count);
        let burst: String = (from..until).map(&request).collect();
        let mut writer = stream;
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(burst.as_bytes()).unwrap());
            for _ in from..until {
                line.clear();
                answers.read_line(&mut line).unwrap();
                assert!(!line.starts_with('-') && !line.contains("\"error\""), "{line}");
            }
        });
    }
}

/// A storage node.
pub(crate) struct Node {
    child: Child,
    stream: TcpStream,
}

impl Node {
    fn call(&mut self, method: &str) -> Value {
        let call = json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": []});
        (&self.stream).write_all(format!("{call}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(&self.stream).read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["result"].clone()
    }
}

impl Server for Node {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv-node"));
        command.args(["--id", "n1", "--listen", "127.0.0.1:0", "--durability", "os"]);
        command.args(["--compact-after", "1000000000", "--data"]).arg(dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let stream = TcpStream::connect(ready["ready"].as_str().unwrap()).unwrap();
        Self { child, stream }
    }

    fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn put(n: u64, keys: u64, value_bytes: usize) -> String {
        let (key, value) = pair(n, keys, value_bytes);
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"put\",\"params\":[\"{key}\",\"{value}\"]}}\n"
        )
    }

    fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn compact(&mut self) {
        assert!(self.call("compact")["records"].is_u64(), "it compacts");
    }

    #[allow(clippy::cast_precision_loss)]
    fn replay_seconds(&mut self) -> f64 {
        self.call("stats")["replay_us"].as_u64().unwrap() as f64 / 1e6
    }

    fn keys(&mut self) -> u64 {
        self.call("size")["size"].as_u64().unwrap()
    }
}

/// A redis server.
pub(crate) struct Redis {
    child: Child,
    stream: TcpStream,
    /// What it said while it started.
    said: Vec<String>,
}

impl Redis {
    fn ask(&mut self, command: &str) -> String {
        (&self.stream).write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(&self.stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn info(&mut self, section: &str) -> String {
        (&self.stream).write_all(format!("INFO {section}\r\n").as_bytes()).unwrap();
        let mut answer = BufReader::new(&self.stream);
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        let bytes: usize = line.trim_start_matches('$').trim_end().parse().unwrap();
        let mut text = vec![0; bytes + 2];
        answer.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }
}

impl Server for Redis {
    fn start(dir: &Path) -> Self {
        // Redis cannot choose a port by itself.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "no"]);
        command.args(["--auto-aof-rewrite-percentage", "0", "--dir"]).arg(dir);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !said.last().is_some_and(|l: &String| l.contains("Ready to accept connections")) {
            said.push(lines.next().expect("redis starts").unwrap());
        }
        std::thread::spawn(move || lines.for_each(drop));
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { child, stream, said }
    }

    fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn put(n: u64, keys: u64, value_bytes: usize) -> String {
        let (key, value) = pair(n, keys, value_bytes);
        let (k, v) = (key.len(), value.len());
        format!("*3\r\n$3\r\nSET\r\n${k}\r\n{key}\r\n${v}\r\n{value}\r\n")
    }

    fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn compact(&mut self) {
        assert!(self.ask("BGREWRITEAOF").starts_with('+'));
        let is_over = |info: &str| info.contains("aof_rewrite_in_progress:0");
        while !is_over(&self.info("persistence")) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The sum over the files of its log.
    fn replay_seconds(&mut self) -> f64 {
        let loaded = self.said.iter().filter(|line| line.contains("DB loaded from"));
        let parts = loaded.filter(|line| !line.contains("append only file"));
        parts.map(|line| line.rsplit(' ').nth(1).unwrap().parse::<f64>().unwrap()).sum()
    }

    fn keys(&mut self) -> u64 {
        self.ask("DBSIZE").trim_start_matches(':').parse().unwrap()
    }
}
