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
//! while it runs. Notices are printed above the prompt, and a half-typed line stays. The shell
//! ends with `exit`, Ctrl-D, SIGTERM, or a terminal that is closed.
//!
//! # Caveats
//!
//! What Ctrl-C does to a command is in [`crate::interrupt`]. A terminal that cannot print above a
//! prompt simply shows no notices.

mod editor;
mod helper;
mod notices;

use ringkv_shared::Failure;
use ringkv_shared::net::ClusterApiClient;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::exit;
use crate::interrupt::{self, Endings, Presses};
use crate::session::{LineOutcome, Session};

use self::editor::{Begun, Typed};

/// Runs the shell until the person leaves, or one of `endings` comes.
pub(crate) async fn run(
    mut session: Session,
    mut endings: Endings,
    banner: String,
    color: anstream::ColorChoice,
) -> u8 {
    let cooked = tcgetattr(std::io::stdin()).ok();
    // From now on Ctrl-C is never the end of the shell. Pressed in the moment between Enter and the
    // command, it waits here for the command.
    let mut presses = Presses::listen();
    greet(&mut session, &banner).await;
    let (typed_to, mut typed) = mpsc::channel(1);
    let (begun_to, begun) = tokio::sync::oneshot::channel();
    let go_on = editor::spawn(editor::Wiring {
        prompt: session.prompt(),
        nodes: session.known_nodes(),
        color: color != anstream::ColorChoice::Never && helper::wants_color(),
        typed: typed_to,
        begun: begun_to,
    });
    let notices = begin(&mut session, begun.await.ok());
    loop {
        let line = tokio::select! {
            typed = typed.recv() => match typed {
                Some(Typed::Line(line)) => line,
                Some(Typed::End) | None => break,
            },
            () = endings.next() => break,
        };
        let outcome = tokio::select! {
            outcome = run_or_cancel(&mut session, &line, &mut presses) => outcome,
            () = endings.next() => break,
        };
        presses.forget();
        if outcome.leave || go_on.send(session.prompt()).is_err() {
            break;
        }
    }
    if let Some(notices) = notices {
        notices.abort();
    }
    restore(cooked);
    exit::OK
}

/// Says where this is, and learns the nodes for completion.
async fn greet(session: &mut Session, banner: &str) {
    let shown = session.call(async |c| ClusterApiClient::show(c).await).await;
    match (banner, shown) {
        ("", Err(failure)) => tell(session, &failure),
        ("", Ok(reply)) => {
            let count = reply.nodes.len();
            session.line(&format!("Connected to {}, {count} nodes; help for more", session.addr));
            session.note_nodes(reply.nodes.into_iter().map(|row| row.id.to_string()));
        }
        (banner, shown) => {
            session.line(banner.trim_end());
            let nodes = shown.into_iter().flat_map(|reply| reply.nodes);
            session.note_nodes(nodes.map(|row| row.id.to_string()));
        }
    }
}

fn tell(session: &mut Session, failure: &Failure) {
    session.notice(&format!("error: {}", failure.message));
    for line in failure.hint.iter().flat_map(|hint| hint.lines()) {
        session.notice(&format!("  {line}"));
    }
}

/// Takes over the history, and shows notices from now on.
fn begin(session: &mut Session, begun: Option<Begun>) -> Option<tokio::task::JoinHandle<()>> {
    let Begun { history, printer } = begun?;
    history.into_iter().for_each(|line| session.remember(line));
    let (addr, printer) = (session.addr.clone(), printer?);
    Some(tokio::task::spawn_local(async move { notices::show(&addr, printer).await }))
}

/// Runs a line; Ctrl-C ends it, not the shell.
async fn run_or_cancel(session: &mut Session, line: &str, presses: &mut Presses) -> LineOutcome {
    let token = CancellationToken::new();
    session.interrupt = token.clone();
    let finished = interrupt::run(&token, presses, session.run_line(line)).await;
    finished.unwrap_or_else(|| {
        session.notice("error: interrupted: what was sent may still be applied");
        LineOutcome { exit: exit::INTERRUPTED, leave: false }
    })
}

/// Gives the terminal back as it was: an editor that was left at its prompt has it in raw mode.
fn restore(cooked: Option<Termios>) {
    if let Some(cooked) = cooked {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &cooked);
    }
}
