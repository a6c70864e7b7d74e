//! A detached cluster on free ports, with a directory of its own, and `kv` as somebody there runs
//! it. It ends with the test.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The directory in which all happens.
pub(crate) struct Place {
    dir: TempDir,
}

/// How a run of `kv` ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `kv <args>` to its end with `stdin`.
    pub(crate) fn kv(&self, connect: &str, args: &[&str], stdin: &[u8]) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kv"))
            .args(args)
            .current_dir(self.path())
            .env("XDG_RUNTIME_DIR", self.path())
            .env("TMPDIR", self.path())
            .env("KV_CONNECT", connect)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kv starts");
        // A command that does not read its input closes it.
        let _ = child.stdin.take().expect("piped").write_all(stdin);
        let output = child.wait_with_output().expect("kv ends");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended { code: output.status.code().expect("no signal"), out: output.stdout, err }
    }

    /// `kv demo --detach` with more options; what it printed.
    pub(crate) fn detach(&self, options: &[&str]) -> Value {
        let args = [&["demo", "--detach", "--free-ports"], options].concat();
        let ended = self.kv("", &args, b"");
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_slice(&ended.out).expect("one JSON line")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Up to as many as a test may have started; when there is none it says so.
        while self.kv("", &["demo", "stop"], b"").code == 0 {}
    }
}

impl Ended {
    /// What it printed, after it ended with `code`.
    pub(crate) fn with(&self, code: i32) -> String {
        let out = String::from_utf8_lossy(&self.out).into_owned();
        assert_eq!(self.code, code, "{out}{}", self.err);
        out
    }
}
