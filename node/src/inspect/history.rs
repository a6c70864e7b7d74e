//! The lines about one key, for who asks the node itself: few, short, the oldest first.
//!
//! # Caveats
//!
//! All files of the log are read. What they have of a key is its history only as far as they go back: of
//! what was before a snapshot, only what was held then.

use std::collections::VecDeque;

use super::files::LogFiles;
use super::lines::{Judge, Judged, Lines};
use crate::StorageError;
use crate::log::record::{Line, Op};

/// How many lines are told: the last ones.
pub const HISTORY_LINES_MAX: usize = 100;

/// How many characters of a value's token are told.
pub const HISTORY_VALUE_CHARS_MAX: usize = 64;

/// The last lines that touched a stored key, the oldest first, with long values cut (`…`).
///
/// # Errors
///
/// A file cannot be read.
pub fn history(log: &LogFiles, key: &[u8]) -> Result<Vec<String>, StorageError> {
    let mut found = VecDeque::new();
    for file in &log.files {
        let (mut lines, mut judge) = (Lines::new(file), Judge::default());
        while let Some(raw) = lines.next_line()? {
            let Judged::Good(Line::Record(record)) = judge.judge(&raw) else { continue };
            if !record.touches(key) {
                continue;
            }
            let put = matches!(record.op, Op::Put { .. });
            let text = String::from_utf8_lossy(&raw.bytes).into_owned();
            if found.len() == HISTORY_LINES_MAX {
                found.pop_front();
            }
            found.push_back(if put { shortened(&text) } else { text });
        }
    }
    Ok(found.into())
}

/// A `PUT` line with its value cut.
fn shortened(line: &str) -> String {
    let mut fields = line.splitn(4, ' ');
    let [Some(word), Some(key), Some(value), Some(rest)] = [(); 4].map(|()| fields.next()) else {
        return line.to_owned();
    };
    // A token is ASCII.
    match value.get(..HISTORY_VALUE_CHARS_MAX) {
        Some(start) if start.len() < value.len() => format!("{word} {key} {start}… {rest}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_values_are_cut() {
        let line = |value: &str| format!("PUT a {value} k=default v=1.1 x=- s=1 d=0 c=00000000");
        let (fits, long) = ("v".repeat(64), "v".repeat(65));
        assert_eq!(shortened(&line(&fits)), line(&fits));
        assert_eq!(shortened(&line(&long)), line(&format!("{fits}…")));
    }
}
