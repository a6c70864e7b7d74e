//! One line to its answer: jsonrpsee's types and method table, our rules.
//!
//! jsonrpsee keeps its own dispatch private, so this is the same over its public parts, with two
//! differences: notifications *run* (its HTTP and WebSocket servers drop them), and the caller
//! learns, before anything starts, whether a call must run alone.

use std::borrow::Cow;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use jsonrpsee::types::error::{ErrorCode, reject_too_big_batch_request, reject_too_big_request};
use jsonrpsee::types::{ErrorObject, Id, InvalidRequest, Notification, Params, Request};
use jsonrpsee::{
    BatchResponseBuilder, ConnectionId, Extensions, MethodCallback, MethodResponse, Methods,
};
use serde_json::value::RawValue;

use super::server::ServerLimits;
use super::wire::too_deep;

/// A call that has been started.
pub(super) enum Started {
    /// Answered at once (`None`: a notification, which has no answer).
    Answered(Option<MethodResponse>),
    /// Waiting for something: another process, a disk.
    Waiting(BoxFuture<'static, Option<MethodResponse>>),
}

/// What one line holds.
pub(super) enum Message<'a> {
    /// One call or notification.
    Single(Entry<'a>),
    /// A batch of them, some of which may be malformed.
    Batch(Vec<Entry<'a>>),
}

/// One entry of a message.
pub(super) enum Entry<'a> {
    /// To be answered.
    Call(Request<'a>),
    /// To be run without an answer.
    Notification(Notification<'a, Option<Cow<'a, RawValue>>>),
    /// Not a JSON-RPC request: answered with this.
    Malformed(Id<'a>, ErrorObject<'static>),
}

impl Message<'_> {
    /// Whether any of its methods satisfies `test`.
    pub(super) fn any_method(&self, test: impl Fn(&str) -> bool) -> bool {
        let entry = |entry: &Entry<'_>| match entry {
            Entry::Call(request) => test(&request.method),
            Entry::Notification(notification) => test(&notification.method),
            Entry::Malformed(..) => false,
        };
        match self {
            Self::Single(single) => entry(single),
            Self::Batch(entries) => entries.iter().any(entry),
        }
    }
}

/// Reads a line. What is wrong with it becomes a malformed entry, never an error.
pub(super) fn parse<'a>(line: &'a [u8], limits: &ServerLimits) -> Message<'a> {
    let malformed = |error| Message::Single(Entry::Malformed(Id::Null, error));
    if too_deep(line, limits.json_depth_max) {
        let why = format!("nested deeper than {}", limits.json_depth_max);
        return malformed(ErrorObject::owned(
            ErrorCode::InvalidRequest.code(),
            "Invalid request",
            Some(why),
        ));
    }
    if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return Message::Single(parse_entry(line));
    }
    match serde_json::from_slice::<Vec<&RawValue>>(line) {
        Err(_) => malformed(ErrorCode::ParseError.into()),
        Ok(entries) if entries.is_empty() => malformed(ErrorCode::InvalidRequest.into()),
        Ok(entries) if entries.len() > limits.batch_entries_max => {
            malformed(reject_too_big_batch_request(limits.batch_entries_max))
        }
        Ok(entries) => {
            Message::Batch(entries.iter().map(|raw| parse_entry(raw.get().as_bytes())).collect())
        }
    }
}

fn parse_entry(raw: &[u8]) -> Entry<'_> {
    if let Ok(request) = serde_json::from_slice::<Request<'_>>(raw) {
        return Entry::Call(request);
    }
    if let Ok(notification) = serde_json::from_slice(raw) {
        return Entry::Notification(notification);
    }
    match serde_json::from_slice::<InvalidRequest<'_>>(raw) {
        Ok(bad) => Entry::Malformed(bad.id, ErrorCode::InvalidRequest.into()),
        Err(_) if serde_json::from_slice::<&RawValue>(raw).is_ok() => {
            Entry::Malformed(Id::Null, ErrorCode::InvalidRequest.into())
        }
        Err(_) => Entry::Malformed(Id::Null, ErrorCode::ParseError.into()),
    }
}

/// The answer to a line that was too long to read.
pub(super) fn too_long(limits: &ServerLimits) -> MethodResponse {
    let bytes_max = u32::try_from(limits.line_bytes_max).unwrap_or(u32::MAX);
    MethodResponse::error(Id::Null, reject_too_big_request(bytes_max))
}

/// Starts what a line asks for, in its order.
pub(super) fn start(message: Message<'_>, methods: &Methods, answer_bytes_max: usize) -> Started {
    match message {
        Message::Single(entry) => start_entry(entry, methods, answer_bytes_max),
        Message::Batch(entries) => start_batch(entries, methods, answer_bytes_max),
    }
}

fn start_batch(entries: Vec<Entry<'_>>, methods: &Methods, answer_bytes_max: usize) -> Started {
    let started: Vec<Started> =
        entries.into_iter().map(|entry| start_entry(entry, methods, answer_bytes_max)).collect();
    let answers = join_all(started.into_iter().map(|one| async {
        match one {
            Started::Answered(answer) => answer,
            Started::Waiting(answer) => answer.await,
        }
    }));
    let joined = async move {
        let mut batch = BatchResponseBuilder::new_with_limit(answer_bytes_max);
        for answer in answers.await.into_iter().flatten() {
            if let Err(too_big) = batch.append(answer) {
                return Some(too_big);
            }
        }
        (!batch.is_empty()).then(|| MethodResponse::from_batch(batch.finish()))
    };
    poll_first(joined.boxed())
}

fn start_entry(entry: Entry<'_>, methods: &Methods, answer_bytes_max: usize) -> Started {
    match entry {
        Entry::Call(request) => start_call(request, methods, answer_bytes_max),
        Entry::Malformed(id, error) => Started::Answered(Some(MethodResponse::error(id, error))),
        Entry::Notification(notification) => {
            let Notification { method, params, .. } = notification;
            match start_call(
                Request::borrowed(&method, params.as_deref(), Id::Null),
                methods,
                answer_bytes_max,
            ) {
                Started::Answered(_) => Started::Answered(None),
                Started::Waiting(answer) => Started::Waiting(answer.map(|_| None).boxed()),
            }
        }
    }
}

fn start_call(request: Request<'_>, methods: &Methods, answer_bytes_max: usize) -> Started {
    let Request { id, method, params, .. } = request;
    let params = Params::new(params.as_ref().map(|raw| RawValue::get(raw)));
    let extensions = Extensions::new();
    match methods.method(&method) {
        Some(MethodCallback::Sync(call)) => {
            Started::Answered(Some(call(id, params, answer_bytes_max, extensions)))
        }
        Some(MethodCallback::Async(call)) => {
            let (id, params) = (id.into_owned(), params.into_owned());
            let answer = call(id, params, ConnectionId(0), answer_bytes_max, extensions);
            poll_first(answer.map(Some).boxed())
        }
        _ => Started::Answered(Some(MethodResponse::error(id, unknown(&method, methods)))),
    }
}

fn unknown(method: &str, methods: &Methods) -> ErrorObject<'static> {
    let mut known: Vec<_> = methods.method_names().collect();
    known.sort_unstable();
    let data = serde_json::json!({
        "name": crate::ErrorName::BadArgument,
        "hint": format!("methods here: {}", known.join(" ")),
    });
    let message = format!("no method {:?}", method.chars().take(64).collect::<String>());
    ErrorObject::owned(ErrorCode::MethodNotFound.code(), message, Some(data))
}

/// Polls once, now: calls begin in the order in which they arrived.
fn poll_first(mut answer: BoxFuture<'static, Option<MethodResponse>>) -> Started {
    match (&mut answer).now_or_never() {
        Some(answer) => Started::Answered(answer),
        None => Started::Waiting(answer),
    }
}
