//! The decisions as a table: a cluster in short, and what is found, a letter for how bad before each.

use super::*;
use crate::ring::{Ring, Seat};
use crate::topology::Placement;

/// N, R and W.
type Quorums = (usize, usize, usize);

fn vitals() -> Vitals {
    Vitals {
        health: Health::Up,
        for_ms: 62_000,
        stranger: false,
        disk: DiskState::Ok,
        ring_epoch: None,
        owed: 0,
        overflown: false,
        keys: Some(10),
    }
}

/// `n1 n2:down n3:zone=a`: a word a node, with what is special about it.
fn nodes(text: &str) -> Vec<(NodeId, Seat, Vitals)> {
    let node = |word: &str| {
        let mut parts = word.split(':');
        let id = parts.next().unwrap().parse().unwrap();
        let (mut seat, mut vitals) = (Seat::from(1), vitals());
        for part in parts {
            match part.split_once('=').unwrap_or((part, "")) {
                ("down", _) => vitals.health = Health::Down,
                ("suspect", _) => vitals.health = Health::Suspect,
                ("stranger", _) => (vitals.health, vitals.stranger) = (Health::Down, true),
                ("full", _) => vitals.disk = DiskState::DiskFull,
                ("readonly", _) => vitals.disk = DiskState::ReadOnly,
                ("epoch", epoch) => vitals.ring_epoch = epoch.parse().ok(),
                ("owed", keys) => vitals.owed = keys.parse().unwrap(),
                ("over", _) => vitals.overflown = true,
                ("keys", keys) => vitals.keys = keys.parse().ok(),
                ("zone", zone) => seat.zone = zone.parse().ok(),
                _ => panic!("{part}"),
            }
        }
        (id, seat, vitals)
    };
    text.split_whitespace().map(node).collect()
}

/// What is found with N, R, W of `default`, the nodes, the stage and what else is so.
fn diagnosis((n, r, w): Quorums, text: &str, more: &str) -> Diagnosis {
    let rows = nodes(text);
    let ring = Ring::new(256, rows.iter().map(|(id, seat, _)| (id.clone(), seat.clone())));
    let topology =
        Topology { epoch: 7, current: Placement::new(ring, n), staged: None, pending: None };
    let default = Keyspace { n, r, w, ..Keyspace::new(KeyspaceName::default()) };
    let keyspaces = BTreeMap::from([(default.name.clone(), default)]);
    let nodes = rows.into_iter().map(|(id, _, vitals)| (id, vitals)).collect();
    let has = |word: &str| more.split(' ').any(|has| has == word);
    let stages =
        [("staged", Stage::Staged), ("copying", Stage::Copying), ("clearing", Stage::Clearing)];
    examine(&Checkup {
        topology: &topology,
        keyspaces: &keyspaces,
        deposed: has("deposed").then(|| "this coordinator was replaced".to_owned()),
        nodes: &nodes,
        stage: stages.iter().find(|(word, _)| has(word)).map_or(Stage::Idle, |(_, stage)| *stage),
        paused: has("paused"),
        running: has("running"),
        unverified_ms: if has("unverified") { 7_200_000 } else { 1_000 },
        anti_entropy_ms: (!has("off")).then_some(30_000),
    })
}

/// The findings as text.
fn found(quorums: Quorums, text: &str, more: &str) -> (Vec<String>, Vec<String>) {
    let diagnosis = diagnosis(quorums, text, more);
    let lines = |findings: &[Finding]| {
        let line = |finding: &Finding| {
            let letter = match finding.severity {
                Severity::Critical => 'C',
                Severity::Warning => 'W',
                Severity::Note => 'n',
            };
            format!("{letter} {}", finding.text)
        };
        findings.iter().map(line).collect()
    };
    (lines(&diagnosis.now), lines(&diagnosis.next))
}

#[test]
fn what_is_wrong_now() {
    #[rustfmt::skip]
    let table: [(Quorums, &str, &str, &[&str]); 25] = [
        ((3, 2, 2), "n1 n2 n3", "", &[]),
        ((1, 1, 1), "", "", &["C the cluster has no nodes: nothing can be stored"]),
        ((3, 2, 2), "n1 n2:down n3", "deposed", &["C this coordinator was replaced", "W n2 has been DOWN for 62 s"]),
        ((3, 2, 2), "n1 n2:down n3", "", &["W n2 has been DOWN for 62 s"]),
        ((3, 1, 1), "n1 n2:suspect n3", "", &["n n2 missed its last heartbeat"]),
        ((1, 1, 1), "n1:down", "", &["C 100.0 % of default cannot be read (N=1, R=1) without n1", "W n1 has been DOWN for 62 s"]),
        ((2, 1, 2), "n1 n2:down", "", &["C 100.0 % of default can be read and not written (N=2, W=2) without n2", "W n2 has been DOWN for 62 s"]),
        ((2, 2, 1), "n1 n2:down", "", &["C 100.0 % of default cannot be read (N=2, R=2) without n2", "W n2 has been DOWN for 62 s"]),
        ((2, 1, 1), "n1 n2:down", "", &["W n2 has been DOWN for 62 s", "W 100.0 % of default has one copy left without n2"]),
        ((3, 2, 2), "n1 n2:down n3:down", "", &["C 100.0 % of default cannot be read (N=3, R=2) without n2 n3", "W n2 has been DOWN for 62 s", "W n3 has been DOWN for 62 s"]),
        ((3, 2, 2), "n1 n2:stranger n3", "", &["C another data directory answers in place of n2: its copies are not there"]),
        ((3, 2, 2), "n1:full n2 n3:readonly", "", &["C n1: its disk is full, it refuses puts", "C n3: its file system is read-only, it refuses writes"]),
        ((3, 2, 2), "n1:epoch=5 n2 n3", "", &["W n1 knows the ring of epoch 5, the coordinator has 7"]),
        ((3, 2, 2), "n1:owed=1 n2:down:owed=12 n3", "", &["W n2 has been DOWN for 62 s", "n 1 key is being handed over to n1, which missed writes", "n 12 keys are kept for n2 until it is back"]),
        ((3, 2, 2), "n1:over n2 n3", "", &["W n1 missed more writes than could be noted"]),
        ((3, 2, 2), "n1 n2", "", &["W default is to have 3 copies, and there are 2 nodes"]),
        ((2, 1, 1), "n1:zone=a n2:zone=a", "", &["W N=2 of default needs 2 zones and there is 1: every key has 2 copies in one zone; losing a takes 2 copies of 100.0 % of the keys"]),
        ((3, 2, 2), "n1 n2 n3", "staged", &["n a change of the ring is staged, and not in force"]),
        ((3, 2, 2), "n1 n2 n3", "copying running", &["n a rebalance is under way"]),
        ((3, 2, 2), "n1 n2 n3", "copying running paused", &["W the rebalance rests: until it is through, each write needs old and new owners"]),
        ((3, 2, 2), "n1 n2 n3", "copying", &["W a change of the ring is committed, and its copies are not being made"]),
        ((3, 2, 2), "n1 n2 n3", "clearing", &["n old copies are still to be dropped after a change of the ring"]),
        ((3, 2, 2), "n1:keys=9000 n2:keys=3000 n3:keys=3000", "", &["n n1 holds 1.8 times its part of the keys"]),
        ((3, 2, 2), "n1 n2 n3", "unverified", &["W some replicas have not been compared for 2 h: while an owner is away they cannot be"]),
        ((3, 2, 2), "n1 n2 n3", "off unverified", &["n anti-entropy is off: replicas that differ are found by reads only"]),
    ];
    for (quorums, nodes, more, expected) in table {
        assert_eq!(found(quorums, nodes, more).0, expected, "{quorums:?} {nodes} {more}");
    }
}

#[test]
fn what_would_be_with_one_more_node_dead() {
    let any = "n any one node may be lost: every key can be read and written without it";
    #[rustfmt::skip]
    let table: [(Quorums, &str, &[&str]); 9] = [
        ((1, 1, 1), "", &[]),
        ((1, 1, 1), "n1", &["C losing n1 makes 100.0 % of default unreadable (N=1, R=1)"]),
        ((2, 1, 1), "n1 n2", &["n losing n1 leaves one copy of 100.0 % of default", any]),
        ((2, 1, 2), "n1 n2", &["C losing n1 makes 100.0 % of default read-only (N=2, W=2)"]),
        ((2, 2, 1), "n1 n2", &["C losing n1 makes 100.0 % of default unreadable (N=2, R=2)"]),
        ((3, 2, 2), "n1 n2 n3", &[any]),
        ((3, 2, 2), "n1 n2 n3:down", &["C losing n1 as well makes 100.0 % of default unreadable (N=3, R=2)"]),
        ((3, 1, 2), "n1 n2 n3:down", &["C losing n1 as well makes 100.0 % of default read-only (N=3, W=2)"]),
        ((1, 1, 1), "n1:down", &[]),
    ];
    for (quorums, nodes, expected) in table {
        assert_eq!(found(quorums, nodes, "").1, expected, "{quorums:?} {nodes}");
    }
}

#[test]
fn the_remedy_fits() {
    #[rustfmt::skip]
    let table = [
        ((1, 1, 1), "n1", "add a node, and keep more copies: setreplica 2, then rebalance"),
        ((1, 1, 1), "n1 n2", "keep more copies: setreplica 2, then rebalance"),
        ((2, 1, 2), "n1 n2 n3", "keep more copies: setreplica 3, then rebalance"),
        ((3, 3, 1), "n1 n2 n3", "let a majority answer: keyspace set default --r 2 --w 2"),
        ((3, 2, 2), "n1 n2 n3:down", "start n3 again first"),
        // N is enough, nodes are not.
        ((3, 2, 2), "n1 n2", "add a node: addnode, then rebalance"),
    ];
    for (quorums, nodes, expected) in table {
        let next = diagnosis(quorums, nodes, "").next;
        let hint = next[0].hint.as_deref();
        assert_eq!(
            (next[0].severity, hint),
            (Severity::Critical, Some(expected)),
            "{quorums:?} {nodes}"
        );
    }
}

/// The worst one is named, with its share of the ring, and what was there before.
#[test]
fn the_node_that_most_depends_on_is_named() {
    let ring = Ring::new(256, ["n1", "n2", "n3"].map(|id| (id.parse::<NodeId>().unwrap(), 1)));
    let shares: BTreeMap<_, _> = ring
        .members()
        .keys()
        .map(|id| (ring.share(id), id))
        .map(|(share, id)| (id, share))
        .collect();
    let (worst, share) = shares.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    let expected =
        format!("C losing {worst} makes {} of default unreadable (N=1, R=1)", percent(*share));
    assert_eq!(found((1, 1, 1), "n1 n2 n3", "").1, [expected]);
    let (_, next) = found((1, 1, 1), "n1 n2:down n3", "");
    let tail = format!(
        " of default unreadable (N=1, R=1), {} are now",
        percent(shares[&"n2".parse::<NodeId>().unwrap()])
    );
    assert!(next[0].contains(" as well makes ") && next[0].ends_with(&tail), "{next:?}");
}

#[test]
fn durations_are_in_the_unit_that_fits() {
    let table = [
        (0, "0 s"),
        (119_999, "119 s"),
        (120_000, "2 min"),
        (7_199_999, "119 min"),
        (7_200_000, "2 h"),
        (172_800_000, "2 days"),
    ];
    for (ms, expected) in table {
        assert_eq!(duration(ms), expected);
    }
}
