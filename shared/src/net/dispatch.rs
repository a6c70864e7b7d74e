//! One line to its answer: jsonrpsee's types and method table, our rules.
//!
//! jsonrpsee keeps its own dispatch private, so this is the same over its public parts, with four
//! differences: notifications *run* (its HTTP and WebSocket servers drop them); a request may have an
//! `epoch`, by which the service admits it before it starts; the caller learns, before anything starts, whether a
//! call must run alone; and JSON-RPC's own errors have a name and a hint as all of ours do.

use std::borrow::Cow;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use jsonrpsee::types::error::{
    INVALID_PARAMS_CODE, INVALID_REQUEST_CODE, METHOD_NOT_FOUND_CODE, OVERSIZED_REQUEST_CODE,
    OVERSIZED_RESPONSE_CODE, PARSE_ERROR_CODE, SERVER_IS_BUSY_CODE, TOO_BIG_BATCH_REQUEST_CODE,
    TOO_BIG_BATCH_RESPONSE_CODE,
};
use jsonrpsee::types::params::TwoPointZero;
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned, Id, InvalidRequest, Params};
use jsonrpsee::{
    BatchResponseBuilder, ConnectionId, Extensions, MethodCallback, MethodResponse, Methods,
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::errors::{failure_into_object, protocol_error};
use super::server::ServerLimits;
use super::wire::too_deep;
use crate::protocol::claim::Reign;
use crate::{Failure, nearest};

/// What a request looks like, for whoever sent something else.
const REQUEST_HINT: &str =
    r#"one request a line: {"jsonrpc":"2.0","id":1,"method":"get","params":["apple"]}"#;
/// What to do about an answer over the limit.
const LESS_HINT: &str = "ask for less at a time";
/// What to do about an epoch that is none.
const EPOCH_HINT: &str = r#"as in "epoch":"3.12", or none at all: only coordinators have one"#;
/// How much of a wrong method name or epoch an error repeats.
const NAME_CHARS_MAX: usize = 64;

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
    /// To be run.
    Request(Request<'a>),
    /// Not a JSON-RPC request: answered with this.
    Malformed(Id<'a>, ErrorObject<'static>),
}

/// A call or notification.
pub(super) struct Request<'a> {
    /// What the answer is to have; `None`: a notification, which gets none.
    id: Option<Id<'a>>,
    method: Cow<'a, str>,
    params: Option<&'a RawValue>,
    /// Under which epochs it was made, by a coordinator.
    reign: Option<Reign>,
}

/// A call or notification as it is written, where its line is.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(rename = "jsonrpc")]
    _version: TwoPointZero,
    #[serde(borrow, default, deserialize_with = "given")]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    epoch: Option<&'a RawValue>,
}

/// An id that is there; it may be null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Id<'de>>, D::Error> {
    Id::deserialize(deserializer).map(Some)
}

impl Message<'_> {
    /// Whether any of its methods satisfies `test`.
    pub(super) fn any_method(&self, test: impl Fn(&str) -> bool) -> bool {
        let entry = |entry: &Entry<'_>| match entry {
            Entry::Request(request) => test(&request.method),
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
        return malformed(protocol_error(INVALID_REQUEST_CODE, why, REQUEST_HINT));
    }
    if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return Message::Single(parse_entry(line));
    }
    match serde_json::from_slice::<Vec<&RawValue>>(line) {
        Err(_) => malformed(no_json()),
        Ok(entries) if entries.is_empty() => malformed(no_request("an empty batch")),
        Ok(entries) if entries.len() > limits.batch_entries_max => {
            let (has, max) = (entries.len(), limits.batch_entries_max);
            let why = format!("a batch of {has} requests; at most {max} are taken");
            malformed(protocol_error(TOO_BIG_BATCH_REQUEST_CODE, why, "send smaller batches"))
        }
        Ok(entries) => {
            Message::Batch(entries.iter().map(|raw| parse_entry(raw.get().as_bytes())).collect())
        }
    }
}

fn no_json() -> ErrorObjectOwned {
    protocol_error(PARSE_ERROR_CODE, "not JSON", REQUEST_HINT)
}

fn no_request(what: &str) -> ErrorObjectOwned {
    protocol_error(INVALID_REQUEST_CODE, format!("{what} is no request"), REQUEST_HINT)
}

fn parse_entry(raw: &[u8]) -> Entry<'_> {
    if let Ok(Written { id, method, params, epoch, .. }) = serde_json::from_slice(raw) {
        return match epoch.map(reign).transpose() {
            Ok(reign) => Entry::Request(Request { id, method, params, reign }),
            Err(error) => Entry::Malformed(id.unwrap_or(Id::Null), error),
        };
    }
    match serde_json::from_slice::<InvalidRequest<'_>>(raw) {
        Ok(bad) => Entry::Malformed(bad.id, no_request("this object")),
        Err(_) if serde_json::from_slice::<&RawValue>(raw).is_ok() => {
            Entry::Malformed(Id::Null, no_request("this JSON"))
        }
        Err(_) => Entry::Malformed(Id::Null, no_json()),
    }
}

fn reign(epoch: &RawValue) -> Result<Reign, ErrorObjectOwned> {
    let text = serde_json::from_str::<&str>(epoch.get()).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let shown: String = epoch.get().chars().take(NAME_CHARS_MAX).collect();
        let why = format!(
            "{shown} is no epoch, which is the coordinator's and the ring's; nothing was applied"
        );
        protocol_error(INVALID_REQUEST_CODE, why, EPOCH_HINT)
    })
}

/// The answer to a line that was too long to read.
pub(super) fn too_long(limits: &ServerLimits) -> MethodResponse {
    let why = format!("a line of more than {} bytes", limits.line_bytes_max);
    let error = protocol_error(OVERSIZED_REQUEST_CODE, why, "send smaller requests");
    MethodResponse::error(Id::Null, error)
}

/// What a connection that is one too many is told.
pub(super) fn too_many() -> MethodResponse {
    let why = "the server has as many connections as it takes";
    let error = protocol_error(SERVER_IS_BUSY_CODE, why, "close others, or try again later");
    MethodResponse::error(Id::Null, error)
}

/// Says whether a method may start that was asked for under these epochs.
pub(super) type Admit<'a> = &'a dyn Fn(&str, Option<Reign>) -> Result<(), Failure>;

/// What a server serves, as far as starting calls goes.
pub(super) struct Served<'a> {
    /// The methods.
    pub(super) methods: &'a Methods,
    /// The parameters of a method in words.
    pub(super) takes: &'a dyn Fn(&str) -> Option<&'static str>,
    /// Whether a method may start that was asked for under these epochs.
    pub(super) admit: Admit<'a>,
    /// The most bytes in an answer.
    pub(super) answer_bytes_max: usize,
}

impl Served<'_> {
    /// Starts what a line asks for, in its order.
    pub(super) fn start(&self, message: Message<'_>) -> Started {
        match message {
            Message::Single(entry) => self.start_entry(entry),
            Message::Batch(entries) => self.start_batch(entries),
        }
    }

    fn start_batch(&self, entries: Vec<Entry<'_>>) -> Started {
        let started: Vec<Started> =
            entries.into_iter().map(|entry| self.start_entry(entry)).collect();
        let answers = join_all(started.into_iter().map(|one| async {
            match one {
                Started::Answered(answer) => answer,
                Started::Waiting(answer) => answer.await,
            }
        }));
        let answer_bytes_max = self.answer_bytes_max;
        let joined = async move {
            let mut batch = BatchResponseBuilder::new_with_limit(answer_bytes_max);
            for answer in answers.await.into_iter().flatten() {
                if batch.append(answer).is_err() {
                    let why = format!("the answers have more than {answer_bytes_max} bytes");
                    let error = protocol_error(TOO_BIG_BATCH_RESPONSE_CODE, why, LESS_HINT);
                    return Some(MethodResponse::error(Id::Null, error));
                }
            }
            (!batch.is_empty()).then(|| MethodResponse::from_batch(batch.finish()))
        };
        poll_first(joined.boxed())
    }

    fn start_entry(&self, entry: Entry<'_>) -> Started {
        match entry {
            Entry::Request(request) if request.id.is_some() => self.start_call(request),
            Entry::Malformed(id, error) => {
                Started::Answered(Some(MethodResponse::error(id, error)))
            }
            Entry::Request(notification) => match self.start_call(notification) {
                Started::Answered(_) => Started::Answered(None),
                Started::Waiting(answer) => Started::Waiting(answer.map(|_| None).boxed()),
            },
        }
    }

    fn start_call(&self, request: Request<'_>) -> Started {
        let Request { id, method, params, reign } = request;
        let (id, params) = (id.unwrap_or(Id::Null), Params::new(params.map(RawValue::get)));
        let (extensions, takes) = (Extensions::new(), (self.takes)(&method));
        let callback = self.methods.method(&method);
        if callback.is_some()
            && let Err(refusal) = (self.admit)(&method, reign)
        {
            let error = failure_into_object(refusal);
            return Started::Answered(Some(MethodResponse::error(id, error)));
        }
        match callback {
            Some(MethodCallback::Sync(call)) => {
                let answer = call(id, params, self.answer_bytes_max, extensions);
                Started::Answered(Some(named(answer, &method, takes)))
            }
            Some(MethodCallback::Async(call)) => {
                let (id, params, method) =
                    (id.into_owned(), params.into_owned(), method.into_owned());
                let answer = call(id, params, ConnectionId(0), self.answer_bytes_max, extensions);
                poll_first(answer.map(move |answer| Some(named(answer, &method, takes))).boxed())
            }
            _ => Started::Answered(Some(MethodResponse::error(id, self.unknown(&method)))),
        }
    }

    fn unknown(&self, method: &str) -> ErrorObjectOwned {
        let shown: String = method.chars().take(NAME_CHARS_MAX).collect();
        let mut known: Vec<_> = self.methods.method_names().collect();
        known.sort_unstable();
        let hint = match nearest(&shown, known.iter().copied()) {
            Some(guess) => format!("did you mean: {guess}"),
            None => format!("methods here: {}", known.join(" ")),
        };
        protocol_error(METHOD_NOT_FOUND_CODE, format!("no method {shown:?}"), hint)
    }
}

/// An answer in which one of jsonrpsee's own errors has got its name and hint.
fn named(answer: MethodResponse, method: &str, takes: Option<&'static str>) -> MethodResponse {
    let Some(code @ (INVALID_PARAMS_CODE | OVERSIZED_RESPONSE_CODE)) = answer.as_error_code()
    else {
        return answer;
    };
    let Ok(Refused { id, error }) = serde_json::from_str(answer.as_json().get()) else {
        return answer;
    };
    let why = error.data().and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let why = why.unwrap_or_else(|| error.message().to_lowercase());
    let (message, hint) = match (code, takes) {
        (OVERSIZED_RESPONSE_CODE, _) => {
            (format!("the answer of {method} is too big: {why}"), LESS_HINT.to_owned())
        }
        (_, None) => (format!("{method}: {why}"), REQUEST_HINT.to_owned()),
        (_, Some("")) => (format!("{method}: {why}"), format!("{method} takes no parameters")),
        (_, Some(takes)) => (
            format!("{method}: {why}"),
            format!("{method} takes [{takes}], or these by name; ? may be left out"),
        ),
    };
    MethodResponse::error(id, protocol_error(code, message, hint))
}

/// The error of a call whose answer would have more bytes than that, as the method table has it.
#[must_use]
pub fn answer_too_big(method: &str, bytes_max: usize) -> ErrorObjectOwned {
    let message = format!("the answer of {method} is too big: Exceeded max limit of {bytes_max}");
    protocol_error(OVERSIZED_RESPONSE_CODE, message, LESS_HINT)
}

/// The parts of an error answer.
#[derive(Deserialize)]
struct Refused<'a> {
    #[serde(borrow)]
    id: Id<'a>,
    #[serde(borrow)]
    error: ErrorObject<'a>,
}

/// Polls once, now: calls begin in the order in which they arrived.
fn poll_first(mut answer: BoxFuture<'static, Option<MethodResponse>>) -> Started {
    match (&mut answer).now_or_never() {
        Some(answer) => Started::Answered(answer),
        None => Started::Waiting(answer),
    }
}
