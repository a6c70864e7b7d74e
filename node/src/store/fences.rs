//! Where in a row of neighbours a key belongs.
//!
//! ```text
//!   children       0       1       2       3
//!   bounds             g       gr      m           all keys of child 1 are from `g` on and below `gr`
//! ```
//!
//! Neighbours begin alike, so what the bounds have in common is kept once, and of each the next eight bytes as a
//! number, its *head*. Heads stand side by side and are compared without a look at the bounds themselves; only
//! between equal heads these decide.
//!
//! # Caveats
//!
//! A bound that does not begin as the others makes all heads anew.

use std::iter;

/// Bytes of a head.
const HEAD_BYTES: usize = 8;

/// What parts neighbours: one bound less than there are of them.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// What all bounds begin with.
    prefix: Box<[u8]>,
    /// Of each bound the eight bytes after the prefix.
    heads: Vec<u64>,
    /// Each is above all keys before it and not above those behind. In order.
    bounds: Vec<Box<[u8]>>,
}

impl Fences {
    /// Those with these bounds, which are in order.
    pub(super) fn of(bounds: Vec<Box<[u8]>>) -> Self {
        let prefix: &[u8] = match (bounds.first(), bounds.last()) {
            (Some(first), Some(last)) => common(first, last),
            _ => &[],
        };
        let heads = bounds.iter().map(|bound| head(&bound[prefix.len()..])).collect();
        Self { prefix: prefix.into(), heads, bounds }
    }

    /// The bounds, in order.
    pub(super) fn into_bounds(self) -> Vec<Box<[u8]>> {
        self.bounds
    }

    /// Which child a key belongs to.
    pub(super) fn child(&self, key: &[u8]) -> usize {
        let Some(rest) = key.strip_prefix(&*self.prefix) else {
            // It differs from all bounds in the same byte.
            return if *key < *self.prefix { 0 } else { self.bounds.len() };
        };
        let head = head(rest);
        let from = self.heads.partition_point(|other| *other < head);
        let alike = self.heads[from..].iter().take_while(|other| **other == head).count();
        from + self.bounds[from..from + alike].partition_point(|bound| **bound <= *key)
    }

    /// A child is cut in two at this bound.
    pub(super) fn cut(&mut self, child: usize, bound: Box<[u8]>) {
        match bound.strip_prefix(&*self.prefix) {
            Some(rest) if !self.bounds.is_empty() => {
                self.heads.insert(child, head(rest));
                self.bounds.insert(child, bound);
            }
            _ => {
                let mut bounds = std::mem::take(&mut self.bounds);
                bounds.insert(child, bound);
                *self = Self::of(bounds);
            }
        }
    }

    /// A child goes; a neighbour has its keys from now on. Not for the only one.
    pub(super) fn join(&mut self, child: usize) {
        let bound = child.saturating_sub(1);
        self.heads.remove(bound);
        self.bounds.remove(bound);
    }

    /// The children from this one on leave, not the first: their fences, and the bound before them.
    pub(super) fn split_off(&mut self, child: usize) -> (Box<[u8]>, Self) {
        let behind = self.bounds.split_off(child);
        let bound = self.bounds.pop().expect("the first child has nothing before it");
        *self = Self::of(std::mem::take(&mut self.bounds));
        (bound, Self::of(behind))
    }
}

/// The shortest bound between two keys of which the first is the lesser.
pub(super) fn between(below: &[u8], key: &[u8]) -> Box<[u8]> {
    key[..=common(below, key).len()].into()
}

/// What both begin with.
pub(super) fn common<'a>(one: &'a [u8], other: &[u8]) -> &'a [u8] {
    let len = iter::zip(one, other).take_while(|(a, b)| a == b).count();
    &one[..len]
}

/// The first bytes as a number of the same order; what is missing counts as zeros.
pub(super) fn head(rest: &[u8]) -> u64 {
    if let Some(bytes) = rest.first_chunk::<HEAD_BYTES>() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; HEAD_BYTES];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few different bytes, so that many keys begin alike.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let tail = proptest::collection::vec(0..3_u8, 0..14);
        (proptest::sample::select(vec![&b""[..], b"common", b"commonx"]), tail)
            .prop_map(|(start, tail)| [start, &tail].concat())
    }

    proptest! {
        #[test]
        fn a_key_is_behind_all_bounds_up_to_it(
            bounds in proptest::collection::btree_set(any_key(), 0..30), keys in proptest::collection::vec(any_key(), 30),
            order in any::<prop::sample::Index>(), gone in any::<prop::sample::Index>(),
        ) {
            let mut bounds: Vec<Vec<u8>> = bounds.into_iter().collect();
            let mut fences = Fences::default();
            // Not in order: the prefix has to give way, too.
            let first = if bounds.is_empty() { 0 } else { order.index(bounds.len()) };
            for bound in bounds[first..].iter().chain(&bounds[..first]) {
                fences.cut(fences.child(bound), bound.clone().into());
            }
            if !bounds.is_empty() {
                let child = gone.index(bounds.len() + 1);
                fences.join(child);
                bounds.remove(child.saturating_sub(1));
            }
            for key in &keys {
                let child = bounds.iter().filter(|bound| *bound <= key).count();
                prop_assert_eq!(fences.child(key), child);
            }
            if bounds.len() > 1 {
                let at = 1 + gone.index(bounds.len() - 1);
                let (bound, behind) = fences.split_off(at);
                prop_assert_eq!(&*bound, &*bounds[at - 1]);
                for key in &keys {
                    let (before, after) = (fences.child(key), behind.child(key));
                    let child = bounds.iter().filter(|bound| *bound <= key).count();
                    let found = if **key < *bound { before } else { at + after };
                    prop_assert_eq!(found, child);
                }
            }
        }

        #[test]
        fn a_bound_is_between_its_keys(one in any_key(), other in any_key()) {
            let (below, key) = if one < other { (one, other) } else { (other, one) };
            if below < key {
                let bound = between(&below, &key);
                prop_assert!(*below < *bound && *bound <= *key);
            }
        }
    }
}
