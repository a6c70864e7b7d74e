//! The phases of a run, one after another, on the loader's thread.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ringkv_shared::{ErrorName, Failure};
use tokio::sync::oneshot;

use super::args::{BenchArgs, Verify};
use super::book::Book;
use super::dialect::Dialect;
use super::etcd::Etcd;
use super::idle::{Idle, IdleReport};
use super::loader::Loader;
use super::meter::{Costs, Meter};
use super::phase::{Pace, Phase};
use super::source::Source;
use super::straight::Straight;
use super::streams::StreamLoader;
use super::tally::Tally;
use super::target::{Speaks, Target};
use super::values::Values;

/// How many puts are under way, of all connections together, while keys are loaded.
const LOAD_UNDER_WAY: u32 = 1024;
/// How many gets while they are read back: few enough that a busy server answers each in time.
const READ_BACK_UNDER_WAY: u32 = 256;
/// The most on one connection.
const BULK_PIPELINE_MAX: u32 = 64;
/// How often puts of the load that were not acknowledged are sent again, each time half as many at once.
const LOAD_RETRIES: u32 = 4;
/// How many keys are read back as a sample.
const SAMPLE: usize = 10_000;

/// What to do.
pub(super) struct Task {
    pub(super) args: BenchArgs,
    pub(super) target: Target,
    pub(super) keyspace: Option<String>,
    /// Set when somebody wants it to end.
    pub(super) stop: Arc<AtomicBool>,
    /// Told when the measured part begins.
    pub(super) begun: oneshot::Sender<()>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Keys that were put first, and how long it took.
    pub(super) loaded: Option<(u64, Duration)>,
    /// The measured part.
    pub(super) measured: Tally,
    /// What it cost.
    pub(super) costs: Costs,
    /// Keys that were read back.
    pub(super) verified: Option<Tally>,
    /// Idle connections beside it.
    pub(super) idle: Option<IdleReport>,
}

/// Loads, measures, reads back.
///
/// # Errors
///
/// Nobody listens, or not all keys could be put.
pub(super) fn run(task: Task) -> Result<Outcome, Failure> {
    let Task { args, target, keyspace, stop, begun } = task;
    let values = Values::new(args.seed, number_of_this_run(), args.value_size as usize);
    let dialect = match &target.speaks {
        Speaks::Coordinator => Some(Dialect::coordinator(&values, keyspace.as_deref())),
        Speaks::Node => Some(Dialect::node(&values, keyspace.as_deref())),
        Speaks::Peer(peer) => Dialect::peer(peer, &values),
        Speaks::Client => None,
    };
    let mut loader =
        Driver::connect(&args, &target, dialect.clone(), values, keyspace.as_deref(), stop)?;
    let loaded = if args.no_load { None } else { Some(load(&mut loader, &args)?) };
    let idle = match dialect.filter(|_| args.idle > 0) {
        Some(dialect) => Some(Idle::open(&args, &target, &dialect)?),
        None => None,
    };
    let mut meter = Meter::new(target.servers.clone(), move || {
        // Nobody waits for it unless a node is to be killed.
        let _ = begun.send(());
    });
    let measured = loader.run(&mut measured_phase(&args, &mut meter));
    let idle = idle.map(|idle| idle.report());
    let costs = meter.costs();
    let at_once = bulk(&args, READ_BACK_UNDER_WAY);
    let verified = read_back(&args).map(|source| loader.run(&mut Phase::whole(source, at_once)));
    Ok(Outcome { loaded, measured, costs, verified, idle })
}

/// What sends the requests.
enum Driver {
    /// Over plain sockets.
    Sockets(Box<Loader>),
    /// Over gRPC.
    Etcd(Box<StreamLoader<Etcd>>),
    /// Through our client library.
    Straight(Box<StreamLoader<Straight>>),
}

impl Driver {
    fn connect(
        args: &BenchArgs,
        target: &Target,
        dialect: Option<Dialect>,
        values: Values,
        keyspace: Option<&str>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let (addr, count) = (target.addr, args.connections);
        let book = Book::new(args.key_count, args.no_load, values.clone());
        if let Some(dialect) = dialect {
            let loader = Loader::connect(addr, count, dialect, book, stop)?;
            return Ok(Self::Sockets(Box::new(loader)));
        }
        if args.rate.is_some() || args.idle > 0 {
            let message =
                "through a library there is neither an open loop nor idle connections here";
            return Err(Failure::new(ErrorName::BadArgument, message)
                .hint("leave out --rate and --idle, or --client and etcd"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Failure::new(ErrorName::NotReady, format!("cannot start a loader: {error}"))
        })?;
        let (connections, clock) = (count as usize, Instant::now());
        Ok(match target.speaks {
            Speaks::Client => {
                let store = Straight::connect(&runtime, addr.to_string(), keyspace)?;
                let loader =
                    StreamLoader { runtime, store, connections, values, book, clock, stop };
                Self::Straight(Box::new(loader))
            }
            _ => {
                let store = Etcd::connect(&runtime, addr, count)?;
                let loader =
                    StreamLoader { runtime, store, connections, values, book, clock, stop };
                Self::Etcd(Box::new(loader))
            }
        })
    }

    const fn book(&self) -> &Book {
        match self {
            Self::Sockets(loader) => loader.book(),
            Self::Etcd(loader) => &loader.book,
            Self::Straight(loader) => &loader.book,
        }
    }

    fn run(&mut self, phase: &mut Phase<'_>) -> Tally {
        match self {
            Self::Sockets(loader) => loader.run(phase),
            Self::Etcd(loader) => loader.run(phase),
            Self::Straight(loader) => loader.run(phase),
        }
    }
}

/// How many requests each connection has under way, when all together have so many.
fn bulk(args: &BenchArgs, under_way: u32) -> u32 {
    (under_way / args.connections).clamp(1, BULK_PIPELINE_MAX)
}

/// Puts every key once, and those again that were not acknowledged.
fn load(loader: &mut Driver, args: &BenchArgs) -> Result<(u64, Duration), Failure> {
    let mut took = Duration::ZERO;
    let mut source = Source::each(args.key_count, false);
    let mut errors = String::new();
    for retry in 0..=LOAD_RETRIES {
        let at_once = bulk(args, LOAD_UNDER_WAY >> retry);
        let tally = loader.run(&mut Phase::whole(source, at_once));
        took += tally.lasted;
        let missing = loader.book().never_acknowledged();
        if missing.is_empty() {
            return Ok((args.key_count.into(), took));
        }
        errors = tally.errors_in_words();
        source = Source::these(&missing);
    }
    let message =
        format!("{} of {} keys could not be put first: {errors}", source.left(), args.key_count);
    Err(Failure::new(ErrorName::OutcomeUnknown, message)
        .hint("look: kv doctor; nothing was measured"))
}

fn measured_phase<'a>(args: &BenchArgs, meter: &'a mut Meter) -> Phase<'a> {
    Phase {
        source: Source::mixed(args.key_count, args.keys, args.reads, args.seed),
        pace: match args.rate {
            Some(rate) => Pace::Open { rate },
            None => Pace::Closed { pipeline: args.pipeline },
        },
        warm_up: args.warm_up,
        lasting: args.lasting(),
        count: args.ops,
        meter: Some(meter),
    }
}

fn read_back(args: &BenchArgs) -> Option<Source> {
    match args.verify {
        Verify::None => None,
        Verify::All => Some(Source::each(args.key_count, true)),
        Verify::Sample => Some(Source::sample(args.key_count, SAMPLE, args.seed)),
    }
}

/// Tells this run's values from those of others.
fn number_of_this_run() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = now.map_or(0, |since| since.as_micros()) as u32;
    micros ^ std::process::id().rotate_left(16)
}
