//! What a request may bring: sizes, counts and versions, refused before anything is applied.
//!
//! # Caveats
//!
//! The limits are those of the whole system, see [`ringkv_shared::limits`]; a node has none of its own.

use ringkv_shared::limits::{KEY_BYTES_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX, VALUE_BYTES_MAX};
use ringkv_shared::protocol::node::{Record, SpaceKey};
use ringkv_shared::{Blob, ErrorName, Failure, Version};

/// The highest version counter taken from outside: half the range is left to count on in, which
/// no node will ever use up.
pub(crate) const COUNTER_MAX: u64 = u64::MAX / 2;

pub(crate) fn check_key(key: &Blob) -> Result<(), Failure> {
    check_size("key", key.len(), KEY_BYTES_MAX)
}

pub(crate) fn check_value(value: &Blob) -> Result<(), Failure> {
    check_size("value", value.len(), VALUE_BYTES_MAX)
}

fn check_size(what: &str, bytes: usize, max: usize) -> Result<(), Failure> {
    if bytes <= max {
        return Ok(());
    }
    let message = format!("a {what} of {bytes} bytes; at most {max} are taken");
    Err(Failure::new(ErrorName::TooLarge, message).hint(format!("use a shorter {what}")))
}

pub(crate) fn check_count(count: usize) -> Result<(), Failure> {
    if count <= PAGE_KEYS_MAX {
        return Ok(());
    }
    let message = format!("{count} keys in one request; at most {PAGE_KEYS_MAX} are taken");
    Err(Failure::new(ErrorName::TooLarge, message).hint("send smaller batches"))
}

/// Keys that a node has missed, or has now.
pub(crate) fn check_space_keys(keys: &[SpaceKey]) -> Result<(), Failure> {
    check_count(keys.len())?;
    keys.iter().try_for_each(|key| check_key(&key.key))
}

/// A counter near the end of its range is refused: the node counts on from it.
pub(crate) fn check_version(version: Option<Version>) -> Result<(), Failure> {
    match version {
        Some(Version { counter, .. }) if counter > COUNTER_MAX => {
            let message = format!("a version counter of {counter}; at most {COUNTER_MAX} is taken");
            Err(Failure::new(ErrorName::BadArgument, message).hint("use a smaller counter"))
        }
        _ => Ok(()),
    }
}

/// Checks a whole batch before any of it is applied.
pub(crate) fn check_records(records: &[Record]) -> Result<(), Failure> {
    check_count(records.len())?;
    let mut bytes = 0;
    for record in records {
        check_key(&record.key)?;
        check_version(Some(record.version))?;
        if record.value.is_some() == record.deleted {
            let message = format!("record {:?} needs either a value or deleted", record.key);
            return Err(Failure::new(ErrorName::BadArgument, message));
        }
        if let Some(value) = &record.value {
            check_value(value)?;
            bytes += value.len();
        }
        bytes += record.key.len();
    }
    if records.len() > 1 { check_size("batch", bytes, PAGE_BYTES_MAX) } else { Ok(()) }
}
