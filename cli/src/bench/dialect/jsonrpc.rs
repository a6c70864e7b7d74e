//! Our own: JSON-RPC, a line a message.
//!
//! ```text
//! {"jsonrpc":"2.0","id":100003,"method":"put","params":["key:000000000123","0000…",{"linger_ms":0}]}
//! {"jsonrpc":"2.0","id":100003,"result":{"status":"ok",…}}
//! ```

use ringkv_shared::ErrorName;
use serde_json::Value;

use super::{
    Answer, Dialect, ID_DIGITS, ID_FIRST, KEY_PATTERN, Parsed, Template, line, unexpected,
};
use crate::bench::values::Values;

const HEAD: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":";
const RESULT: &[u8] = b",\"result\":{\"status\":\"ok\"";
const VALUE: &[u8] = b",\"value\":\"";
const SIBLINGS: &[u8] = b",\"siblings\":[";

/// With options: a program does not wait for the replicas beyond W.
pub(super) fn coordinator(values: &Values, keyspace: Option<&str>) -> Dialect {
    let within = keyspace.map(|name| format!("\"keyspace\":\"{name}\"")).unwrap_or_default();
    let comma = if within.is_empty() { "" } else { "," };
    let read = if within.is_empty() { String::new() } else { format!(",{{{within}}}") };
    dialect(values, &format!(",{{\"linger_ms\":0{comma}{within}}}"), &read)
}

/// The node numbers the write itself.
pub(super) fn node(values: &Values, keyspace: Option<&str>) -> Dialect {
    match keyspace {
        Some(name) => dialect(values, &format!(",null,null,\"{name}\""), &format!(",\"{name}\"")),
        None => dialect(values, "", ""),
    }
}

fn dialect(values: &Values, put_more: &str, get_more: &str) -> Dialect {
    let value = String::from_utf8_lossy(values.pattern());
    let request = |method: &str, params: &str| {
        let head = format!("{{\"jsonrpc\":\"2.0\",\"id\":{ID_FIRST},\"method\":\"{method}\"");
        format!("{head},\"params\":[\"{KEY_PATTERN}\"{params}]}}\n").into_bytes()
    };
    Dialect {
        put: Template::new(request("put", &format!(",\"{value}\"{put_more}")), Some(values)),
        get: Template::new(request("get", get_more), None),
        parse,
        names: true,
    }
}

fn parse(bytes: &[u8], _: Option<bool>) -> Result<Option<Parsed<'_>>, String> {
    let Some((line, length)) = line(bytes) else { return Ok(None) };
    let (slot, answer) = match quick(line) {
        Some(found) => found,
        None => slow(line).ok_or_else(|| unexpected(line))?,
    };
    Ok(Some(Parsed { bytes: length, slot: Some(slot), answer }))
}

/// A success as our servers spell it. Only a single value without escapes is found: ours have none.
fn quick(line: &[u8]) -> Option<(u32, Answer<'_>)> {
    let rest = line.strip_prefix(HEAD)?;
    let (digits, rest) = rest.split_at_checked(ID_DIGITS)?;
    let slot = slot(std::str::from_utf8(digits).ok()?.parse().ok()?)?;
    let rest = rest.strip_prefix(RESULT)?;
    // What comes before the value is no longer than a key; what comes behind is not looked at.
    let near = &rest[..rest.len().min(VALUE.len() + KEY_PATTERN.len() + 16)];
    let Some(at) = memchr::memmem::find(near, VALUE) else {
        return Some((slot, Answer::Stored));
    };
    let value = &rest[at + VALUE.len()..];
    let end = memchr::memchr2(b'"', b'\\', value)?;
    let single = memchr::memmem::find(&value[end..], SIBLINGS).is_none();
    (value[end] == b'"' && single).then_some((slot, Answer::Value(&value[..end])))
}

/// Everything else.
fn slow(line: &[u8]) -> Option<(u32, Answer<'_>)> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let slot = slot(message["id"].as_u64()?.try_into().ok()?)?;
    if let Some(error) = message.get("error") {
        return Some((slot, refusal(error)));
    }
    let answer = match message["result"]["status"].as_str()? {
        "not_found" => Answer::Missing,
        "ok" if message["result"].get("value").is_some() => {
            Answer::Several(values(&message["result"]))
        }
        "ok" => Answer::Stored,
        _ => return None,
    };
    Some((slot, answer))
}

/// The value and those beside it. One that is no string is none of ours, and judged as that.
fn values(result: &Value) -> Vec<String> {
    let beside = result["siblings"].as_array().into_iter().flatten().map(|one| &one["value"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    std::iter::once(&result["value"]).chain(beside).map(text).collect()
}

fn slot(id: u32) -> Option<u32> {
    id.checked_sub(ID_FIRST)
}

fn refusal(error: &Value) -> Answer<'static> {
    let name = error["data"]["name"].as_str();
    let known = ErrorName::ALL.into_iter().find(|known| Some(known.to_string().as_str()) == name);
    Answer::Refused {
        name: name.map_or_else(|| format!("code {}", error["code"]), str::to_owned),
        harmless: known.is_some_and(is_harmless),
    }
}

/// Whether nothing was applied for certain, when this is the error of a put.
pub(in super::super) const fn is_harmless(name: ErrorName) -> bool {
    !matches!(name, ErrorName::OutcomeUnknown | ErrorName::NotEnoughReplicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values::new(1, 7, 40)
    }

    fn parsed(line: &str) -> (u32, Answer<'_>) {
        let parsed = parse(line.as_bytes(), None).unwrap().unwrap();
        assert_eq!(parsed.bytes, line.len());
        (parsed.slot.unwrap(), parsed.answer)
    }

    #[test]
    fn requests_are_valid_and_filled_in() {
        for (dialect, count) in [
            (coordinator(&values(), None), 3),
            (coordinator(&values(), Some("orders")), 3),
            (node(&values(), None), 2),
            (node(&values(), Some("orders")), 5),
        ] {
            let mut out = Vec::new();
            dialect.write(&mut out, 12, 345, Some(6));
            let put: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(put["id"], 100_012);
            assert_eq!(put["params"][0], "key:000000000345");
            let value = put["params"][1].as_str().unwrap().as_bytes();
            assert_eq!(values().origin(345, value), crate::bench::values::Origin::Ours(6));
            assert_eq!(put["params"].as_array().unwrap().len(), count);
            out.clear();
            dialect.write(&mut out, 0, 1, None);
            let get: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!((&get["id"], &get["method"]), (&100_000.into(), &"get".into()));
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let ok = r#"{"jsonrpc":"2.0","id":100003,"result":{"status":"ok","#;
        let put =
            format!("{ok}\"key\":\"key:000000000123\",\"version\":\"1.1\",\"replicas\":[]}}}}\n");
        assert_eq!(parsed(&put), (3, Answer::Stored));
        let get =
            format!("{ok}\"key\":\"key:000000000123\",\"value\":\"abc\",\"version\":\"1.1\"}}}}\n");
        assert_eq!(parsed(&get), (3, Answer::Value(b"abc")));
        let get = format!("{ok}\"value\":\"abc\",\"version\":\"1.1\"}}}}\n");
        assert_eq!(parsed(&get), (3, Answer::Value(b"abc")));
        let get = format!("{ok}\"value\":\"a\\\"c\"}}}}\n");
        assert_eq!(parsed(&get), (3, Answer::Several(vec!["a\"c".into()])));
        let get = format!("{ok}\"value\":\"a\",\"siblings\":[{{\"value\":\"b\"}}]}}}}\n");
        assert_eq!(parsed(&get), (3, Answer::Several(vec!["a".into(), "b".into()])));
        let spaced = "{ \"id\": 100003, \"result\": {\"status\": \"not_found\"} }\n";
        assert_eq!(parsed(spaced), (3, Answer::Missing));
        let error = r#"{"jsonrpc":"2.0","id":100003,"error":{"code":13,"message":"full","data":{"name":"OVERLOADED"}}}"#;
        let refused = |name: &str, harmless| Answer::Refused { name: name.into(), harmless };
        assert_eq!(parsed(&format!("{error}\n")), (3, refused("OVERLOADED", true)));
        let unknown = error.replace("OVERLOADED", "OUTCOME_UNKNOWN");
        assert_eq!(parsed(&format!("{unknown}\n")), (3, refused("OUTCOME_UNKNOWN", false)));
        let bare = r#"{"jsonrpc":"2.0","id":100003,"error":{"code":-32000,"message":"?"}}"#;
        assert_eq!(parsed(&format!("{bare}\n")), (3, refused("code -32000", false)));
        assert_eq!(parse(b"{\"jsonrpc\"", None), Ok(None));
        assert!(parse(b"+OK\r\n", None).is_err());
    }
}
