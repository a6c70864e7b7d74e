//! The connection to the cluster: typed calls, deadlines, and the tap that `.trace on` shows.
//!
//! The typed client methods are generated for everything that can send a request, so the tap is
//! simply another such thing: [`Tap`] stands between the typed call and the connection, and
//! writes down the parameters and the result as they are encoded.
//!
//! # Caveats
//!
//! The tap does not see the request's `id`, which the connection gives, nor the exact bytes: it
//! shows the message with its method, parameters and result. Requests of `load` and of the
//! notices in the background are not traced.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::{BatchResponse, ClientT};
use jsonrpsee::core::params::BatchRequestBuilder;
use jsonrpsee::core::traits::ToRpcParams;
use ringkv_shared::Failure;
use ringkv_shared::net::{Client, Peer};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// How long one request may take. A coordinator answers much earlier, with what it knows.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);
/// How long a compaction may take, which answers when it is done.
pub(crate) const LONG_DEADLINE: Duration = Duration::from_secs(120);

/// A connection to a server, with a name for error messages.
pub(crate) struct Wire {
    peer: Peer,
    who: String,
}

impl Wire {
    /// A connection to `addr`, made when it is first used. `who` answers there.
    #[must_use]
    pub(crate) fn new(addr: &str, who: impl Into<String>) -> Self {
        Self { peer: Peer::new(addr), who: who.into() }
    }

    /// One call.
    pub(crate) async fn call<T>(
        &self,
        trace: &Trace,
        deadline: Duration,
        request: impl AsyncFnOnce(&Tap<'_>) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let traced = async |client: &Client| request(&Tap { client, trace }).await;
        let result = self.peer.call(deadline, traced).await;
        result.map_err(|error| error.into_failure(&self.who))
    }
}

/// The messages seen since somebody last looked, when it is on.
#[derive(Default)]
pub(crate) struct Trace {
    /// The lines, while tracing; nothing is kept while it is off.
    lines: Mutex<Option<Vec<String>>>,
}

impl Trace {
    /// Starts or stops.
    pub(crate) fn switch(&self, on: bool) {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = on.then(Vec::new);
    }

    /// The lines since the last time.
    #[must_use]
    pub(crate) fn take(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            lines.push(line());
        }
    }
}

/// A client that writes down what goes through it.
pub(crate) struct Tap<'a> {
    client: &'a Client,
    trace: &'a Trace,
}

impl ClientT for Tap<'_> {
    async fn notification<P: ToRpcParams + Send>(
        &self,
        method: &str,
        params: P,
    ) -> Result<(), ClientError> {
        self.client.notification(method, params).await
    }

    async fn request<R: DeserializeOwned, P: ToRpcParams + Send>(
        &self,
        method: &str,
        params: P,
    ) -> Result<R, ClientError> {
        let params = params.to_rpc_params()?;
        self.trace.note(|| sent(method, params.as_deref()));
        let result = self.client.request::<Box<RawValue>, _>(method, Encoded(params)).await;
        self.trace.note(|| received(&result));
        Ok(serde_json::from_str(result?.get())?)
    }

    async fn batch_request<'b, R: DeserializeOwned + std::fmt::Debug + 'b>(
        &self,
        batch: BatchRequestBuilder<'b>,
    ) -> Result<BatchResponse<'b, R>, ClientError> {
        self.client.batch_request(batch).await
    }
}

/// Parameters that are JSON already.
pub(crate) struct Encoded(pub(crate) Option<Box<RawValue>>);

impl ToRpcParams for Encoded {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        Ok(self.0)
    }
}

/// The request as it is sent, but for the id.
#[must_use]
pub(crate) fn sent(method: &str, params: Option<&RawValue>) -> String {
    let method = serde_json::Value::from(method);
    match params {
        Some(params) => format!("--> {{\"method\":{method},\"params\":{params}}}"),
        None => format!("--> {{\"method\":{method}}}"),
    }
}

/// The response as it is received, but for the id.
#[must_use]
pub(crate) fn received(result: &Result<Box<RawValue>, ClientError>) -> String {
    match result {
        Ok(result) => format!("<-- {{\"result\":{result}}}"),
        Err(ClientError::Call(object)) => {
            let object = serde_json::to_string(object).unwrap_or_else(|e| e.to_string());
            format!("<-- {{\"error\":{object}}}")
        }
        Err(error) => format!("<-- nothing: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_shown_as_they_are_encoded() {
        let params = RawValue::from_string(r#"["apple"]"#.into()).unwrap();
        assert_eq!(sent("get", Some(&params)), r#"--> {"method":"get","params":["apple"]}"#);
        assert_eq!(sent("show", None), r#"--> {"method":"show"}"#);
        let result = RawValue::from_string(r#"{"status":"ok"}"#.into()).unwrap();
        assert_eq!(received(&Ok(result)), r#"<-- {"result":{"status":"ok"}}"#);
    }

    #[test]
    fn nothing_is_kept_while_tracing_is_off() {
        let trace = Trace::default();
        trace.note(|| "a".into());
        trace.switch(true);
        trace.note(|| "b".into());
        assert_eq!(trace.take(), ["b"]);
    }
}
