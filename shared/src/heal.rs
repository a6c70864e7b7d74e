//! Whether a node that is gone for long is taken off the ring by itself, so that its copies are made anew.
//!
//! Off by default: a node that is DOWN may be back in a minute, and data that moves by itself at the wrong
//! moment is the outage. Who asks for it gets it for the plain case only: one node DOWN for the whole time, all
//! others UP, no change of the ring begun, and of every key another copy that somebody has.
//!
//! # Caveats
//!
//! A write that the lost node alone has acknowledged (W=1) stays on its disk. A node that comes back after it was
//! taken off is no member; `addnode` brings it in again, with an empty data directory.

use std::collections::BTreeMap;

use crate::NodeId;
use crate::protocol::cluster::Health;
use crate::topology::Placement;

/// What is thought of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Whether it answers.
    pub health: Health,
    /// Since when that is thought, in the caller's milliseconds.
    pub since_ms: u64,
}

/// What to do about a node that is DOWN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healing {
    /// Nothing: nobody is DOWN, or not for long enough, or it was not asked for.
    Nothing,
    /// Not yet.
    Wait {
        /// Who is DOWN.
        node: NodeId,
        /// When its time has come, in the caller's milliseconds.
        at_ms: u64,
    },
    /// Take it off the ring.
    Heal(NodeId),
    /// Its time has come, and it must not be.
    Cannot {
        /// Who is DOWN.
        node: NodeId,
        /// Why it stays where it is.
        why: String,
    },
}

/// Decides for the members of a ring, `after_ms` being how long a node must be DOWN; `None`: nothing is ever done.
/// `settled` says that no change of the ring is staged or under way.
#[must_use]
pub fn decide(
    placement: &Placement,
    settled: bool,
    opinions: &BTreeMap<NodeId, Opinion>,
    now_ms: u64,
    after_ms: Option<u64>,
) -> Healing {
    let down = opinions.iter().filter(|(_, opinion)| opinion.health == Health::Down);
    let longest = down.min_by_key(|(_, opinion)| opinion.since_ms);
    let (Some((node, opinion)), Some(after_ms)) = (longest, after_ms) else {
        return Healing::Nothing;
    };
    let (node, at_ms) = (node.clone(), opinion.since_ms.saturating_add(after_ms));
    match obstacle(placement, settled, opinions, &node) {
        Some(why) if at_ms <= now_ms => Healing::Cannot { node, why },
        Some(_) => Healing::Nothing,
        // Who is suspected now is UP or DOWN in a moment.
        None if at_ms > now_ms || suspected(opinions) => Healing::Wait { node, at_ms },
        None => Healing::Heal(node),
    }
}

fn obstacle(
    placement: &Placement,
    settled: bool,
    opinions: &BTreeMap<NodeId, Opinion>,
    node: &NodeId,
) -> Option<String> {
    if !settled {
        return Some("a change of the ring has been begun".to_owned());
    }
    let mut others = opinions.iter().filter(|(other, _)| *other != node);
    if let Some((other, _)) = others.find(|(_, opinion)| opinion.health == Health::Down) {
        return Some(format!("{other} is DOWN, too"));
    }
    if let Some((name, _)) = placement.copies.iter().find(|(_, n)| **n < 2) {
        return Some(format!("{name} keeps one copy, and what {node} has of it nobody else has"));
    }
    let left = placement.ring.without(node).members().len();
    let (name, n) = placement.copies.iter().find(|(_, n)| **n > left)?;
    Some(format!("N={n} of {name} needs {n} nodes, and {left} would be left"))
}

fn suspected(opinions: &BTreeMap<NodeId, Opinion>) -> bool {
    opinions.values().any(|opinion| opinion.health == Health::Suspect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;

    /// `n1:U n2:D60`: UP, and DOWN for 60 s.
    fn opinions(text: &str) -> BTreeMap<NodeId, Opinion> {
        let opinion = |word: &str| {
            let (node, what) = word.split_once(':').unwrap();
            let health = match &what[..1] {
                "U" => Health::Up,
                "S" => Health::Suspect,
                _ => Health::Down,
            };
            let seconds: u64 = what[1..].parse().unwrap_or(0);
            (node.parse().unwrap(), Opinion { health, since_ms: NOW_MS - seconds * 1000 })
        };
        text.split(' ').map(opinion).collect()
    }

    const NOW_MS: u64 = 1_000_000;

    /// After how many seconds, whether nothing is begun, N of two keyspaces, the nodes; what is done.
    #[test]
    fn who_is_healed_when_and_why_not() {
        #[rustfmt::skip]
        let table = [
            (60, true,  [2, 2], "n1:U n2:U n3:U n4:U",        "nothing"),
            (0,  true,  [2, 2], "n1:U n2:D999 n3:U n4:U",     "nothing"),
            (60, true,  [2, 2], "n1:U n2:D0 n3:U n4:U",       "n2 in 60 s"),
            (60, true,  [2, 2], "n1:U n2:D59 n3:U n4:U",      "n2 in 1 s"),
            (60, true,  [2, 2], "n1:U n2:D60 n3:U n4:U",      "heal n2"),
            (60, true,  [2, 3], "n1:U n2:D99 n3:U n4:U",      "heal n2"),
            (60, true,  [2, 2], "n1:U n2:D99 n3:S n4:U",      "n2 in 0 s"),
            (60, true,  [2, 2], "n1:U n2:D99 n3:D1 n4:U",     "n2: n3 is DOWN, too"),
            (60, true,  [2, 2], "n1:U n2:D61 n3:D99 n4:U",    "n3: n2 is DOWN, too"),
            (60, true,  [2, 2], "n1:U n2:D59 n3:D1 n4:U",     "nothing"),
            (60, false, [2, 2], "n1:U n2:D99 n3:U n4:U",      "n2: a change of the ring has been begun"),
            (60, false, [2, 2], "n1:U n2:D59 n3:U n4:U",      "nothing"),
            (60, true,  [2, 1], "n1:U n2:D99 n3:U n4:U",      "n2: default keeps one copy, and what n2 has of it nobody else has"),
            (60, true,  [1, 2], "n1:U n2:D99 n3:U n4:U",      "n2: clicks keeps one copy, and what n2 has of it nobody else has"),
            (60, true,  [2, 4], "n1:U n2:D99 n3:U n4:U",      "n2: N=4 of default needs 4 nodes, and 3 would be left"),
            (60, true,  [2, 2], "n1:U n2:D99",                "n2: N=2 of clicks needs 2 nodes, and 1 would be left"),
            (60, true,  [2, 2], "n1:D99",                     "n1: N=2 of clicks needs 2 nodes, and 0 would be left"),
        ];
        for (seconds, settled, [clicks, default], nodes, expected) in table {
            let opinions = opinions(nodes);
            let ring = Ring::new(4, opinions.keys().map(|node| (node.clone(), 1)));
            let placement = Placement::new(ring, default).with_n("clicks".parse().unwrap(), clicks);
            let after_ms = Some(seconds * 1000).filter(|ms| *ms > 0);
            let told = match decide(&placement, settled, &opinions, NOW_MS, after_ms) {
                Healing::Nothing => "nothing".to_owned(),
                Healing::Wait { node, at_ms } => {
                    format!("{node} in {} s", at_ms.saturating_sub(NOW_MS) / 1000)
                }
                Healing::Heal(node) => format!("heal {node}"),
                Healing::Cannot { node, why } => format!("{node}: {why}"),
            };
            assert_eq!(
                told, expected,
                "{seconds} s, settled {settled}, N={clicks},{default}, {nodes}"
            );
        }
    }
}
