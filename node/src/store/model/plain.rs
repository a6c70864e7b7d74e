//! What happens to a store in the model, and the plain map that it is held against.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use ringkv_shared::causal::{Context, Siblings};
use ringkv_shared::hlc::Stamp;
use ringkv_shared::{Line, NODE_EPOCH, Version};

use super::super::FREEZES_MAX;
use crate::log::place::Place;
use crate::log::record::{Op, Record};
use crate::log::value::Value;

/// Keys from this one on are of a keyspace where the last write wins.
pub(super) const LWW_FROM: u8 = 4;

#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A write of a key under a number, which decides all of it.
    Write(u8, u64),
    /// A write that is there, by a writer who had seen more.
    Teach(u8, u64),
    /// A delete of a version that is stored: the end of a value that expires.
    End(u8),
    /// Forgets a key.
    Drop(u8),
    /// Forgets all keys.
    DropAll,
    Read(u8),
    Settle,
    Evict(u64, Option<u64>),
    Admit(u8),
    Replace(u8, u64),
    /// Time goes on.
    Tick(u64),
    Sweep(usize),
    Freeze,
    Thaw(usize),
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let key = 0..6_u8;
    prop_oneof![
        32 => (key.clone(), 1..60_u64).prop_map(|(k, n)| Act::Write(k, n)),
        4 => (key.clone(), 1..60_u64).prop_map(|(k, n)| Act::Teach(k, n)),
        4 => key.clone().prop_map(Act::End),
        4 => key.clone().prop_map(Act::Drop),
        1 => Just(Act::DropAll),
        8 => key.clone().prop_map(Act::Read),
        8 => Just(Act::Settle),
        8 => (0..6000_u64, proptest::option::of(0..6_u64)).prop_map(|(b, v)| Act::Evict(b, v)),
        4 => key.clone().prop_map(Act::Admit),
        4 => (key, 1..1_000_000_u64).prop_map(|(k, offset)| Act::Replace(k, offset)),
        4 => (0..20_u64).prop_map(Act::Tick),
        4 => (1..8_usize).prop_map(Act::Sweep),
        4 => Just(Act::Freeze),
        4 => (0..FREEZES_MAX).prop_map(Act::Thaw),
    ]
}

/// The version of a number: most are a coordinator's.
pub(super) fn version(n: u64) -> Version {
    Version::new(if n % 5 == 4 { NODE_EPOCH | 1 } else { 0 }, n)
}

/// What the writer of a number had seen: says nothing, or some of what was before.
pub(super) fn seen(n: u64) -> Context {
    match n % 3 {
        0 => Context::up_to(Version::new(0, n / 2)),
        1 if n.is_multiple_of(2) => Context::up_to(Version::new(NODE_EPOCH | 1, n - 1)),
        _ => Context::before(version(n)),
    }
}

/// What a number writes to a key: the same one always writes the same.
pub(super) fn written(key: u8, n: u64) -> Op {
    let raw = Bytes::from(format!("{key}-{n} ").repeat(n as usize * 7 % 300));
    match n % 4 {
        0 => Op::Del,
        1 => Op::Put { value: Value::new(raw), expires: Some(n) },
        _ => Op::Put { value: Value::new(raw), expires: None },
    }
}

pub(super) fn stamp(k: u8, n: u64) -> Option<Stamp> {
    (k >= LWW_FROM).then_some(Stamp { ms: n, count: 0 })
}

pub(super) fn record(k: u8, n: u64, op: Op, seen: &Context) -> Record {
    Record { stamp: stamp(k, n), ..Record::new(key(k), op, version(n)).with_seen(seen) }
}

pub(super) fn key(k: u8) -> Bytes {
    Bytes::from(vec![b'k', k])
}

/// A value or tombstone that the plain map holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) n: u64,
    /// A value that expires was deleted under its own version.
    pub(super) ended: bool,
    /// The line that brought it.
    pub(super) line: u64,
    /// The line that is told to have.
    pub(super) seq: u64,
    pub(super) place: Option<Place>,
}

impl Item {
    pub(super) fn op(&self, k: u8) -> Op {
        if self.ended { Op::Del } else { written(k, self.n) }
    }

    /// The value and its expiry, as they answer at `now`.
    pub(super) fn answer(&self, k: u8, now: u64) -> Option<(Value, Option<u64>)> {
        match self.op(k) {
            Op::Put { value, expires } if expires.is_none_or(|at| at > now) => {
                Some((value, expires))
            }
            _ => None,
        }
    }

    pub(super) fn expires(&self, k: u8) -> bool {
        matches!(self.op(k), Op::Put { expires: Some(_), .. })
    }
}

/// What the plain map holds for a key, and the line that changed it last.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) set: Siblings<Item>,
    pub(super) seq: u64,
}

impl State {
    pub(super) fn greatest(&self) -> Item {
        self.set.values().last().unwrap().1
    }

    pub(super) fn is_plain(&self) -> bool {
        self.set.values().len() == 1 && self.set.past().is_before(version(self.greatest().n))
    }

    /// The same with some of its values changed.
    pub(super) fn with(&self, change: impl Fn(&mut Item)) -> Self {
        let values = self.set.values().iter().map(|(version, item)| {
            let mut item = *item;
            change(&mut item);
            (*version, item)
        });
        Self { set: Siblings::new(self.set.past().clone(), values), seq: self.seq }
    }

    /// What of it was there at a version of a picture that began with a line; and how new that is.
    pub(super) fn then(&self, k: u8, n: u64, begun: u64) -> Option<(Rank, Self)> {
        let there = |version: Version, item: &Item| match version.line() {
            Line::Coordinators => version <= Version::new(0, n),
            Line::Node(_) => item.seq <= begun,
        };
        let values = self.set.values().iter().filter(|(version, item)| there(*version, item));
        let values: Vec<(Version, Item)> = values.cloned().collect();
        let last = values.iter().filter_map(|(_, item)| stamp(k, item.n)).max();
        let newest = values.iter().map(|(version, _)| *version);
        let newest = newest.filter(|version| version.line() == Line::Coordinators).max();
        let all = values.len() == self.set.values().len();
        let part =
            Self { set: Siblings::new(self.set.past().clone(), values.clone()), seq: self.seq };
        (!values.is_empty()).then_some(((last, newest, all), part))
    }
}

/// The last by the clock, the greatest number of the coordinators, and whether that is all.
type Rank = (Option<Stamp>, Option<Version>, bool);

pub(super) type Map = BTreeMap<u8, State>;
