//! A read from its start to its last reply: whom to ask, what it answers, who needs repair.
//!
//! ```text
//!   start ──► ask R owners, in preference order; one more for each that fails, one more (a hedge)
//!             when somebody is slow
//!   replies ► R are in: merged, they are the answer
//!             R absent ones are no proof when R+W<=N: then all owners are asked
//!   end ────► Repair: every owner that replied with less than all replies together
//! ```
//!
//! Replies that come after the answer still count for the repair.
//!
//! # Caveats
//!
//! Owners that were not asked are not repaired: a read of one replica repairs nothing. Anti-entropy
//! finds the rest.

use super::tracker::{Quorum, ReadState, ReadTracker};
use crate::NodeId;
use crate::protocol::record::Record;

/// A read under way.
#[derive(Clone, Debug)]
pub struct Get {
    tracker: ReadTracker<Option<Record>>,
    /// Whether R replies without a value prove that there is none.
    absence_proved: bool,
    /// Owners who together have every acknowledged write: when all of them reply without a value, there is
    /// none. The others may hold what was deleted long ago.
    current: Vec<NodeId>,
    /// How many were asked.
    asked: usize,
}

impl Get {
    /// A read of `quorum.needed` owners; `absence_proved` when every read meets every acknowledged
    /// write.
    #[must_use]
    pub fn new(quorum: Quorum, absence_proved: bool) -> Self {
        let current = quorum.owners.clone();
        Self { tracker: ReadTracker::new(quorum), absence_proved, current, asked: 0 }
    }

    /// The same when only the first so many owners are those of the ring in force, the others of one that
    /// is to come. These may lack what was written before, and hold what was deleted long ago: where every
    /// read is to `meet` every acknowledged write they are not asked.
    #[must_use]
    pub fn with_current(mut self, owners: usize, meet: bool) -> Self {
        self.current.truncate(owners);
        if meet {
            self.tracker = self.tracker.of_first(owners);
        }
        self
    }

    /// Whom to ask now: to be called at the start and after each reply.
    pub fn ask(&mut self) -> Vec<NodeId> {
        let mut nodes = self.tracker.ask();
        self.asked += nodes.len();
        if self.tracker.state() == ReadState::Enough && !self.is_conclusive() {
            while self.asked < self.current.len() {
                nodes.extend(self.hedge());
            }
            let waits = nodes.iter().chain(self.tracker.silent());
            if !waits.into_iter().any(|node| self.current.contains(node)) {
                nodes.extend(std::iter::from_fn(|| self.tracker.hedge()));
            }
        }
        nodes
    }

    /// One more, because somebody is slow.
    pub fn hedge(&mut self) -> Option<NodeId> {
        self.asked += 1;
        self.tracker.hedge()
    }

    /// What a node replied, `Some(None)` that it holds nothing; `None`: it failed.
    pub fn reply(&mut self, node: &NodeId, reply: Option<Option<Record>>) {
        self.tracker.answer(node, reply);
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> ReadState {
        match self.tracker.state() {
            ReadState::Enough
                if !self.is_conclusive() && self.tracker.silent().next().is_some() =>
            {
                ReadState::Open
            }
            state => state,
        }
    }

    fn is_conclusive(&self) -> bool {
        let replied = |owner: &NodeId| self.tracker.replies().any(|(node, _)| node == owner);
        self.absence_proved
            || self.tracker.replies().any(|(_, reply)| reply.is_some())
            || self.current.iter().all(replied)
    }

    /// All replies together.
    #[must_use]
    pub fn merged(&self) -> Option<Record> {
        let replies: Vec<&Record> =
            self.tracker.replies().filter_map(|(_, reply)| reply.as_ref()).collect();
        Record::merged(replies)
    }

    /// Who replied, with what, in the order of the replies.
    pub fn replies(&self) -> impl Iterator<Item = (&NodeId, Option<&Record>)> {
        self.tracker.replies().map(|(node, reply)| (node, reply.as_ref()))
    }

    /// Everybody who was asked and has not answered.
    pub fn silent(&self) -> impl Iterator<Item = &NodeId> {
        self.tracker.silent()
    }

    /// What to repair, and where: owners that replied with less than all replies together.
    #[must_use]
    pub fn repairs(&self) -> Option<(Record, Vec<NodeId>)> {
        let all = self.merged()?;
        let lacks = |reply: Option<&Record>| reply.is_none_or(|record| !record.is_same(&all));
        let behind = self.replies().filter(|(_, reply)| lacks(*reply));
        let behind: Vec<NodeId> = behind.map(|(node, _)| node.clone()).collect();
        (!behind.is_empty()).then_some((all, behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;
    use crate::causal::Context;

    fn ids(text: &str) -> Vec<NodeId> {
        text.chars().map(|c| c.to_string().parse().unwrap()).collect()
    }

    /// `3`: version 1.3; `3-1`: version 1.3 whose writer had seen 1.1; `.`: nothing held.
    fn record(text: &str) -> Option<Record> {
        let (counter, seen) = text.split_once('-').map_or((text, None), |(c, s)| (c, Some(s)));
        let version = |counter: &str| Version::new(1, counter.parse().unwrap());
        let value = Some(text.to_owned().into());
        let mut record = Record::new(
            "k".into(),
            value,
            version(counter.parse::<u64>().ok()?.to_string().as_str()),
        );
        record.context = seen.map(|seen| Context::up_to(version(seen)));
        Some(record)
    }

    /// Owners, R, absence proved; replies in their order (`a:3`, `b:.` nothing held, `c:x` failed) with whom
    /// that makes it ask and how it stands; versions answered; who is repaired.
    #[test]
    fn replies_answers_and_repairs() {
        type Row = (
            &'static str,
            usize,
            bool,
            &'static [(&'static str, &'static str, &'static str)],
            &'static str,
            &'static str,
        );
        let table: [Row; 9] = [
            ("abc", 1, false, &[("a:3", "", "Enough")], "1.3", ""),
            ("abc", 1, false, &[("a:x", "b", "Open"), ("b:3", "", "Enough")], "1.3", ""),
            (
                "abc",
                1,
                false,
                &[("a:.", "bc", "Open"), ("b:3", "", "Enough"), ("c:.", "", "Enough")],
                "1.3",
                "ac",
            ),
            ("abc", 1, true, &[("a:.", "", "Enough")], "", ""),
            ("abc", 2, true, &[("a:3", "", "Open"), ("b:3", "", "Enough")], "1.3", ""),
            ("abc", 2, true, &[("b:2", "", "Open"), ("a:3", "", "Enough")], "1.3", "b"),
            ("abc", 2, true, &[("a:2-1", "", "Open"), ("b:4-1", "", "Enough")], "1.2 1.4", "ab"),
            ("abc", 2, true, &[("a:x", "c", "Open"), ("b:x", "", "TooFew")], "", ""),
            ("ab", 2, true, &[("a:.", "", "Open"), ("b:3", "", "Enough")], "1.3", "a"),
        ];
        for (owners, r, proved, replies, versions, repaired) in table {
            let quorum = Quorum { owners: ids(owners), needed: r };
            let mut get = Get::new(quorum, proved);
            assert_eq!(get.ask(), ids(&owners[..r]));
            for (reply, asked, state) in replies {
                let (node, what) = reply.split_once(':').unwrap();
                get.reply(&ids(node)[0], (what != "x").then(|| record(what)));
                let asks: String = get.ask().iter().map(NodeId::as_str).collect();
                let now = format!("{:?}", get.state());
                assert_eq!(
                    (asks.as_str(), now.as_str()),
                    (*asked, *state),
                    "{owners} R={r} {reply}"
                );
            }
            let merged =
                get.merged().map(|all| all.versions().map(|v| v.to_string()).collect::<Vec<_>>());
            assert_eq!(merged.unwrap_or_default().join(" "), versions, "{owners} {replies:?}");
            let to = get.repairs().map(|(_, to)| to.iter().map(NodeId::as_str).collect::<String>());
            assert_eq!(to.unwrap_or_default(), repaired, "{owners} {replies:?}");
        }
    }

    /// a, b and c are the owners now, d is to be one: a and b may be the two who have the last write, so c and d do
    /// not make a quorum.
    #[test]
    fn who_is_to_own_it_is_not_of_a_quorum_that_meets_every_write() {
        let quorum = Quorum { owners: ids("abcd"), needed: 2 };
        let mut get = Get::new(quorum, true).with_current(3, true);
        assert_eq!(get.ask(), ids("ab"));
        get.reply(&ids("a")[0], None);
        assert_eq!((get.ask(), get.state()), (ids("c"), ReadState::Open));
        get.reply(&ids("b")[0], None);
        assert_eq!((get.ask(), get.hedge(), get.state()), (vec![], None, ReadState::TooFew));
    }

    /// The same with R=1: a has nothing, b cannot be asked, and W=2 of them have acknowledged what there is.
    #[test]
    fn who_is_to_own_it_brings_nothing_back() {
        let quorum = Quorum { owners: ids("abc"), needed: 1 };
        let mut get = Get::new(quorum, false).with_current(2, true);
        assert_eq!(get.ask(), ids("a"));
        get.reply(&ids("a")[0], Some(None));
        assert_eq!((get.ask(), get.state()), (ids("b"), ReadState::Open));
        get.reply(&ids("b")[0], None);
        assert_eq!((get.ask(), get.state(), get.merged()), (vec![], ReadState::Enough, None));
    }

    /// a and b are the owners now, c is to be one and may hold what was deleted long ago: it counts only when one of
    /// the others cannot be asked.
    #[test]
    fn who_is_to_own_it_proves_no_presence_while_owners_answer() {
        let start = || {
            let quorum = Quorum { owners: ids("abc"), needed: 1 };
            let mut get = Get::new(quorum, false).with_current(2, false);
            assert_eq!(get.ask(), ids("a"));
            get.reply(&ids("a")[0], Some(None));
            assert_eq!((get.ask(), get.state()), (ids("b"), ReadState::Open));
            get
        };
        let mut get = start();
        get.reply(&ids("b")[0], Some(None));
        assert_eq!((get.ask(), get.state(), get.merged()), (vec![], ReadState::Enough, None));
        let mut get = start();
        get.reply(&ids("b")[0], None);
        assert_eq!((get.ask(), get.state()), (ids("c"), ReadState::Open));
        get.reply(&ids("c")[0], Some(record("3")));
        assert_eq!(
            (get.ask(), get.state(), get.merged()),
            (vec![], ReadState::Enough, record("3"))
        );
    }
}
