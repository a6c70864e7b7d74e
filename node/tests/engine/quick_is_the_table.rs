//! The hot methods have two ways in front of the method table, one of them for many connections at once: the same lines
//! to three nodes, one of which has only the table, must have the same answers, byte for byte, and leave the same log and
//! map.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::support::path;
use jsonrpsee::Methods;
use proptest::prelude::*;
use ringkv_node::disk::SimDisk;
use ringkv_node::store::{Budget, Reads};
use ringkv_node::{Clock, Durability, Engine, EngineOptions, NodeService};
use ringkv_shared::Failure;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::net::{Burst, Mailbox, ServerLimits, Service, listen, serve};
use ringkv_shared::protocol::node::Reign;
use ringkv_shared::told::Told;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;

/// What time it is, for all nodes of the test.
const NOW_MS: u64 = 1_763_721_600_000;
/// The longest that an answer may take: much longer than it does.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

/// A node's service with or without the ways in front of its table.
#[derive(Clone)]
struct Ways<const SIDE_BY_SIDE: bool> {
    service: NodeService,
    quick: bool,
    /// How many lines did not get to the table.
    taken: Rc<Cell<usize>>,
}

impl<const SIDE_BY_SIDE: bool> Service for Ways<SIDE_BY_SIDE> {
    fn methods(&self) -> &Methods {
        self.service.methods()
    }

    fn takes(&self, method: &str) -> Option<&'static str> {
        self.service.takes(method)
    }

    fn admit(&self, method: &str, reign: Option<Reign>) -> Result<(), Failure> {
        self.service.admit(method, reign)
    }

    fn quick(&self, lines: &[&[u8]], out: &mut Vec<u8>, mailbox: &Mailbox) -> usize {
        let taken = if self.quick { self.service.quick(lines, out, mailbox) } else { 0 };
        self.taken.set(self.taken.get() + taken);
        taken
    }

    const SIDE_BY_SIDE: bool = SIDE_BY_SIDE;

    fn side_by_side(&self, bursts: &mut [Burst<'_>], out: &mut Vec<u8>) {
        self.service.side_by_side(bursts, out);
        let taken: usize = bursts.iter().map(|burst| burst.taken).sum();
        self.taken.set(self.taken.get() + taken);
    }

    fn settled(&self) -> u64 {
        self.service.settled()
    }

    fn settle_up_to(&self, due: u64) -> impl Future<Output = ()> {
        self.service.settle_up_to(due)
    }

    fn settle(&self) -> impl Future<Output = ()> {
        self.service.settle()
    }

    fn is_barrier(&self, method: &str) -> bool {
        self.service.is_barrier(method)
    }
}

/// A step of a case.
#[derive(Clone)]
enum Step {
    /// Lines that are sent at once.
    Burst(Vec<Vec<u8>>),
    /// The disk has so much room beyond what it holds.
    Room(u64),
}

/// Long values are cut.
impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Room(bytes) => write!(f, "room for {bytes}"),
            Self::Burst(lines) => lines.iter().try_for_each(|line| {
                let shown: String = String::from_utf8_lossy(line).chars().take(200).collect();
                write!(f, "\n{shown}")
            }),
        }
    }
}

/// What a node has answered, and what it then holds.
#[derive(Debug, PartialEq)]
struct Outcome {
    answers: Vec<String>,
    log: Option<String>,
    figures: String,
}

async fn play<const SIDE_BY_SIDE: bool>(
    disk: &SimDisk,
    quick: bool,
    memory: Option<Budget>,
    steps: &[Step],
) -> (Outcome, usize) {
    let options = EngineOptions {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(Still),
        durability: Durability::Os,
        memory,
        ..crate::support::options(disk)
    };
    let (engine, committer, _compactor) = Engine::open(options).unwrap();
    let stop = CancellationToken::new();
    spawn_local(committer.run(stop.clone()));
    let taken = Rc::new(Cell::new(0));
    let ways = Ways::<SIDE_BY_SIDE> {
        service: NodeService::new(engine.clone()),
        quick,
        taken: taken.clone(),
    };
    let (listener, address) = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    spawn_local(serve(listener, ways, ServerLimits::default(), stop.clone()));
    let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let mut lines = BufReader::new(read).lines();
    let claim = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"claim","params":[{{"node":"{}","coordinator":"{}","epoch":3}}]}}"#,
        engine.uuid(),
        uuid::Uuid::nil()
    );
    let mut answers = Vec::new();
    for step in [Step::Burst(vec![claim.into_bytes()])].iter().chain(steps) {
        match step {
            Step::Room(bytes) => disk.set_capacity(disk.used() + bytes),
            Step::Burst(burst) => {
                let mut sent = burst.join(&b'\n');
                // Answers come in the order of lines, so the one to this is the last.
                sent.extend_from_slice(
                    b"\n{\"jsonrpc\":\"2.0\",\"id\":\"end\",\"method\":\"none\"}\n",
                );
                write.write_all(&sent).await.unwrap();
                loop {
                    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
                    let line = line.unwrap().unwrap().unwrap();
                    if line.contains(r#""id":"end""#) {
                        break;
                    }
                    answers.push(line);
                }
            }
        }
    }
    stop.cancel();
    let mut figures = engine.figures();
    (figures.replay_us, figures.last_sync_us, figures.syncs) = (0, 0, 0);
    figures.durable = 0;
    if memory.is_some() {
        // Which values may leave memory depends on how a long burst was cut by the network.
        figures.reads = Reads::default();
        (figures.tally.resident_values, figures.tally.resident_bytes) = (0, 0);
    }
    let log =
        disk.contents(&path("data.log")).map(|log| String::from_utf8_lossy(&log).into_owned());
    (Outcome { answers, log, figures: format!("{figures:?}") }, taken.get())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-c]",
        1 => "[ -~]{0,12}",
        1 => ".{0,6}",
        1 => Just("ü\u{2028}\u{1f600}".to_owned()),
        1 => Just(String::new()),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        30 => text(),
        1 => (1020..1028_usize).prop_map(|len| "k".repeat(len)),
        1 => "\\\\u0000[a-z]{1,2}",
    ]
}

/// A text as JSON, mostly just as we write it.
fn quoted(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, 0..20_u8).prop_map(|(text, spelling)| match spelling {
        0 => format!(r#"{{"base64":"{}"}}"#, "YQ=="),
        1 => format!("\"{text}\""),
        2 => "7".to_owned(),
        _ => serde_json::to_string(&text).unwrap(),
    })
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => quoted(text()),
        2 => (1000..1100_usize).prop_map(|len| format!("\"{}\"", "v".repeat(len))),
        1 => Just(format!("\"{}\"", "ab \\\"".repeat(900))),
        1 => Just(format!("\"{}\"", "x".repeat(1024 * 1024 + 1))),
    ]
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => (2..5_u32, 0..9_u64).prop_map(|(epoch, counter)| format!("\"{epoch}.{counter}\"")),
        1 => Just("\"x80000001.7\"".to_owned()),
        1 => Just("\"03.1\"".to_owned()),
        1 => Just("\"3.9223372036854775808\"".to_owned()),
        1 => Just("\"3.9223372036854775807\"".to_owned()),
        1 => Just("null".to_owned()),
    ]
}

fn expires() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => (NOW_MS - 1..NOW_MS + 2).prop_map(|at| at.to_string()),
        1 => Just("4102444800000".to_owned()),
        1 => Just("0".to_owned()),
        1 => Just("-1".to_owned()),
        1 => Just("null".to_owned()),
        1 => Just("18446744073709551615".to_owned()),
    ]
}

fn keyspace() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"carts\"".to_owned()),
        Just("\"default\"".to_owned()),
        Just("\"No\"".to_owned()),
        Just("null".to_owned()),
    ]
}

/// A member, if it is there; few are.
fn member(
    name: &'static str,
    weight: f64,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    proptest::option::weighted(weight, value)
        .prop_map(move |value| value.map_or(String::new(), |value| format!(",\"{name}\":{value}")))
}

fn record() -> BoxedStrategy<String> {
    let content = prop_oneof![
        8 => value().prop_map(|value| format!(",\"value\":{value}")),
        4 => Just(",\"deleted\":true".to_owned()),
        1 => value().prop_map(|value| format!(",\"value\":{value},\"deleted\":true")),
        1 => Just(String::new()),
    ];
    let stamp = prop_oneof![
        5 => (NOW_MS - 2..NOW_MS + 2, 0..2_u8).prop_map(|(ms, count)| format!("\"{ms}.{count}\"")),
        1 => Just("\"18446744073709551615.0\"".to_owned()),
        1 => Just("\"7\"".to_owned()),
    ];
    let context = prop_oneof![
        (2..4_u32, 0..9_u64).prop_map(|(epoch, counter)| format!("\"{epoch}.{counter}\"")),
        Just("\"2.9,+3.2\"".to_owned()),
    ];
    (
        quoted(key()),
        content,
        member("version", 0.97, version()),
        member("expires", 0.2, expires()),
        member("stamp", 0.1, stamp),
        member("context", 0.1, context),
    )
        .prop_map(|(key, content, version, expires, stamp, context)| {
            format!("{{\"key\":{key}{content}{version}{expires}{stamp}{context}}}")
        })
        .boxed()
}

fn params() -> impl Strategy<Value = (&'static str, String)> {
    let more = |value: BoxedStrategy<String>| {
        proptest::option::weighted(0.3, value)
            .prop_map(|value| value.map_or(String::new(), |value| format!(",{value}")))
    };
    let put = (quoted(key()), value(), more(version().boxed()), more(expires().boxed()));
    let many = |nodes: usize| vec!["\"n7\""; nodes].join(",");
    let owe = prop_oneof![
        6 => Just("\"n7\"".to_owned()),
        4 => Just("\"n8\",\"n7\"".to_owned()),
        1 => Just("\"N7\"".to_owned()),
        1 => Just(String::new()),
        1 => Just(many(64)),
        1 => Just(many(65)),
    ];
    let owe = owe.prop_map(|owe| format!(",\"owe\":[{owe}]"));
    let write = (
        proptest::option::weighted(0.2, keyspace()),
        record(),
        proptest::option::weighted(0.3, owe),
    );
    let via = prop_oneof![9 => Just("\"move\""), 1 => Just("\"sync\""), 1 => Just("null")];
    let place = || prop_oneof![Just("null".to_owned()), quoted(key())];
    let many = Arcs::new((0..100).map(|n| (n << 57 | 1 << 56, (n % 3) as u16)));
    let (known, unknown) = (Told::short(&many), Told::short(&many.sorted(|sort| sort + 1)));
    let arcs = prop_oneof![
        4 => Just("\"7fffffffffffffff:0 ffffffffffffffff:1\"".to_owned()),
        4 => Just("\"ffffffffffffffff:3\"".to_owned()),
        2 => Just(format!("\"{many}\"")),
        4 => Just(format!("\"{known}\"")),
        1 => Just(format!("\"{unknown}\"")),
        1 => Just("\"@7fffffffffffffff\"".to_owned()),
        1 => Just("\"7fffffffffffffff:1\"".to_owned()),
        1 => Just("null".to_owned()),
    ];
    let dump = (
        place(),
        0..5_u32,
        prop_oneof![9 => Just(true), 1 => Just(false)],
        keyspace(),
        place(),
        arcs,
    );
    let dump = dump.prop_map(|(after, limit, tombstones, keyspace, until, arcs)| {
        (
            "dump",
            format!("{after},{limit},null,null,{tombstones},null,{keyspace},null,{until},{arcs}"),
        )
    });
    let dump = dump.boxed();
    prop_oneof![
        4 => put.prop_map(|(key, value, v, x)| ("put", format!("{key},{value}{v}{x}"))),
        4 => (quoted(key()), more(keyspace().boxed())).prop_map(|(key, k)| ("get", format!("{key}{k}"))),
        2 => (quoted(key()), more(version().boxed())).prop_map(|(key, v)| ("del", format!("{key}{v}"))),
        6 => write.prop_map(|(keyspace, record, owe)| {
            let keyspace = keyspace.map_or(String::new(), |name| format!("\"keyspace\":{name},"));
            ("write", format!("{{{keyspace}\"record\":{record}{}}}", owe.unwrap_or_default()))
        }),
        2 => (proptest::collection::vec(record(), 1..4), keyspace(), via).prop_map(|(records, keyspace, via)| {
            ("apply", format!("[{}],{keyspace},{via}", records.join(",")))
        }).boxed(),
        3 => dump,
        1 => Just(("size", String::new())),
    ]
}

/// A line, mostly one that the hot way takes; of the others one byte is another.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let epoch = prop_oneof![
        8 => Just(String::new()),
        4 => Just("\"epoch\":\"3.0\",".to_owned()),
        1 => Just("\"epoch\":\"2.9\",".to_owned()),
        1 => Just("\"epoch\":\"4.1\",".to_owned()),
        1 => Just("\"epoch\":\"3\",".to_owned()),
    ];
    let id =
        prop_oneof![9 => (0..100_u32).prop_map(|id| id.to_string()), 1 => Just("\"a\"".to_owned())];
    let damage = proptest::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()));
    (epoch, id, params(), damage).prop_map(|(epoch, id, (method, params), damage)| {
        let line = format!(
            r#"{{"jsonrpc":"2.0",{epoch}"id":{id},"method":"{method}","params":[{params}]}}"#
        );
        let mut line = line.into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(line.len());
            line[at] = if byte == b'\n' { b' ' } else { byte };
        }
        line
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => proptest::collection::vec(line(), 1..12).prop_map(Step::Burst),
        1 => (0..4_u64).prop_map(|quarters| Step::Room(quarters * 256 * 1024)),
        1 => Just(Step::Room(1 << 40)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_lines_have_the_same_answers_and_effects(
        steps in proptest::collection::vec(step(), 1..12), few in proptest::option::weighted(0.2, 0..3_u64),
    ) {
        let disk = SimDisk::new(1);
        drop(Engine::open(crate::support::options(&disk)).unwrap());
        let others = [disk.copy(), disk.copy()];
        let memory = few.map(|values| Budget { bytes: u64::MAX, values: Some(values) });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ((together, _), (quick, _), (table, none)) = LocalSet::new().block_on(&runtime, async {
            let together = play::<true>(&disk, true, memory, &steps).await;
            let quick = play::<false>(&others[0], true, memory, &steps).await;
            (together, quick, play::<false>(&others[1], false, memory, &steps).await)
        });
        prop_assert_eq!(&together, &table);
        prop_assert_eq!(&quick, &table);
        prop_assert_eq!(none, 0);
    }
}

#[test]
fn what_our_writers_send_is_taken_over() {
    let spelled = [
        r#"{"jsonrpc":"2.0","id":1,"method":"put","params":["a","1"]}"#,
        r#"{"jsonrpc":"2.0","epoch":"3.0","id":2,"method":"write","params":[{"record":{"key":"a","value":"2","version":"3.7"}}]}"#,
        r#"{"jsonrpc":"2.0","epoch":"3.0","id":3,"method":"write","params":[{"keyspace":"carts","record":{"key":"a","deleted":true,"version":"3.8"},"owe":["n2","n3"]}]}"#,
        r#"{"jsonrpc":"2.0","epoch":"3.0","id":4,"method":"get","params":["a",null]}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"get","params":["a","carts"]}"#,
        r#"{"jsonrpc":"2.0","id":6,"method":"del","params":["a"]}"#,
        r#"{"jsonrpc":"2.0","epoch":"3.0","id":7,"method":"apply","params":[[{"key":"b","value":"1","version":"3.9"},{"key":"c","deleted":true,"version":"3.10"}],"default","move"]}"#,
        r#"{"jsonrpc":"2.0","epoch":"3.0","id":8,"method":"dump","params":["a",9,null,null,true,null,"default",null,null,"ffffffffffffffff:1"]}"#,
    ];
    // One that no single read of a connection brings.
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"put","params":["d","{}"]}}"#,
        "v".repeat(200_000)
    );
    let spelled: Vec<&str> = spelled.into_iter().chain([long.as_str()]).collect();
    let disk = SimDisk::new(1);
    let steps = [Step::Burst(spelled.iter().map(|line| line.as_bytes().to_vec()).collect())];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let played = play::<true>(&disk, true, None, &steps);
    let (outcome, taken) = LocalSet::new().block_on(&runtime, played);
    assert_eq!(taken, spelled.len(), "{outcome:?}");
    assert!(outcome.answers.iter().all(|answer| answer.contains("result")), "{outcome:?}");
}
