//! What `kv` does with its arguments: shell, one command, many commands, a script, a server.
//!
//! | form | what it does |
//! |---|---|
//! | `kv` on a terminal | a local cluster and a shell on it; with `--connect`, a shell on that one |
//! | `kv put a 1` | one command, the bare result |
//! | `kv -e 'put a 1; get a'`, `… \| kv` | many commands, up to the first that fails |
//! | `kv demo`, `kv demo stop` | a local cluster with other sizes, or one that stays |
//! | `kv run FILE`, `kv check FILE…` | play a script, or compare what it prints |
//! | `kv check` | compare all replicas |
//! | `kv bench` | put load on a cluster and measure it |
//! | `kv completions SHELL`, `kv man` | what a package installs beside the program |
//! | `kv coordinator`, `kv node` | one server in this process |
//!
//! # Caveats
//!
//! Ctrl-C ends a one-shot command with 130, see [`crate::interrupt`].

use std::future::Future;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};
use tokio_util::sync::CancellationToken;

use ringkv_shared::{ErrorName, Failure};

use crate::bench::{self, BenchArgs};
use crate::cluster::{self, DemoOptions, LocalCluster};
use crate::exit;
use crate::feed::{Given, Lines, StandardInput, feed};
use crate::forms::{Cli, Demo, DemoAction, Form, Global};
use crate::grammar::{Command, Follow, Format, Line};
use crate::interrupt::{self, Endings, Presses};
use crate::output::Console;
use crate::report::{Report, Told};
use crate::servers::{self, Server};
use crate::session::{Session, Settings};
use crate::{manual, repl, script, usage, words};

/// Where the coordinator is when nothing else is said.
const DEFAULT_ADDR: &str = "127.0.0.1:5000";

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let mut grammar = Cli::command();
    let parsed = grammar.try_get_matches_from_mut(std::env::args_os()).and_then(|matches| {
        let name = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((name, Cli::from_arg_matches(&matches)?))
    });
    match parsed {
        Ok((_, Cli { form: Some(Form::Server(server)), .. })) => servers::run(server),
        Ok((name, cli)) => block_on(run(name, cli)),
        Err(error) => ExitCode::from(mistake(&grammar, &error)),
    }
}

/// Tells a mistake on the command line, or the help that was asked for.
fn mistake(grammar: &clap::Command, error: &clap::Error) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader of the help that has gone is no error.
        let _ = error.print();
        return exit::OK;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let known = |word: &&String| grammar.find_subcommand(word.as_str()).is_some();
    let name = arguments.iter().find(known).map_or("kv", String::as_str);
    let report = Report::from(usage::explain(grammar, error, name));
    let json = arguments.iter().any(|word| word == "--json");
    let mut out: Box<dyn crate::output::Output> =
        Box::new(Console::new(anstream::ColorChoice::Auto));
    if json {
        out.result(format!("{}\n", report.json(name)).as_bytes());
        return report.exit;
    }
    for told in &report.narrated {
        let (Told::Result(line) | Told::Notice(line)) = told;
        out.notice(line);
    }
    report.exit
}

/// Whether a word is no command of the shell: then it is a form of the command line, or nothing.
fn only_here(word: &str) -> bool {
    Line::command().find_subcommand(word).is_none()
}

/// Prints a result as it is.
fn print(global: &Global, bytes: &[u8]) -> u8 {
    let mut out = Console::new(global.color.into());
    crate::output::Output::result(&mut out, bytes);
    exit::OK
}

/// Runs a future on this thread.
fn block_on(future: impl Future<Output = u8>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(tokio::task::LocalSet::new().block_on(&runtime, future)),
        Err(error) => {
            let mut out = Console::new(anstream::ColorChoice::Auto);
            crate::output::Output::notice(&mut out, &format!("error: {error}"));
            ExitCode::from(exit::REFUSED)
        }
    }
}

/// Runs a form, and tells what kept it from running.
async fn run(name: String, cli: Cli) -> u8 {
    let Cli { global, execute, form } = cli;
    match run_form(&name, &global, execute, form).await {
        Ok(code) => code,
        Err(error) => one_shot(&global, false).tell(&name, as_failure(error).into()).exit,
    }
}

fn as_failure(error: anyhow::Error) -> Failure {
    error.downcast().unwrap_or_else(|e| Failure::new(ErrorName::NotApplied, format!("{e:#}")))
}

async fn run_form(
    name: &str,
    global: &Global,
    execute: Option<String>,
    form: Option<Form>,
) -> anyhow::Result<u8> {
    match form {
        Some(Form::Demo(demo)) => run_demo(global, demo).await,
        Some(Form::Run { file, step, delay }) => {
            let delay = delay.map(Duration::from_millis);
            Ok(script::run_file(&file, step, delay).await)
        }
        Some(Form::Check { files, replicas, .. }) if files.is_empty() => {
            Ok(run_one(name, global, Command::Follow(Follow::Check(replicas))).await)
        }
        Some(Form::Check { files, update, .. }) => Ok(script::check_files(&files, update).await),
        // Boxed: it is a large future, and every other form would carry its size.
        Some(Form::Bench(args)) => Ok(Box::pin(run_bench(name, global, *args)).await),
        Some(Form::Completions { shell }) => {
            let page = manual::completions(Cli::command(), shell);
            Ok(print(global, &page))
        }
        Some(Form::Man { command }) => {
            let page = manual::page(Cli::command(), command.as_deref())?;
            Ok(print(global, &page))
        }
        Some(Form::Command(Command::Help { command: Some(topic) })) if only_here(&topic) => {
            let text = usage::help(&Cli::command(), Some(&topic), None)?;
            Ok(one_shot(global, false).tell(name, Report::sentence(text)).exit)
        }
        Some(Form::Command(mut command)) => {
            let words: Vec<_> = std::env::args_os().collect();
            command.heed_escape(&words);
            Ok(run_one(name, global, command).await)
        }
        Some(Form::Server(server)) => Ok(server_inside(server)),
        None => many(global, execute).await,
    }
}

/// One command.
async fn run_one(name: &str, global: &Global, command: Command) -> u8 {
    let mut session = one_shot(global, true);
    let token = session.interrupt.clone();
    let outcome = async { session.run_command(name, command).await.exit };
    interruptible(&token, outcome).await
}

/// A measurement.
async fn run_bench(name: &str, global: &Global, args: BenchArgs) -> u8 {
    let mut session = one_shot(global, false);
    let token = session.interrupt.clone();
    let outcome = async {
        let run = Box::pin(bench::run(&mut session, args));
        let report = run.await.unwrap_or_else(Report::from);
        session.tell(name, report).exit
    };
    interruptible(&token, outcome).await
}

/// A server never gets here: `main` runs it before there is a runtime.
fn server_inside(_: Server) -> u8 {
    exit::USAGE
}

/// `-e`, standard input, or a shell.
async fn many(global: &Global, execute: Option<String>) -> anyhow::Result<u8> {
    if let Some(text) = execute {
        let mut session = one_shot(global, true);
        let commands = Given(words::split_commands(&text).into_iter());
        return Ok(feed_interruptible(&mut session, "-e", commands).await);
    }
    if !std::io::stdin().is_terminal() {
        let mut session = one_shot(global, false);
        let lines = StandardInput::start();
        return Ok(feed_interruptible(&mut session, "stdin", lines).await);
    }
    if global.connect.is_some() {
        let session = shell(global, address(global));
        return Ok(repl::run(session, Endings::listen(), String::new(), global.color.into()).await);
    }
    let options = DemoOptions { nodes: 3, replicas: 1, ..DemoOptions::default() };
    local_shell(global, options).await
}

async fn run_demo(global: &Global, demo: Demo) -> anyhow::Result<u8> {
    let Demo { nodes, replicas, data, port, detach, supervise, free_ports, memory_max, action } =
        demo;
    if let Some(DemoAction::Stop) = action {
        let sentence = cluster::demo_stop(data).await?;
        return Ok(one_shot(global, false).tell("demo", Report::sentence(sentence)).exit);
    }
    let options = DemoOptions { nodes, replicas, data, port, free_ports, memory_max };
    if supervise {
        cluster::supervise(options).await?;
        return Ok(exit::OK);
    }
    if detach {
        cluster::demo_detached(options).await?;
        return Ok(exit::OK);
    }
    local_shell(global, options).await
}

/// A local cluster with a shell on it; commands from standard input when that is no terminal.
async fn local_shell(global: &Global, options: DemoOptions) -> anyhow::Result<u8> {
    let mut endings = Endings::listen();
    let started = tokio::select! {
        started = LocalCluster::start(options) => started,
        // What had started ends when it is dropped, and the temporary data go too.
        _ = tokio::signal::ctrl_c() => return Ok(exit::INTERRUPTED),
        () = endings.next() => return Ok(exit::INTERRUPTED),
    };
    let cluster = started?;
    let mut session = shell(global, cluster.coordinator_addr().to_owned());
    if !std::io::stdin().is_terminal() {
        let code = tokio::select! {
            code = feed_interruptible(&mut session, "stdin", StandardInput::start()) => code,
            () = endings.next() => exit::INTERRUPTED,
        };
        cluster.stop().await;
        return Ok(code);
    }
    let code = repl::run(session, endings, cluster.banner(), global.color.into()).await;
    let stopped = cluster.stop().await;
    let bye = format!("Stopped {stopped} processes. Bye.\n");
    crate::output::Output::result(&mut Console::new(global.color.into()), bye.as_bytes());
    Ok(code)
}

fn address(global: &Global) -> String {
    global.connect.clone().unwrap_or_else(|| DEFAULT_ADDR.to_owned())
}

/// A session for one command or a list of them.
fn one_shot(global: &Global, value_from_stdin: bool) -> Session {
    let settings = Settings { value_from_stdin, ..settings(global, global.narrate) };
    let out = Box::new(Console::new(global.color.into()));
    in_keyspace(global, Session::connect(address(global), settings, out))
}

/// A session for a person.
fn shell(global: &Global, addr: String) -> Session {
    let out = Box::new(Console::new(global.color.into()));
    in_keyspace(global, Session::connect(addr, settings(global, true), out))
}

fn in_keyspace(global: &Global, mut session: Session) -> Session {
    session.use_keyspace(global.keyspace.clone().unwrap_or_default());
    session
}

fn settings(global: &Global, narrate: bool) -> Settings {
    let format = if global.json { Format::Json } else { Format::Table };
    Settings { format, narrate, progress: std::io::stderr().is_terminal(), ..Settings::default() }
}

async fn feed_interruptible(session: &mut Session, place: &str, lines: impl Lines) -> u8 {
    let token = session.interrupt.clone();
    interruptible(&token, feed(session, place, lines)).await
}

/// The exit code of a future, or 130 when it does not heed Ctrl-C.
async fn interruptible(token: &CancellationToken, future: impl Future<Output = u8>) -> u8 {
    interrupt::run(token, &mut Presses::listen(), future).await.unwrap_or(exit::INTERRUPTED)
}
