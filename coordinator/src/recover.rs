//! A lost coordinator, rebuilt from what its nodes know: `kv coordinator --recover`.
//!
//! Nodes are told what the cluster is, see [`crate::herald`]. The nodes that are named are asked, then all members of
//! the newest map they have, and so on while a newer one turns up. The map that was told under the
//! greatest epochs becomes the new log, with another identity that takes over from the old one: the nodes obey it,
//! and refuse the old coordinator should it come back.
//!
//! What makes that safe:
//!
//! - **The ring.** What rests on a change of the ring waits until all members that are UP know it, so the newest map
//!   of all members is the ring in force. Without the silent ones, by `--force`, it is if one of the others was UP
//!   at the last change; a majority of the members must answer, of the ring in force and of a pending one.
//! - **Versions.** A node writes down whom it obeys before it takes a write. So the greatest epoch of all members is at
//!   least that of every version there is. The new one is [`EPOCHS_AHEAD`] above it, for the old coordinator
//!   may be started again meanwhile, or have been obeyed by a node that is silent.
//! - **Stamps** of `lww` keyspaces were given up to `CLOCK`, of which the map may be a minute behind. In that minute the
//!   old coordinator's log has not gone further than its own clock and [`AHEAD_MS_MAX`], so the new one goes on
//!   from there: the map's, or the time of now, and [`AHEAD_MS_MAX`] more.
//!
//! # Caveats
//!
//! What was staged and not told yet is lost: it was in force for nothing. With more than half of the
//! members gone for good there is no recovery: `kv salvage` makes new nodes of their directories for a new cluster.
//! The clocks of the old coordinator's machine and of this one are taken to agree to less than 30 s.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::NodeId;
use ringkv_shared::hlc::AHEAD_MS_MAX;
use ringkv_shared::net::{Client, NodeApiClient, Peer, PeerError};
use ringkv_shared::protocol::node::{ObeysReply, Reign};
use ringkv_shared::topology::Placement;

use crate::clock::unix_ms;
use crate::log::{Log, LogError};
use crate::state::State;

/// How far above all epochs that nodes know the new one begins: more starts than the old coordinator will have
/// had unseen, or has while it is replaced.
const EPOCHS_AHEAD: u32 = 100;

/// What `--recover` was given.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    /// Where nodes answer, at least one.
    pub(crate) nodes: Vec<String>,
    /// Whether to go on without members that do not answer.
    pub(crate) force: bool,
    /// How long a node has for an answer.
    pub(crate) timeout: Duration,
}

/// Why nothing was rebuilt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("none of the nodes that answer knows a cluster; nothing was written")]
    NoMap,
    #[error("{silent} of the cluster did not answer; nothing was written", silent = .0.join(" "))]
    Silent(Vec<String>),
    #[error(
        "only {answered} of {members} members {of} answer, fewer than a majority; nothing was written"
    )]
    Minority { answered: usize, members: usize, of: &'static str },
    #[error(
        "{node} obeys nobody: it has left the cluster, or lost its file `cluster`; nothing was written"
    )]
    Free { node: NodeId },
    #[error("{node} obeys another cluster's coordinator by now; nothing was written")]
    Elsewhere { node: NodeId },
}

impl RecoverError {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Log(error) => error.hint().to_owned(),
            Self::NoMap => {
                "name other nodes of the cluster with --node; for new nodes start without --recover and add them".into()
            }
            Self::Silent(_) => {
                "start them, or go on without them, which may take an older ring for the newest: --force".into()
            }
            Self::Minority { .. } => {
                "start more of them; from directories of nodes that are lost: kv salvage".into()
            }
            Self::Free { node } => format!("if {node} is a member all the same: --force"),
            Self::Elsewhere { node } => {
                format!("if {node} has left this cluster, and it is no member to wait for: --force")
            }
        }
    }
}

/// What a node said.
#[derive(Clone, Debug)]
struct Answer {
    id: NodeId,
    uuid: String,
    obeys: ObeysReply,
}

/// A map that a node was told.
#[derive(Clone, Debug)]
struct Known {
    told: Reign,
    by: NodeId,
    state: State,
}

/// What was made of the answers.
#[derive(Debug)]
struct Rebuilt {
    state: State,
    /// Whose map it is.
    by: NodeId,
    told: Reign,
    /// The members that did not answer.
    without: Vec<String>,
}

/// Makes the log of a new coordinator in `dir`, which has none, and says on standard error from what.
pub(crate) async fn recover(dir: &Path, recovery: &Recovery) -> Result<(), RecoverError> {
    Log::refuse_existing(dir)?;
    let mut answers: BTreeMap<String, Option<Answer>> = BTreeMap::new();
    let mut to_ask: BTreeSet<String> = recovery.nodes.iter().cloned().collect();
    // Each turn asks addresses that were not asked yet, of which there are no more than maps name.
    while !to_ask.is_empty() {
        let asked = to_ask.iter().map(|addr| ask(addr, recovery.timeout));
        let found = join_all(asked).await;
        answers.extend(to_ask.into_iter().zip(found));
        let members = newest(answers.values().flatten()).map(|known| known.state.members);
        let addrs = members.unwrap_or_default().into_values().map(|member| member.addr);
        to_ask = addrs.filter(|addr| !answers.contains_key(addr)).collect();
    }
    let answers: Vec<Answer> = answers.into_values().flatten().collect();
    let uuid = uuid::Uuid::new_v4().to_string();
    let Rebuilt { state, by, told, without } = rebuild(&answers, uuid, unix_ms(), recovery.force)?;
    say(&format!("the map of {by} is the newest, told under {told}"));
    if !without.is_empty() {
        say(&format!("going on without {}", without.join(" ")));
    }
    Log::make(dir, &state.lines())?;
    say(&format!(
        "rebuilt in {}: versions are numbered from epoch {} on, the ring has epoch {}",
        dir.display(),
        state.boot_epoch + 1,
        state.topology.epoch
    ));
    Ok(())
}

async fn ask(addr: &str, timeout: Duration) -> Option<Answer> {
    let peer = Peer::new(addr);
    let call = async |client: &Client| {
        let size = NodeApiClient::size(client).await?;
        Ok((size, NodeApiClient::cluster(client).await?))
    };
    match peer.call(timeout, call).await {
        Ok((size, obeys)) => {
            let whom = obeys.coordinator.as_deref().unwrap_or("nobody");
            let (epoch, told) = (obeys.reign.coordinator, obeys.told);
            let map = if obeys.map.is_some() { told.to_string() } else { "none".to_owned() };
            say(&format!("{} at {addr} obeys {whom} since epoch {epoch}; its map: {map}", size.id));
            Some(Answer { id: size.id, uuid: size.uuid, obeys })
        }
        Err(PeerError::Refused(failure)) => {
            say(&format!("what answers at {addr} is no storage node ({failure})"));
            None
        }
        Err(error) => {
            say(&format!("no node answers at {addr}: {error}"));
            None
        }
    }
}

fn say(text: &str) {
    // Who closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "recover: {text}");
}

/// The map that was told under the greatest epoch, and of those the one with the most changes.
fn newest<'a>(answers: impl Iterator<Item = &'a Answer>) -> Option<Known> {
    let known = answers.filter_map(|answer| {
        let (told, by) = (answer.obeys.told, answer.id.clone());
        Some(Known { told, by, state: map_of(answer)? })
    });
    known.max_by_key(|known| (known.told.coordinator, known.state.changes))
}

/// The state that a node was told, if it was told one that can be read.
fn map_of(answer: &Answer) -> Option<State> {
    let mut state = State::new();
    for line in answer.obeys.map.as_ref()?.lines.lines() {
        state.apply(&line.parse().ok()?);
    }
    Some(state)
}

/// The state of the coordinator that takes over.
fn rebuild(
    answers: &[Answer],
    uuid: String,
    now_ms: u64,
    force: bool,
) -> Result<Rebuilt, RecoverError> {
    let Known { told, by, mut state } = newest(answers.iter()).ok_or(RecoverError::NoMap)?;
    let lineage: Vec<String> = state.after.iter().chain([&state.uuid]).cloned().collect();
    let mut there = BTreeMap::new();
    let mut silent = Vec::new();
    for (id, member) in &state.members {
        let Some(answer) = answers.iter().find(|answer| answer.uuid == member.uuid) else {
            silent.push(format!("{id} at {}", member.addr));
            continue;
        };
        // With force, who was let go counts, too: its file may only have been moved away.
        let free = answer.obeys.coordinator.is_none();
        if belongs(answer, &lineage) || free && force {
            there.insert(id.clone(), answer);
        } else if free {
            return Err(RecoverError::Free { node: id.clone() });
        } else if force {
            silent.push(format!("{id} at {}", member.addr));
        } else {
            return Err(RecoverError::Elsewhere { node: id.clone() });
        }
    }
    if !silent.is_empty() && !force {
        return Err(RecoverError::Silent(silent));
    }
    for (placement, of) in [
        (Some(&state.topology.current), "of the ring in force"),
        (state.topology.pending.as_ref(), "of the pending ring"),
    ] {
        placement.map_or(Ok(()), |placement| majority(placement, &there, of))?;
    }
    take_over(&mut state, lineage, there.values().copied(), uuid, now_ms);
    Ok(Rebuilt { state, by, told, without: silent })
}

/// Whether a node is of the cluster with these coordinators: it obeys one of them, or one that has claimed it and told
/// it nothing yet, so that its map is still of one of them.
fn belongs(answer: &Answer, lineage: &[String]) -> bool {
    let is_one = |uuid: &str| lineage.iter().any(|one| one == uuid);
    match &answer.obeys.coordinator {
        None => false,
        Some(uuid) => is_one(uuid) || map_of(answer).is_some_and(|map| is_one(&map.uuid)),
    }
}

fn majority(
    placement: &Placement,
    there: &BTreeMap<NodeId, &Answer>,
    of: &'static str,
) -> Result<(), RecoverError> {
    let members = placement.ring.members();
    let answered = members.keys().filter(|id| there.contains_key(*id)).count();
    if 2 * answered > members.len() || members.is_empty() {
        return Ok(());
    }
    Err(RecoverError::Minority { answered, members: members.len(), of })
}

fn take_over<'a>(
    state: &mut State,
    lineage: Vec<String>,
    there: impl Iterator<Item = &'a Answer> + Clone,
    uuid: String,
    now_ms: u64,
) {
    state.after = lineage;
    for obeyed in there.clone().filter_map(|answer| answer.obeys.coordinator.as_ref()) {
        if !state.after.contains(obeyed) {
            state.after.push(obeyed.clone());
        }
    }
    let reigns = there.flat_map(|answer| [answer.obeys.reign, answer.obeys.told]);
    let (mut epoch, mut ring) = (state.boot_epoch, state.topology.epoch);
    for reign in reigns {
        (epoch, ring) = (epoch.max(reign.coordinator), ring.max(reign.ring));
    }
    state.boot_epoch = epoch.saturating_add(EPOCHS_AHEAD);
    // A plan that was seen before fits no more.
    state.topology.epoch = ring + 1;
    state.clock_ms = state.clock_ms.max(now_ms) + AHEAD_MS_MAX;
    state.uuid = uuid;
}

#[cfg(test)]
mod tests {
    use ringkv_shared::protocol::Status;
    use ringkv_shared::protocol::node::ClusterMap;

    use super::*;
    use crate::state::Event;

    const NOW_MS: u64 = 1_000_000;

    fn state(lines: &[&str]) -> State {
        let mut state = State::new();
        lines.iter().for_each(|line| state.apply(&line.parse().unwrap()));
        state
    }

    /// Three members, the last one pending; told by `c1`, which took over from `c0`.
    fn map() -> Vec<&'static str> {
        vec![
            "RING 4",
            "AFTER c0",
            "COORDINATOR c1",
            "BOOT 3",
            "CLOCK 2000000",
            "ADD n1 a:1 1 u1",
            "ADD n2 a:2 1 u2",
            "FINAL",
            "ADD n3 a:3 1 u3",
            "COMMIT",
        ]
    }

    /// `n1` with the directory `u1`, and so on: obeys `whom` under an epoch, and was told so.
    fn node(n: u32, whom: Option<&str>, epoch: u32, told: Option<(Reign, &[&str])>) -> Answer {
        let ring = told.map_or(0, |(told, _)| told.ring);
        let lines =
            |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        Answer {
            id: format!("n{n}").parse().unwrap(),
            uuid: format!("u{n}"),
            obeys: ObeysReply {
                status: Status::Ok,
                coordinator: whom.map(str::to_owned),
                reign: Reign { coordinator: epoch, ring },
                told: told.map(|(told, _)| told).unwrap_or_default(),
                map: told.map(|(told, map)| ClusterMap {
                    ring_epoch: told.ring,
                    lines: lines(map).into(),
                }),
            },
        }
    }

    fn reign(text: &str) -> Reign {
        text.parse().unwrap()
    }

    fn rebuilt(answers: &[Answer], force: bool) -> Result<State, String> {
        let rebuilt = rebuild(answers, "c9".to_owned(), NOW_MS, force);
        rebuilt.map(|rebuilt| rebuilt.state).map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_map_goes_on_above_all_that_was_obeyed() {
        let map = map();
        let old = ["RING 4", "COORDINATOR c0", "BOOT 2", "ADD n1 a:1 1 u1", "FINAL"];
        let answers = [
            node(1, Some("c1"), 3, Some((reign("2.40"), &old))),
            node(2, Some("c1"), 3, Some((reign("3.9"), &map))),
            // Started again since, and claimed no other yet.
            node(3, Some("c1"), 5, None),
        ];
        let state = rebuilt(&answers, false).unwrap();
        let mut expected = self::state(&map);
        expected.after = vec!["c0".to_owned(), "c1".to_owned()];
        expected.uuid = "c9".to_owned();
        expected.boot_epoch = 5 + EPOCHS_AHEAD;
        expected.topology.epoch = 41;
        expected.clock_ms = 2_000_000 + AHEAD_MS_MAX;
        assert_eq!(state, expected);
        let mut again = State::new();
        state.lines().iter().for_each(|event: &Event| again.apply(event));
        assert_eq!(again, state);
    }

    #[test]
    fn a_recovery_that_was_cut_short_is_followed_too() {
        let map = map();
        let told = Some((reign("3.9"), &map[..]));
        let answers = [
            node(1, Some("c2"), 104, told),
            node(2, Some("c1"), 3, told),
            node(3, Some("c1"), 3, None),
        ];
        let state = rebuilt(&answers, false).unwrap();
        assert_eq!(
            (state.after, state.boot_epoch),
            (["c0", "c1", "c2"].map(str::to_owned).into(), 204)
        );
    }

    #[test]
    fn who_is_silent_or_elsewhere_stops_it() {
        let map = map();
        let told = Some((reign("3.9"), &map[..]));
        let (n1, n2, n3) = (
            node(1, Some("c1"), 3, told),
            node(2, Some("c1"), 3, told),
            node(3, Some("c1"), 3, told),
        );
        let other = ["RING 4", "COORDINATOR x", "BOOT 1", "ADD n3 a:3 1 u3", "FINAL"];
        let elsewhere = node(3, Some("x"), 1, Some((reign("1.2"), &other)));
        let wiped = Answer { uuid: "new".to_owned(), ..n3.clone() };
        let free = node(3, None, 0, None);
        let table: [(&[&Answer], bool, &str); 11] = [
            (&[&n1, &n2, &n3], false, ""),
            (&[], true, "none of the nodes"),
            (&[&wiped], true, "only 0 of 2 members of the ring in force"),
            (&[&n1, &n2], false, "n3 at a:3 of the cluster did not answer"),
            (&[&n1, &n2], true, ""),
            (&[&n1, &n2, &wiped], false, "n3 at a:3 of the cluster did not answer"),
            (&[&n1, &n3], true, "only 1 of 2 members of the ring in force"),
            (&[&n1, &n2, &elsewhere], false, "n3 obeys another cluster's coordinator"),
            (&[&n1, &n2, &elsewhere], true, ""),
            (&[&n1, &n2, &free], false, "n3 obeys nobody: it has left"),
            (&[&n1, &n2, &free], true, ""),
        ];
        for (answers, force, expected) in table {
            let answers: Vec<Answer> = answers.iter().copied().cloned().collect();
            let told = rebuilt(&answers, force).err().unwrap_or_default();
            assert!(
                told.starts_with(expected) && told.is_empty() == expected.is_empty(),
                "{expected}: {told}"
            );
        }
    }

    #[test]
    fn of_two_maps_of_one_ring_the_later_is_newer() {
        let map = map();
        let later =
            [&map[..], &["KEYSPACE clicks n=1 r=1 w=1 policy=lww sloppy=off ttl=0"]].concat();
        for order in [[&later, &map, &map], [&map, &map, &later]] {
            let told = |map| Some((reign("3.9"), map));
            let answers =
                [1, 2, 3].map(|n: u32| node(n, Some("c1"), 3, told(&order[n as usize - 1][..])));
            assert_eq!(rebuilt(&answers, false).unwrap().keyspaces.len(), 2);
        }
    }
}
