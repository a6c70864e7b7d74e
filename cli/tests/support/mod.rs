//! Real servers as child processes on free ports, and a JSON-RPC caller of a few lines.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// How long a test waits for an answer before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server process; ended when dropped, and by itself when the test dies.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: String,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts `kv <args>` and waits for its ready line.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = command(args).stderr(Stdio::null()).spawn().expect("kv starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a ready line");
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{args:?}: no ready line"));
        let addr = ready["ready"].as_str().expect("an address").to_owned();
        Self { child, addr, _stdout: stdout }
    }

    pub(crate) fn node(id: &str, data: &Path, listen: &str) -> Self {
        let data = data.to_str().expect("a UTF-8 path");
        Self::start(&[
            "node",
            "--id",
            id,
            "--listen",
            listen,
            "--data",
            data,
            "--compact-after",
            "50",
            "--stop-on-eof",
        ])
    }

    pub(crate) fn coordinator(data: &Path) -> Self {
        let data = data.to_str().expect("a UTF-8 path");
        Self::start(&["coordinator", "--listen", "127.0.0.1:0", "--data", data, "--stop-on-eof"])
    }

    /// SIGKILL: no goodbye.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it ran");
        self.child.wait().expect("it ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Runs `kv <args>` to its end.
pub(crate) fn kv(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("kv runs")
}

/// A connection that speaks JSON lines.
pub(crate) struct Caller(BufReader<TcpStream>);

impl Caller {
    pub(crate) fn to(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        Self(BufReader::new(stream))
    }

    /// Sends one call without waiting; an error means that the server is gone.
    pub(crate) fn send(&mut self, id: u64, method: &str, params: &Value) -> std::io::Result<()> {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.0.get_mut().write_all(format!("{call}\n").as_bytes())
    }

    /// The next answer; `None` when the connection is gone.
    pub(crate) fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(count) if count > 0 => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }

    /// One call to its answer's result; panics on an error.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(0, method, &params).expect("the server is there");
        let answer = self.answer().expect("an answer");
        assert!(answer["error"].is_null(), "{method} {params}: {answer}");
        answer["result"].clone()
    }
}
