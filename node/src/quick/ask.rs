//! What a line asks for: parameters in one spelling, within the limits.
//!
//! ```text
//! put    ["apple","red"]  ["apple","red","3.17"]  ["apple","red",null,null,"carts"]
//! get    ["apple"]  ["apple",null]  ["apple","carts"]
//! del    ["apple"]  ["apple","3.17"]  ["apple",null,"carts"]
//! write  [{"keyspace":"carts","record":{"key":"apple","value":"red","version":"3.17","expires":17…,"stamp":"17….0"}}]
//!        [{"record":{"key":"apple","deleted":true,"version":"3.17"},"owe":["n2"]}]
//! ```
//!
//! # Caveats
//!
//! A write with a context or with siblings is none of these.

use std::ops::Range;

use ringkv_shared::hlc::Stamp;
use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::net::Scan;
use ringkv_shared::{KeyspaceName, NodeId, Version};

use crate::checks::{COUNTER_MAX, OWED_TO_MAX, STAMP_MS_MAX};
use crate::log::key;

/// A call that can be served without the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// Reads a key.
    Get(Key<'a>),
    /// Writes or deletes one.
    Change(Change<'a>),
}

/// A key as it stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// `None`: `default`, as which it is stored.
    keyspace: Option<&'a str>,
    name: &'a str,
}

impl<'a> Key<'a> {
    /// Puts the stored form down, if the key in the line is not that itself; says where.
    pub(super) fn store(self, into: &mut Vec<u8>) -> Option<Range<usize>> {
        let from = into.len();
        key::store(self.keyspace?, self.name.as_bytes(), into);
        Some(from..into.len())
    }

    /// The stored form, which was put down here.
    pub(super) fn stored<'s>(self, at: Option<Range<usize>>, stored: &'s [u8]) -> &'s [u8]
    where
        'a: 's,
    {
        at.map_or(self.name.as_bytes(), |at| &stored[at])
    }
}

/// A write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    /// The key.
    pub(super) key: Key<'a>,
    /// The value; `None`: a tombstone.
    pub(super) value: Option<&'a str>,
    /// When it expires, in unix milliseconds.
    pub(super) expires: Option<u64>,
    /// Who numbered it.
    pub(super) by: By,
    /// Who is owed it.
    pub(super) owe: Vec<NodeId>,
}

/// Who gives a write its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The node itself.
    Node,
    /// Who talks to the node.
    Caller(Version),
    /// Who routes, with a stamp where the last write wins.
    Coordinator(Version, Option<Stamp>),
}

impl<'a> Ask<'a> {
    /// Reads what stands between the brackets of a call's parameters.
    pub(super) fn read(method: &str, params: &'a [u8]) -> Option<Self> {
        let mut params = Scan::new(params);
        let ask = match method {
            "put" => put(&mut params),
            "get" => get(&mut params),
            "del" => del(&mut params),
            "write" => write(&mut params),
            _ => None,
        };
        ask.filter(|_| params.is_done())
    }

    /// The key.
    pub(super) const fn key(&self) -> Key<'a> {
        match self {
            Self::Get(key) | Self::Change(Change { key, .. }) => *key,
        }
    }
}

fn get<'a>(params: &mut Scan<'a>) -> Option<Ask<'a>> {
    let key = params.text()?;
    let keyspace =
        if params.skip_if(",null") || !params.skip_if(",") { None } else { Some(params.text()?) };
    Some(Ask::Get(named(keyspace, key)?))
}

fn put<'a>(params: &mut Scan<'a>) -> Option<Ask<'a>> {
    let name = params.text()?;
    params.skip(",")?;
    let value = Some(value(params)?);
    let by = caller(params)?;
    // A value of the caller's that expires is left to the table.
    let keyspace = if params.skip_if(",null") { keyspace(params)? } else { None };
    let key = named(keyspace, name)?;
    Some(Ask::Change(Change { key, value, expires: None, by, owe: Vec::new() }))
}

fn del<'a>(params: &mut Scan<'a>) -> Option<Ask<'a>> {
    let name = params.text()?;
    let by = caller(params)?;
    let key = named(keyspace(params)?, name)?;
    Some(Ask::Change(Change { key, value: None, expires: None, by, owe: Vec::new() }))
}

/// The version as the next parameter, if there is one more.
fn caller(params: &mut Scan<'_>) -> Option<By> {
    let none = params.is_done() || params.skip_if(",null");
    if none {
        return Some(By::Node);
    }
    params.skip(",")?;
    Some(By::Caller(version(params)?))
}

/// The keyspace as the last parameter, if there is one more.
fn keyspace<'a>(params: &mut Scan<'a>) -> Option<Option<&'a str>> {
    if params.is_done() || params.skip_if(",null") {
        return Some(None);
    }
    params.skip(",")?;
    Some(Some(params.text()?))
}

fn write<'a>(params: &mut Scan<'a>) -> Option<Ask<'a>> {
    params.skip("{")?;
    let keyspace = if params.skip_if(r#""keyspace":"#) {
        let keyspace = params.text()?;
        params.skip(",")?;
        Some(keyspace)
    } else {
        None
    };
    params.skip(r#""record":{"key":"#)?;
    let key = named(keyspace, params.text()?)?;
    let value = if params.skip_if(r#","value":"#) {
        Some(value(params)?)
    } else {
        params.skip(r#","deleted":true"#)?;
        None
    };
    params.skip(r#","version":"#)?;
    let version = version(params)?;
    let expires = params.skip_if(r#","expires":"#).then(|| params.number());
    let stamp = params.skip_if(r#","stamp":"#).then(|| stamp(params));
    params.skip("}")?;
    let owe = if params.skip_if(r#","owe":["#) { owed(params)? } else { Vec::new() };
    params.skip("}")?;
    let (expires, stamp) = (given(expires)?, given(stamp)?);
    Some(Ask::Change(Change { key, value, expires, by: By::Coordinator(version, stamp), owe }))
}

/// Who is owed a write, one at least.
fn owed(params: &mut Scan<'_>) -> Option<Vec<NodeId>> {
    let mut owe = Vec::new();
    while owe.len() < OWED_TO_MAX {
        owe.push(params.text()?.parse().ok()?);
        if params.skip_if("]") {
            return Some(owe);
        }
        params.skip(",")?;
    }
    None
}

/// What is there must be readable.
pub(super) const fn given<T: Copy>(member: Option<Option<T>>) -> Option<Option<T>> {
    match member {
        None => Some(None),
        Some(None) => None,
        Some(given) => Some(given),
    }
}

/// The key, if it can be one.
fn named<'a>(keyspace: Option<&'a str>, name: &'a str) -> Option<Key<'a>> {
    let is_key = name.len() <= KEY_BYTES_MAX && keyspace.is_none_or(KeyspaceName::is_spelled);
    // Text that needs no escapes does not begin with a 0 byte: in `default` it is its own stored form.
    is_key.then_some(Key { keyspace: keyspace.filter(|name| *name != "default"), name })
}

fn value<'a>(params: &mut Scan<'a>) -> Option<&'a str> {
    params.text().filter(|value| value.len() <= VALUE_BYTES_MAX)
}

pub(super) fn version(params: &mut Scan<'_>) -> Option<Version> {
    params.version().filter(|version| version.counter <= COUNTER_MAX)
}

pub(super) fn stamp(params: &mut Scan<'_>) -> Option<Stamp> {
    params.text()?.parse().ok().filter(|stamp: &Stamp| stamp.ms <= STAMP_MS_MAX)
}
