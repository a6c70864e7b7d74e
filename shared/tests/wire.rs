//! The transport as a stranger, a browser and a pipelining client meet it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod caller;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use caller::Caller;
use jsonrpsee::{Methods, RpcModule};
use ringkv_shared::net::{ServerLimits, Service, serve};
use ringkv_shared::protocol::claim::Reign;
use ringkv_shared::{ErrorName, Failure};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

/// A register with a call that waits, and one that must run alone. It admits no epochs before 3.12, but for `all`.
#[derive(Clone)]
struct Register(Methods);

impl Service for Register {
    fn methods(&self) -> &Methods {
        &self.0
    }

    async fn settle(&self) {}

    fn takes(&self, method: &str) -> Option<&'static str> {
        (method == "typed").then_some("number, unit?")
    }

    fn admit(&self, method: &str, reign: Option<Reign>) -> Result<(), Failure> {
        let known = Reign { coordinator: 3, ring: 12 };
        if method == "all" || reign.is_none_or(|reign| reign >= known) {
            return Ok(());
        }
        Err(Failure::new(ErrorName::StaleEpoch, "an older epoch").hint("a newer one"))
    }

    fn is_barrier(&self, method: &str) -> bool {
        method == "alone"
    }
}

#[derive(Default)]
struct Shared {
    values: Mutex<Vec<u64>>,
    gate: Notify,
}

fn register() -> Register {
    let mut module = RpcModule::new(Arc::new(Shared::default()));
    module
        .register_method("push", |params, shared, _| {
            let value: u64 = params.one().unwrap_or(0);
            shared.values.lock().unwrap().push(value);
            value
        })
        .unwrap();
    let typed = |params: jsonrpsee::types::Params<'_>, _: &_, _: &_| params.one::<u64>();
    module.register_method("typed", typed).unwrap();
    let repeat =
        |params: jsonrpsee::types::Params<'_>, _: &_, _: &_| "x".repeat(params.one().unwrap_or(0));
    module.register_method("repeat", repeat).unwrap();
    module.register_method("all", |_, shared, _| shared.values.lock().unwrap().clone()).unwrap();
    module
        .register_async_method("wait", |_, shared, _| async move {
            shared.gate.notified().await;
            "waited"
        })
        .unwrap();
    module
        .register_method("open", |_, shared, _| {
            shared.gate.notify_one();
            "opened"
        })
        .unwrap();
    module
        .register_async_method("alone", |_, shared, _| async move {
            tokio::task::yield_now().await;
            shared.values.lock().unwrap().push(99);
            "done"
        })
        .unwrap();
    Register(module.into())
}

/// Runs a story against a server with small limits.
fn with_server(story: impl AsyncFnOnce(std::net::SocketAddr)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let limits = ServerLimits {
            connections_max: 3,
            line_bytes_max: 1000,
            answer_bytes_max: 8000,
            batch_entries_max: 4,
            idle: Duration::from_millis(300),
            line: Duration::from_millis(300),
            ..ServerLimits::default()
        };
        let shutdown = CancellationToken::new();
        let server =
            tokio::task::spawn_local(serve(listener, register(), limits, shutdown.clone()));
        story(addr).await;
        shutdown.cancel();
        server.await.unwrap();
    });
}

async fn call(addr: std::net::SocketAddr) -> Caller {
    Caller::of(addr).await
}

fn request(id: u64, method: &str, params: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n")
}

#[test]
fn a_pipeline_runs_in_its_order() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        let pipeline: String = (0..200).map(|i| request(i, "push", &format!("[{i}]"))).collect();
        caller.send(&pipeline).await;
        let answers = caller.lines(200).await;
        assert_eq!(answers[199], r#"{"jsonrpc":"2.0","id":199,"result":199}"#);
        caller.send(&request(0, "all", "[]")).await;
        let expected: Vec<u64> = (0..200).collect();
        assert!(caller.line().await.contains(&serde_json::to_string(&expected).unwrap()));
    });
}

#[test]
fn a_slow_call_holds_nothing_up_but_a_barrier_waits_for_it() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        let calls = [("wait", 1), ("push", 2), ("alone", 3), ("push", 4)];
        let pipeline: String =
            calls.iter().map(|(method, id)| request(*id, method, &format!("[{id}]"))).collect();
        caller.send(&pipeline).await;
        assert!(caller.line().await.contains("\"id\":2"), "the fast call is answered first");
        call(addr).await.send(&request(0, "open", "[]")).await;
        let rest = caller.lines(3).await.concat();
        assert!(rest.contains("waited") && rest.contains("done"), "{rest}");
        caller.send(&request(5, "all", "[]")).await;
        assert!(
            caller.line().await.contains("[2,99,4]"),
            "what came after the barrier ran after it"
        );
    });
}

#[test]
fn batches_and_notifications() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        let one = request(1, "push", "[7]");
        let note = "{\"jsonrpc\":\"2.0\",\"method\":\"push\",\"params\":[8]}";
        caller.send(&format!("[{},{note},1]\n{note}\n", one.trim_end())).await;
        let answer = caller.line().await;
        let head = r#"[{"jsonrpc":"2.0","id":1,"result":7},{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"#;
        assert!(answer.starts_with(head), "{answer}");
        caller.send(&request(2, "all", "[]")).await;
        assert!(caller.line().await.contains("[7,8,8]"), "notifications run");
    });
}

/// The request with an epoch, which is JSON.
fn under(epoch: &str, request: &str) -> String {
    request.replace("\"method\"", &format!("\"epoch\":{epoch},\"method\""))
}

#[test]
fn what_comes_under_an_older_epoch_is_not_started() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        for (id, epoch, done) in [
            (1, "\"3.12\"", true),
            (2, "\"3.13\"", true),
            (3, "\"4.0\"", true),
            (4, "null", true),
            (5, "\"3.11\"", false),
            (6, "\"2.99\"", false),
        ] {
            caller.send(&under(epoch, &request(id, "push", &format!("[{id}]")))).await;
            let answer: serde_json::Value = serde_json::from_str(&caller.line().await).unwrap();
            assert_eq!((&answer["id"], answer.get("result").is_some()), (&id.into(), done));
            if !done {
                assert_eq!(answer["error"]["data"]["name"], "STALE_EPOCH");
            }
        }
        let slow = under("\"1.1\"", &request(7, "wait", "[]"));
        caller.send(&slow).await;
        assert!(caller.line().await.contains("STALE_EPOCH"), "not even those that wait");
        let unknown = under("\"1.1\"", &request(8, "xyzzy", "[]"));
        caller.send(&unknown).await;
        assert!(caller.line().await.contains("no method"));
        caller.send(&under("\"1.1\"", &request(9, "all", "[]"))).await;
        assert!(caller.line().await.contains("[1,2,3,4]"));
    });
}

#[test]
fn each_entry_of_a_batch_and_each_notification_has_its_own_epoch() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        let note = |epoch: &str, value: u64| {
            let note = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"push\",\"params\":[{value}]}}");
            under(epoch, &note)
        };
        let entry =
            |epoch: &str, id| under(epoch, request(id, "push", &format!("[{id}]")).trim_end());
        caller
            .send(&format!(
                "{}\n{}\n[{},{},{},{}]\n",
                note("\"3.11\"", 20),
                note("\"3.12\"", 21),
                entry("\"3.12\"", 1),
                entry("\"3.11\"", 2),
                note("\"1.1\"", 22),
                entry("\"3.14\"", 3),
            ))
            .await;
        let answers: serde_json::Value = serde_json::from_str(&caller.line().await).unwrap();
        let of = |n: usize| (answers[n]["id"].as_u64(), answers[n].get("error").is_some());
        assert_eq!([of(0), of(1), of(2)], [(Some(1), false), (Some(2), true), (Some(3), false)]);
        caller.send(&request(9, "all", "[]")).await;
        assert!(caller.line().await.contains("[21,1,3]"));
    });
}

#[test]
fn an_epoch_that_is_none_is_told_and_nothing_is_done() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        let long = format!("\"{}\"", "9".repeat(500));
        for epoch in
            ["\"\"", "\"3\"", "\"03.1\"", "3.12", "[3,12]", "\"3.12 \"", "\"\\u0033.12\"", &long]
        {
            caller.send(&under(epoch, &request(7, "push", "[1]"))).await;
            let answer = caller.line().await;
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            let error = &answer["error"];
            assert_eq!(
                (&answer["id"], &error["data"]["name"]),
                (&7.into(), &"BAD_ARGUMENT".into())
            );
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("is no epoch") && message.len() < 200, "{message}");
            assert!(error["data"]["hint"].as_str().unwrap().contains("3.12"));
        }
        caller.send(&request(9, "all", "[]")).await;
        assert!(caller.line().await.contains("[]"));
    });
}

#[test]
fn an_id_may_be_null() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        caller.send(&request(7, "push", "[5]").replace("\"id\":7", "\"id\":null")).await;
        assert_eq!(caller.line().await, r#"{"jsonrpc":"2.0","id":null,"result":5}"#);
    });
}

/// What is sent, code and name of the answer, and its hint; the connection lives on.
#[test]
fn nonsense_is_answered_and_the_connection_lives() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        let deep = format!("{}{}\n", "[".repeat(40), "]".repeat(40));
        let long = format!("{}\n", "x".repeat(2000));
        let call = |method: &str, params: &str| request(7, method, params);
        let two = format!("[{0},{0}]\n", call("repeat", "[5000]").trim_end());
        let table = [
            ("{\n", -32700, "BAD_ARGUMENT", "one request a line"),
            ("nonsense\n", -32700, "BAD_ARGUMENT", "one request a line"),
            ("\u{fe}\n", -32700, "BAD_ARGUMENT", "one request a line"),
            ("1\n", -32600, "BAD_ARGUMENT", "one request a line"),
            ("{}\n", -32600, "BAD_ARGUMENT", "one request a line"),
            ("[]\n", -32600, "BAD_ARGUMENT", "one request a line"),
            (&deep, -32600, "BAD_ARGUMENT", "one request a line"),
            (&call("xyzzy", "[]"), -32601, "BAD_ARGUMENT", "methods here: all alone"),
            (&call("pusch", "[]"), -32601, "BAD_ARGUMENT", "did you mean: push"),
            (&call("typed", "[\"x\"]"), -32602, "BAD_ARGUMENT", "typed takes [number, unit?]"),
            (&call("typed", "{}"), -32602, "BAD_ARGUMENT", "typed takes [number, unit?]"),
            (&long, -32007, "TOO_LARGE", "send smaller requests"),
            ("[1,1,1,1,1]\n", -32010, "TOO_LARGE", "send smaller batches"),
            (&call("repeat", "[9000]"), -32008, "TOO_LARGE", "ask for less at a time"),
            (&two, -32011, "TOO_LARGE", "ask for less at a time"),
        ];
        for (line, code, name, hint) in table {
            caller.send(line).await;
            let answer = caller.line().await;
            let error = &serde_json::from_str::<serde_json::Value>(&answer).unwrap()["error"];
            assert_eq!(error["code"], code, "{line} -> {answer}");
            assert_eq!(error["data"]["name"], name, "{line} -> {answer}");
            let told = error["data"]["hint"].as_str().unwrap();
            assert!(told.starts_with(hint), "{line} -> {answer}");
        }
        caller.send(&format!("\r\n  \n{}", request(9, "push", "[1]"))).await;
        assert!(caller.line().await.contains("\"result\":1"));
    });
}

#[test]
fn a_browser_is_shown_the_door() {
    with_server(async |addr| {
        let mut caller = call(addr).await;
        let body = request(1, "push", "[666]");
        caller.send(&format!("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n{body}")).await;
        assert_eq!(caller.rest().await, "", "closed without an answer");
        let mut caller = call(addr).await;
        caller.send(&request(1, "all", "[]")).await;
        assert!(caller.line().await.contains("[]"), "its body was not run");
    });
}

#[test]
fn idle_slow_and_too_many_are_closed() {
    with_server(async |addr| {
        let mut idle = call(addr).await;
        let mut slow = call(addr).await;
        slow.send("{\"jsonrpc\"").await;
        let mut third = call(addr).await;
        third.send(&request(1, "push", "[1]")).await;
        assert!(third.line().await.contains("\"result\":1"));
        let mut fourth = call(addr).await;
        assert!(fourth.rest().await.contains("-32009"), "told that the server is busy");
        assert_eq!(idle.rest().await, "");
        assert_eq!(slow.rest().await, "");
    });
}
