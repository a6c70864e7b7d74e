//! The process around a server, the same for nodes and the coordinator: one thread, logs on
//! standard error, one ready line on standard output, and an orderly stop on SIGTERM, SIGINT or,
//! for a child that follows its parent, at the end of standard input.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs `server` on a runtime of this thread alone, whose tasks may be local; the token is cancelled when the process
/// is to stop.
///
/// # Errors
///
/// The runtime or the signal handlers could not be set up; else what `server` returns.
pub fn run_process<E: From<io::Error>>(
    stop_on_eof: bool,
    server: impl AsyncFnOnce(CancellationToken) -> Result<(), E>,
) -> Result<(), E> {
    let filter = EnvFilter::try_from_env("KV_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // A process that embeds several servers has set up its logs already.
    let _ = logs.try_init();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let shutdown = CancellationToken::new();
    if stop_on_eof {
        cancel_at_eof(shutdown.clone());
    }
    let result = runtime.block_on(async {
        cancel_on_signal(&shutdown)?;
        server(shutdown).await
    });
    runtime.shutdown_background();
    result
}

/// Tells on standard error why a server ended, for a person: `error: …` and what to do, indented.
/// Gives the exit code of the process.
pub fn tell_end(error: &dyn std::error::Error, hint: Option<&str>, exit_code: u8) -> ExitCode {
    let mut text = format!("error: {error}\n");
    for line in hint.iter().flat_map(|hint| hint.lines()) {
        text.push_str(&format!("  {line}\n"));
    }
    // Who closed standard error does not want to know.
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(exit_code)
}

/// Prints the ready line: `{"ready":"127.0.0.1:5001","pid":4711}`.
pub fn print_ready(addr: SocketAddr) {
    let line = serde_json::json!({"ready": addr, "pid": std::process::id()});
    // Who does not read the line does not need it.
    let _ = writeln!(io::stdout(), "{line}");
}

fn cancel_on_signal(shutdown: &CancellationToken) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, shutdown) = (signal(kind)?, shutdown.clone());
        tokio::task::spawn_local(async move {
            signals.recv().await;
            shutdown.cancel();
        });
    }
    Ok(())
}

fn cancel_at_eof(shutdown: CancellationToken) {
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        let mut input = io::stdin().lock();
        while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
        shutdown.cancel();
    });
}
