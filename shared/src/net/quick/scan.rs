//! Text that is read piece by piece: each step takes what it names off the front, or says that it is not there.

use super::spell::plain_text;
use crate::{Line, Version};

/// What is left of a text.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    /// All of it.
    #[inline]
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// What is left.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing is left.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// Just these bytes.
    #[inline]
    pub fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text.as_bytes())?;
        Some(())
    }

    /// These bytes if they are there; whether they were.
    #[inline]
    pub fn skip_if(&mut self, text: &str) -> bool {
        self.skip(text).is_some()
    }

    /// A whole number as JSON and we write it: no sign, no zeros in front, at most 19 digits.
    #[inline]
    pub fn number(&mut self) -> Option<u64> {
        let (number, len) = self.count()?;
        self.0 = &self.0[len..];
        Some(number)
    }

    /// The same with its spelling.
    #[inline]
    pub fn digits(&mut self) -> Option<(u64, &'a str)> {
        let (number, len) = self.count()?;
        let (spelled, rest) = self.0.split_at(len);
        self.0 = rest;
        Some((number, std::str::from_utf8(spelled).ok()?))
    }

    /// The number that comes next, and how many digits it has.
    #[inline]
    fn count(&self) -> Option<(u64, usize)> {
        let (mut number, mut len) = (0u64, 0);
        while let Some(digit) =
            self.0.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|d| *d < 10)
        {
            if len == 19 {
                return None;
            }
            number = number * 10 + u64::from(digit);
            len += 1;
        }
        let is_number = len > 0 && (len == 1 || self.0[0] != b'0');
        is_number.then_some((number, len))
    }

    /// A version of a coordinator, between quotes.
    #[inline]
    pub fn version(&mut self) -> Option<Version> {
        self.skip("\"")?;
        let epoch = u32::try_from(self.number()?).ok()?;
        self.skip(".")?;
        let version = Version::new(epoch, self.number()?);
        self.skip("\"")?;
        (version.line() == Line::Coordinators).then_some(version)
    }

    /// What stands between two quotes, if that is the string itself: UTF-8, nothing in it escaped.
    #[inline]
    pub fn text(&mut self) -> Option<&'a str> {
        let inside = self.0.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', inside)?;
        let text = plain_text(&inside[..end])?;
        self.0 = &inside[end + 1..];
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_texts() {
        for (text, number) in [
            ("0,", Some(0)),
            ("12]", Some(12)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("10000000000000000000", None),
            ("01", None),
            ("-1", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(Scan::new(text.as_bytes()).number(), number, "{text}");
        }
        let mut scan = Scan::new(b"[\"a\",12]");
        assert_eq!(scan.skip("["), Some(()));
        assert_eq!(scan.text(), Some("a"));
        assert!(scan.skip_if(",") && !scan.skip_if(","));
        assert_eq!(
            (scan.digits(), scan.rest(), scan.is_done()),
            (Some((12, "12")), &b"]"[..], false)
        );
    }

    #[test]
    fn versions() {
        for text in [
            "\"3.42\"",
            "\"0.0\"",
            "\"03.1\"",
            "\"2147483648.1\"",
            "\"x80000001.7\"",
            "\"3.\"",
            "3.1",
        ] {
            let read = Scan::new(text.as_bytes()).version();
            let expected = serde_json::from_str::<Version>(text).ok();
            assert_eq!(read, expected.filter(|v| v.line() == Line::Coordinators), "{text}");
        }
    }

    proptest! {
        /// A text is taken only where JSON has the same string there.
        #[test]
        fn a_text_is_what_json_has_there(inside in proptest::collection::vec(any::<u8>(), 0..20)) {
            let quoted = [b"\"", &inside[..], b"\""].concat();
            let mut scan = Scan::new(&quoted);
            if let Some(text) = scan.text() {
                let used = &quoted[..quoted.len() - scan.rest().len()];
                prop_assert_eq!(serde_json::from_slice::<String>(used).ok(), Some(text.to_owned()));
            }
        }
    }
}
