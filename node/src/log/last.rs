//! The last lines of the active segment, for people.

use ringkv_shared::limits::PAGE_BYTES_MAX;

use super::files::{self, DataDir};
use crate::StorageError;
use crate::disk::Open;

/// Up to so many whole lines at the end of `data.log`, oldest first, within one page.
///
/// # Errors
///
/// The file cannot be read.
pub fn lines(dir: &DataDir, lines_max: usize) -> Result<Vec<String>, StorageError> {
    let path = dir.active();
    let file = files::open(dir.disk(), &path, Open::Read)?;
    let length = file.len().map_err(StorageError::io("reading", &path))?;
    let from = length.saturating_sub(PAGE_BYTES_MAX as u64);
    let mut bytes = vec![0; PAGE_BYTES_MAX];
    let read = file.read_at(&mut bytes, from).map_err(StorageError::io("reading", &path))?;
    let bytes = &bytes[..read];
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(&[][..], |end| &bytes[..end]);
    let skip_partial = usize::from(from > 0);
    let lines: Vec<&[u8]> = whole.split(|&b| b == b'\n').skip(skip_partial).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(lines_max));
    Ok(last.map(|line| String::from_utf8_lossy(line).into_owned()).collect())
}
