//! The coordinator's log: `coordinator.log`, one event a line, each synced before it is acted on.
//!
//! ```text
//! #ringkv-coordinator 1
//! RING 256 s=1 c=…
//! BOOT 1 s=2 c=…
//! ADD n1 127.0.0.1:5001 1 6f1c… s=3 c=…
//! ```
//!
//! `s` counts lines from 1; `c` is the CRC-32 (zlib's) of everything before ` c=`, seeded with the
//! CRC of the line before, so a missing, doubled or swapped line shows.
//!
//! Recovery: a last line without its end, or with a run of zeros, is the torn end of an event that
//! nobody acted on, and is cut. Any other bad line, or a foreign header, is damage: the
//! coordinator refuses to start and changes nothing.
//!
//! An event that cannot be written is taken back, so that the log ends with a whole line and the
//! coordinator goes on when, say, the disk has room again. When even that fails, or a sync, nobody
//! knows what the file holds: no more events are taken until a restart has read it.
//!
//! # Caveats
//!
//! The log is not compacted: a line a change of the ring and one a start stay small.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::state::{Event, State};

const HEADER: &str = "#ringkv-coordinator 1";

/// Why the coordinator's data cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("data directory {} is in use by another coordinator", .0.display())]
    InUse(PathBuf),
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: line {line}: {why}; the log is damaged, nothing was changed", path.display())]
    Damaged { path: PathBuf, line: usize, why: String },
    #[error("writing {}: {source}; whether it holds the change is unknown", path.display())]
    Unsure { path: PathBuf, source: io::Error },
    #[error("an earlier write to {} failed", .0.display())]
    Closed(PathBuf),
}

impl LogError {
    /// For `map_err`: names what was tried with which file.
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::InUse(_) => "stop that one, or give this one another --data",
            Self::Damaged { .. } => {
                "restore the file from a copy, or start with an empty --data and add the nodes again"
            }
            Self::Io { .. } => "check the disk, its free space and the permissions",
            Self::Unsure { .. } | Self::Closed(_) => {
                "restart the coordinator: it goes on with what its log holds"
            }
        }
    }
}

/// The open log, locked against a second process.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Held, never read: the lock goes with it.
    _lock: File,
    sequence: u64,
    crc: u32,
    /// Where the next line starts.
    end: u64,
    /// A write failed so that nobody knows what the file holds.
    closed: bool,
}

impl Log {
    /// Opens or makes the log in `dir` and replays it into `state`.
    pub(crate) fn open(dir: &Path, state: &mut State) -> Result<Self, LogError> {
        let at = LogError::io;
        std::fs::create_dir_all(dir).map_err(at("making directory", dir))?;
        let lock = lock(dir)?;
        let path = dir.join("coordinator.log");
        let mut file = open_private(&path).map_err(at("opening", &path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(at("reading", &path))?;
        let replayed = replay(&text).map_err(|(line, why)| {
            let path = path.clone();
            LogError::Damaged { path, line, why }
        })?;
        replayed.events.iter().for_each(|event| state.apply(event));
        let Replayed { sequence, crc, good_bytes, .. } = replayed;
        let end = good_bytes as u64;
        let mut log = Self { path, file, _lock: lock, sequence, crc, end, closed: false };
        if good_bytes < text.len() {
            tracing::warn!(path = %log.path.display(), offset = end, "cut a torn last line");
        }
        log.cut().map_err(at("truncating", &log.path))?;
        if good_bytes == 0 {
            log.write(HEADER)?;
            log.crc = crc32fast::hash(HEADER.as_bytes());
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at("syncing directory", dir))?;
        Ok(log)
    }

    /// Cuts off what is behind the last good line; the next one goes there.
    fn cut(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.end {
            self.file.set_len(self.end)?;
            self.file.sync_all()?;
        }
        self.file.seek(SeekFrom::Start(self.end)).map(drop)
    }

    /// Writes a line durably, or not at all, or closes the log.
    fn write(&mut self, line: &str) -> Result<(), LogError> {
        let line = format!("{line}\n");
        let Err(source) = self.file.write_all(line.as_bytes()) else {
            let synced = self.file.sync_data();
            self.closed = synced.is_err();
            let path = self.path.clone();
            synced.map_err(|source| LogError::Unsure { path, source })?;
            self.end += line.len() as u64;
            return Ok(());
        };
        self.closed = self.cut().is_err();
        let path = self.path.clone();
        Err(match self.closed {
            true => LogError::Unsure { path, source },
            false => LogError::Io { doing: "writing", path, source },
        })
    }

    /// Appends an event; when this returns it is durable.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), LogError> {
        if self.closed {
            return Err(LogError::Closed(self.path.clone()));
        }
        let body = format!("{event} s={}", self.sequence + 1);
        let crc = chain(self.crc, &body);
        self.write(&format!("{body} c={crc:08x}"))?;
        self.sequence += 1;
        self.crc = crc;
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("lock");
    let file = open_private(&path).map_err(LogError::io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(LogError::io("locking", &path)(source)),
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn chain(seed: u32, body: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(body.as_bytes());
    hasher.finalize()
}

#[derive(Debug, Default)]
struct Replayed {
    events: Vec<Event>,
    sequence: u64,
    crc: u32,
    good_bytes: usize,
}

/// Reads the text of a log; on damage the line number and why.
fn replay(text: &[u8]) -> Result<Replayed, (usize, String)> {
    let mut replayed = Replayed::default();
    for (number, raw) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        match read_line(raw, number, &replayed) {
            Ok((event, crc)) => {
                replayed.sequence += u64::from(event.is_some());
                replayed.events.extend(event);
                replayed.crc = crc;
                replayed.good_bytes += raw.len();
            }
            Err(_) if replayed.good_bytes + raw.len() == text.len() && torn(raw) => break,
            Err(why) => return Err((number, why)),
        }
    }
    Ok(replayed)
}

/// Whether a bad last line looks like a write that a power cut stopped half-way: its end is
/// missing, or sectors of it that never reached the disk read as zeros.
fn torn(raw: &[u8]) -> bool {
    raw.last() != Some(&b'\n') || raw.windows(2).any(|pair| pair == [0, 0])
}

fn read_line(raw: &[u8], number: usize, before: &Replayed) -> Result<(Option<Event>, u32), String> {
    let line = raw.strip_suffix(b"\n").ok_or("no newline")?;
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    if number == 1 {
        let crc = crc32fast::hash(HEADER.as_bytes());
        return if line == HEADER { Ok((None, crc)) } else { Err(format!("not {HEADER:?}")) };
    }
    let (body, crc) = line.rsplit_once(" c=").ok_or("no checksum")?;
    let expected = chain(before.crc, body);
    if crc != format!("{expected:08x}") {
        return Err("checksum mismatch".to_owned());
    }
    let (event, sequence) = body.rsplit_once(" s=").ok_or("no sequence number")?;
    if sequence != (before.sequence + 1).to_string() {
        return Err(format!("sequence number {sequence}, expected {}", before.sequence + 1));
    }
    Ok((Some(event.parse()?), expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        let lines = [
            "RING 4",
            "BOOT 1",
            "ADD n1 127.0.0.1:5001 1 u1",
            "FINAL",
            "KEYSPACE default 5000",
            "KEYSPACE orders n=1 r=1 w=1 policy=siblings sloppy=off ttl=0",
            "KEYSPACE clicks n=1 r=1 w=1 policy=lww sloppy=on ttl=5000",
            "REPLICAS orders 2",
            "REPLICAS 2",
            "FINAL",
            "DROPPED clicks",
            "FORGOTTEN clicks n1",
        ];
        lines.map(|line| line.parse().unwrap()).into()
    }

    fn written(dir: &Path) -> State {
        let mut state = State::new();
        let mut log = Log::open(dir, &mut state).unwrap();
        for event in events() {
            log.append(&event).unwrap();
            state.apply(&event);
        }
        state
    }

    #[test]
    fn a_restarted_coordinator_is_the_same_machine() {
        let dir = tempfile::tempdir().unwrap();
        let before = written(dir.path());
        let mut after = State::new();
        let mut log = Log::open(dir.path(), &mut after).unwrap();
        assert_eq!(after, before);
        log.append(&Event::Boot { epoch: 2 }).unwrap();
        drop(log);
        let mut again = State::new();
        Log::open(dir.path(), &mut again).unwrap();
        assert_eq!(again.boot_epoch, 2);
    }

    /// Cut anywhere, the log opens with a prefix of its events; flip a bit anywhere but in the last
    /// newline, whose loss cannot be told from a torn write, and it does not open.
    #[test]
    fn cuts_are_mended_and_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let text = std::fs::read(dir.path().join("coordinator.log")).unwrap();
        let all = events();
        for cut in 0..text.len() {
            let got = replay(&text[..cut]).unwrap().events;
            assert_eq!(got, all[..got.len()], "cut at {cut}");
        }
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(replayed) = replay(&bad) {
                assert_eq!(bit / 8, text.len() - 1, "bit {bit}");
                assert_eq!(replayed.events, all[..all.len() - 1]);
            }
        }
    }

    #[test]
    fn two_coordinators_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::new();
        let _first = Log::open(dir.path(), &mut state).unwrap();
        let second = Log::open(dir.path(), &mut state);
        assert!(matches!(second, Err(LogError::InUse(_))), "{second:?}");
    }
}
