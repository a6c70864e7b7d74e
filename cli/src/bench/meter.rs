//! Whose CPU time it was: the loader's, the servers', others'.
//!
//! | whose | from |
//! |---|---|
//! | client | the clock of the loader's thread |
//! | server | `utime + stime` of each process of the server, all its threads |
//! | foreign | the same of every other process of the machine, in cores |
//!
//! A measurement beside which others have used much CPU is one of the neighbour, not of the server.
//!
//! # Caveats
//!
//! Linux only; elsewhere, and for servers on other machines, there are no figures. Processes are counted in
//! ticks of 10 ms. What the kernel does on its own behalf (interrupts, its threads) is nobody's, and a
//! foreign process that came and went between the two looks is not seen. What the host takes away from a virtual
//! machine can be seen only as *stolen* time.

use std::collections::HashMap;
use std::fs::read_to_string;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A tick of `/proc/<pid>/stat`: what every Linux has told programs for twenty years.
const TICK: Duration = Duration::from_millis(10);

/// A process of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// What it is: `n1`.
    pub(super) name: String,
    /// Its process.
    pub(super) pid: u32,
}

/// Looks at the beginning and at the end of the measured part.
pub(super) struct Meter {
    servers: Vec<Server>,
    begun: Option<Look>,
    ended: Option<Look>,
    on_begin: Option<Box<dyn FnOnce() + Send>>,
}

/// What is read at one moment.
struct Look {
    at: Instant,
    client: Duration,
    /// Of every process that is none of the kernel's: its ticks.
    processes: HashMap<u32, u64>,
    /// Ticks that the host took, of all processors.
    stolen: u64,
}

/// What the measured part cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    /// CPU time of the loader.
    pub(super) client: Duration,
    /// CPU time of each process of the server that lived through it.
    pub(super) servers: Vec<(String, Duration)>,
    /// Cores that others used on average.
    pub(super) foreign: f64,
    /// Cores that the host took on average.
    pub(super) stolen: f64,
}

impl Meter {
    /// For these processes; `on_begin` is called when the measured part begins.
    pub(super) fn new(servers: Vec<Server>, on_begin: impl FnOnce() + Send + 'static) -> Self {
        Self { servers, begun: None, ended: None, on_begin: Some(Box::new(on_begin)) }
    }

    /// The measured part begins.
    pub(super) fn begin(&mut self) {
        self.begun = Some(Look::now());
        if let Some(tell) = self.on_begin.take() {
            tell();
        }
    }

    /// It ends.
    pub(super) fn end(&mut self) {
        self.ended = Some(Look::now());
    }

    /// What it cost; nothing when it never began.
    pub(super) fn costs(&self) -> Costs {
        let (Some(begun), Some(ended)) = (&self.begun, &self.ended) else {
            return Costs::default();
        };
        let seconds = (ended.at - begun.at).as_secs_f64().max(1e-9);
        let spent = |pid: &u32| {
            let (before, after) = (begun.processes.get(pid)?, ended.processes.get(pid)?);
            Some(TICK * u32::try_from(after.saturating_sub(*before)).ok()?)
        };
        let ours = |pid: &u32| {
            *pid == std::process::id() || self.servers.iter().any(|server| server.pid == *pid)
        };
        let foreign = ended.processes.iter().filter(|(pid, _)| !ours(pid));
        // One that came meanwhile has used all it has used meanwhile.
        let foreign = foreign.map(|(pid, after)| {
            after.saturating_sub(begun.processes.get(pid).copied().unwrap_or(0))
        });
        let cores = |ticks: u64| ticks as f64 * TICK.as_secs_f64() / seconds;
        let server = |server: &Server| Some((server.name.clone(), spent(&server.pid)?));
        Costs {
            client: ended.client.saturating_sub(begun.client),
            servers: self.servers.iter().filter_map(server).collect(),
            foreign: cores(foreign.sum()),
            stolen: cores(ended.stolen.saturating_sub(begun.stolen)),
        }
    }
}

impl Look {
    fn now() -> Self {
        let client = clock_gettime(ClockId::ThreadCPUTime);
        Self {
            at: Instant::now(),
            client: Duration::new(client.tv_sec.cast_unsigned(), client.tv_nsec as u32),
            processes: processes().filter_map(|pid| Some((pid, ticks(pid)?))).collect(),
            stolen: stolen().unwrap_or(0),
        }
    }
}

/// All processes.
pub(super) fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// User and system time of a process; `None` for one that has gone or is a thread of the kernel.
fn ticks(pid: u32) -> Option<u64> {
    parse_stat(&read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let address_space: u64 = fields.nth(7)?.parse().ok()?;
    (address_space > 0).then_some(user + system)
}

fn stolen() -> Option<u64> {
    let stat = read_to_string("/proc/stat").ok()?;
    stat.lines().next()?.split_ascii_whitespace().nth(8)?.parse().ok()
}

/// Memory of a process that is resident, in bytes.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 100 5000000 300 18446744073709551615";
        assert_eq!(parse_stat(stat), Some(42));
        assert_eq!(
            parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 5 9 0 0 20 0 1 0 2 0 0"),
            None
        );
    }

    #[test]
    fn this_process_costs_something() {
        let mut meter =
            Meter::new(vec![Server { name: "me".into(), pid: std::process::id() }], || ());
        meter.begin();
        meter.end();
        while meter.costs().client < Duration::from_millis(1) {
            meter.end();
        }
        let costs = meter.costs();
        assert_eq!(costs.servers.len(), 1);
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }
}
