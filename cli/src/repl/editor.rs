//! The line editor's thread: prompt, history, and what was typed.
//!
//! # Caveats
//!
//! When the shell leaves while the prompt is shown, the thread is left behind and ends with the
//! process; the history is appended to after each line, so nothing is lost, and two shells at a
//! time add to one another's.

use std::path::PathBuf;
use std::sync::mpsc as blocking;

use rustyline::config::{ColorMode, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use tokio::sync::{mpsc, oneshot};

use super::helper::ShellHelper;
use crate::session::KnownNodes;

/// Takes lines to print above the prompt; they are printed by a thread of their own, since a
/// printer may have to wait for the editor.
pub(super) type Printer = mpsc::Sender<String>;

/// Notices waiting to be printed; beyond, their sender waits.
const NOTICES_MAX: usize = 16;

/// How many lines the history file keeps.
const HISTORY_LINES_MAX: usize = 10_000;

/// What came from the editor.
pub(super) enum Typed {
    /// A line, perhaps of several lines of text.
    Line(String),
    /// Ctrl-D.
    End,
}

/// What the thread needs.
pub(super) struct Wiring {
    /// The first prompt.
    pub(super) prompt: String,
    /// The names of nodes, for completion.
    pub(super) nodes: KnownNodes,
    /// Whether to highlight.
    pub(super) color: bool,
    /// Where typed lines go.
    pub(super) typed: mpsc::Sender<Typed>,
    /// Where to tell that it has begun.
    pub(super) begun: oneshot::Sender<Begun>,
}

/// What there is once the editor has begun.
pub(super) struct Begun {
    /// The lines of earlier shells, the oldest first.
    pub(super) history: Vec<String>,
    /// The printer, if the terminal has one.
    pub(super) printer: Option<Printer>,
}

/// Starts the thread; each prompt sent lets it show the next one.
pub(super) fn spawn(wiring: Wiring) -> blocking::SyncSender<String> {
    let (go_on, wait) = blocking::sync_channel(1);
    std::thread::spawn(move || {
        // An editor that cannot start or go on ends the shell as Ctrl-D does.
        let typed = wiring.typed.clone();
        if read_lines(wiring, &wait).is_err() {
            let _ = typed.blocking_send(Typed::End);
        }
    });
    go_on
}

fn read_lines(wiring: Wiring, wait: &blocking::Receiver<String>) -> rustyline::Result<()> {
    let Wiring { mut prompt, nodes, color, typed, begun } = wiring;
    let mut editor: Editor<ShellHelper, DefaultHistory> = Editor::with_config(config(color)?)?;
    editor.set_helper(Some(ShellHelper::new(nodes, color)));
    let file = history_file();
    if let Some(file) = &file {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    let history = editor.history().iter().cloned().collect();
    let printer = editor.create_external_printer().ok().map(print_on_a_thread);
    if begun.send(Begun { history, printer }).is_err() {
        return Ok(());
    }
    loop {
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                let mut out = anstream::stderr();
                let _ = std::io::Write::write_all(&mut out, b"(exit or Ctrl-D leaves)\n");
                continue;
            }
            Err(error) => return Err(error),
        };
        editor.add_history_entry(line.as_str())?;
        if let Some(file) = &file {
            // A history that cannot be written is no reason to stop the shell.
            let _ = editor.append_history(file);
        }
        if typed.blocking_send(Typed::Line(line)).is_err() {
            return Ok(());
        }
        let Ok(next) = wait.recv() else { return Ok(()) };
        prompt = next;
    }
}

fn print_on_a_thread(mut external: impl ExternalPrinter + Send + 'static) -> Printer {
    let (to, mut lines) = mpsc::channel(NOTICES_MAX);
    std::thread::spawn(move || {
        while let Some(line) = lines.blocking_recv() {
            // A terminal that has gone shows no notices.
            let _ = external.print(line);
        }
    });
    to
}

fn config(color: bool) -> rustyline::Result<Config> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .color_mode(if color { ColorMode::Enabled } else { ColorMode::Disabled })
        .bracketed_paste(true);
    Ok(config.build())
}

/// `$XDG_DATA_HOME/ringkv/history` or `~/.local/share/ringkv/history`.
fn history_file() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let data = data.or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".local/share"))
    })?;
    let folder = data.join("ringkv");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
