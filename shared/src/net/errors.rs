//! [`Failure`] ↔ JSON-RPC error object.

use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error::{
    INVALID_PARAMS_CODE, INVALID_REQUEST_CODE, METHOD_NOT_FOUND_CODE, OVERSIZED_REQUEST_CODE,
    OVERSIZED_RESPONSE_CODE, PARSE_ERROR_CODE, SERVER_IS_BUSY_CODE, TOO_BIG_BATCH_REQUEST_CODE,
    TOO_BIG_BATCH_RESPONSE_CODE,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ErrorName, Failure};

/// The `data` member of our error objects.
#[derive(Serialize, Deserialize)]
struct Data {
    name: ErrorName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Box<Value>>,
}

/// The error object of a failure: its name's code, its message, and name, hint and detail as data.
#[must_use]
pub fn failure_into_object(failure: Failure) -> ErrorObjectOwned {
    let Failure { name, message, hint, detail } = failure;
    ErrorObjectOwned::owned(name.code(), message, Some(Data { name, hint, detail }))
}

/// The failure behind an error object. One of JSON-RPC's own errors (unknown method, bad
/// parameters, too large) becomes the name that fits it best, with its text kept.
#[must_use]
pub fn failure_from_object(object: &ErrorObjectOwned) -> Failure {
    let raw = object.data().map(|data| data.get());
    if let Some(Ok(Data { name, hint, detail })) = raw.map(serde_json::from_str) {
        return Failure { name, message: object.message().to_owned(), hint, detail };
    }
    let name = name_of(object.code());
    let message = match raw {
        Some(data) => format!("{}: {}", object.message(), data.trim_matches('"')),
        None => object.message().to_owned(),
    };
    Failure::new(name, message)
}

/// One of JSON-RPC's own errors, with name and hint as all of ours have them.
pub(super) fn protocol_error(
    code: i32,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> ErrorObjectOwned {
    let data = Data { name: name_of(code), hint: Some(hint.into()), detail: None };
    ErrorObjectOwned::owned(code, message, Some(data))
}

/// The name that fits one of JSON-RPC's own codes best.
const fn name_of(code: i32) -> ErrorName {
    match code {
        PARSE_ERROR_CODE | INVALID_REQUEST_CODE | METHOD_NOT_FOUND_CODE | INVALID_PARAMS_CODE => {
            ErrorName::BadArgument
        }
        OVERSIZED_REQUEST_CODE
        | OVERSIZED_RESPONSE_CODE
        | TOO_BIG_BATCH_REQUEST_CODE
        | TOO_BIG_BATCH_RESPONSE_CODE => ErrorName::TooLarge,
        SERVER_IS_BUSY_CODE => ErrorName::Overloaded,
        _ => ErrorName::NotApplied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        let failure = Failure::new(ErrorName::NodeExists, "n1 is already in the cluster")
            .hint("another id: addnode n4 5004")
            .detail(serde_json::json!({"addr": "127.0.0.1:5001"}));
        assert_eq!(failure_from_object(&failure_into_object(failure.clone())), failure);
    }

    #[test]
    fn foreign_errors_get_the_nearest_name() {
        let unknown = ErrorObjectOwned::owned(-32601, "Method not found", None::<()>);
        assert_eq!(failure_from_object(&unknown).name, ErrorName::BadArgument);
    }
}
