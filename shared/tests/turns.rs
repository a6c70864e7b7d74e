//! Many connections of a server whose service is given the lines of all at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod caller;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use caller::{Caller, PATIENCE};
use jsonrpsee::{Methods, RpcModule};
use ringkv_shared::net::{Burst, Mailbox, ServerLimits, Service, listen, serve};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;

/// Lines of `{N`, answered with their number: without a word at once, with `later` when the gate opens, with `long` by a
/// megabyte. All others are for the table, which has `slow`.
#[derive(Clone)]
struct Echo {
    methods: Methods,
    gate: Rc<Gate>,
}

#[derive(Default)]
struct Gate {
    settled: Cell<u64>,
    opened: Notify,
    /// How often somebody has begun to wait for it.
    asked: Cell<usize>,
    /// How many connections were served with each other.
    together: RefCell<Vec<usize>>,
}

impl Gate {
    fn open(&self) {
        self.settled.set(1);
        self.opened.notify_waiters();
    }
}

impl Echo {
    fn new() -> Self {
        let mut module = RpcModule::new(());
        module.register_method("slow", |_, _, _| "slow").unwrap();
        Self { methods: module.into(), gate: Rc::default() }
    }
}

/// Answers one line; says when that may be told. `None`: it is for the table.
fn answer(line: &[u8], out: &mut Vec<u8>) -> Option<u64> {
    let line = std::str::from_utf8(line).unwrap();
    let (number, word) = line.strip_prefix('{')?.split_once(' ')?;
    let number: u32 = number.parse().ok()?;
    let padding = if word == "long" { "x".repeat(1 << 20) } else { String::new() };
    out.extend_from_slice(format!("{number}{padding}\n").as_bytes());
    Some(u64::from(word == "later"))
}

impl Service for Echo {
    fn methods(&self) -> &Methods {
        &self.methods
    }

    fn quick(&self, _: &[&[u8]], _: &mut Vec<u8>, _: &Mailbox) -> usize {
        0
    }

    const SIDE_BY_SIDE: bool = true;

    fn side_by_side(&self, bursts: &mut [Burst<'_>], out: &mut Vec<u8>) {
        self.gate.together.borrow_mut().push(bursts.len());
        for burst in bursts {
            let dues = burst.lines.iter().map_while(|line| answer(line, out));
            (burst.taken, burst.due) = dues.fold((0, 0), |(n, due), its| (n + 1, its.max(due)));
            burst.end = out.len();
        }
    }

    fn settled(&self) -> u64 {
        self.gate.settled.get()
    }

    async fn settle_up_to(&self, due: u64) {
        self.gate.asked.set(self.gate.asked.get() + 1);
        while self.gate.settled.get() < due {
            self.gate.opened.notified().await;
        }
    }

    async fn settle(&self) {}

    fn is_barrier(&self, _: &str) -> bool {
        false
    }
}

struct Server {
    address: std::net::SocketAddr,
    gate: Rc<Gate>,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let echo = Echo::new();
        let (gate, stop) = (Rc::clone(&echo.gate), CancellationToken::new());
        let (listener, address) = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let limits = ServerLimits { drain: PATIENCE, ..ServerLimits::default() };
        let ended = spawn_local(serve(listener, echo, limits, stop.clone()));
        Self { address, gate, stop, ended }
    }

    async fn caller(&self) -> Caller {
        Caller::of(self.address).await
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn each_connection_gets_its_own_answers_when_they_may_be_told() {
    run(async {
        let server = Server::start().await;
        let (mut first, mut second) = (server.caller().await, server.caller().await);
        first.send("{1 later\n{2 now\n").await;
        second.send("{3 now\n").await;
        assert_eq!(second.line().await, "3");
        // What is sent meanwhile is served after that.
        first.send("{4 now\n").await;
        for _ in 0..10 {
            second.send("{5 now\n").await;
            assert_eq!(second.line().await, "5");
        }
        assert_eq!(server.gate.asked.get(), 1);
        server.gate.open();
        assert_eq!([first.line().await, first.line().await, first.line().await], ["1", "2", "4"]);
    });
}

#[test]
fn who_comes_together_is_served_together() {
    run(async {
        let server = Server::start().await;
        let mut callers = Vec::new();
        for _ in 0..16 {
            callers.push(server.caller().await);
        }
        // The server is of this thread: it sees none of these lines before all are there.
        for (n, caller) in callers.iter_mut().enumerate() {
            caller.0.get_ref().try_write(format!("{{{n} now\n").as_bytes()).unwrap();
        }
        for (n, caller) in callers.iter_mut().enumerate() {
            assert_eq!(caller.line().await, n.to_string());
        }
        let together = server.gate.together.borrow();
        assert_eq!(together.iter().sum::<usize>(), 16);
        assert!(together.len() < 16, "{together:?}");
    });
}

#[test]
fn a_line_for_the_table_keeps_its_place() {
    run(async {
        let server = Server::start().await;
        let mut caller = server.caller().await;
        let slow = r#"{"jsonrpc":"2.0","id":2,"method":"slow"}"#;
        let batch = r#"[{"jsonrpc":"2.0","id":3,"method":"slow"}]"#;
        caller.send(&format!("{{1 now\n{slow}\n\n{batch}\n")).await;
        let answers = [caller.line().await, caller.line().await, caller.line().await];
        let slow = r#"{"jsonrpc":"2.0","id":2,"result":"slow"}"#;
        let batch = r#"[{"jsonrpc":"2.0","id":3,"result":"slow"}]"#;
        assert_eq!(answers, ["1", slow, batch]);
        // Half a line is no reason to join, and none not to be served.
        caller.send("{4 n").await;
        caller.send(&format!("ow\n{}\n", r#"{"jsonrpc":"2.0","id":5,"method":"none"}"#)).await;
        assert!(caller.line().await.contains("error"), "only turns know these lines");
    });
}

#[test]
fn what_a_socket_does_not_take_is_sent_later_and_holds_up_nobody() {
    run(async {
        let server = Server::start().await;
        let (mut slow, mut other) = (server.caller().await, server.caller().await);
        let lines: Vec<String> = (0..40).map(|n| format!("{{{n} long\n")).collect();
        slow.send(&lines.concat()).await;
        other.send("{7 now\n").await;
        assert_eq!(other.line().await, "7");
        for n in 0..40 {
            let line = slow.line().await;
            assert_eq!(line.trim_end_matches('x'), n.to_string());
            assert_eq!(line.len(), n.to_string().len() + (1 << 20));
        }
    });
}

#[test]
fn who_leaves_gets_what_is_due_and_a_server_that_stops_waits_for_it() {
    run(async {
        let server = Server::start().await;
        let (mut left, mut stays) = (server.caller().await, server.caller().await);
        left.send("{1 later\n").await;
        left.0.get_mut().shutdown().await.unwrap();
        stays.send("{2 later\n").await;
        // The answer to this shows that the lines before it were read.
        let mut third = server.caller().await;
        third.send("{3 now\n").await;
        assert_eq!(third.line().await, "3");
        server.stop.cancel();
        tokio::task::yield_now().await;
        assert!(!server.ended.is_finished());
        server.gate.open();
        for (mut caller, expected) in [(left, "1\n"), (stays, "2\n"), (third, "")] {
            assert_eq!(caller.rest().await, expected);
        }
        tokio::time::timeout(PATIENCE, server.ended).await.unwrap().unwrap();
    });
}
