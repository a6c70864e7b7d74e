//! `why`: the lineage of a key. What each node holds and what its log tells, why the key is there or gone, and what
//! stands against forgetting its tombstone.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use ringkv_shared::limits::check_key;
use ringkv_shared::merkle::{leaf_of_key, part_of};
use ringkv_shared::net::{Client, NodeApiClient};
use ringkv_shared::plan::Holding;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{Lineage, WhyReply};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::sync::{blockers, compare};
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId, Version};

use crate::clock::unix_ms;
use crate::cluster::{Cluster, Node, View};
use crate::lineage::{self, Numberers};
use crate::transfer::without_values;

impl Cluster {
    /// Where a key comes from, and why it is there or gone.
    pub(crate) async fn why(&self, space: KeyspaceName, key: Blob) -> Result<WhyReply, Failure> {
        check_key(&key)?;
        let view = self.view();
        view.keyspace(&space)?;
        let owners = view.topology.current.owners(&space, key.as_bytes());
        let members = view.nodes.values().map(|node| (&node.id, node.member.uuid.as_str()));
        let numberers = Numberers::of(members);
        let told = view.nodes.values().map(|node| self.lineage(node, &space, &key, &numberers));
        let told = join_all(told).await;
        let holdings: Vec<Holding> = told
            .iter()
            .filter_map(|told| {
                Some(Holding { node: told.node.clone(), held: told.record.clone()? })
            })
            .collect();
        let forgotten = told.iter().any(|told| !told.lines.is_empty());
        let verdict = verdict(&key, &holdings, &owners, &numberers, forgotten);
        let blocked_by = match tombstone(&holdings) {
            Some(record) => self.blocked(&view, &space, &record).await,
            None => Vec::new(),
        };
        let tells = |told: &Lineage| {
            owners.contains(&told.node) || told.record.is_some() || !told.lines.is_empty()
        };
        let mut replicas: Vec<Lineage> = told.into_iter().filter(tells).collect();
        let rank = |node: &NodeId| owners.iter().position(|o| o == node).unwrap_or(owners.len());
        replicas.sort_by_key(|told| rank(&told.node));
        Ok(WhyReply { status: Status::Ok, key, verdict, owners, replicas, blocked_by })
    }

    async fn lineage(
        &self,
        node: &Arc<Node>,
        space: &KeyspaceName,
        key: &Blob,
        numberers: &Numberers,
    ) -> Lineage {
        let (name, asked) = (Some(space.clone()), key.clone());
        let history =
            async move |client: &Client| NodeApiClient::history(client, asked, name).await;
        let answer = async {
            let records = self.fetch(node, space, vec![key.clone()]).await?;
            Ok::<_, Failure>((records, self.batch(node, history).await?.lines))
        };
        let node = node.id.clone();
        match answer.await {
            Ok((records, lines)) => {
                let now_ms = unix_ms();
                let ago = |version: Version| self.written.ago(version, now_ms);
                let lines = lineage::in_words(&lines, numberers, ago);
                let record = records.first().map(without_values);
                Lineage { node, record, lines, why: None }
            }
            Err(failure) => {
                Lineage { node, record: None, lines: Vec::new(), why: Some(failure.to_string()) }
            }
        }
    }

    /// What stands against forgetting a tombstone.
    async fn blocked(&self, view: &View, space: &KeyspaceName, record: &Record) -> Vec<String> {
        let mut standing = self.standing(view).await;
        let leaf = leaf_of_key(record.key.as_bytes());
        let answers = self.digests(view, space, Some(part_of(leaf))).await;
        standing.silent =
            view.nodes.keys().filter(|node| !answers.contains_key(*node)).cloned().collect();
        let digests: BTreeMap<NodeId, _> = answers
            .into_iter()
            .map(|(node, digests)| (node, digests[usize::from(leaf & 0xff)]))
            .collect();
        let mut why = self
            .sync
            .audit(view, space, |audit| blockers(&standing, audit.leaves(), record, &digests));
        if self.settings().anti_entropy().is_none() {
            why.push("anti-entropy is off: only check --repair collects tombstones".to_owned());
        }
        why
    }
}

/// All that the nodes hold of a key together.
fn merged(holdings: &[Holding]) -> Option<Record> {
    let records: Vec<&Record> = holdings.iter().map(|holding| &holding.held).collect();
    Record::merged(records)
}

/// What is held of a key, if that is nothing but deletes.
fn tombstone(holdings: &[Holding]) -> Option<Record> {
    merged(holdings).filter(|record| record.values().all(|value| value.deleted))
}

/// In one sentence: why the key is there, or why it is gone.
fn verdict(
    key: &Blob,
    holdings: &[Holding],
    owners: &[NodeId],
    numberers: &Numberers,
    forgotten: bool,
) -> String {
    let Some(record) = merged(holdings) else {
        return match forgotten {
            true => format!("{key} is gone, and so is its tombstone: nobody can bring it back"),
            false => format!(
                "no node that answered knows {key}: it never was, or its tombstone was collected"
            ),
        };
    };
    let live: Vec<Version> =
        record.values().filter(|v| !v.deleted).map(|value| value.version).collect();
    let what = match &live[..] {
        [] => {
            let version = record.version;
            format!("{key} is gone: deleted or expired with {version}, {}", numberers.how(version))
        }
        [one] => format!("{key} is there: {one}, put {}", numberers.how(*one)),
        many => {
            let versions: Vec<String> = many.iter().map(Version::to_string).collect();
            format!(
                "{key} has {} values that had not seen each other: {}",
                many.len(),
                versions.join(" ")
            )
        }
    };
    match compare(holdings, owners).map(|d| d.describe(key)) {
        None => what,
        Some(difference) => {
            let lacks = difference.split_once(": ").map_or("", |(_, lacks)| lacks);
            format!("{what}; {lacks}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holdings as node and counter, `!` for a tombstone; whether logs tell of the key; the verdict.
    #[test]
    fn verdicts() {
        let table = [
            (
                "",
                false,
                "no node that answered knows k: it never was, or its tombstone was collected",
            ),
            ("", true, "k is gone, and so is its tombstone: nobody can bring it back"),
            ("a1 b1", true, "k is there: 1.1, put through the coordinator"),
            ("a2! b2!", true, "k is gone: deleted or expired with 1.2, through the coordinator"),
            (
                "a1 b2!",
                true,
                "k is gone: deleted or expired with 1.2, through the coordinator; a lacks 1.2",
            ),
        ];
        for (held, forgotten, expected) in table {
            let holding = |word: &str| {
                let (word, deleted) =
                    word.strip_suffix('!').map_or((word, false), |word| (word, true));
                let version = format!("1.{}", &word[1..]).parse().unwrap();
                let value = (!deleted).then(|| "v".into());
                let held = Record::new("k".into(), value, version);
                Holding { node: word[..1].parse().unwrap(), held }
            };
            let holdings: Vec<Holding> = held.split_whitespace().map(holding).collect();
            let owners = ["a", "b"].map(|name| name.parse().unwrap());
            let told = verdict(&"k".into(), &holdings, &owners, &Numberers::of([]), forgotten);
            assert_eq!(told, expected);
        }
    }
}
