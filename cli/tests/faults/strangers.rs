//! Whatever arrives at the port, from a half line to a port scan: a typed error or a closed
//! connection, and the server goes on unharmed.

use std::net::TcpStream;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::Caller;

/// Connections that a port scanner makes and drops.
const SCANNED: usize = 200;
/// Connections that ask nothing.
const IDLE: usize = 100;

/// Both kinds of server, each with a story about its address.
fn both(story: impl Fn(&str)) {
    let cluster = Cluster::of(1, 1);
    for addr in [cluster.addr(), cluster.addr_of("n1")] {
        story(addr);
        still_serves(addr);
    }
}

fn still_serves(addr: &str) {
    let mut caller = Caller::to(addr);
    caller.call("put", json!(["ünharmed", "yes\n"]));
    assert_eq!(caller.call("get", json!(["ünharmed"]))["value"], "yes\n");
}

fn call(method: &str, params: &Value) -> Vec<u8> {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    format!("{call}\n").into_bytes()
}

#[test]
fn nonsense_has_a_typed_error_and_the_connection_lives() {
    let deep = [b"[".repeat(50_000), b"]".repeat(50_000), b"\n".to_vec()].concat();
    let deep_value = json!((0..40).fold(json!(1), |inner, _| json!([inner])));
    let table: [(&str, Vec<u8>, &str); 15] = [
        ("random bytes", b"\x00\xff\x80\x01\n".to_vec(), "BAD_ARGUMENT"),
        ("words", b"put apple 123\n".to_vec(), "BAD_ARGUMENT"),
        ("half an object", b"{\"jsonrpc\":\"2.0\",\n".to_vec(), "BAD_ARGUMENT"),
        ("no request", b"{}\n".to_vec(), "BAD_ARGUMENT"),
        ("deep", deep, "BAD_ARGUMENT"),
        ("deep parameters", call("get", &json!([deep_value])), "BAD_ARGUMENT"),
        ("unknown method", call("gett", &json!(["a"])), "BAD_ARGUMENT"),
        ("too few parameters", call("put", &json!(["a"])), "BAD_ARGUMENT"),
        ("wrong parameters", call("get", &json!([{"key": 1}])), "BAD_ARGUMENT"),
        ("no parameters", call("get", &json!({})), "BAD_ARGUMENT"),
        ("bad base64", call("get", &json!([{"base64": "?"}])), "BAD_ARGUMENT"),
        ("large key", call("put", &json!(["k".repeat(1025), "v"])), "TOO_LARGE"),
        ("large value", call("put", &json!(["k", "v".repeat(1024 * 1024 + 1)])), "TOO_LARGE"),
        ("large line", [b" ".repeat(6 * 1024 * 1024), b"\n".to_vec()].concat(), "TOO_LARGE"),
        (
            "large batch",
            [b"[1".to_vec(), b",1".repeat(2000), b"]\n".to_vec()].concat(),
            "TOO_LARGE",
        ),
    ];
    both(|addr| {
        let mut caller = Caller::to(addr);
        for (what, bytes, name) in &table {
            caller.send_raw(bytes).expect("it reads");
            let answer = caller.answer().unwrap_or_else(|| panic!("{what}: no answer"));
            let data = &answer["error"]["data"];
            assert_eq!(data["name"], *name, "{what}: {answer}");
            let message = answer["error"]["message"].as_str().expect("a message");
            assert!(message.len() < 300, "{what}: {message}");
        }
        let hint = |error: Value| error["data"]["hint"].as_str().expect("a hint").to_owned();
        assert_eq!(hint(caller.error("gett", json!(["a"]))), "did you mean: get");
        assert!(hint(caller.error("put", json!(["a"]))).starts_with("put takes [key, value"));
        assert!(hint(caller.error("frobnicate", json!([]))).contains("put"), "the methods");
    });
}

#[test]
fn other_protocols_and_half_lines_are_closed_without_an_answer() {
    let body = String::from_utf8(call("put", &json!(["stolen", "1"]))).expect("text");
    let table = [
        ("a browser", format!("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n{body}")),
        ("a form", format!("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{body}")),
        ("another verb", format!("OPTIONS * HTTP/1.1\r\n\r\n{body}")),
        ("half a line", body.trim_end().to_owned()),
        ("half a word", "{\"jsonrpc\":\"2.".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".to_owned()),
        ("nothing", String::new()),
    ];
    both(|addr| {
        for (what, bytes) in &table {
            let mut caller = Caller::to(addr);
            let _may_be_closed_already = caller.send_raw(bytes.as_bytes());
            assert_eq!(caller.rest(), "", "{what}");
        }
        let got = Caller::to(addr).call("get", json!(["stolen"]));
        assert_eq!(got["status"], "not_found", "what came with it was not run");
    });
}

#[test]
fn a_port_scan_and_idle_connections_take_nothing_away() {
    both(|addr| {
        for _ in 0..SCANNED {
            drop(TcpStream::connect(addr).expect("it listens"));
        }
        let idle: Vec<Caller> = (0..IDLE).map(|_| Caller::to(addr)).collect();
        let mut slow = Caller::to(addr);
        slow.send_raw(b"{\"jsonrpc\":").expect("it reads");
        still_serves(addr);
        slow.send_raw(b"\"2.0\",\"id\":1,\"method\":\"get\",\"params\":[\"x\"]}\n")
            .expect("it reads");
        assert!(slow.answer().is_some(), "a slow line is a line");
        drop(idle);
    });
}
