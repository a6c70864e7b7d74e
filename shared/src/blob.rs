//! Keys and values: bytes that are nearly always text.
//!
//! On the wire a [`Blob`] that is UTF-8 is a JSON string, so a person can read and type it; any
//! other travels as `{"base64": "…"}`. Both spellings are accepted for any bytes; ours is the
//! first whenever it is possible, but for a large text made mostly of control characters: escaped
//! as `\u00XX` it could outgrow the line limit, so it travels as base64 too.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes of a key or a value, shared without a copy. Ordered bytewise.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(Bytes);

impl Blob {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, if they are UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The shared buffer itself.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes at all (an empty value is a value).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl std::borrow::Borrow<[u8]> for Blob {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// For people: text as it is with what would disturb a terminal escaped, other bytes as `\xHH`.
impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if disturbs_terminal(c) {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{self}\"")
    }
}

/// Whether a character could move the cursor, end the line, reorder or hide text when printed:
/// controls, line and paragraph separators, the byte-order mark, zero-width and bidi controls.
#[must_use]
pub fn disturbs_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{200b}'..='\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{061c}')
}

/// Whether JSON's escapes would make a large text more than twice as long.
fn swells(text: &str) -> bool {
    const LARGE_BYTES: usize = 4 * 1024;
    text.len() > LARGE_BYTES
        && text.bytes().filter(|b| *b < b' ' && !b"\n\r\t".contains(b)).count() > text.len() / 5
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.as_text().filter(|text| !swells(text)) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &BASE64.encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or {\"base64\": \"…\"}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Blob, E> {
        Ok(text.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blob, A::Error> {
        let Some((name, code)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::missing_field("base64"));
        };
        if name != "base64" || map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("expected only the member \"base64\""));
        }
        let bytes = BASE64.decode(code).map_err(de::Error::custom)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_a_string_and_other_bytes_are_base64() {
        let text = serde_json::to_string(&Blob::from("zwei Wörter\n")).unwrap();
        assert_eq!(text, r#""zwei Wörter\n""#);
        let raw = serde_json::to_string(&Blob::from(vec![0xff, 0x00])).unwrap();
        assert_eq!(raw, r#"{"base64":"/wA="}"#);
    }

    #[test]
    fn other_shapes_are_refused() {
        for bad in ["1", "null", "{}", r#"{"base64":"%"}"#, r#"{"base64":"","x":""}"#] {
            assert!(serde_json::from_str::<Blob>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_printed_moves_the_cursor() {
        let nasty = Blob::from("a\u{1b}[2Jb\r\n\u{202e}c");
        assert_eq!(nasty.to_string(), r"a\u{1b}[2Jb\r\n\u{202e}c");
    }

    proptest! {
        #[test]
        fn any_bytes_survive_the_wire(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let blob = Blob::from(bytes);
            let json = serde_json::to_string(&blob).unwrap();
            prop_assert_eq!(serde_json::from_str::<Blob>(&json).unwrap(), blob);
        }
    }
}
