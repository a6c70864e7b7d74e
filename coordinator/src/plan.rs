//! `plan`: what `rebalance` would do now, and what there is to say against it.
//!
//! What the nodes count of their keys, and a walk, without values, over those of which they do not all hold the same;
//! all is added up by [`Preview`]. The run counts in the same way before it begins.
//!
//! # Caveats
//!
//! Of a few keys, or when a node is DOWN, it walks over everything: then it takes as long as listing all keys. Keys
//! that are written meanwhile are counted as they were met.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringkv_shared::plan::{Load, Planned, Preview, Walked, counted, reasons, risks};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{BalanceRow, LinkPlan, PlanReply, Stage};
use ringkv_shared::topology::{Placement, differences};
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId};

use crate::cluster::{Cluster, View};
use crate::state::Event;
use crate::survey::{Step, Survey, Surveyed};
use crate::walk::{Range, Walk};

/// Keys in a page of a walk over everything.
const PAGE_KEYS: usize = 1000;

/// What a walk counted.
pub(crate) struct Count {
    pub(crate) preview: Preview,
    /// Who did not answer.
    pub(crate) silent: BTreeSet<NodeId>,
    /// What the silence may hide, in a sentence for each keyspace.
    pub(crate) untold: Vec<String>,
    /// Too many did not answer.
    pub(crate) refused: Option<Failure>,
}

impl Cluster {
    /// What is staged, pending or just out of place, and what `rebalance` would do about it; or nothing is
    /// staged any more.
    pub(crate) async fn plan(&self, clear: bool) -> Result<PlanReply, Failure> {
        if clear {
            let _alone = self.alone()?;
            self.clear_staged()?;
        }
        let view = self.view();
        self.preview(view.topology.newest()).await
    }

    pub(crate) fn clear_staged(&self) -> Result<(), Failure> {
        match self.view().stage {
            Stage::Staged => {
                self.commit(&Event::Clear)?;
                self.events.tell("the staged change of the ring was cleared".to_owned());
                Ok(())
            }
            Stage::Idle => Ok(()),
            Stage::Copying => Err(Failure::new(
                ErrorName::Busy,
                "the change is under way, not only staged; nothing was cleared",
            )
            .hint("to go back to the ring as it was: cancel")),
            Stage::Clearing => Err(Failure::new(
                ErrorName::Busy,
                "the change is in force, old copies are being dropped; nothing was cleared",
            )
            .hint("progress tells how far it is")),
        }
    }

    /// What `rebalance` would do if the ring was to be `target`.
    pub(crate) async fn preview(&self, target: &Placement) -> Result<PlanReply, Failure> {
        let view = self.view();
        let count = self.count_all(&view, target, |_| ()).await?;
        Ok(reply(&view, target, count))
    }

    /// Counts all keys; `each` hears of which copies are to be made.
    pub(crate) async fn count_all(
        &self,
        view: &View,
        target: &Placement,
        mut each: impl FnMut(Due<'_>),
    ) -> Result<Count, Failure> {
        let now = &view.topology.current;
        let (preview, silent) = (Preview::new(target != now), BTreeSet::new());
        let mut count = Count { preview, silent, untold: Vec::new(), refused: None };
        for space in view.keyspaces.keys() {
            let mut silent =
                self.count_space(view, target, space, &mut count.preview, &mut each).await;
            match enough_seen(view, space, &silent) {
                Ok(told) => count.untold.extend(told),
                Err(failure) => count.refused = count.refused.or(Some(failure)),
            }
            count.silent.append(&mut silent);
        }
        Ok(count)
    }

    /// Counts where they are the keys of which all holders hold the same, and walks over the others; who did not answer.
    async fn count_space(
        &self,
        view: &View,
        target: &Placement,
        space: &KeyspaceName,
        preview: &mut Preview,
        each: &mut impl FnMut(Due<'_>),
    ) -> BTreeSet<NodeId> {
        let now = &view.topology.current;
        let Some(mut survey) = Survey::begin(self, view, space, (now, target)).await else {
            return self.count_each(view, target, everything(space), preview, each).await;
        };
        let (ground, mut silent) = (Arc::clone(&survey.ground), BTreeSet::new());
        while let Some(step) = survey.next().await {
            let walk = match step {
                Step::Rest(after) => Some(Range { after, ..everything(space) }),
                Step::Stretch(Surveyed { span, held }) => {
                    let mut unclear = BTreeSet::new();
                    for (number, held) in held {
                        let sort = ground.sort(number);
                        match counted(sort, &held) {
                            Some((keys, found)) => {
                                let (now, up, then) = (&sort.now, &view.up(&sort.now), &sort.then);
                                let found = &found;
                                let alike = Walked { keyspace: space, found, keys, now, up, then };
                                count_one(&alike, None, preview, each);
                            }
                            None => drop(unclear.insert(number)),
                        }
                    }
                    ground.rest(&span, &unclear)
                }
            };
            if let Some(range) = walk {
                silent.append(&mut self.count_each(view, target, range, preview, each).await);
            }
        }
        silent
    }

    /// Walks over keys and counts them; who did not answer.
    async fn count_each(
        &self,
        view: &View,
        target: &Placement,
        range: Range,
        preview: &mut Preview,
        each: &mut impl FnMut(Due<'_>),
    ) -> BTreeSet<NodeId> {
        let (now, space) = (&view.topology.current, &range.keyspace.clone());
        let everybody = view.everybody();
        let mut walk = Walk::of(self, &everybody, range, None);
        while let Some(found) = walk.next_found().await {
            let key = &found[0].record.key;
            let (owners, then) =
                (now.owners(space, key.as_bytes()), target.owners(space, key.as_bytes()));
            let up = view.up(&owners);
            let (now, up, then) = (&owners[..], &up[..], &then[..]);
            let walked = Walked { keyspace: space, found: &found, keys: 1, now, up, then };
            count_one(&walked, Some(key), preview, each);
        }
        walk.silent
    }
}

fn count_one(
    walked: &Walked<'_>,
    key: Option<&Blob>,
    preview: &mut Preview,
    each: &mut impl FnMut(Due<'_>),
) {
    let copies = &preview.key(walked)[..];
    if !copies.is_empty() {
        each(Due { space: walked.keyspace, key, keys: walked.keys, copies });
    }
}

/// Copies that are to be made of a key, or of each of many.
pub(crate) struct Due<'a> {
    pub(crate) space: &'a KeyspaceName,
    /// `None` of many.
    pub(crate) key: Option<&'a Blob>,
    /// How many keys.
    pub(crate) keys: u64,
    pub(crate) copies: &'a [Planned],
}

impl View {
    /// Those of these nodes that are up.
    pub(crate) fn up(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let up = |id: &&NodeId| self.nodes.get(*id).is_some_and(|node| !node.is_down());
        nodes.iter().filter(up).cloned().collect()
    }
}

fn reply(view: &View, target: &Placement, count: Count) -> PlanReply {
    let now = &view.topology.current;
    let Count { preview, silent, untold, refused } = count;
    let refused = may_run(view, target, &preview).err().or(refused);
    let link = |((from, to), load): (&(NodeId, NodeId), &Load)| LinkPlan {
        from: from.clone(),
        to: to.clone(),
        keys: load.keys,
        bytes: load.bytes,
    };
    let missing = silent.iter().filter(|id| now.has(id));
    let mut told: Vec<String> = missing.map(|id| not_counted(view, id, &preview)).collect();
    told.extend(untold);
    told.extend(risks(now, target, &preview));
    PlanReply {
        status: Status::Ok,
        epoch: view.topology.epoch,
        stage: view.stage,
        changes: differences(now, target),
        keys: preview.keys(),
        copies: preview.copies().keys,
        bytes: preview.copies().bytes,
        removed: preview.removed(),
        links: preview.links.iter().map(link).collect(),
        balance: balance(now, target, &preview),
        reasons: reasons(now, target, &preview, &silent),
        risks: told,
        refused,
        silent: silent.into_iter().collect(),
    }
}

fn not_counted(view: &View, id: &NodeId, preview: &Preview) -> String {
    let node = view.nodes.get(id);
    let state = if node.is_some_and(|node| node.is_down()) { "is DOWN" } else { "did not answer" };
    let held = node.and_then(|node| node.opinion(0).last).map(|last| last.size + last.tombstones);
    let known = preview.nodes.get(id).map_or(0, |node| node.owns);
    match held.map(|held| held.saturating_sub(known)) {
        Some(0) => {
            format!("{id} {state}: what it held when it was last seen is known to others, too")
        }
        Some(alone) => format!(
            "{id} {state}: about {alone} keys that only it holds are not counted and stay there"
        ),
        None => format!("{id} {state}: keys that only it holds are not counted and stay there"),
    }
}

/// Each node before and after, of all rings and whoever holds something.
fn balance(now: &Placement, then: &Placement, preview: &Preview) -> Vec<BalanceRow> {
    let (before, after) = (shares(now, preview), shares(then, preview));
    let ids: BTreeSet<&NodeId> =
        before.keys().chain(after.keys()).chain(preview.nodes.keys()).collect();
    let row = |node: &NodeId| {
        let count = preview.nodes.get(node).copied().unwrap_or_default();
        BalanceRow {
            node: node.clone(),
            keys_before: count.before.keys,
            keys_after: count.after(),
            share_before: before.get(node).copied().unwrap_or(0.0),
            share_after: after.get(node).copied().unwrap_or(0.0),
        }
    };
    ids.into_iter().map(row).collect()
}

/// The share of all copies that each node has by the ring: of each keyspace as many as it has keys.
#[allow(clippy::cast_precision_loss, reason = "a share that people read")]
fn shares(placement: &Placement, preview: &Preview) -> BTreeMap<NodeId, f64> {
    let nodes = placement.ring.members().len();
    let weight = |space: &KeyspaceName| {
        let keys = preview.spaces.get(space).map_or(0, |space| space.keys);
        let keys = if preview.keys() == 0 { 1 } else { keys };
        keys as f64 * placement.n(space).min(nodes) as f64
    };
    let all: f64 = placement.copies.keys().map(weight).sum();
    let mut shares = BTreeMap::new();
    for (space, n) in &placement.copies {
        for (node, share) in placement.ring.copy_shares(*n) {
            *shares.entry(node).or_insert(0.0) += share * weight(space) / all.max(f64::EPSILON);
        }
    }
    shares
}

/// All that nodes hold of a keyspace, without values.
pub(crate) fn everything(space: &KeyspaceName) -> Range {
    let range = Range { keyspace: space.clone(), page_keys: PAGE_KEYS, ..Range::default() };
    Range { keys_only: true, tombstones: true, ahead: true, ..range }
}

/// Who has to take part in a change is there, is who it was, and has room for what it is to get. Without a change
/// what can be put right is put right.
pub(crate) fn may_run(view: &View, target: &Placement, preview: &Preview) -> Result<(), Failure> {
    if *target == view.topology.current {
        return Ok(());
    }
    for node in view.nodes.values().filter(|node| target.has(&node.id)) {
        let (id, opinion) = (&node.id, node.opinion(0));
        let takes_part = |what: String, hint: String| {
            let message = format!("{what} and has to take part; nothing was moved");
            Err(Failure::new(ErrorName::Unreachable, message).hint(hint))
        };
        let off = match view.stage {
            Stage::Copying => "go back to the ring as it was: cancel".to_owned(),
            _ => format!("take it off the ring: removenode {id}"),
        };
        if node.is_down() && opinion.stranger {
            let what = format!("{id} is not who answers at {}", node.member.addr);
            return takes_part(what, format!("start {id} there with its data, or {off}"));
        }
        if node.is_down() {
            return takes_part(format!("{id} is DOWN"), format!("restart {id}, or {off}"));
        }
        let gets = preview.nodes.get(id).is_some_and(|count| count.gets.keys > 0);
        if gets && opinion.last.is_some_and(|last| !last.state.is_ok()) {
            return Err(Failure::new(
                ErrorName::DiskFull,
                format!("{id} takes no writes and is to get copies; nothing was moved"),
            )
            .hint(format!("make room on its disk, or {off}")));
        }
    }
    Ok(())
}

/// With fewer silent nodes than copies, some owner of every key was asked. With as many as acknowledge a
/// write, some may be at those alone: of nodes that are DOWN that is told, one that is not is to be asked again.
pub(crate) fn enough_seen(
    view: &View,
    space: &KeyspaceName,
    silent: &BTreeSet<NodeId>,
) -> Result<Option<String>, Failure> {
    let current = &view.topology.current;
    let silent: Vec<&NodeId> = silent.iter().filter(|id| current.has(id)).collect();
    let w = view.keyspace(space)?.w;
    if silent.len() < w.min(current.n(space)) {
        return Ok(None);
    }
    let gone = view.up(&silent.iter().map(|id| (*id).clone()).collect::<Vec<_>>()).is_empty();
    let silent = silent.iter().map(|id| id.as_str()).collect::<Vec<_>>();
    if silent.len() < current.n(space) && gone {
        return Ok(Some(format!(
            "Not asked: {}; writes that nobody else has acknowledged (W={w}) stay there",
            silent.join(" ")
        )));
    }
    Err(Failure::new(
        ErrorName::Unreachable,
        format!(
            "{} did not answer and may hold the only copy of some keys; nothing was removed",
            silent.join(" ")
        ),
    )
    .hint("restart it, then: rebalance"))
}
