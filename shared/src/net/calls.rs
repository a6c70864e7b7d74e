//! Calls that wait for their answers, by the id that they have on the wire.
//!
//! Ids are given one after another and never twice, so an answer that comes after its call was given up finds
//! nobody. A call waits in the slot of its id's low bits; an id whose slot is taken, by a call that waits long, is passed
//! over. So to begin and to end a call costs a look at one place, and no hashing.

/// The fewest slots.
const SLOTS_MIN: usize = 16;
/// The most calls that may wait.
pub(super) const CALLS_MAX: usize = 1 << 20;

/// The table. Of `T` is what waits.
#[derive(Debug)]
pub(super) struct Calls<T> {
    /// As many as a power of two; at most half of them are taken.
    slots: Vec<Option<(u64, T)>>,
    waiting: usize,
    next: u64,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), waiting: 0, next: 0 }
    }
}

impl<T> Calls<T> {
    /// The id of a call that begins, which waits as `waiting`; `None` if too many do.
    pub(super) fn begin(&mut self, waiting: T) -> Option<u64> {
        if self.waiting >= CALLS_MAX {
            return None;
        }
        if self.waiting * 2 >= self.slots.len() {
            self.grow();
        }
        loop {
            let id = self.next;
            self.next += 1;
            let slot = self.slot(id);
            if slot.is_none() {
                *slot = Some((id, waiting));
                self.waiting += 1;
                return Some(id);
            }
        }
    }

    /// What waited for the answer to this id.
    pub(super) fn end(&mut self, id: u64) -> Option<T> {
        if self.slots.is_empty() {
            return None;
        }
        let (_, waiting) = self.slot(id).take_if(|(of, _)| *of == id)?;
        self.waiting -= 1;
        Some(waiting)
    }

    /// All that wait, in no order; none do any more.
    pub(super) fn end_all(&mut self) -> Vec<T> {
        self.waiting = 0;
        self.slots.drain(..).flatten().map(|(_, waiting)| waiting).collect()
    }

    fn slot(&mut self, id: u64) -> &mut Option<(u64, T)> {
        let mask = self.slots.len() - 1;
        &mut self.slots[id as usize & mask]
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(SLOTS_MIN);
        let fresh: Vec<_> = std::iter::repeat_with(|| None).take(len).collect();
        for (id, waiting) in std::mem::replace(&mut self.slots, fresh).into_iter().flatten() {
            // What had a place of its own among fewer has one among more.
            *self.slot(id) = Some((id, waiting));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_call_that_waits_long_is_passed_over() {
        let mut calls = Calls::default();
        assert_eq!((calls.begin("slow"), calls.end(7)), (Some(0), None));
        for n in 1..100 {
            let id = calls.begin("quick").unwrap();
            assert!(id >= n && calls.end(id) == Some("quick") && calls.end(id).is_none());
        }
        assert_eq!((calls.slots.len(), calls.end_all()), (SLOTS_MIN, vec!["slow"]));
        assert_eq!((calls.end(0), calls.begin("on").is_some()), (None, true));
    }

    proptest! {
        /// Each step begins a call, or ends the one at that place among those that wait.
        #[test]
        fn as_a_map_does(steps in proptest::collection::vec(proptest::option::of(0usize..50), 0..400)) {
            let (mut calls, mut model, mut last) = (Calls::default(), BTreeMap::new(), None);
            for (n, step) in steps.into_iter().enumerate() {
                match step.and_then(|at| model.keys().nth(at).copied()) {
                    Some(id) => prop_assert_eq!(calls.end(id), model.remove(&id)),
                    None => {
                        let id = calls.begin(n).unwrap();
                        prop_assert!(last < Some(id));
                        last = Some(id);
                        model.insert(id, n);
                    }
                }
                prop_assert_eq!(calls.waiting, model.len());
            }
            let mut left = calls.end_all();
            left.sort_unstable();
            let mut expected: Vec<usize> = model.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
        }
    }
}
