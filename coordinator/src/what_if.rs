//! what-if: what would be if nodes were dead, or the ring was another. Nothing is changed.
//!
//! Dead nodes: every key is looked at, and of each keyspace it is counted what could not be read or written
//! any more, see [`ringkv_shared::availability`]. Another ring: the plan of such a change. Both at once: what
//! would fail if the nodes died on the other ring, with its copies made.
//!
//! # Caveats
//!
//! It walks over all keys, a page a node at a time. Keys are counted as nodes hold them now: those that only a
//! silent node has are missing, and of a node that is silent without being DOWN it is believed that it has what
//! it owns.

use std::collections::BTreeSet;

use ringkv_shared::availability::{Arcs, Condition, Judge};
use ringkv_shared::limits::PAGE_KEYS_MAX;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{Health, Outage, Supposition, WhatIfReply};
use ringkv_shared::ring::Seat;
use ringkv_shared::topology::{Placement, Topology};
use ringkv_shared::{Blob, ErrorName, Failure, Keyspace, NodeId};

use crate::checks::check_weight;
use crate::cluster::{Cluster, View};
use crate::walk::{Range, Walk, merged, shown};

/// Keys that are named of each kind.
const EXAMPLES_MAX: usize = 10;
/// What can be supposed at once: each makes another ring, of some thousand tokens.
const SUPPOSED_MAX: usize = 64;

impl Cluster {
    pub(crate) async fn what_if(&self, all: &[Supposition]) -> Result<WhatIfReply, Failure> {
        let view = self.view();
        let Supposed { mut dead, target } = suppose(&view.topology, all)?;
        let down = view.nodes.values().filter(|node| node.opinion(0).health == Health::Down);
        dead.extend(down.map(|node| node.id.clone()));
        let plan = match &target {
            Some(target) => Some(Box::new(self.preview(target).await?)),
            None => None,
        };
        let topology = match target {
            Some(current) => Topology { epoch: 0, current, staged: None, pending: None },
            None => view.topology.clone(),
        };
        let mut outages = Vec::new();
        for space in view.keyspaces.values().filter(|_| !dead.is_empty()) {
            outages.push(self.outage(&view, &topology, space, &dead).await);
        }
        Ok(WhatIfReply { status: Status::Ok, dead: dead.into_iter().collect(), outages, plan })
    }

    async fn outage(
        &self,
        view: &View,
        topology: &Topology,
        space: &Keyspace,
        dead: &BTreeSet<NodeId>,
    ) -> Outage {
        let range = Range { keyspace: space.name.clone(), keys_only: true, ..Range::default() };
        let range = Range { tombstones: true, page_keys: PAGE_KEYS_MAX, ..range };
        let mut walk = Walk::new(self, view, range);
        let judge = Judge::new(topology, space, dead);
        let mut outage = unharmed(topology, space, dead);
        while let Some(group) = walk.next().await {
            let Some(record) = merged(&group).and_then(shown) else { continue };
            let has = group.into_iter().filter(|(_, record)| shown(record.clone()).is_some());
            let mut holders: BTreeSet<NodeId> = has.map(|(node, _)| node).collect();
            let owners = topology.current.owners(&space.name, record.key.as_bytes());
            holders.extend(owners.into_iter().filter(|owner| walk.silent.contains(owner)));
            count(&mut outage, judge.key(record.key.as_bytes(), &holders), record.key);
        }
        outage
    }
}

/// No keys yet, and the shares of the ring.
fn unharmed(topology: &Topology, space: &Keyspace, dead: &BTreeSet<NodeId>) -> Outage {
    let shares = Arcs::new(topology, space).without(dead);
    Outage {
        keyspace: space.name.clone(),
        keys: 0,
        unreadable: 0,
        lost: 0,
        read_only: 0,
        last_copy: 0,
        unreadable_share: shares.unreadable,
        read_only_share: shares.read_only,
        last_copy_share: shares.last_copy,
        unreadable_keys: Vec::new(),
        read_only_keys: Vec::new(),
    }
}

fn count(outage: &mut Outage, condition: Condition, key: Blob) {
    outage.keys += 1;
    let examples = match condition {
        Condition::Fine => return,
        Condition::LastCopy => {
            outage.last_copy += 1;
            return;
        }
        Condition::ReadOnly => {
            outage.read_only += 1;
            &mut outage.read_only_keys
        }
        Condition::Unreadable | Condition::Lost => {
            outage.unreadable += 1;
            outage.lost += u64::from(condition == Condition::Lost);
            &mut outage.unreadable_keys
        }
    };
    if examples.len() < EXAMPLES_MAX {
        examples.push(key);
    }
}

/// What is supposed, all of it together.
#[derive(Debug)]
struct Supposed {
    dead: BTreeSet<NodeId>,
    /// The ring, if it would be another than the newest there is.
    target: Option<Placement>,
}

fn suppose(topology: &Topology, all: &[Supposition]) -> Result<Supposed, Failure> {
    if all.is_empty() {
        let failure = Failure::new(ErrorName::BadArgument, "nothing is supposed");
        return Err(failure.hint("what-if kill n2, what-if add n9, what-if remove n2"));
    }
    if all.len() > SUPPOSED_MAX {
        let message = format!("{} changes are supposed, at most {SUPPOSED_MAX} can be", all.len());
        return Err(Failure::new(ErrorName::TooLarge, message).hint("suppose less at a time"));
    }
    let newest = topology.newest();
    let (mut dead, mut target) = (BTreeSet::new(), newest.clone());
    for supposition in all {
        match supposition {
            Supposition::Kill { nodes } => {
                for node in nodes {
                    known(topology.has(node), node, topology)?;
                    if !dead.insert(node.clone()) {
                        return Err(bad(format!("{node} is to die twice")));
                    }
                }
            }
            Supposition::Add { node, weight, zone } => {
                if topology.has(node) || target.has(node) {
                    let message = format!("{node} is in the cluster already");
                    let hint = format!("what-if weight {node} gives it another weight");
                    return Err(Failure::new(ErrorName::NodeExists, message).hint(hint));
                }
                let weight = weight.unwrap_or(1);
                check_weight(weight)?;
                let seat = Seat { zone: zone.clone(), ..Seat::from(weight) };
                target.ring = target.ring.with(node.clone(), seat);
            }
            Supposition::Remove { nodes } => {
                for node in nodes {
                    known(target.has(node), node, topology)?;
                    target.ring = target.ring.without(node);
                }
            }
            Supposition::Weight { node, weight } => {
                known(target.has(node), node, topology)?;
                check_weight(*weight)?;
                let seat = target.ring.members()[node].clone();
                target.ring = target.ring.with(node.clone(), Seat { weight: *weight, ..seat });
            }
        }
    }
    if target.ring.members().is_empty() && !newest.ring.members().is_empty() {
        return Err(bad("no node would be left".to_owned()));
    }
    let only_kills = all.iter().all(|one| matches!(one, Supposition::Kill { .. }));
    Ok(Supposed { dead, target: (!only_kills).then_some(target) })
}

fn known(is: bool, node: &NodeId, topology: &Topology) -> Result<(), Failure> {
    if is {
        return Ok(());
    }
    let nodes: Vec<&str> = topology.newest().ring.members().keys().map(NodeId::as_str).collect();
    let nodes = if nodes.is_empty() { "none yet".to_owned() } else { nodes.join(" ") };
    let message = format!("no node {node} on the ring");
    Err(Failure::new(ErrorName::NodeNotFound, message).hint(format!("nodes: {nodes}")))
}

fn bad(message: String) -> Failure {
    Failure::new(ErrorName::BadArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shared::ring::Ring;

    /// `kill n1,n2`, `add n4 2`, `remove n1`, `weight n1 3`; several with `;` between.
    fn suppositions(text: &str) -> Vec<Supposition> {
        let one = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let nodes: Vec<NodeId> = words[1].split(',').map(|id| id.parse().unwrap()).collect();
            let (node, weight) = (nodes[0].clone(), words.get(2).map(|w| w.parse().unwrap()));
            match words[0] {
                "kill" => Supposition::Kill { nodes },
                "add" => Supposition::Add { node, weight, zone: None },
                "remove" => Supposition::Remove { nodes },
                _ => Supposition::Weight { node, weight: weight.unwrap() },
            }
        };
        text.split(';').filter(|text| !text.trim().is_empty()).map(one).collect()
    }

    #[test]
    fn suppositions_are_taken_together_or_refused() {
        #[rustfmt::skip]
        let table = [
            ("",                            Err("nothing is supposed")),
            ("kill n1",                     Ok("dead n1, ring as it is")),
            ("kill n1,n3",                  Ok("dead n1 n3, ring as it is")),
            ("kill n1; kill n2",            Ok("dead n1 n2, ring as it is")),
            ("kill n9",                     Err("no node n9 on the ring")),
            ("kill n1,n1",                  Err("n1 is to die twice")),
            ("add n4",                      Ok("dead , ring n1*1 n2*1 n3*1 n4*1")),
            ("add n4 2; remove n1",         Ok("dead , ring n2*1 n3*1 n4*2")),
            ("add n4; add n4",              Err("n4 is in the cluster already")),
            ("add n1",                      Err("n1 is in the cluster already")),
            ("add n4 0",                    Err("weight 0")),
            ("add n4 65",                   Err("weight 65")),
            ("remove n1,n2",                Ok("dead , ring n3*1")),
            ("remove n1,n2,n3",             Err("no node would be left")),
            ("remove n1,n1",                Err("no node n1 on the ring")),
            ("remove n1; weight n1 2",      Err("no node n1 on the ring")),
            ("weight n1 3",                 Ok("dead , ring n1*3 n2*1 n3*1")),
            ("weight n1 99",                Err("weight 99")),
            ("kill n2; add n4",             Ok("dead n2, ring n1*1 n2*1 n3*1 n4*1")),
        ];
        let ring = Ring::new(4, ["n1", "n2", "n3"].map(|id| (id.parse().unwrap(), 1)));
        let current = Placement::new(ring, 2);
        let topology = Topology { epoch: 1, current, staged: None, pending: None };
        let many = "weight n1 2;".repeat(SUPPOSED_MAX + 1);
        let most = many[..many.len() / (SUPPOSED_MAX + 1) * SUPPOSED_MAX].to_owned();
        let limits = [
            (most.as_str(), Ok("dead , ring n1*2 n2*1 n3*1")),
            (many.as_str(), Err("65 changes are supposed, at most 64 can be")),
        ];
        for (text, expected) in table.into_iter().chain(limits) {
            let told = suppose(&topology, &suppositions(text)).map(|supposed| {
                let dead: Vec<&str> = supposed.dead.iter().map(NodeId::as_str).collect();
                let member = |(id, seat): (&NodeId, &Seat)| format!(" {id}*{}", seat.weight);
                let ring = supposed.target.map_or(" as it is".to_owned(), |target| {
                    target.ring.members().iter().map(member).collect()
                });
                format!("dead {}, ring{ring}", dead.join(" "))
            });
            match (told, expected) {
                (Ok(told), Ok(expected)) => assert_eq!(told, expected, "{text}"),
                (Err(failure), Err(expected)) => {
                    assert!(failure.message.starts_with(expected), "{text}: {failure}");
                }
                (told, expected) => panic!("{text}: {told:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn of_many_keys_the_first_are_named() {
        let current = Placement::new(Ring::new(4, [("n1".parse().unwrap(), 1)]), 1);
        let topology = Topology { epoch: 1, current, staged: None, pending: None };
        let space = Keyspace::new("default".parse().unwrap());
        let mut outage = unharmed(&topology, &space, &["n1".parse().unwrap()].into());
        let key = |n: usize| Blob::from(format!("k{n}").as_str());
        let kinds = [Condition::Lost, Condition::Unreadable, Condition::ReadOnly, Condition::Fine];
        (0..48).for_each(|n| count(&mut outage, kinds[n % 4], key(n)));
        let counted = (outage.keys, outage.unreadable, outage.lost, outage.read_only);
        assert_eq!(counted, (48, 24, 12, 12));
        assert_eq!((outage.unreadable_keys.len(), outage.read_only_keys.len()), (10, 10));
        assert_eq!((&outage.unreadable_keys[9], &outage.read_only_keys[9]), (&key(17), &key(38)));
        assert!((outage.unreadable_share - 1.0).abs() < 1e-9);
    }
}
