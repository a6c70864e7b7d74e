//! Which lines are taken: `put`, `get`, `del` and batches of each, with no options but a keyspace and a linger.

use ringkv_shared::limits::{BATCH_ENTRIES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::net::{QuickCall, Scan};

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    One(KeyAsk<'a>),
    Many(BatchAsk<'a>),
}

/// What is asked for of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyAsk<'a> {
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

/// An `mput`, `mget` or `mdel`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BatchAsk<'a> {
    pub(super) what: What,
    /// What stands between the brackets of the list, all of it as [`What::entry`] reads it.
    pub(super) entries: &'a [u8],
    /// How many these are, at least one.
    pub(super) count: usize,
    pub(super) keyspace: &'a str,
    pub(super) linger_ms: Option<u64>,
}

/// What is to be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Put,
    Get,
    Del,
}

/// A key and, to be put there, a value.
pub(super) type Entry<'a> = (&'a str, Option<&'a str>);

impl What {
    /// What a method does, and whether it does it with many keys.
    fn of(method: &str) -> Option<(Self, bool)> {
        match method {
            "put" => Some((Self::Put, false)),
            "get" => Some((Self::Get, false)),
            "del" => Some((Self::Del, false)),
            "mput" => Some((Self::Put, true)),
            "mget" => Some((Self::Get, true)),
            "mdel" => Some((Self::Del, true)),
            _ => None,
        }
    }

    pub(super) const fn method_of_many(self) -> &'static str {
        match self {
            Self::Put => "mput",
            Self::Get => "mget",
            Self::Del => "mdel",
        }
    }

    /// The next entry of a batch's list.
    pub(super) fn entry<'a>(self, list: &mut Scan<'a>) -> Option<Entry<'a>> {
        if self != Self::Put {
            return Some((key(list)?, None));
        }
        list.skip(r#"{"key":"#)?;
        let key = key(list)?;
        list.skip(r#","value":"#)?;
        let value = value(list)?;
        list.skip("}")?;
        Some((key, Some(value)))
    }

    /// What that is of a key.
    pub(super) const fn of_key<'a>(
        self,
        (key, value): Entry<'a>,
        keyspace: &'a str,
        linger_ms: Option<u64>,
    ) -> KeyAsk<'a> {
        match self {
            Self::Get => KeyAsk::Read(ReadAsk { key, keyspace }),
            Self::Put | Self::Del => KeyAsk::Write(WriteAsk { key, value, keyspace, linger_ms }),
        }
    }
}

impl<'a> Ask<'a> {
    /// Reads a line: its id, and what it asks for.
    pub(super) fn read(line: &'a [u8]) -> Option<(u64, Self)> {
        let call = QuickCall::read(line)?;
        if call.reign.is_some() {
            return None;
        }
        let mut params = Scan::new(call.params);
        let ask = match What::of(call.method)? {
            (what, true) => Self::Many(BatchAsk::read(what, &mut params)?),
            (what, false) => Self::One(KeyAsk::read(what, &mut params)?),
        };
        let id = Scan::new(call.id.as_bytes()).number()?;
        params.is_done().then_some((id, ask))
    }
}

impl<'a> KeyAsk<'a> {
    fn read(what: What, params: &mut Scan<'a>) -> Option<Self> {
        let key = key(params)?;
        let value = match what {
            What::Put => {
                params.skip(",")?;
                Some(value(params)?)
            }
            What::Get | What::Del => None,
        };
        let (keyspace, linger_ms) = options(what, params)?;
        Some(what.of_key((key, value), keyspace, linger_ms))
    }
}

impl<'a> BatchAsk<'a> {
    fn read(what: What, params: &mut Scan<'a>) -> Option<Self> {
        params.skip("[")?;
        let (list, mut count) = (params.rest(), 0);
        loop {
            if count == BATCH_ENTRIES_MAX {
                return None;
            }
            what.entry(params)?;
            count += 1;
            if params.skip_if("]") {
                break;
            }
            params.skip(",")?;
        }
        let entries = list[..list.len() - params.rest().len()].strip_suffix(b"]")?;
        let (keyspace, linger_ms) = options(what, params)?;
        Some(Self { what, entries, count, keyspace, linger_ms })
    }
}

fn key<'a>(params: &mut Scan<'a>) -> Option<&'a str> {
    params.text().filter(|key| key.len() <= KEY_BYTES_MAX)
}

fn value<'a>(params: &mut Scan<'a>) -> Option<&'a str> {
    params.text().filter(|value| value.len() <= VALUE_BYTES_MAX)
}

/// Keyspace and linger, in any order.
fn options<'a>(what: What, params: &mut Scan<'a>) -> Option<(&'a str, Option<u64>)> {
    // A linger is no option of a read.
    let (mut keyspace, mut linger_ms) = (None, None);
    if !params.is_done() && !params.skip_if(",null") {
        params.skip(",{")?;
        loop {
            if keyspace.is_none() && params.skip_if(r#""keyspace":"#) {
                keyspace = Some(params.text()?);
            } else if what != What::Get && linger_ms.is_none() && params.skip_if(r#""linger_ms":"#)
            {
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
            Ask::One(KeyAsk::Write(WriteAsk { key: "a", value, keyspace, linger_ms }))
        };
        let read = |keyspace| Ask::One(KeyAsk::Read(ReadAsk { key: "a", keyspace }));
        let many = |what, entries: &'static str, count, keyspace, linger_ms| {
            let entries = entries.as_bytes();
            Ask::Many(BatchAsk { what, entries, count, keyspace, linger_ms })
        };
        for (method, params, ask) in [
            ("put", r#""a","1""#, write(Some("1"), "default", None)),
            ("put", r#""a","1",null"#, write(Some("1"), "default", None)),
            ("put", r#""a","1",{"linger_ms":0}"#, write(Some("1"), "default", Some(0))),
            ("del", r#""a",{"keyspace":"k","linger_ms":9}"#, write(None, "k", Some(9))),
            ("del", r#""a",{"linger_ms":9,"keyspace":"k"}"#, write(None, "k", Some(9))),
            ("del", r#""a",{"keyspace":"k"}"#, write(None, "k", None)),
            ("get", r#""a""#, read("default")),
            ("get", r#""a",{"keyspace":"k"}"#, read("k")),
            ("mget", r#"["a"]"#, many(What::Get, r#""a""#, 1, "default", None)),
            ("mget", r#"["a","]"],{"keyspace":"k"}"#, many(What::Get, r#""a","]""#, 2, "k", None)),
            (
                "mdel",
                r#"["a","b"],{"linger_ms":0}"#,
                many(What::Del, r#""a","b""#, 2, "default", Some(0)),
            ),
            (
                "mput",
                r#"[{"key":"a","value":"1"},{"key":"b","value":""}]"#,
                many(
                    What::Put,
                    r#"{"key":"a","value":"1"},{"key":"b","value":""}"#,
                    2,
                    "default",
                    None,
                ),
            ),
        ] {
            assert_eq!(Ask::read(line(method, params).as_bytes()), Some((7, ask)), "{params}");
        }
        let long = format!("\"{}\"", "k".repeat(KEY_BYTES_MAX + 1));
        let most = format!("[{}]", vec![r#""k""#; BATCH_ENTRIES_MAX].join(","));
        let taken = line("mget", &most);
        let (_, Ask::Many(taken)) = Ask::read(taken.as_bytes()).unwrap() else {
            panic!("it is a batch")
        };
        assert_eq!(taken.count, BATCH_ENTRIES_MAX);
        let too_many = most.replacen("k", r#"k","k"#, 1);
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
            ("mget", "[]"),
            ("mget", r#""a""#),
            ("mget", r#"["a","#),
            ("mget", r#"["a"],{"linger_ms":0}"#),
            ("mget", &format!("[{long}]")),
            ("mget", &too_many),
            ("mput", r#"["a"]"#),
            ("mput", r#"[{"value":"1","key":"a"}]"#),
            ("mput", r#"[{"key":"a","value":"1"},{"key":"a"}]"#),
            ("mdel", r#"["a","\n"]"#),
            ("mdel", r#"["a"],{"w":1}"#),
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
