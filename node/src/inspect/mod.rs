//! Looking into a data directory without its node: read-only, and without the lock, so it works
//! beside a running node and on what is left of a dead one.
//!
//! | module | idea |
//! |---|---|
//! | `files` | which files there are, opened all at once, so that a compaction beside takes none away |
//! | `lines` | one line after another, the good ones behind a hole too |
//! | `verify` | what recovery would say, and more: every file, every finding |
//! | `blame` | the lines that touched a key |
//! | `history` | the same, for who asks the node itself: few lines, and short |
//! | `salvage` | what is good of a damaged directory, as a new one |
//!
//! Everything here but `salvage` only reads, and `salvage` writes only into a directory of its own.
//!
//! # Caveats
//!
//! What a running node writes while somebody looks is not seen: each file is read as long as it was
//! when it was opened.

mod blame;
mod files;
mod history;
mod lines;
mod salvage;
mod verify;

pub use blame::{Blame, Did, Fate, Touch, blame};
pub use files::{Identity, LogFile, LogFiles, Role};
pub use history::{HISTORY_LINES_MAX, HISTORY_VALUE_CHARS_MAX, history};
pub use lines::{Judge, Judged, Lines, RawLine};
pub use salvage::{Loss, NotSalvaged, Salvaged, salvage};
pub use verify::{Checked, FileReport, Finding, Harm, verify};
