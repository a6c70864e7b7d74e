//! What the replicas of one key differ in, in words; what is to be done about it says
//! [`plan`](crate::plan).

use std::collections::BTreeMap;

use crate::causal::Siblings;
use crate::plan::{Decision, Holding, decide};
use crate::protocol::record::Record;
use crate::{Blob, NodeId, Version};

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Owners that lack something, each with what: `nothing there`, `1.5`, `what 1.5 has replaced`.
    pub lacks: BTreeMap<NodeId, String>,
    /// What to copy and what to drop.
    pub decision: Decision,
}

impl Difference {
    /// `k17: n2 lacks 1.18`.
    #[must_use]
    pub fn describe(&self, key: &Blob) -> String {
        let lacks = self.lacks.iter().map(|(node, what)| format!("{node} lacks {what}"));
        let strays = self.decision.drop_at.iter().filter(|_| self.lacks.is_empty());
        let strays = strays.map(|node| format!("{node} is no owner and has a copy"));
        format!("{key}: {}", lacks.chain(strays).collect::<Vec<_>>().join(", "))
    }
}

/// Compares the records of one key: `None` when every owner has the same and nobody else has any.
#[must_use]
pub fn compare(holdings: &[Holding], owners: &[NodeId]) -> Option<Difference> {
    let decision = decide(holdings, owners);
    if decision.copies.is_empty() && decision.drop_at.is_empty() {
        return None;
    }
    let records: Vec<&Record> = holdings.iter().map(|holding| &holding.held).collect();
    let all = Record::merged(records).map(|all| all.versions_held()).unwrap_or_default();
    let lacks = owners.iter().filter_map(|owner| {
        let held = holdings.iter().find(|holding| holding.node == *owner);
        let held = held.map(|holding| holding.held.versions_held()).unwrap_or_default();
        Some((owner.clone(), lack(&held, &all)?))
    });
    Some(Difference { lacks: lacks.collect(), decision })
}

/// What is missing in `held` of `all`.
fn lack(held: &Siblings<()>, all: &Siblings<()>) -> Option<String> {
    let seen = held.context();
    let missing = |version: &&Version| !seen.covers(**version);
    let versions: Vec<Version> = all.values().iter().map(|(version, ())| *version).collect();
    let lacking: Vec<String> = versions.iter().filter(missing).map(Version::to_string).collect();
    if !lacking.is_empty() {
        return Some(lacking.join(" and "));
    }
    let last = versions.last()?;
    (held != all).then(|| format!("what {last} has replaced"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::Context;
    use crate::protocol::node::Record;

    fn holding(text: &str) -> Holding {
        let (what, seen) = text.split_once('-').map_or((text, None), |(w, s)| (w, Some(s)));
        let mut held = Record::new("k".into(), None, format!("1.{}", &what[1..]).parse().unwrap());
        let seen = seen.map(|seen| Context::up_to(format!("1.{seen}").parse().unwrap()));
        held.context = seen.filter(|seen| !seen.is_before(held.version));
        Holding { node: what[..1].parse().unwrap(), held }
    }

    /// Holdings as node, counter and what the writer had seen, if that was said; owners; the sentence.
    #[test]
    fn who_lacks_what() {
        let table = [
            ("a1 b1", "ab", ""),
            ("", "ab", ""),
            ("a1", "ab", "k: b lacks 1.1"),
            ("a1 b2", "ab", "k: a lacks 1.2"),
            ("a1 b1 c1", "ab", "k: c is no owner and has a copy"),
            ("a1 b1 c2", "ab", "k: a lacks 1.2, b lacks 1.2"),
            ("a2-1 b3-1", "ab", "k: a lacks 1.3, b lacks 1.2"),
            ("a5-1 b5", "ab", "k: a lacks what 1.5 has replaced"),
            ("c2-1 b3-1", "ab", "k: a lacks 1.2 and 1.3, b lacks 1.2"),
        ];
        for (held, owners, expected) in table {
            let holdings: Vec<Holding> = held.split_whitespace().map(holding).collect();
            let owners: Vec<NodeId> =
                owners.chars().map(|c| c.to_string().parse().unwrap()).collect();
            let told = compare(&holdings, &owners).map(|d| d.describe(&"k".into()));
            assert_eq!(told.unwrap_or_default(), expected, "{held:?} {owners:?}");
        }
    }
}
