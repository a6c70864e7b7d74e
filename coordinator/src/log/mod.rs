//! The coordinator's log: `coordinator.log`, one event a line, each synced before it is acted on.
//!
//! How a line looks and what counts as torn is in `text`. Damage is refused: the coordinator does not start and
//! changes nothing.
//!
//! An event that cannot be written is taken back, so that the log ends with a whole line and the
//! coordinator goes on when, say, the disk has room again. When even that fails, or a sync, nobody
//! knows what the file holds: no more events are taken until a restart has read it.
//!
//! **Compaction.** A log that has grown far beyond the lines that its state needs is written anew as just these:
//! into `coordinator.new`, synced, renamed over `coordinator.log`, the directory synced. Both files make the same
//! state, so it does not matter which one a crash leaves in place; no event is appended before it is certain. A
//! `coordinator.new` that is found at start was never in force, and is removed. When the new file cannot be
//! written, the old one goes on; when renaming fails, nobody knows, and the log is closed as after a failed sync.

mod text;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::state::{Event, State};
use text::{Replayed, Tail, replay, written};

/// Lines that a log may have beyond twice those that its state needs. So each line of a compaction is paid for by
/// another that was appended since the last one, and a small log is left alone.
const COMPACT_AFTER: u64 = 1000;

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
    #[error("{} is there already; nothing was changed", .0.display())]
    Exists(PathBuf),
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
                "rebuild it from what the nodes know: kv coordinator --recover --data NEWDIR --node HOST:PORT,…"
            }
            Self::Io { .. } => "check the disk, its free space and the permissions",
            Self::Unsure { .. } | Self::Closed(_) => {
                "restart the coordinator: it goes on with what its log holds"
            }
            Self::Exists(_) => "give an empty --data: the old directory stays as it is",
        }
    }
}

/// The open log, locked against a second process.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    /// Held, never read: the lock goes with it.
    _lock: File,
    tail: Tail,
    /// Where the next line starts.
    end: u64,
    /// With so many lines it is compacted.
    compact_at: u64,
    /// A write failed so that nobody knows what the file holds.
    closed: bool,
}

impl Log {
    /// Opens or makes the log in `dir` and replays it into `state`.
    pub(crate) fn open(dir: &Path, state: &mut State) -> Result<Self, LogError> {
        let at = LogError::io;
        std::fs::create_dir_all(dir).map_err(at("making directory", dir))?;
        let lock = lock(dir)?;
        remove_unfinished(dir)?;
        let path = in_force(dir);
        let mut file = open_private(&path).map_err(at("opening", &path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(at("reading", &path))?;
        let replayed = replay(&text).map_err(|(line, why)| {
            let path = path.clone();
            LogError::Damaged { path, line, why }
        })?;
        replayed.events.iter().for_each(|event| state.apply(event));
        let Replayed { tail, good_bytes, .. } = replayed;
        let (dir, end, compact_at) = (dir.to_owned(), good_bytes as u64, compact_at(state));
        let mut log = Self { dir, path, file, _lock: lock, tail, end, compact_at, closed: false };
        if good_bytes < text.len() {
            tracing::warn!(path = %log.path.display(), offset = end, "cut a torn last line");
        }
        log.cut().map_err(at("truncating", &log.path))?;
        if good_bytes == 0 {
            let (header, tail) = written([]);
            log.write(&header)?;
            log.tail = tail;
        }
        sync_dir(&log.dir).map_err(at("syncing directory", &log.dir))?;
        Ok(log)
    }

    /// Makes a log of these events in `dir`, all or nothing. The caller opens it then.
    ///
    /// # Errors
    ///
    /// `Exists` when there is one, whatever it holds.
    pub(crate) fn make(dir: &Path, events: &[Event]) -> Result<(), LogError> {
        let at = LogError::io;
        std::fs::create_dir_all(dir).map_err(at("making directory", dir))?;
        let _lock = lock(dir)?;
        Self::refuse_existing(dir)?;
        let path = in_force(dir);
        write_unfinished(dir, &written(events).0)?;
        put_in_force(dir).map_err(at("renaming", &path))
    }

    /// An error when there is a log in `dir`.
    pub(crate) fn refuse_existing(dir: &Path) -> Result<(), LogError> {
        let path = in_force(dir);
        match std::fs::exists(&path) {
            Ok(false) => Ok(()),
            Ok(true) => Err(LogError::Exists(path)),
            Err(source) => Err(LogError::Io { doing: "looking for", path, source }),
        }
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

    /// From now on what is written cannot be synced.
    #[cfg(test)]
    pub(crate) fn fail_syncs(&mut self) {
        let (reader, writer) = io::pipe().expect("a pipe");
        // Not closed while the test runs: then what is written would fail, too.
        std::mem::forget(reader);
        self.file = File::from(std::os::fd::OwnedFd::from(writer));
    }

    /// Appends an event; when this returns it is durable.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), LogError> {
        if self.closed {
            return Err(LogError::Closed(self.path.clone()));
        }
        let (line, tail) = self.tail.line(event);
        self.write(&line)?;
        self.tail = tail;
        Ok(())
    }

    /// Writes the log anew when it has grown too long for the state that its events make.
    ///
    /// # Errors
    ///
    /// The events are durable all the same. After `Unsure` no more are taken.
    pub(crate) fn compact_if_long(&mut self, state: &State) -> Result<(), LogError> {
        if self.closed || self.tail.sequence < self.compact_at {
            return Ok(());
        }
        // Should it fail, not again with each event.
        self.compact_at = self.tail.sequence + COMPACT_AFTER;
        let (text, tail) = written(&state.lines());
        let file = write_unfinished(&self.dir, &text)?;
        if let Err(source) = put_in_force(&self.dir) {
            self.closed = true;
            return Err(LogError::Unsure { path: self.path.clone(), source });
        }
        (self.file, self.tail, self.end) = (file, tail, text.len() as u64);
        self.compact_at = compact_at(state);
        Ok(())
    }
}

fn in_force(dir: &Path) -> PathBuf {
    dir.join("coordinator.log")
}

fn unfinished(dir: &Path) -> PathBuf {
    dir.join("coordinator.new")
}

/// How many lines a log of this state may have.
fn compact_at(state: &State) -> u64 {
    2 * state.lines().len() as u64 + COMPACT_AFTER
}

/// Writes a whole log beside the one in force, durably, or nothing.
fn write_unfinished(dir: &Path, text: &str) -> Result<File, LogError> {
    let path = unfinished(dir);
    let write = || {
        let mut file = open_private(&path)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(file)
    };
    write().map_err(|source| {
        // Room for the next event; what cannot be removed now is at the next start.
        let _ = std::fs::remove_file(&path);
        LogError::Io { doing: "writing", path, source }
    })
}

/// From here on the unfinished log is the one in force. After an error nobody knows which one is.
fn put_in_force(dir: &Path) -> io::Result<()> {
    std::fs::rename(unfinished(dir), in_force(dir))?;
    sync_dir(dir)
}

fn remove_unfinished(dir: &Path) -> Result<(), LogError> {
    let path = unfinished(dir);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LogError::Io { doing: "removing", path, source })
        }
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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

#[cfg(test)]
mod tests {
    use super::text::tests::events;
    use super::*;

    fn made(dir: &Path) -> State {
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
        let before = made(dir.path());
        let mut after = State::new();
        let mut log = Log::open(dir.path(), &mut after).unwrap();
        assert_eq!(after, before);
        log.append(&Event::Boot { epoch: 2 }).unwrap();
        drop(log);
        let mut again = State::new();
        Log::open(dir.path(), &mut again).unwrap();
        assert_eq!(again.boot_epoch, 2);
    }

    fn opened(dir: &Path) -> (State, Log) {
        let mut state = State::new();
        let log = Log::open(dir, &mut state).unwrap();
        (state, log)
    }

    /// Opens what a crash left, checks that nothing is lost, and that the log goes on from there.
    fn goes_on(dir: &Path, expected: &State) {
        let (mut state, mut log) = opened(dir);
        assert_eq!(state, *expected);
        assert!(!unfinished(dir).exists(), "the unfinished file is removed");
        let next = Event::Clock { ms: 77 };
        log.append(&next).unwrap();
        state.apply(&next);
        drop(log);
        assert_eq!(opened(dir).0, state);
    }

    /// The directory after each step of a compaction, and within each: the new file at every length, written
    /// and not yet renamed, renamed. What is not synced may be missing after a crash, so "not yet renamed" is
    /// also how a rename looks that was lost.
    #[test]
    fn a_crash_anywhere_in_a_compaction_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = made(dir.path());
        let old = std::fs::read(in_force(dir.path())).unwrap();
        let new = written(&state.lines()).0;
        for length in 0..=new.len() {
            std::fs::write(in_force(dir.path()), &old).unwrap();
            std::fs::write(unfinished(dir.path()), &new[..length]).unwrap();
            goes_on(dir.path(), &state);
        }
        std::fs::write(in_force(dir.path()), &old).unwrap();
        write_unfinished(dir.path(), &new).unwrap();
        assert_eq!(std::fs::read(in_force(dir.path())).unwrap(), old);
        assert_eq!(std::fs::read_to_string(unfinished(dir.path())).unwrap(), new);
        goes_on(dir.path(), &state);
        std::fs::write(in_force(dir.path()), &old).unwrap();
        write_unfinished(dir.path(), &new).unwrap();
        put_in_force(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(in_force(dir.path())).unwrap(), new);
        goes_on(dir.path(), &state);
    }

    #[test]
    fn a_long_log_is_compacted_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = made(dir.path());
        let (_, mut log) = opened(dir.path());
        let mut compactions = 0;
        for ms in 0..3 * COMPACT_AFTER {
            let event = Event::Clock { ms };
            log.append(&event).unwrap();
            state.apply(&event);
            let before = log.tail.sequence;
            log.compact_if_long(&state).unwrap();
            compactions += u64::from(log.tail.sequence < before);
            assert!(log.tail.sequence <= compact_at(&state));
        }
        assert_eq!(compactions, 2);
        drop(log);
        assert_eq!(opened(dir.path()).0, state);
    }

    /// Fills the log so that the next look at it compacts.
    fn long(dir: &Path) -> (State, Log) {
        made(dir);
        let (state, mut log) = opened(dir);
        log.compact_at = log.tail.sequence;
        (state, log)
    }

    #[test]
    fn a_compaction_that_cannot_write_leaves_the_log_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut state, mut log) = long(dir.path());
        std::fs::create_dir(unfinished(dir.path())).unwrap();
        let failed = log.compact_if_long(&state);
        assert!(matches!(failed, Err(LogError::Io { .. })), "{failed:?}");
        log.compact_if_long(&state).expect("not tried again at once");
        let event = Event::Clock { ms: 5 };
        log.append(&event).unwrap();
        state.apply(&event);
        drop(log);
        std::fs::remove_dir(unfinished(dir.path())).unwrap();
        assert_eq!(opened(dir.path()).0, state);
    }

    #[test]
    fn a_rename_that_fails_closes_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (state, mut log) = long(dir.path());
        std::fs::remove_file(in_force(dir.path())).unwrap();
        std::fs::create_dir(in_force(dir.path())).unwrap();
        let failed = log.compact_if_long(&state);
        assert!(matches!(failed, Err(LogError::Unsure { .. })), "{failed:?}");
        let refused = log.append(&Event::Clock { ms: 5 });
        assert!(matches!(refused, Err(LogError::Closed(_))), "{refused:?}");
    }

    #[test]
    fn a_log_is_made_where_none_is() {
        let dir = tempfile::tempdir().unwrap();
        Log::make(dir.path(), &events()).unwrap();
        let mut expected = State::new();
        events().iter().for_each(|event| expected.apply(event));
        goes_on(dir.path(), &expected);
        let again = Log::make(dir.path(), &events());
        assert!(matches!(again, Err(LogError::Exists(_))), "{again:?}");
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
