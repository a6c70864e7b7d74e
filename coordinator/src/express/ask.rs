//! Which lines are taken: `put`, `get` and `del` with no options but a keyspace and a linger.

use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::net::{QuickCall, Scan};

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    Write(WriteAsk<'a>),
    Read(ReadAsk<'a>),
}

/// A `put` or `del`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WriteAsk<'a> {
    pub(super) key: &'a str,
    /// `None`: a delete.
    pub(super) value: Option<&'a str>,
    pub(super) keyspace: &'a str,
    pub(super) linger_ms: Option<u64>,
}

/// A `get`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadAsk<'a> {
    pub(super) key: &'a str,
    pub(super) keyspace: &'a str,
}

impl<'a> Ask<'a> {
    /// Reads a line: its id, and what it asks for.
    pub(super) fn read(line: &'a [u8]) -> Option<(u64, Self)> {
        let call = QuickCall::read(line)?;
        if call.reign.is_some() {
            return None;
        }
        let mut params = Scan::new(call.params);
        let ask = match call.method {
            "get" => {
                let key = key(&mut params)?;
                // A linger is no option of a read.
                let (keyspace, None) = options(&mut params)? else { return None };
                Self::Read(ReadAsk { key, keyspace })
            }
            "put" => {
                let key = key(&mut params)?;
                params.skip(",")?;
                let value = params.text().filter(|value| value.len() <= VALUE_BYTES_MAX)?;
                let (keyspace, linger_ms) = options(&mut params)?;
                Self::Write(WriteAsk { key, value: Some(value), keyspace, linger_ms })
            }
            "del" => {
                let key = key(&mut params)?;
                let (keyspace, linger_ms) = options(&mut params)?;
                Self::Write(WriteAsk { key, value: None, keyspace, linger_ms })
            }
            _ => return None,
        };
        let id = Scan::new(call.id.as_bytes()).number()?;
        params.is_done().then_some((id, ask))
    }
}

fn key<'a>(params: &mut Scan<'a>) -> Option<&'a str> {
    params.text().filter(|key| key.len() <= KEY_BYTES_MAX)
}

/// Keyspace and linger, in any order.
fn options<'a>(params: &mut Scan<'a>) -> Option<(&'a str, Option<u64>)> {
    let (mut keyspace, mut linger_ms) = (None, None);
    if !params.is_done() && !params.skip_if(",null") {
        params.skip(",{")?;
        loop {
            if keyspace.is_none() && params.skip_if(r#""keyspace":"#) {
                keyspace = Some(params.text()?);
            } else if linger_ms.is_none() && params.skip_if(r#""linger_ms":"#) {
                linger_ms = Some(params.number()?);
            } else {
                return None;
            }
            if params.skip_if("}") {
                break;
            }
            params.skip(",")?;
        }
    }
    Some((keyspace.unwrap_or("default"), linger_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_what_is_left() {
        let line = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":[{params}]}}"#)
        };
        let write = |value, keyspace, linger_ms| {
            Ask::Write(WriteAsk { key: "a", value, keyspace, linger_ms })
        };
        for (method, params, ask) in [
            ("put", r#""a","1""#, write(Some("1"), "default", None)),
            ("put", r#""a","1",null"#, write(Some("1"), "default", None)),
            ("put", r#""a","1",{"linger_ms":0}"#, write(Some("1"), "default", Some(0))),
            ("del", r#""a",{"keyspace":"k","linger_ms":9}"#, write(None, "k", Some(9))),
            ("del", r#""a",{"linger_ms":9,"keyspace":"k"}"#, write(None, "k", Some(9))),
            ("del", r#""a",{"keyspace":"k"}"#, write(None, "k", None)),
            ("get", r#""a""#, Ask::Read(ReadAsk { key: "a", keyspace: "default" })),
            ("get", r#""a",{"keyspace":"k"}"#, Ask::Read(ReadAsk { key: "a", keyspace: "k" })),
        ] {
            assert_eq!(Ask::read(line(method, params).as_bytes()), Some((7, ask)), "{params}");
        }
        let long = format!("\"{}\"", "k".repeat(KEY_BYTES_MAX + 1));
        for (method, params) in [
            ("put", r#""a""#),
            ("put", r#""a",1"#),
            ("put", r#""a","1",{}"#),
            ("put", r#""a","1",{"linger_ms":0,"linger_ms":0}"#),
            ("put", r#""a","1",{"w":2}"#),
            ("put", r#""a","\n""#),
            ("put", r#""a","1",null,1"#),
            ("get", r#""a",{"linger_ms":0}"#),
            ("get", r#""a",{"r":1}"#),
            ("get", &long),
            ("size", ""),
        ] {
            assert_eq!(Ask::read(line(method, params).as_bytes()), None, "{method} {params}");
        }
        let signed = line("get", r#""a""#).replace("\"id\"", "\"epoch\":\"1.2\",\"id\"");
        assert_eq!(
            Ask::read(signed.as_bytes()),
            None,
            "a coordinator asks a node, not another one"
        );
    }
}
