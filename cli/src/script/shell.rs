//! Scripts with the real shell: a [`Session`] that prints into a transcript.
//!
//! # Caveats
//!
//! The session narrates as at the prompt: of a long rebalance it shows 20 lines, unless the script
//! says `.brief off`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::check_with;
use super::run::run_with;
use super::stage::Shell;
use crate::output::Capture;
use crate::session::{Session, Settings};

/// Plays a script. The exit code is that of the first command that ended otherwise than expected.
pub(crate) async fn run_file(path: &Path, step: bool, delay: Option<Duration>) -> u8 {
    run_with(path, step, delay, Transcript::connect).await
}

/// Compares scripts, or rewrites them. 0 when all are as written (or were updated), 6 when one
/// differs, 2 when one cannot be read.
pub(crate) async fn check_files(paths: &[PathBuf], update: bool) -> u8 {
    check_with(paths, update, Transcript::connect).await
}

/// A session and what it printed.
struct Transcript {
    session: Session,
    printed: Capture,
}

impl Transcript {
    fn connect(addr: &str) -> Self {
        let printed = Capture::default();
        let settings = Settings { narrate: true, ..Settings::default() };
        let session = Session::connect(addr.to_owned(), settings, Box::new(printed.clone()));
        Self { session, printed }
    }
}

impl Shell for Transcript {
    async fn run_line(&mut self, line: &str) -> (String, u8) {
        let outcome = self.session.run_line(line).await;
        (self.printed.take(), outcome.exit)
    }
}
