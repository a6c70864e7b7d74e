//! The coordinator's log: `coordinator.log`, one event a line, each synced before it is acted on.
//!
//! ```text
//! #ringkv-coordinator 1
//! BOOT 1 s=1 c=6a0f11d2
//! ADD n1 127.0.0.1:5001 1 6f1c… s=2 c=…
//! ```
//!
//! `s` counts lines from 1; `c` is the CRC-32 (zlib's) of everything before ` c=`, seeded with the
//! CRC of the line before, so a missing, doubled or swapped line shows.
//!
//! Recovery: a bad *last* line is the torn end of an event that nobody acted on, and is cut. A bad
//! line with others after it, or a foreign header, is damage: the coordinator refuses to start
//! and changes nothing.
//!
//! # Caveats
//!
//! The log is not compacted: a line a change of the ring and one a start stay small.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::state::{Event, State};

const HEADER: &str = "#ringkv-coordinator 1";

/// Why the coordinator's data cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{0} is in use by another coordinator: stop that one, or give this one another --data")]
    InUse(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path}: line {line} is damaged ({why}) and lines follow it; nothing was changed. \
         Restore the file from a copy, or start with an empty --data and add the nodes again"
    )]
    Damaged { path: PathBuf, line: usize, why: String },
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
}

impl Log {
    /// Opens or makes the log in `dir` and replays it into `state`.
    pub(crate) fn open(dir: &Path, state: &mut State) -> Result<Self, LogError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| LogError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(at(dir))?;
        let lock = open_private(&dir.join("lock")).map_err(at(dir))?;
        lock.try_lock().map_err(|_| LogError::InUse(dir.to_owned()))?;
        let path = dir.join("coordinator.log");
        let mut file = open_private(&path).map_err(at(&path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(at(&path))?;
        let replayed = replay(&text).map_err(|(line, why)| LogError::Damaged {
            path: path.clone(),
            line,
            why,
        })?;
        replayed.events.iter().for_each(|event| state.apply(event));
        let Replayed { sequence, crc, good_bytes, .. } = replayed;
        let mut log = Self { path, file, _lock: lock, sequence, crc };
        log.cut(good_bytes as u64, text.len() as u64).map_err(at(&log.path))?;
        if good_bytes == 0 {
            log.write(HEADER).map_err(at(&log.path))?;
            log.crc = crc32fast::hash(HEADER.as_bytes());
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
        Ok(log)
    }

    fn cut(&mut self, good: u64, all: u64) -> io::Result<()> {
        use io::Seek as _;
        if good < all {
            tracing::warn!(path = %self.path.display(), offset = good, "cut a torn last line");
            self.file.set_len(good)?;
            self.file.sync_all()?;
        }
        self.file.seek(io::SeekFrom::Start(good)).map(drop)
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()
    }

    /// Appends an event; when this returns it is durable.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), LogError> {
        let body = format!("{event} s={}", self.sequence + 1);
        let crc = chain(self.crc, &body);
        let line = format!("{body} c={crc:08x}");
        self.write(&line).map_err(|source| LogError::Io { path: self.path.clone(), source })?;
        self.sequence += 1;
        self.crc = crc;
        Ok(())
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
            Err(_) if replayed.good_bytes + raw.len() == text.len() => break,
            Err(why) => return Err((number, why)),
        }
    }
    Ok(replayed)
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
        ["BOOT 1", "ADD n1 127.0.0.1:5001 1 u1", "FINAL", "REPLICAS 2", "FINAL"]
            .map(|line| line.parse().unwrap())
            .into()
    }

    fn written(dir: &Path) -> State {
        let mut state = State::new(4);
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
        let mut after = State::new(4);
        let mut log = Log::open(dir.path(), &mut after).unwrap();
        assert_eq!(after, before);
        log.append(&Event::Boot { epoch: 2 }).unwrap();
        drop(log);
        let mut again = State::new(4);
        Log::open(dir.path(), &mut again).unwrap();
        assert_eq!(again.boot_epoch, 2);
    }

    /// Cut anywhere, the log opens with a prefix of its events; flip a bit anywhere, and it opens
    /// with a prefix that lacks at most the last event, or not at all.
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
                assert_eq!(replayed.events, all[..all.len() - 1], "bit {bit}");
            }
        }
    }

    #[test]
    fn two_coordinators_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::new(4);
        let _first = Log::open(dir.path(), &mut state).unwrap();
        let second = Log::open(dir.path(), &mut state);
        assert!(matches!(second, Err(LogError::InUse(_))), "{second:?}");
    }
}
