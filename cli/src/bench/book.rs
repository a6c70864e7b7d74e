//! What may be read of each key, given what was sent and acknowledged.
//!
//! Several connections put the same key at once, and which of two overlapping puts came last nobody
//! outside can know. What can be known: a put that was acknowledged *before another was sent* lies before that,
//! so once the other is acknowledged, too, its value must never be seen again. Puts are numbered in
//! the order in which they are sent. A *chain* is a time during which at least one put of a key is under
//! way: all puts before it were acknowledged before any of it was sent.
//!
//! ```text
//! put 1  ├──────┤                  acknowledged before 3 was sent
//! put 2     ├──────┤               likewise
//! put 3                 ├─────┤    acknowledged: 1 and 2 are gone for good, the least is 3
//! ```
//!
//! A read must give the value of a put that is not less than the *least* was when the read was sent,
//! and that was sent at all. Never a false alarm: of two values that nobody can order both are allowed.
//!
//! # Caveats
//!
//! A put whose outcome is unknown (an error that may have been applied, a lost connection) may come into
//! force at any time, so its chain never ends, and from then on that key's earlier values are not told
//! apart. In a long chain, which a key that is wanted much may have, an earlier value of the same chain
//! passes, too, though a finer record could know better. A store that promises less (R+W<=N) may give an
//! older value without breaking its word: such reads are counted as *stale*, apart from wrong ones.

use super::values::{Origin, Values};

/// What is known of one key. 0 is no put: numbers begin with 1.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The least put whose value may still be read; 0: even none at all.
    least: u32,
    /// The first put of the chain that is under way.
    chain: u32,
    /// Puts under way, and those whose outcome will never be known.
    open: u32,
}

/// What is known of all keys.
#[derive(Debug)]
pub(super) struct Book {
    keys: Vec<Known>,
    /// The number of the last put that was sent.
    sent: u32,
    /// Whether values of earlier runs may be there.
    earlier: bool,
    values: Values,
}

/// How a value that was read stands to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be that.
    Right,
    /// No put of this key has that value.
    Wrong,
    /// It was replaced before the read was sent.
    Stale,
    /// Nothing is there, though a put was acknowledged.
    Lost,
}

impl Book {
    /// Of so many keys, about whose values nothing is known; `earlier`: values of another run are there.
    #[must_use]
    pub(super) fn new(keys: u32, earlier: bool, values: Values) -> Self {
        Self { keys: vec![Known::default(); keys as usize], sent: 0, earlier, values }
    }

    /// Keys of which no put was acknowledged.
    #[must_use]
    pub(super) fn never_acknowledged(&self) -> Vec<u32> {
        (0..).zip(&self.keys).filter(|(_, known)| known.least == 0).map(|(key, _)| key).collect()
    }

    /// Whether no more puts can be numbered.
    #[must_use]
    pub(super) const fn is_full(&self) -> bool {
        self.sent == u32::MAX
    }

    /// A put of `key` is sent: its number, and the least that may be read once it is acknowledged.
    pub(super) fn send(&mut self, key: u32) -> (u32, u32) {
        self.sent = self.sent.saturating_add(1);
        let known = &mut self.keys[key as usize];
        if known.open == 0 {
            known.chain = self.sent;
        }
        known.open += 1;
        (self.sent, known.chain)
    }

    /// It is acknowledged. `least` is what [`Self::send`] gave.
    pub(super) fn acknowledge(&mut self, key: u32, least: u32) {
        let known = &mut self.keys[key as usize];
        known.open -= 1;
        known.least = known.least.max(least);
    }

    /// It was certainly not applied.
    pub(super) fn refuse(&mut self, key: u32) {
        self.keys[key as usize].open -= 1;
    }

    /// The least put whose value a read that is sent now may give.
    #[must_use]
    pub(super) fn least(&self, key: u32) -> u32 {
        self.keys[key as usize].least
    }

    /// Judges what a read gave; `least` is what [`Self::least`] gave when it was sent.
    #[must_use]
    pub(super) fn judge(&self, key: u32, least: u32, value: Option<&[u8]>) -> Verdict {
        let Some(value) = value else {
            return if least > 0 { Verdict::Lost } else { Verdict::Right };
        };
        match self.values.origin(key, value) {
            Origin::Ours(put) if put == 0 || put > self.sent => Verdict::Wrong,
            Origin::Ours(put) if put < least => Verdict::Stale,
            Origin::Ours(_) => Verdict::Right,
            Origin::Earlier if least > 0 => Verdict::Stale,
            Origin::Earlier if self.earlier => Verdict::Right,
            Origin::Earlier | Origin::Foreign => Verdict::Wrong,
        }
    }

    /// Judges several values that stand beside each other: one that is right is enough, for a write straight
    /// to a node is not replaced by one through the coordinator.
    #[must_use]
    pub(super) fn judge_several(&self, key: u32, least: u32, values: &[String]) -> Verdict {
        let verdicts = values.iter().map(|value| self.judge(key, least, Some(value.as_bytes())));
        let verdicts: Vec<Verdict> = verdicts.collect();
        let has = |verdict| verdicts.contains(&verdict);
        let order = [Verdict::Right, Verdict::Stale];
        order.into_iter().find(|verdict| has(*verdict)).unwrap_or(Verdict::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        Book::new(2, false, Values::new(1, 7, 40))
    }

    fn value(number: u32) -> Vec<u8> {
        let mut value = Values::new(1, 7, 40).pattern().to_vec();
        Values::patch(&mut value, 0, number);
        value
    }

    fn judge(book: &Book, number: u32) -> Verdict {
        book.judge(0, book.least(0), Some(&value(number)))
    }

    #[test]
    fn a_put_after_an_acknowledgement_replaces() {
        let mut book = book();
        let (one, least) = book.send(0);
        assert_eq!(judge(&book, one), Verdict::Right, "sent, so it may be there");
        assert_eq!(judge(&book, one + 1), Verdict::Wrong, "never sent");
        assert_eq!(book.judge(0, book.least(0), None), Verdict::Right);
        assert_eq!(book.never_acknowledged(), [0, 1]);
        book.acknowledge(0, least);
        assert_eq!(book.never_acknowledged(), [1]);
        assert_eq!(book.judge(0, book.least(0), None), Verdict::Lost);
        let (two, least) = book.send(0);
        assert_eq!(judge(&book, one), Verdict::Right, "the second may not be there yet");
        book.acknowledge(0, least);
        assert_eq!((judge(&book, one), judge(&book, two)), (Verdict::Stale, Verdict::Right));
    }

    #[test]
    fn of_two_that_overlap_both_may_be_last() {
        let mut book = book();
        let (one, first) = book.send(0);
        let (two, second) = book.send(0);
        book.acknowledge(0, second);
        book.acknowledge(0, first);
        assert_eq!((judge(&book, one), judge(&book, two)), (Verdict::Right, Verdict::Right));
    }

    #[test]
    fn an_unknown_outcome_stays_open() {
        let mut book = book();
        let (unknown, _) = book.send(0);
        let (_, least) = book.send(0);
        book.acknowledge(0, least);
        let (_, least) = book.send(0);
        book.acknowledge(0, least);
        assert_eq!(judge(&book, unknown), Verdict::Right);
        let mut book = self::book();
        let (refused, _) = book.send(0);
        book.refuse(0);
        let (_, least) = book.send(0);
        book.acknowledge(0, least);
        assert_eq!(judge(&book, refused), Verdict::Stale);
    }

    #[test]
    fn of_several_values_one_that_is_right_is_enough() {
        let mut book = book();
        let (one, least) = book.send(0);
        book.acknowledge(0, least);
        let text = |number| String::from_utf8(value(number)).unwrap();
        let judge = |values: &[String]| book.judge_several(0, book.least(0), values);
        assert_eq!(judge(&["?".into(), text(one)]), Verdict::Right);
        assert_eq!(judge(&["?".into(), text(one + 1)]), Verdict::Wrong);
    }

    #[test]
    fn values_of_other_runs_and_keys_are_told_apart() {
        let mut earlier = Values::new(1, 8, 40).pattern().to_vec();
        Values::patch(&mut earlier, 0, 5);
        let fresh = book();
        assert_eq!(fresh.judge(0, 0, Some(&earlier)), Verdict::Wrong);
        let mut kept = Book::new(2, true, Values::new(1, 7, 40));
        assert_eq!(kept.judge(0, 0, Some(&earlier)), Verdict::Right);
        assert_eq!(kept.judge(1, 0, Some(&earlier)), Verdict::Wrong);
        let (_, least) = kept.send(0);
        kept.acknowledge(0, least);
        assert_eq!(kept.judge(0, kept.least(0), Some(&earlier)), Verdict::Stale);
    }
}
