//! Answers, byte for byte as `serde_json` writes them.

use crate::{Blob, Line, Version};

/// A text of which JSON's spelling between quotes is the text itself: UTF-8 without quotes, backslashes and controls.
#[must_use]
#[inline]
pub fn plain_text(bytes: &[u8]) -> Option<&str> {
    // Without a way out in the middle, so that many bytes are looked at at once.
    let special = |byte: &u8| (*byte < b' ') | (*byte == b'"') | (*byte == b'\\');
    let any = bytes.iter().fold(false, |any, byte| any | special(byte));
    if any { None } else { std::str::from_utf8(bytes).ok() }
}

/// JSON being written, piece by piece.
pub trait Spell {
    /// Pieces that are JSON already.
    fn raw(&mut self, text: &str) -> &mut Self;
    /// `{"jsonrpc":"2.0","id":7,"result":`, of an id as it was spelled.
    fn answer_to(&mut self, id: &str) -> &mut Self;
    /// The same of an id that is a number.
    fn answer_to_number(&mut self, id: u64) -> &mut Self {
        self.raw(r#"{"jsonrpc":"2.0","id":"#).number(id).raw(r#","result":"#)
    }
    /// A number.
    fn number(&mut self, number: u64) -> &mut Self;
    /// A key or value.
    fn blob(&mut self, bytes: &[u8]) -> &mut Self;
    /// A version, between quotes.
    fn version(&mut self, version: Version) -> &mut Self;
}

impl Spell for Vec<u8> {
    #[inline]
    fn raw(&mut self, text: &str) -> &mut Self {
        self.extend_from_slice(text.as_bytes());
        self
    }

    #[inline]
    fn answer_to(&mut self, id: &str) -> &mut Self {
        self.raw(r#"{"jsonrpc":"2.0","id":"#).raw(id).raw(r#","result":"#)
    }

    #[inline]
    fn number(&mut self, mut number: u64) -> &mut Self {
        let (mut digits, mut at) = ([0; 20], 20);
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.extend_from_slice(&digits[at..]);
        self
    }

    #[inline]
    fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        match plain_text(bytes) {
            Some(text) => self.raw("\"").raw(text).raw("\""),
            None => {
                let blob = Blob::from(bytes.to_vec());
                serde_json::to_writer(&mut *self, &blob).expect("bytes can be written to memory");
                self
            }
        }
    }

    #[inline]
    fn version(&mut self, version: Version) -> &mut Self {
        match version.line() {
            Line::Coordinators => {
                self.raw("\"").number(u64::from(version.epoch));
            }
            Line::Node(epoch) => {
                let digit = |at: u32| b"0123456789abcdef"[(epoch >> (28 - 4 * at) & 15) as usize];
                self.raw("\"x").extend((0..8).map(digit));
            }
        }
        self.raw(".").number(version.counter).raw("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_serde_writes_them(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20),
                ".{0,20}".prop_map(String::into_bytes),
                "[ -~]{0,20}".prop_map(String::into_bytes),
            ],
            number in any::<u64>(), epoch in any::<u32>(), counter in any::<u64>(),
        ) {
            let version = Version::new(epoch, counter);
            let mut out = Vec::new();
            out.blob(&bytes).raw(" ").number(number).raw(" ").version(version);
            let expected = format!(
                "{} {number} {}",
                serde_json::to_string(&Blob::from(bytes)).unwrap(),
                serde_json::to_string(&version).unwrap(),
            );
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
