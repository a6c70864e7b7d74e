//! The sizes that the outside contract promises, each refused before anything is applied.

use crate::{Blob, ErrorName, Failure};

/// The most bytes in a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most bytes in a value.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Values up to this size are told to those who watch, in bytes.
pub const WATCHED_BYTES_MAX: usize = 4096;
/// The most bytes in one line of the wire, request or response, newline excluded.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most bytes in what a node is told of its cluster.
pub const MAP_BYTES_MAX: usize = 1024 * 1024;
/// The connections that a server takes at a time, if it is not told otherwise.
pub const CONNECTIONS_MAX_DEFAULT: usize = 10_000;
/// The most entries in a JSON-RPC batch.
pub const BATCH_ENTRIES_MAX: usize = 1024;
/// How deep a JSON message may nest.
pub const JSON_DEPTH_MAX: usize = 32;
/// The most single versions in a context that a client gives.
pub const CONTEXT_DOTS_MAX: usize = 1000;
/// The longest time to live, in milliseconds: ten years. The shortest is one millisecond.
pub const TTL_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
/// The most keys a page of `dump` or `scan` returns, whatever the caller asks for.
pub const PAGE_KEYS_MAX: usize = 10_000;
/// The byte budget of the keys and values in one page or one `apply`: it must fit a line even
/// when every byte is escaped as `\u00XX`, but for one value that is larger by itself.
pub const PAGE_BYTES_MAX: usize = 512 * 1024;

// A base64 value of the largest size, or a text that needs no more than 2 bytes for each, fits.
const _: () = assert!(VALUE_BYTES_MAX * 2 + KEY_BYTES_MAX * 6 + 1024 < LINE_BYTES_MAX);
const _: () = assert!(MAP_BYTES_MAX * 2 + 1024 < LINE_BYTES_MAX);
const _: () = assert!(PAGE_BYTES_MAX * 6 < LINE_BYTES_MAX);

/// A key as users give it.
///
/// # Errors
///
/// It is too long.
pub fn check_key(key: &Blob) -> Result<(), Failure> {
    check_size("key", key, key.len(), KEY_BYTES_MAX)
}

/// The value that is to be put under a key.
///
/// # Errors
///
/// It is too long.
pub fn check_value(key: &Blob, value: &Blob) -> Result<(), Failure> {
    check_size("value", key, value.len(), VALUE_BYTES_MAX)
}

fn check_size(what: &str, key: &Blob, bytes: usize, bytes_max: usize) -> Result<(), Failure> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let shown: String = key.to_string().chars().take(64).collect();
    Err(Failure::new(
        ErrorName::TooLarge,
        format!(
            "the {what} of {shown} has {bytes} bytes, the limit is {bytes_max}; nothing was written"
        ),
    ))
}
