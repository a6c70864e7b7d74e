//! The shell on a terminal: a line editor on its own thread, commands and notices on this one.
//!
//! ```text
//!   editor thread (blocks)              this thread (async)
//!   readline ──── Typed ──────────────▶ session.run_line, or Ctrl-C
//!            ◀─── go on ──────────────
//!   prompt   ◀─── printer ──────────── events: "! n2 is DOWN (…)"
//! ```
//!
//! The editor waits for "go on" before it shows the next prompt, so a command owns the terminal
//! while it runs. Notices are printed above the prompt, and a half-typed line stays.
//!
//! # Caveats
//!
//! Ctrl-C during a command stops waiting for it; what was sent may still be applied. A terminal
//! that cannot print above a prompt simply shows no notices.

mod editor;
mod helper;
mod notices;

use ringkv_shared::net::ClusterApiClient;
use tokio::sync::mpsc;

use crate::exit;
use crate::session::{LineOutcome, Session};

use self::editor::Typed;

/// Runs the shell until the person leaves.
pub(crate) async fn run(mut session: Session, banner: String, color: anstream::ColorChoice) -> u8 {
    if !banner.is_empty() {
        session.line(banner.trim_end());
    }
    learn_nodes(&session).await;
    let (typed_to, mut typed) = mpsc::channel(1);
    let (printer_to, printer) = tokio::sync::oneshot::channel();
    let go_on = editor::spawn(editor::Wiring {
        nodes: session.known_nodes(),
        color: color != anstream::ColorChoice::Never && helper::wants_color(),
        typed: typed_to,
        printer: printer_to,
    });
    let addr = session.addr.clone();
    let notices = tokio::task::spawn_local(async move {
        if let Ok(printer) = printer.await {
            notices::show(&addr, printer).await;
        }
    });
    while let Some(Typed::Line(line)) = typed.recv().await {
        let outcome = run_or_cancel(&mut session, &line).await;
        if outcome.leave || go_on.send(()).is_err() {
            break;
        }
    }
    notices.abort();
    exit::OK
}

/// Runs a line; Ctrl-C cancels it, not the shell.
async fn run_or_cancel(session: &mut Session, line: &str) -> LineOutcome {
    let finished = tokio::select! {
        outcome = session.run_line(line) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    finished.unwrap_or_else(|| {
        session.notice("^C  no longer waiting; what was sent may still be applied");
        LineOutcome { exit: exit::INTERRUPTED, leave: false }
    })
}

/// Asks for the nodes once, for completion; not essential.
async fn learn_nodes(session: &Session) {
    if let Ok(reply) = session.call(async |c| ClusterApiClient::show(c).await).await {
        session.note_nodes(reply.nodes.into_iter().map(|row| row.id.to_string()));
    }
}
