//! Keys of all keyspaces in one map: a key with its keyspace as one string of bytes.
//!
//! | keyspace | key | stored as |
//! |---|---|---|
//! | `default` | `apple` | `apple` |
//! | `default` | `\0x` (begins with a 0 byte) | `\0\0x` |
//! | `carts` | `apple` | `\0carts\0apple` |
//!
//! No two keys are stored alike, and keys of one keyspace keep their order. What nearly all keys are
//! costs nothing: a key of `default` is stored as it is.
//!
//! In a line of the log the two stand apart: the key as a token, the keyspace as `k=`.
//!
//! # Caveats
//!
//! The stored keys of `default` are not one range: those of the others lie between its keys that
//! begin with a 0 byte and all its other keys. See [`NAMED_END`].

use std::borrow::Cow;

use bytes::Bytes;
use ringkv_shared::KeyspaceName;

/// The keyspace whose keys are stored as they are.
const DEFAULT: &str = "default";

/// What keys of `default` with a 0 byte in front are below, and keys of other keyspaces are not.
pub const NAMED_START: &[u8] = &[0, 1];
/// What keys of other keyspaces are below, and the other keys of `default` are not.
pub const NAMED_END: &[u8] = &[1];

/// The stored form of a key.
#[must_use]
pub fn stored(keyspace: &KeyspaceName, key: Bytes) -> Bytes {
    if keyspace.is_default() && key.first() != Some(&0) {
        return key;
    }
    [&prefix(keyspace), &*key].concat().into()
}

/// Puts down the stored form of a key.
pub(crate) fn store(keyspace: &str, key: &[u8], into: &mut Vec<u8>) {
    if keyspace != DEFAULT || key.first() == Some(&0) {
        pieces(keyspace).iter().for_each(|piece| into.extend_from_slice(piece));
    }
    into.extend_from_slice(key);
}

/// The stored form of a key of a line, without a copy where there is none to be made.
pub(crate) fn stored_cow<'a>(keyspace: &str, key: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    if keyspace == DEFAULT && key.first() != Some(&0) {
        return key;
    }
    let mut stored = Vec::with_capacity(keyspace.len() + key.len() + 2);
    store(keyspace, &key, &mut stored);
    stored.into()
}

/// What the stored keys of a keyspace begin with: all of them, or of `default` those that begin with a
/// 0 byte.
#[must_use]
pub fn prefix(keyspace: &KeyspaceName) -> Vec<u8> {
    pieces(keyspace.as_str()).concat()
}

/// The same in pieces.
fn pieces(keyspace: &str) -> [&[u8]; 3] {
    if keyspace == DEFAULT { [&[0], &[], &[]] } else { [&[0], keyspace.as_bytes(), &[0]] }
}

/// The keyspace of a stored key (`None`: `default`) and the key.
///
/// # Panics
///
/// The bytes are no stored key.
#[must_use]
pub fn split(stored: &[u8]) -> (Option<&str>, &[u8]) {
    match stored {
        [0, 0, ..] => (None, &stored[1..]),
        [0, rest @ ..] => {
            let end = memchr::memchr(0, rest).expect("a name ends with a 0 byte");
            let name = std::str::from_utf8(&rest[..end]).expect("a name is ASCII");
            (Some(name), &rest[end + 1..])
        }
        key => (None, key),
    }
}

/// The same with the keyspace as a name.
///
/// # Panics
///
/// The bytes are no stored key.
#[must_use]
pub fn named(stored: &[u8]) -> (KeyspaceName, &[u8]) {
    let (name, key) = split(stored);
    let name = name.map(|name| name.parse().expect("a name is one when its key is stored"));
    (name.unwrap_or_default(), key)
}

/// Whether a stored key is of `default`.
#[must_use]
pub fn is_default(stored: &[u8]) -> bool {
    !matches!(stored, [0, second, ..] if *second != 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A keyspace, mostly one of a few.
    pub(crate) fn any_keyspace() -> impl Strategy<Value = KeyspaceName> {
        prop_oneof![3 => Just("default".to_owned()), 1 => "[a-c]{1,2}", 1 => "[a-z0-9][a-z0-9-]{0,31}"]
            .prop_map(|name| name.parse().unwrap())
    }

    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![2 => 0..3_u8, 1 => any::<u8>()], 0..6)
    }

    /// The stored form of any key of any keyspace.
    pub(crate) fn any_stored() -> impl Strategy<Value = Bytes> {
        (any_keyspace(), any_key()).prop_map(|(keyspace, key)| stored(&keyspace, key.into()))
    }

    proptest! {
        #[test]
        fn any_key_comes_back(keyspace in any_keyspace(), key in any_key()) {
            let held = stored(&keyspace, key.clone().into());
            let (name, raw) = split(&held);
            prop_assert_eq!((name.unwrap_or("default"), raw), (keyspace.as_str(), &key[..]));
            prop_assert_eq!(&*stored_cow(keyspace.as_str(), key.into()), &*held);
            prop_assert_eq!(is_default(&held), keyspace.is_default());
            let named = NAMED_START <= &*held && &*held < NAMED_END;
            prop_assert_eq!(named, !keyspace.is_default());
        }

        #[test]
        fn order_is_kept_within_a_keyspace(keyspace in any_keyspace(), a in any_key(), b in any_key()) {
            let (one, other) = (stored(&keyspace, a.clone().into()), stored(&keyspace, b.clone().into()));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        }

        #[test]
        fn keyspaces_do_not_meet(a in any_keyspace(), b in any_keyspace(), key in any_key(), other in any_key()) {
            let (one, other) = (stored(&a, key.into()), stored(&b, other.into()));
            prop_assert!(a == b || one != other);
            prop_assert!(a == b || a.is_default() || !other.starts_with(&prefix(&a)));
        }
    }
}
