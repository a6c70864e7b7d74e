//! The line editor's thread: prompt, history, and what was typed.
//!
//! # Caveats
//!
//! When the shell leaves while the prompt is shown, the thread is left behind and ends with the
//! process; the history is written after each line, so nothing is lost.

use std::path::PathBuf;
use std::sync::mpsc as blocking;

use rustyline::config::{ColorMode, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use tokio::sync::{mpsc, oneshot};

use super::helper::ShellHelper;
use crate::session::KnownNodes;

/// Prints a line above the prompt.
pub(super) type Printer = Box<dyn FnMut(String) + Send>;

/// How many lines the history file keeps.
const HISTORY_LINES_MAX: usize = 10_000;
const PROMPT: &str = "kv> ";

/// What came from the editor.
pub(super) enum Typed {
    /// A line, perhaps of several lines of text.
    Line(String),
    /// Ctrl-D.
    End,
}

/// What the thread needs.
pub(super) struct Wiring {
    /// The names of nodes, for completion.
    pub(super) nodes: KnownNodes,
    /// Whether to highlight.
    pub(super) color: bool,
    /// Where typed lines go.
    pub(super) typed: mpsc::Sender<Typed>,
    /// Where the printer goes, if the terminal has one.
    pub(super) printer: oneshot::Sender<Printer>,
}

/// Starts the thread; each `()` sent lets it show the next prompt.
pub(super) fn spawn(wiring: Wiring) -> blocking::SyncSender<()> {
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

fn read_lines(wiring: Wiring, wait: &blocking::Receiver<()>) -> rustyline::Result<()> {
    let Wiring { nodes, color, typed, printer } = wiring;
    let mut editor: Editor<ShellHelper, DefaultHistory> = Editor::with_config(config(color)?)?;
    editor.set_helper(Some(ShellHelper::new(nodes, color)));
    let history = history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    if let Ok(mut external) = editor.create_external_printer() {
        let print = move |line: String| {
            // A terminal that has gone shows no notices.
            let _ = external.print(line);
        };
        let _ = printer.send(Box::new(print));
    }
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                let mut out = anstream::stderr();
                let _ = std::io::Write::write_all(&mut out, b"(exit or Ctrl-D leaves)\n");
                continue;
            }
            Err(error) => return Err(error),
        };
        editor.add_history_entry(line.as_str())?;
        if let Some(file) = &history {
            let _ = editor.save_history(file);
        }
        if typed.blocking_send(Typed::Line(line)).is_err() || wait.recv().is_err() {
            return Ok(());
        }
    }
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
