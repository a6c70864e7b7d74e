//! A terminal for a program under test: what is typed goes in, what a person would see is read
//! off a screen.

use std::io::{Read as _, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// How long a test waits for something to be seen before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const CTRL_C: &str = "\x03";
pub(crate) const CTRL_D: &str = "\x04";
pub(crate) const UP: &str = "\x1b[A";

/// `kv` on a terminal of its own; killed when dropped.
pub(crate) struct Terminal {
    screen: vt100::Parser,
    output: Receiver<Vec<u8>>,
    /// All that came, as it came.
    raw: Vec<u8>,
    input: Box<dyn Write + Send>,
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
}

impl Terminal {
    /// Starts `kv <args>` with its files in `home`; `None`, said aloud, where no terminal can be
    /// opened.
    pub(crate) fn start(home: &Path, args: &[&str], rows: u16, cols: u16) -> Option<Self> {
        let pair = match native_pty_system().openpty(size(rows, cols)) {
            Ok(pair) => pair,
            Err(error) => {
                // Past the test harness, which hides what a passing test prints.
                let skipped = format!("SKIPPED: no terminal can be opened here: {error}\n");
                let _ = std::io::stderr().write_all(skipped.as_bytes());
                return None;
            }
        };
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_kv"));
        command.args(args);
        for name in ["KV_CONNECT", "NO_COLOR", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color");
        command.env("XDG_DATA_HOME", home);
        command.env("TMPDIR", home);
        command.cwd(home);
        let child = pair.slave.spawn_command(command).expect("kv starts");
        let mut reader = pair.master.try_clone_reader().expect("a reader");
        let (to, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if to.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = pair.master.take_writer().expect("a writer");
        let screen = vt100::Parser::new(rows, cols, 0);
        Some(Self { screen, output, raw: Vec::new(), input, master: pair.master, child })
    }

    /// Types.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Types a command and Enter on a clear screen, and waits for what it says and the prompt.
    pub(crate) fn command(&mut self, line: &str, said: &str) -> String {
        self.clear();
        self.keys(&format!("{line}\r"));
        self.sees(&format!("{said:?} after {line:?}"), |screen| {
            screen.contains(said) && screen.trim_end().ends_with("\nkv>")
        })
    }

    /// Types a command on a clear screen and Enter, and waits until it has the terminal.
    pub(crate) fn begin(&mut self, line: &str) {
        self.clear();
        let before = self.raw.len();
        self.keys(&format!("{line}\r"));
        // With this the editor takes its hands off.
        let released = "\x1b[?2004l";
        self.until(&format!("the start of {line:?}"), |kv| kv.raw()[before..].contains(released));
    }

    /// Waits until the screen, without blanks at the ends of its lines, is as wanted.
    pub(crate) fn sees(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.until(what, |kv| wanted(&kv.text()));
        self.text()
    }

    fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let by = Instant::now() + PATIENCE;
        while !reached(self) {
            match self.output.recv_timeout(by.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited in vain for {what}:\n{}", self.text())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended before {what}:\n{}", self.text())
                }
            }
        }
    }

    /// All bytes since the start.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Ctrl-L: the prompt alone on the screen.
    fn clear(&mut self) {
        self.keys("\x0c");
        self.sees("a clear screen", |screen| screen.trim_end() == "kv>");
    }

    /// Makes the terminal so wide.
    pub(crate) fn resize(&mut self, rows: u16, cols: u16) {
        self.master.resize(size(rows, cols)).expect("a new size");
        self.screen.screen_mut().set_size(rows, cols);
    }

    /// The process, to send it signals.
    pub(crate) fn pid(&self) -> i32 {
        let pid = self.child.process_id().expect("it runs");
        i32::try_from(pid).expect("a process id")
    }

    /// Waits for the end of `kv` and of its output; the exit code and what was seen last.
    pub(crate) fn end(&mut self) -> (u32, String) {
        let by = Instant::now() + PATIENCE;
        loop {
            match self.output.recv_timeout(by.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("kv does not end:\n{}", self.text()),
            }
        }
        let status = self.child.wait().expect("a child of ours");
        (status.exit_code(), self.text())
    }

    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        self.screen.process(bytes);
    }

    fn text(&self) -> String {
        let contents = self.screen.screen().contents();
        contents.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, cols: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}
