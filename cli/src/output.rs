//! The one way out: every line that the program prints goes through a [`Sink`].
//!
//! Results go to standard output, errors, warnings and notices to standard error; a transcript
//! takes both in the order in which they came. A reader that has gone (`kv scan | head -1`) is no
//! error: the sink says so with [`Output::closed`], and the shell stops with exit code 0.
//!
//! # Caveats
//!
//! Standard error is written without a check: when even that is gone there is nobody to tell.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};

/// Where a session prints.
pub(crate) type Sink = Box<dyn Output>;

/// Something that takes lines of results and of errors.
pub(crate) trait Output: Send {
    /// Writes bytes of a result as they are.
    fn result(&mut self, bytes: &[u8]);

    /// Writes a line of an error, a warning or a notice.
    fn notice(&mut self, line: &str);

    /// Whether results are read by a person at a terminal.
    fn is_terminal(&self) -> bool {
        false
    }

    /// How many columns the terminal has that results are read at; `None` when there is none.
    fn width(&self) -> Option<usize> {
        None
    }

    /// Whether nobody reads the results any more.
    fn closed(&self) -> bool {
        false
    }

    /// Whether results were lost, other than by a reader that has gone.
    fn failed(&self) -> bool {
        false
    }
}

/// Standard output and standard error of the process.
pub(crate) struct Console {
    stdout: io::Stdout,
    stderr: anstream::AutoStream<io::Stderr>,
    closed: bool,
    failed: bool,
}

impl Console {
    /// The process's own streams, with colour as chosen.
    #[must_use]
    pub(crate) fn new(color: anstream::ColorChoice) -> Self {
        Self {
            stdout: io::stdout(),
            stderr: anstream::AutoStream::new(io::stderr(), color),
            closed: false,
            failed: false,
        }
    }

    /// Notes a result that could not be written: a closed pipe ends quietly, a full disk does not.
    fn broke(&mut self, error: &io::Error) {
        self.closed = true;
        if error.kind() != io::ErrorKind::BrokenPipe && !self.failed {
            self.failed = true;
            self.notice(&format!("error: standard output: {error}"));
        }
    }
}

impl Output for Console {
    fn result(&mut self, bytes: &[u8]) {
        // Results carry no colour of ours, and a value is never filtered for what looks like one.
        let written = self.stdout.write_all(bytes);
        if let Err(error) = written.and_then(|()| self.stdout.flush()) {
            self.broke(&error);
        }
    }

    fn notice(&mut self, line: &str) {
        let (word, rest) = match line.split_once(": ") {
            Some(("error", rest)) => ("error", rest),
            _ => ("", line),
        };
        let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        let text = match word {
            "" => format!("{rest}\n"),
            word => format!("{red}{word}:{red:#} {rest}\n"),
        };
        let _ = self.stderr.write_all(text.as_bytes());
    }

    fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    fn width(&self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(&self.stdout).ok()?;
        // A terminal that does not know its size says 0.
        (size.ws_col > 0).then_some(size.ws_col.into())
    }

    fn closed(&self) -> bool {
        self.closed
    }

    fn failed(&self) -> bool {
        self.failed
    }
}

/// Keeps results and errors in the order in which they came: a transcript.
#[derive(Clone, Default)]
pub(crate) struct Capture {
    text: Arc<Mutex<String>>,
}

impl Capture {
    /// What came since the last time, and forgets it.
    #[must_use]
    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, text: &str) {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }
}

impl Output for Capture {
    fn result(&mut self, bytes: &[u8]) {
        self.push(&String::from_utf8_lossy(bytes));
    }

    fn notice(&mut self, line: &str) {
        self.push(line);
        self.push("\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_keeps_the_order() {
        let capture = Capture::default();
        let mut sink: Sink = Box::new(capture.clone());
        sink.result(b"a\n");
        sink.notice("error: b");
        sink.result(b"c\n");
        assert_eq!(capture.take(), "a\nerror: b\nc\n");
        assert_eq!(capture.take(), "");
    }
}
