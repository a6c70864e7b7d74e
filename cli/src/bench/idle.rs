//! Connections that are open beside the load and say nothing, and what they cost the server in memory.
//!
//! Each asks for one key first, so that the server has certainly accepted it and has made what it makes for a
//! connection that speaks.
//!
//! # Caveats
//!
//! What grows is the resident memory of the server's processes; the kernel's memory for sockets is not in
//! it. A server may keep memory for later that it does not need any more.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use ringkv_shared::{ErrorName, Failure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::args::BenchArgs;
use super::dialect::Dialect;
use super::meter::{Server, resident_bytes};
use super::target::Target;

/// How long a server may take to answer the first request of a connection.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// File descriptors for all else.
const OTHER_FILES: u64 = 100;

/// Idle connections.
pub(super) struct Idle {
    streams: Vec<TcpStream>,
    servers: Vec<Server>,
    before: Option<u64>,
}

/// What they came to.
#[derive(Clone, Debug)]
pub(super) struct IdleReport {
    /// How many were opened.
    pub(super) opened: usize,
    /// How many of them the server had closed at the end.
    pub(super) closed: usize,
    /// How much memory the server's processes had gained at the end, in bytes, for each.
    pub(super) bytes_each: Option<f64>,
}

impl Idle {
    /// Opens as many as the words say.
    ///
    /// # Errors
    ///
    /// The server takes no more, or there are too few file descriptors.
    pub(super) fn open(
        args: &BenchArgs,
        target: &Target,
        dialect: &Dialect,
    ) -> Result<Self, Failure> {
        allow_files(u64::from(args.idle) + u64::from(args.connections) + OTHER_FILES);
        let servers = target.servers.clone();
        let before = resident(&servers);
        let mut streams = Vec::new();
        for n in 0..args.idle {
            let stream = TcpStream::connect(target.addr).and_then(|stream| greet(stream, dialect));
            streams.push(stream.map_err(|error| {
                let message = format!("idle connection {} was refused: {error}", n + 1);
                Failure::new(ErrorName::Overloaded, message)
                    .hint("the server's --max-connections, and: ulimit -n")
            })?);
        }
        Ok(Self { streams, servers, before })
    }

    /// What they came to; they are closed now.
    pub(super) fn report(self) -> IdleReport {
        let opened = self.streams.len();
        let gained = resident(&self.servers).zip(self.before);
        let bytes_each = gained
            .map(|(after, before)| after.saturating_sub(before) as f64 / opened.max(1) as f64);
        let closed = self.streams.into_iter().filter(is_closed).count();
        IdleReport { opened, closed, bytes_each }
    }
}

/// One request and its whole answer.
fn greet(mut stream: TcpStream, dialect: &Dialect) -> std::io::Result<TcpStream> {
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    dialect.write(&mut request, 0, 0, None);
    stream.write_all(&request)?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(ErrorKind::ConnectionReset.into());
        }
        answer.extend_from_slice(&piece[..count]);
        match dialect.parse(&answer, || Some(true)) {
            Ok(Some(_)) => return Ok(stream),
            Ok(None) => {}
            Err(said) => return Err(std::io::Error::other(said)),
        }
    }
}

fn is_closed(mut stream: &TcpStream) -> bool {
    let later = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_ok() && !stream.read(&mut [0; 1]).is_err_and(later)
}

fn resident(servers: &[Server]) -> Option<u64> {
    let sizes: Vec<u64> = servers.iter().filter_map(|server| resident_bytes(server.pid)).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum())
}

/// Lets this process have so many files open, as far as it may.
fn allow_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    // When it may not, the connection that is too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
}
