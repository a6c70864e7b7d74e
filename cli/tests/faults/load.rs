//! Requests that never stop, and a book of what was acknowledged.
//!
//! Two kinds of keys: `k0` … that are read only, and `w0` … that are put, deleted and read. No value is
//! written twice, and a key has one write under way at a time, so the book knows what each may be: what was
//! acknowledged last, or what was sent after that with an unknown outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

/// Keys that are read only.
pub(crate) const FIXED: usize = 800;
/// Keys that are written.
const WRITTEN: usize = 200;
/// Requests in flight at a time.
const WINDOW: usize = 24;

/// What was sent and what was answered.
pub(crate) struct Book {
    /// What each written key may be, `None` for deleted: the last that was acknowledged, then what is unknown.
    may_be: Vec<Vec<Option<String>>>,
    /// Whether a read meets the last acknowledged write, by R+W>N.
    pub(crate) strict: bool,
    /// Answers that must not be.
    wrong: Vec<String>,
    /// How often each answer came: `put ok`, `get UNREACHABLE`, …
    pub(crate) answers: BTreeMap<String, u64>,
    /// How often the coordinator was gone.
    pub(crate) broken: u64,
    turn: u64,
}

/// One request of a window.
struct Request {
    method: &'static str,
    key: String,
    /// Which of the written keys; `None`: one that is read only.
    slot: Option<usize>,
    value: Option<String>,
}

impl Book {
    /// Writes all keys for the first time, twice: what came first is old.
    pub(crate) fn open(cluster: &Cluster) -> Self {
        for value in ["old", "v"] {
            let pairs: Vec<Value> =
                (0..FIXED).map(|i| json!([format!("k{i}"), format!("{value}{i}")])).collect();
            cluster.caller().calls("put", &pairs);
        }
        let (may_be, answers) = (vec![vec![None]; WRITTEN], BTreeMap::new());
        Self { may_be, strict: true, wrong: Vec::new(), answers, broken: 0, turn: 0 }
    }

    /// The next request. Each turn is another mix, the same in each run.
    fn request(&mut self) -> Request {
        self.turn += 1;
        let turn = self.turn;
        // In no order that keys have on the ring, or in which they are copied.
        let dice = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let slot = usize::try_from(turn % WRITTEN as u64).expect("small");
        let fixed = usize::try_from(dice).expect("32 bits") % FIXED;
        let key = format!("w{slot}");
        let value = |value| Request { method: "put", key: key.clone(), slot: Some(slot), value };
        match dice % 10 {
            0..4 => value(Some(format!("{key} {turn}"))),
            4 => Request { method: "del", ..value(None) },
            5 | 6 => Request { method: "get", ..value(None) },
            _ => Request { method: "get", key: format!("k{fixed}"), slot: None, value: None },
        }
    }

    /// Sends a window of requests and takes their answers. False when the coordinator is gone.
    fn window(&mut self, caller: &mut Caller) -> bool {
        let mut open = BTreeMap::new();
        for id in 0..WINDOW as u64 {
            let request = self.request();
            let params = match &request.value {
                Some(value) => json!([request.key, value]),
                None => json!([request.key]),
            };
            let sent = caller.send(id, request.method, &params);
            open.insert(id, request);
            if sent.is_err() {
                break;
            }
        }
        while !open.is_empty() {
            let Some(answer) = caller.answer() else { break };
            let id = answer["id"].as_u64().expect("our id");
            let request = open.remove(&id).expect("one answer each");
            self.note(&request, &answer);
        }
        let gone = !open.is_empty();
        self.broken += u64::from(gone);
        open.values().for_each(|request| self.unknown(request));
        !gone
    }

    fn unknown(&mut self, request: &Request) {
        if let (Some(slot), true) = (request.slot, request.method != "get") {
            self.may_be[slot].push(request.value.clone());
        }
    }

    fn note(&mut self, request: &Request, answer: &Value) {
        let Request { method, key, slot, value } = request;
        let name = answer["error"]["data"]["name"].as_str();
        let status = answer["result"]["status"].as_str();
        let told = name.or(status).unwrap_or_else(|| panic!("neither: {answer}"));
        *self.answers.entry(format!("{method} {told}")).or_default() += 1;
        match (*method, name, slot) {
            // Certainly not done.
            (_, Some("NOT_APPLIED" | "UNREACHABLE"), _) | ("get", Some(_), _) => {}
            ("get", None, slot) => {
                let got = answer["result"]["value"].as_str().map(str::to_owned);
                let fits = match slot {
                    Some(slot) => !self.strict || self.may_be[*slot].contains(&got),
                    None => got == Some(key.replace('k', "v")),
                };
                if !fits || answer["result"]["siblings"].is_array() {
                    let expected = slot.map(|slot| &self.may_be[slot]);
                    self.wrong.push(format!("{key}: {answer}, not {expected:?}"));
                }
            }
            (_, Some(_), _) => self.unknown(request),
            (_, None, slot) => self.may_be[slot.expect("a written key")] = vec![value.clone()],
        }
    }

    /// Answers that were wrong so far, and keys that do not read as the book says.
    pub(crate) fn faults(&mut self, cluster: &Cluster) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.wrong);
        let keys: Vec<String> = self.keys().collect();
        let asked: Vec<Value> = keys.iter().map(|key| json!([key])).collect();
        for (key, got) in keys.iter().zip(cluster.caller().calls("get", &asked)) {
            let value = got["value"].as_str().map(str::to_owned);
            if !self.of(key).contains(&value) || got["siblings"].is_array() {
                wrong.push(format!("at the end: {got}, not {:?}", self.of(key)));
            }
        }
        wrong
    }

    /// What is unknown is known, once all owners have the same: it is what they have.
    pub(crate) fn settle(&mut self, cluster: &Cluster) {
        let asked: Vec<Value> = (0..WRITTEN).map(|i| json!([format!("w{i}")])).collect();
        let now = cluster.caller().calls("get", &asked).into_iter();
        self.may_be = now.map(|got| vec![got["value"].as_str().map(str::to_owned)]).collect();
    }

    /// Every key that is to be there, or not.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> + use<> {
        let written = self.may_be.len();
        (0..FIXED).map(|i| format!("k{i}")).chain((0..written).map(|i| format!("w{i}")))
    }

    /// What a key may be.
    pub(crate) fn of(&self, key: &str) -> Vec<Option<String>> {
        let (kind, number) = key.split_at(1);
        match kind {
            "k" => vec![Some(format!("v{number}"))],
            _ => self.may_be[number.parse::<usize>().expect("a number")].clone(),
        }
    }
}

/// The requests, until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Book>,
}

impl Load {
    /// Starts where the coordinator is, and goes on where it is after each start.
    pub(crate) fn start(addr: &str, mut book: Book) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, addr) = (Arc::clone(&stop), addr.to_owned());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let mut caller = wait_for("the coordinator is back", || Caller::try_to(&addr));
                while !told.load(Ordering::Relaxed) && book.window(&mut caller) {}
            }
            book
        });
        Self { stop, thread }
    }

    /// Stops, and gives the book.
    pub(crate) fn stop(self) -> Book {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}
