//! What nodes are asked and clients are told, byte for byte as `serde_json` writes it.

use ringkv_shared::KeyspaceName;
use ringkv_shared::net::Spell;
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::node::Record;

/// The parameters of a node's `write`: a [`ReplicaWrite`](ringkv_shared::protocol::node::ReplicaWrite) of a record
/// without context and siblings, whose key and value are these texts, in which nothing has to be escaped.
pub(super) fn write(
    out: &mut Vec<u8>,
    keyspace: &KeyspaceName,
    (key, value): (&str, Option<&str>),
    record: &Record,
) {
    out.raw("[{");
    if !keyspace.is_default() {
        out.raw(r#""keyspace":""#).raw(keyspace.as_str()).raw("\",");
    }
    out.raw(r#""record":{"key":""#).raw(key).raw("\"");
    if let Some(value) = value {
        out.raw(r#","value":""#).raw(value).raw("\"");
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
    out.raw("}}]");
}

/// The parameters of a node's `get`.
pub(super) fn read(out: &mut Vec<u8>, keyspace: &KeyspaceName, key: &str) {
    out.raw("[\"").raw(key).raw("\"");
    if !keyspace.is_default() {
        out.raw(",\"").raw(keyspace.as_str()).raw("\"");
    }
    out.raw("]");
}

pub(super) const fn status(status: Status) -> &'static str {
    match status {
        Status::Ok => r#"{"status":"ok""#,
        Status::NotFound => r#"{"status":"not_found""#,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringkv_shared::hlc::Stamp;
    use ringkv_shared::protocol::node::ReplicaWrite;
    use ringkv_shared::{Blob, Version};

    proptest! {
        #[test]
        fn as_serde_writes_it(
            key in r#"[ !#-\[\]-~äß…]{0,9}"#, value in proptest::option::of(r#"[ !#-\[\]-~äß…]{0,9}"#), counter in 1u64..9999,
            expires in any::<Option<u64>>(), stamp in any::<Option<(u64, u32)>>(),
            keyspace in prop_oneof![Just("default"), Just("clicks")],
        ) {
            let stamp = stamp.map(|(ms, count)| Stamp { ms, count });
            let texts = (&*key, value.as_deref());
            let blobs = (Blob::from(texts.0), texts.1.map(Blob::from));
            let record = Record { expires, stamp, ..Record::new(blobs.0, blobs.1, Version::new(3, counter)) };
            let keyspace: KeyspaceName = keyspace.parse().unwrap();
            let mut out = Vec::new();
            write(&mut out, &keyspace, texts, &record);
            let expected = serde_json::to_string(&[ReplicaWrite { keyspace, record, owe: Vec::new() }]);
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected.unwrap());
        }
    }
}
