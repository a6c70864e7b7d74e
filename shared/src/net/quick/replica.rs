//! What replicas are asked for, byte for byte as `serde_json` writes it, and what they answer, nearly always.
//!
//! Any other answer is none here, and is read in full by who takes over.

use super::scan::Scan;
use super::spell::Spell;
use crate::hlc::Stamp;
use crate::protocol::Status;
use crate::protocol::node::Record;
use crate::{KeyspaceName, NodeId, Version};

/// A key or value that is to be spelled.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Text in which nothing has to be escaped.
    Text(&'a str),
    /// Any bytes.
    Bytes(&'a [u8]),
}

impl Piece<'_> {
    fn spell(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.raw("\"").raw(text).raw("\""),
            Self::Bytes(bytes) => out.blob(bytes),
        };
    }
}

/// The parameters of a node's `write`: a [`ReplicaWrite`](crate::protocol::node::ReplicaWrite) of a record
/// without context and siblings, whose key and value are these.
pub fn ask_write(
    out: &mut Vec<u8>,
    keyspace: &KeyspaceName,
    (key, value): (Piece<'_>, Option<Piece<'_>>),
    record: &Record,
    owe: &[NodeId],
) {
    out.raw("[{");
    if !keyspace.is_default() {
        out.raw(r#""keyspace":""#).raw(keyspace.as_str()).raw("\",");
    }
    out.raw(r#""record":{"key":"#);
    key.spell(out);
    if let Some(value) = value {
        out.raw(r#","value":"#);
        value.spell(out);
    }
    if record.deleted {
        out.raw(r#","deleted":true"#);
    }
    out.raw(r#","version":"#).version(record.version);
    if let Some(expires) = record.expires {
        out.raw(r#","expires":"#).number(expires);
    }
    if let Some(stamp) = record.stamp {
        out.raw(r#","stamp":""#).number(stamp.ms).raw(".").number(u64::from(stamp.count)).raw("\"");
    }
    out.raw("}");
    for (n, node) in owe.iter().enumerate() {
        out.raw(if n == 0 { r#","owe":[""# } else { ",\"" }).raw(node.as_str()).raw("\"");
    }
    out.raw(if owe.is_empty() { "}]" } else { "]}]" });
}

/// The parameters of a node's `get`.
pub fn ask_get(out: &mut Vec<u8>, keyspace: &KeyspaceName, key: Piece<'_>) {
    out.raw("[");
    key.spell(out);
    if !keyspace.is_default() {
        out.raw(",\"").raw(keyspace.as_str()).raw("\"");
    }
    out.raw("]");
}

/// A write that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether there was a value before.
    pub status: Status,
    /// Other values beside it.
    pub siblings: u64,
}

/// A value that is all that is held, or nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// One value.
    Value {
        /// The value, text without escapes.
        value: &'a str,
        /// Its version.
        version: Version,
        /// When it expires, in unix milliseconds.
        expires: Option<u64>,
        /// When it was written, where the last write wins.
        stamp: Option<Stamp>,
        /// All of the result.
        raw: &'a [u8],
    },
    /// Neither a value nor a trace of one.
    Nothing,
}

/// The result in an answer.
pub(super) fn result(line: &[u8]) -> Option<&[u8]> {
    let mut line = Scan::new(line.strip_suffix(b"}")?);
    line.skip(r#"{"jsonrpc":"2.0","id":"#)?;
    line.number()?;
    line.skip(r#","result":"#)?;
    Some(line.rest())
}

impl Taken {
    /// Reads an answer to `write` of this version.
    #[must_use]
    pub fn read(line: &[u8], version: Version) -> Option<Self> {
        let mut result = Scan::new(result(line)?);
        result.skip(r#"{"status":"#)?;
        let status = match result.text()? {
            "ok" => Status::Ok,
            "not_found" => Status::NotFound,
            _ => return None,
        };
        result.skip(r#","version":"#)?;
        if result.version()? != version {
            return None;
        }
        let siblings = if result.skip_if(r#","siblings":"#) { result.number()? } else { 0 };
        result.skip("}")?;
        result.is_done().then_some(Self { status, siblings })
    }
}

impl<'a> Found<'a> {
    /// Reads an answer to `get`.
    #[must_use]
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let raw = result(line)?;
        let mut result = Scan::new(raw);
        if result.skip_if(r#"{"status":"not_found"}"#) {
            return result.is_done().then_some(Self::Nothing);
        }
        result.skip(r#"{"status":"ok","value":"#)?;
        let value = result.text()?;
        result.skip(r#","version":"#)?;
        let version = result.version()?;
        let expires = if result.skip_if(r#","expires":"#) { Some(result.number()?) } else { None };
        let stamp = if result.skip_if(r#","stamp":"#) { Some(stamp(&mut result)?) } else { None };
        result.skip("}")?;
        result.is_done().then_some(Self::Value { value, version, expires, stamp, raw })
    }
}

impl Found<'_> {
    /// Whether two replicas hold the same.
    #[must_use]
    pub fn is_same(&self, other: &Found<'_>) -> bool {
        self.version() == other.version()
    }

    fn version(&self) -> Option<Version> {
        match self {
            Self::Value { version, .. } => Some(*version),
            Self::Nothing => None,
        }
    }

    /// When it was written, where the last write wins.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Value { stamp, .. } => *stamp,
            Self::Nothing => None,
        }
    }

    /// All of the result.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Value { raw, .. } => raw,
            Self::Nothing => br#"{"status":"not_found"}"#,
        }
    }
}

pub(super) fn stamp(text: &mut Scan<'_>) -> Option<Stamp> {
    text.skip("\"")?;
    let ms = text.number()?;
    text.skip(".")?;
    let count = u32::try_from(text.number()?).ok()?;
    text.skip("\"")?;
    Some(Stamp { ms, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blob;
    use crate::protocol::node::{GetReply, ReplicaWrite, WriteReply};
    use proptest::prelude::*;
    use serde::Serialize;

    fn line(result: &impl Serialize) -> String {
        let result = serde_json::to_string(result).unwrap();
        format!(r#"{{"jsonrpc":"2.0","id":12,"result":{result}}}"#)
    }

    #[test]
    fn a_write_that_was_taken() {
        let version = Version::new(3, 7);
        let reply =
            WriteReply { status: Status::NotFound, version, superseded: false, siblings: 2 };
        let taken = Taken { status: Status::NotFound, siblings: 2 };
        assert_eq!(Taken::read(line(&reply).as_bytes(), version), Some(taken));
        let plain = WriteReply { status: Status::Ok, siblings: 0, ..reply.clone() };
        let taken = Taken { status: Status::Ok, siblings: 0 };
        assert_eq!(Taken::read(line(&plain).as_bytes(), version), Some(taken));
        assert_eq!(Taken::read(line(&plain).as_bytes(), Version::new(3, 8)), None);
        let superseded = WriteReply { superseded: true, ..plain };
        assert_eq!(Taken::read(line(&superseded).as_bytes(), version), None);
        assert_eq!(Taken::read(br#"{"jsonrpc":"2.0","id":1,"error":{}}"#, version), None);
    }

    #[test]
    fn a_value_or_nothing() {
        let value = GetReply {
            status: Status::Ok,
            value: Some("red".into()),
            version: Some(Version::new(3, 7)),
            expires: Some(17),
            stamp: Some(Stamp { ms: 5, count: 1 }),
            context: None,
            siblings: Vec::new(),
        };
        let found = line(&value);
        let Some(Found::Value { value: red, version, expires, stamp, raw }) =
            Found::read(found.as_bytes())
        else {
            panic!("it is as usual")
        };
        assert_eq!((red, version, expires), ("red", Version::new(3, 7), Some(17)));
        assert_eq!((stamp, raw), (value.stamp, serde_json::to_string(&value).unwrap().as_bytes()));
        let tombstone = GetReply {
            status: Status::NotFound,
            value: None,
            expires: None,
            stamp: None,
            ..value.clone()
        };
        assert_eq!(Found::read(line(&tombstone).as_bytes()), None, "a tombstone decides");
        let nothing = GetReply { version: None, ..tombstone };
        assert_eq!(Found::read(line(&nothing).as_bytes()), Some(Found::Nothing));
        let more = GetReply { context: Some("3.5".parse().unwrap()), ..value };
        assert_eq!(Found::read(line(&more).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn as_serde_writes_it(
            plain in r#"[ !#-\[\]-~äß…]{0,9}"#, any_key in ".{0,9}", is_plain in any::<bool>(),
            value in proptest::option::of(r#"[ !#-\[\]-~äß…]{0,9}"#), counter in 1u64..9999,
            expires in any::<Option<u64>>(), stamp in any::<Option<(u64, u32)>>(),
            owed in 0usize..=2, keyspace in prop_oneof![Just("default"), Just("clicks")],
        ) {
            let stamp = stamp.map(|(ms, count)| Stamp { ms, count });
            let key = if is_plain { plain } else { any_key };
            let record = Record::new(key.as_str().into(), value.clone().map(Blob::from), Version::new(3, counter));
            let record = Record { expires, stamp, ..record };
            let keyspace: KeyspaceName = keyspace.parse().unwrap();
            let owe: Vec<NodeId> = ["n1", "n2"][..owed].iter().map(|id| id.parse().unwrap()).collect();
            let key = if is_plain { Piece::Text(&key) } else { Piece::Bytes(key.as_bytes()) };
            let mut out = Vec::new();
            ask_write(&mut out, &keyspace, (key, value.as_deref().map(Piece::Text)), &record, &owe);
            let expected = serde_json::to_string(&[ReplicaWrite { keyspace, record, owe }]);
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected.unwrap());
        }
    }
}
