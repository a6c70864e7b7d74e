//! What a request may bring: sizes, counts, versions and contexts, refused before anything is applied.
//!
//! # Caveats
//!
//! The limits are those of the whole system, see [`ringkv_shared::limits`]; a node has none of its own.

use ringkv_shared::causal::Context;
use ringkv_shared::limits::{
    CONTEXT_DOTS_MAX, KEY_BYTES_MAX, MAP_BYTES_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX, VALUE_BYTES_MAX,
};
use ringkv_shared::merkle::Digest;
use ringkv_shared::protocol::node::{Claim, Collection, Record, SpaceKey};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId, Version};
use uuid::Uuid;

/// The highest version counter taken from outside: half the range is left to count on in, which
/// nobody will ever use up.
pub(crate) const COUNTER_MAX: u64 = u64::MAX / 2;

/// The most versions in the context of a write: the single ones that a client may give, and the bounds of
/// many lines.
pub(crate) const CONTEXT_PARTS_MAX: usize = CONTEXT_DOTS_MAX + 100;

/// The most versions that a write may leave to be remembered for its key: a few contexts that knew nothing of
/// each other.
pub(crate) const WRITTEN_PARTS_MAX: usize = 2_000;

/// The most versions in what a replica holds for a key: what came with writes to several replicas may meet
/// there.
pub(crate) const RECORD_PARTS_MAX: usize = 10_000;

/// The most values and tombstones that a write may leave beside each other in a key.
pub(crate) const SIBLINGS_MAX: usize = 64;

/// The most bytes of these, so that what is held for a key fits a line of the wire.
pub(crate) const SIBLINGS_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// The most values and tombstones in what a replica holds for a key, for the same reason as
/// [`RECORD_PARTS_MAX`].
const RECORD_VALUES_MAX: usize = 1_000;

const _: () = assert!(RECORD_PARTS_MAX >= 5 * WRITTEN_PARTS_MAX);
const _: () = assert!(RECORD_VALUES_MAX >= 5 * SIBLINGS_MAX);

/// The latest stamp taken from outside, in unix milliseconds: others count on from it.
pub(crate) const STAMP_MS_MAX: u64 = u64::MAX / 2;

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

/// Whether a claim is meant for the node with this data directory.
pub(crate) fn check_meant(claim: &Claim, id: &NodeId, uuid: Uuid) -> Result<(), Failure> {
    if claim.node == uuid.to_string() {
        return Ok(());
    }
    let message = format!("{id} with other data answers there");
    Err(Failure::new(ErrorName::NodeNotFound, message)
        .hint("its identity is in the answer to size"))
}

/// Who claims, and from whom it takes over.
pub(crate) fn check_claim(claim: &Claim) -> Result<(Uuid, Vec<Uuid>), Failure> {
    let by = identity(&claim.coordinator)?;
    let after: Result<Vec<Uuid>, Failure> = claim.after.iter().map(|text| identity(text)).collect();
    Ok((by, after?))
}

fn identity(text: &str) -> Result<Uuid, Failure> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        let message = format!("{shown:?} is no identity of a coordinator; nothing was applied");
        Failure::new(ErrorName::BadArgument, message).hint("a UUID, as in its data directory")
    })
}

/// Lines that tell of a cluster.
pub(crate) fn check_map(lines: &str) -> Result<(), Failure> {
    check_size("map", lines.len(), MAP_BYTES_MAX)?;
    let is_plain = |c: char| c == '\n' || !c.is_ascii_control();
    if lines.ends_with('\n') && lines.chars().all(is_plain) {
        return Ok(());
    }
    let message = "a map is whole lines, without other control characters; nothing was applied";
    Err(Failure::new(ErrorName::BadArgument, message))
}

/// Keys that a node has missed, or has now.
pub(crate) fn check_space_keys(keys: &[SpaceKey]) -> Result<(), Failure> {
    check_count(keys.len())?;
    keys.iter().try_for_each(|key| check_key(&key.key))
}

/// The most nodes that one write can be owed to: more than have missed a write that counts.
pub(crate) const OWED_TO_MAX: usize = 64;

/// The nodes that are to be owed a write.
pub(crate) fn check_owed(owe: &[NodeId]) -> Result<(), Failure> {
    if owe.len() <= OWED_TO_MAX {
        return Ok(());
    }
    let message = format!("a write owed to {} nodes; at most {OWED_TO_MAX} are taken", owe.len());
    Err(Failure::new(ErrorName::TooLarge, message).hint("name only those that missed it"))
}

/// Leaves whose tombstones are to be forgotten.
pub(crate) fn check_collections(leaves: &[Collection]) -> Result<(), Failure> {
    check_count(leaves.len() + leaves.iter().map(|leaf| leaf.keys.len()).sum::<usize>())?;
    for Collection { digest, floor, keys, .. } in leaves {
        if let Err(bad) = digest.parse::<Digest>() {
            let failure = Failure::new(ErrorName::BadArgument, bad.to_string());
            return Err(failure.hint("give the digest as the node has told it"));
        }
        floor.bounds().try_for_each(|bound| check_version(Some(bound)))?;
        keys.iter().try_for_each(check_key)?;
    }
    Ok(())
}

/// A counter near the end of its range is refused: others count on from it.
pub(crate) fn check_version(version: Option<Version>) -> Result<(), Failure> {
    match version {
        Some(Version { counter, .. }) if counter > COUNTER_MAX => {
            let message = format!("a version counter of {counter}; at most {COUNTER_MAX} is taken");
            Err(Failure::new(ErrorName::BadArgument, message).hint("use a smaller counter"))
        }
        _ => Ok(()),
    }
}

/// Checks a write that was numbered by who routes it.
pub(crate) fn check_write(record: &Record) -> Result<(), Failure> {
    if !record.siblings.is_empty() {
        let message = "a write is one value or tombstone; this one has several";
        return Err(Failure::new(ErrorName::BadArgument, message).hint("use apply to merge copies"));
    }
    check_record(record, CONTEXT_PARTS_MAX).map(|_| ())
}

fn check_context(context: &Context, parts_max: usize) -> Result<(), Failure> {
    // What is before the first number of an epoch is all of the one before, whatever its numbers.
    for version in context.versions().filter(|version| version.counter != u64::MAX) {
        check_version(Some(version))?;
    }
    if context.parts() > parts_max {
        let message =
            format!("a context of {} versions; at most {parts_max} are taken", context.parts());
        return Err(Failure::new(ErrorName::TooLarge, message).hint("write without a context"));
    }
    Ok(())
}

/// The keyspace of all that names none is never dropped.
pub(crate) fn check_dropped(keyspace: &KeyspaceName) -> Result<(), Failure> {
    if !keyspace.is_default() {
        return Ok(());
    }
    let failure = Failure::new(ErrorName::BadArgument, "the keyspace default cannot be dropped");
    Err(failure.hint("delete its keys, or start the node with an empty directory"))
}

/// Checks one record; says how many bytes of keys and values it has.
fn check_record(record: &Record, parts_max: usize) -> Result<usize, Failure> {
    check_key(&record.key)?;
    let bad = |message: String| Err(Failure::new(ErrorName::BadArgument, message));
    if let Some(context) = &record.context {
        check_context(context, parts_max)?;
    }
    let values = record.siblings.len() + 1;
    if values > RECORD_VALUES_MAX {
        let message = format!("a record of {values} values; at most {RECORD_VALUES_MAX} are taken");
        return Err(Failure::new(ErrorName::TooLarge, message).hint("write the key once"));
    }
    let (mut bytes, past) = (record.key.len(), record.past());
    for sibling in record.values() {
        check_version(Some(sibling.version))?;
        if sibling.value.is_some() == sibling.deleted {
            return bad(format!("record {:?} needs either a value or deleted", record.key));
        }
        if let Some(stamp) = sibling.stamp.filter(|stamp| stamp.ms > STAMP_MS_MAX) {
            return bad(format!("the stamp {stamp} is of no time that a clock could show"));
        }
        if past.covers(sibling.version) {
            let version = sibling.version;
            return bad(format!(
                "record {:?} says of its version {version} that it was replaced",
                record.key
            ));
        }
        if let Some(value) = &sibling.value {
            check_value(value)?;
            bytes += value.len();
        }
    }
    Ok(bytes)
}

/// Checks a whole batch before any of it is applied.
pub(crate) fn check_records(records: &[Record]) -> Result<(), Failure> {
    check_count(records.len())?;
    let mut bytes = 0;
    for record in records {
        bytes += check_record(record, RECORD_PARTS_MAX)?;
    }
    if records.len() > 1 { check_size("batch", bytes, PAGE_BYTES_MAX) } else { Ok(()) }
}
