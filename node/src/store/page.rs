//! The map in key order, a page at a time.
//!
//! # Caveats
//!
//! A page skips tombstones and what a picture does not have without a bound: a range of nothing but
//! these is walked in one call.

use std::cmp::Ordering;
use std::iter;
use std::ops::Bound;

use bytes::Bytes;
use ringkv_shared::Version;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use ringkv_shared::ring::key_position;

use super::Store;
use super::entry::{Content, Entry};
use super::freeze::{FreezeError, FreezeId, Moment};
use super::more::{Held, HeldMore, State};
use crate::log::key::{self, NAMED_END, NAMED_START};
use crate::log::value::Value;
use crate::replica::Leaves;

/// The most keys that a page of some leaves or arcs passes by: a few milliseconds, in which the map is locked.
const PASSED_MAX: usize = 50_000;

/// Which keys a page should have.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Only stored keys after this one.
    pub after: Option<Bytes>,
    /// Only stored keys that start with this.
    pub prefix: Bytes,
    /// Without a prefix: keys of all keyspaces; else those of `default`.
    pub all_keyspaces: bool,
    /// The most keys.
    pub keys_max: usize,
    /// The most bytes of keys and raw values; one key is given even if it alone is larger.
    pub bytes_max: usize,
    /// Only keys in these leaves of the digests; `None`: all.
    pub leaves: Option<Leaves>,
    /// Only keys on arcs of another sort than 0; `None`: all.
    pub arcs: Option<Arcs>,
    /// No stored keys after this one.
    pub until: Option<Bytes>,
    /// Leave values out.
    pub keys_only: bool,
    /// Keys with nothing but tombstones, too.
    pub tombstones: bool,
    /// As the map was at this version, in this picture; `None`: as it is.
    pub at: Option<(FreezeId, Version)>,
}

impl PageRequest {
    /// All that is there now in all keyspaces, tombstones too, from the start on, in pages of the
    /// usual size.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            after: None,
            prefix: Bytes::new(),
            all_keyspaces: true,
            keys_max: PAGE_KEYS_MAX,
            bytes_max: PAGE_BYTES_MAX,
            leaves: None,
            arcs: None,
            until: None,
            keys_only: false,
            tombstones: true,
            at: None,
        }
    }
}

/// Keys in their order, with all that is held for each.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What is held; with `keys_only` values are empty.
    pub entries: Vec<(Bytes, Held)>,
    /// With `keys_only`, of each entry: bytes of its key, as it is on the wire, and of all its values.
    pub sizes: Vec<u64>,
    /// Whether there are more.
    pub more: bool,
    /// The last key that was looked at, when that is not the last of the entries: more are after this.
    pub reached: Option<Bytes>,
}

/// How the showing of a page has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Whether there are more.
    pub(crate) more: bool,
    /// The last key that was looked at, when that is not the last one shown.
    pub(crate) reached: Option<Bytes>,
}

impl Store {
    /// A page of entries as they answer at `now`, in unix milliseconds. Not a read: what is in
    /// memory stays as it is.
    ///
    /// # Errors
    ///
    /// [`FreezeError::Gone`], if the request is for a picture that is.
    pub fn page(&self, request: &PageRequest, now: u64) -> Result<Page, FreezeError> {
        let mut page = Page::default();
        let shown = self.show(request, now, |key, held| {
            let held = if request.keys_only {
                page.sizes.push((key::split(key).1.len() + held.value_bytes()) as u64);
                held.map(without_value)
            } else {
                held.copied()
            };
            page.entries.push((Bytes::copy_from_slice(key), held));
            true
        })?;
        Ok(Page { more: shown.more, reached: shown.reached, ..page })
    }

    /// Shows what such a page has, key by key, for as long as `show` wants more.
    pub(crate) fn show(
        &self,
        request: &PageRequest,
        now: u64,
        show: impl FnMut(&[u8], &Held<&[u8]>) -> bool,
    ) -> Result<Shown, FreezeError> {
        let shown = Shown::default();
        let mut filling = Filling { request, now, show, shown, entries: 0, bytes: 0, passed: 0 };
        let moment =
            request.at.map(|(id, version)| self.freezes.moment(id, version).map(|m| (id, m)));
        let moment = moment.transpose()?;
        for (from, until) in request.ranges() {
            let goes_on = match moment {
                None => {
                    let slots = self.entries.within(from, |key| request.ends_before(key, until));
                    filling.fill(slots.map(|slot| self.state_of(slot)), None)
                }
                Some((id, moment)) => {
                    let states = self.picture(id, from, moment);
                    let is_there =
                        |state: &State<'_>| !request.ends_before(state.slot.key(), until);
                    filling.fill(states.take_while(is_there), Some(moment))
                }
            };
            if !goes_on {
                break;
            }
        }
        Ok(filling.shown)
    }

    /// Of each key, current or kept since the picture began, the newest state that was there.
    fn picture<'a>(
        &'a self,
        id: FreezeId,
        from: Bound<&'a [u8]>,
        moment: Moment,
    ) -> impl Iterator<Item = State<'a>> {
        let mut current = self.entries.from(from).peekable();
        let mut kept = self.freezes.kept.range::<[u8], _>((from, Bound::Unbounded)).peekable();
        let each_key = iter::from_fn(move || {
            let order = match (current.peek(), kept.peek()) {
                (Some(now), Some((key, _))) => now.key().cmp(key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            let now = if order.is_le() { current.next() } else { None };
            let before = if order.is_ge() { kept.next() } else { None };
            let before = before.map_or(&[][..], |(_, left)| left);
            // Of two that are as new as each other, the last wins: the current one.
            let before =
                before.iter().filter(|(left, _)| *left >= id).map(|(_, left)| left.state());
            let all = before.chain(now.map(|slot| self.state_of(slot)));
            let there = all.filter_map(|state| moment.rank(state).map(|rank| (rank, state)));
            Some(there.max_by_key(|(rank, _)| *rank).map(|(_, state)| state))
        });
        each_key.flatten()
    }
}

impl PageRequest {
    fn from(&self) -> Bound<&[u8]> {
        match &self.after {
            Some(after) if *after >= self.prefix => Bound::Excluded(after),
            _ => Bound::Included(&self.prefix),
        }
    }

    /// Where the keys asked for are. Keys of `default` are before and behind those of the other
    /// keyspaces.
    pub(super) fn ranges(&self) -> Vec<Range<'_>> {
        let from = self.from();
        let (Bound::Included(key) | Bound::Excluded(key)) = from else { return Vec::new() };
        if self.all_keyspaces || !self.prefix.is_empty() || key >= NAMED_END {
            return vec![(from, None)];
        }
        vec![(from, Some(NAMED_START)), (Bound::Included(NAMED_END), None)]
    }
}

impl PageRequest {
    /// Whether a stored key is behind all that is asked for of a range up to here.
    pub(super) fn ends_before(&self, key: &[u8], until: Option<&[u8]>) -> bool {
        !key.starts_with(&self.prefix)
            || self.until.as_ref().is_some_and(|until| key > &**until)
            || until.is_some_and(|until| key >= until)
    }

    /// Whether a stored key lies where it is asked for.
    fn means(&self, key: &[u8]) -> bool {
        let key = key::split(key).1;
        self.leaves.as_ref().is_none_or(|leaves| leaves.have(key))
            && self.arcs.as_ref().is_none_or(|arcs| arcs.sort_of(key_position(key)) != 0)
    }
}

/// From a key on, until before another.
pub(super) type Range<'r> = (Bound<&'r [u8]>, Option<&'static [u8]>);

/// A page that is being filled.
struct Filling<'r, F> {
    request: &'r PageRequest,
    now: u64,
    show: F,
    shown: Shown,
    /// Entries in it.
    entries: usize,
    /// Bytes of these.
    bytes: usize,
    /// Keys that were passed, for they are not where they are asked for.
    passed: usize,
}

impl<F: FnMut(&[u8], &Held<&[u8]>) -> bool> Filling<'_, F> {
    /// Adds what is held; whether there is room for more.
    fn fill<'a>(
        &mut self,
        states: impl Iterator<Item = State<'a>>,
        moment: Option<Moment>,
    ) -> bool {
        let Self { request, now, show, shown, entries, bytes, passed } = self;
        for state in states {
            let key = state.slot.key();
            if !request.means(key) {
                *passed += 1;
                if *passed == PASSED_MAX {
                    (shown.more, shown.reached) = (true, Some(Bytes::copy_from_slice(key)));
                    return false;
                }
                continue;
            }
            let held = match moment {
                None => state.held(*now),
                Some(moment) => held_then(state, moment, *now),
            };
            if !request.tombstones && !held.is_live() {
                continue;
            }
            let values = if request.keys_only { 0 } else { held.value_bytes() };
            *bytes += key.len() + held.fields_bytes() + values;
            let full = *entries >= request.keys_max || *bytes > request.bytes_max;
            if full && *entries > 0 {
                shown.more = true;
                return false;
            }
            *entries += 1;
            if !show(key, &held) {
                return false;
            }
        }
        true
    }
}

/// Of a state some of which was there, that part.
fn held_then(state: State<'_>, moment: Moment, now: u64) -> Held<&[u8]> {
    if state.more.is_none() {
        return state.held(now);
    }
    let entries = state.entries().filter(|entry| moment.has(entry)).map(|entry| entry.at(now));
    let mut others: Vec<Entry<&[u8]>> = entries.collect();
    let entry = others.pop().expect("some of it was there");
    Held { entry, more: Some(Box::new(HeldMore { past: state.past(), others })) }
}

fn without_value(entry: &Entry<&[u8]>) -> Entry {
    let content = match entry.content {
        Content::Tombstone => Content::Tombstone,
        Content::Value(_) | Content::Evicted { .. } => Content::Value(Value::Plain(Bytes::new())),
    };
    let Entry { version, seq, place, expires, stamp, .. } = *entry;
    Entry { content, version, seq, place, expires, stamp }
}
