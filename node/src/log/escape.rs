//! Any bytes as one printable token, and back.
//!
//! | bytes | token |
//! |---|---|
//! | printable UTF-8 | itself: `grün` |
//! | space, `%`, controls, line separators, byte-order mark, zero-width and bidi controls | `%HH` for each byte: `a%20b` |
//! | bytes that are not UTF-8 | `%HH` for each |
//! | nothing | `%-` |
//!
//! There is exactly one token for given bytes; [`decode`] refuses every other spelling. So two
//! lines with the same text are the same record, and no newline, escape sequence or separator in a
//! key can reach the file or the terminal that shows it.
//!
//! # Caveats
//!
//! Binary values grow up to three times. Spaces other than U+0020 stand for themselves: split a
//! line at U+0020 only.

use ringkv_shared::disturbs_terminal;

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const EMPTY: &[u8] = b"%-";

/// Why a token stands for no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// A token has at least one byte; no bytes at all are written `%-`.
    #[error("an empty token (no bytes are written %-)")]
    Empty,
    /// `%` without two upper-case hexadecimal digits.
    #[error("a % without two digits 0-9A-F at byte {at} of the token")]
    Digits {
        /// Where the `%` is.
        at: usize,
    },
    /// The bytes have another, canonical spelling.
    #[error("not the canonical spelling of its bytes")]
    NotCanonical,
}

/// Appends the token of `bytes` to `out`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        out.extend_from_slice(EMPTY);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        encode_text(chunk.valid(), out);
        chunk.invalid().iter().for_each(|&byte| escape(byte, out));
    }
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    let mut plain_from = 0;
    for (at, c) in text.char_indices() {
        if stands_for_itself(c) {
            continue;
        }
        let end = at + c.len_utf8();
        out.extend_from_slice(&text.as_bytes()[plain_from..at]);
        text.as_bytes()[at..end].iter().for_each(|&byte| escape(byte, out));
        plain_from = end;
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
}

fn stands_for_itself(c: char) -> bool {
    c.is_ascii_graphic() && c != '%' || !c.is_ascii() && !disturbs_terminal(c)
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// The bytes of a token, if it is their canonical one.
///
/// # Errors
///
/// [`BadToken`] says what is wrong with it.
pub fn decode(token: &[u8]) -> Result<Vec<u8>, BadToken> {
    if token.is_empty() {
        return Err(BadToken::Empty);
    }
    if token == EMPTY {
        return Ok(Vec::new());
    }
    let bytes = unescape(token)?;
    let mut canonical = Vec::with_capacity(token.len());
    encode(&bytes, &mut canonical);
    if canonical == token { Ok(bytes) } else { Err(BadToken::NotCanonical) }
}

fn unescape(token: &[u8]) -> Result<Vec<u8>, BadToken> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut at = 0;
    while at < token.len() {
        if token[at] == b'%' {
            let digits = (token.get(at + 1), token.get(at + 2));
            let (Some(high), Some(low)) = (digit(digits.0), digit(digits.1)) else {
                return Err(BadToken::Digits { at });
            };
            bytes.push(high << 4 | low);
            at += 3;
        } else {
            bytes.push(token[at]);
            at += 1;
        }
    }
    Ok(bytes)
}

fn digit(byte: Option<&u8>) -> Option<u8> {
    match byte? {
        byte @ b'0'..=b'9' => Some(byte - b'0'),
        byte @ b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tokens_are_readable() {
        for (bytes, expected) in [
            (&b""[..], "%-"),
            (b"-", "-"),
            (b"user:1", "user:1"),
            (b"hello world", "hello%20world"),
            (b"100%", "100%25"),
            ("grün 🦀".as_bytes(), "grün%20🦀"),
            (b"a\r\n\tb\x1b[2J", "a%0D%0A%09b%1B[2J"),
            ("\u{85}\u{2028}".as_bytes(), "%C2%85%E2%80%A8"),
            ("\u{feff}\u{202e}x".as_bytes(), "%EF%BB%BF%E2%80%AEx"),
            (b"\xff\x00\xc3", "%FF%00%C3"),
        ] {
            assert_eq!(token(bytes), expected);
            assert_eq!(decode(expected.as_bytes()).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for (bad, why) in [
            (&b""[..], BadToken::Empty),
            (b"%", BadToken::Digits { at: 0 }),
            (b"a%2", BadToken::Digits { at: 1 }),
            (b"%2f", BadToken::Digits { at: 0 }),
            (b"a%-", BadToken::Digits { at: 1 }),
            (b"%41", BadToken::NotCanonical),
            (b"%C3%BC", BadToken::NotCanonical),
            (b"a b", BadToken::NotCanonical),
            (b"\xff", BadToken::NotCanonical),
            (b"a\n", BadToken::NotCanonical),
            ("\u{200b}".as_bytes(), BadToken::NotCanonical),
        ] {
            assert_eq!(decode(bad), Err(why), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let token = token(&bytes);
            prop_assert!(!token.contains([' ', '\n']));
            prop_assert_eq!(decode(token.as_bytes()), Ok(bytes));
        }

        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            prop_assert_eq!(decode(token(text.as_bytes()).as_bytes()), Ok(text.into_bytes()));
        }

        #[test]
        fn what_decodes_is_canonical(soup in "[%0-9A-F a-f-]{0,8}") {
            if let Ok(bytes) = decode(soup.as_bytes()) {
                prop_assert_eq!(token(&bytes), soup);
            }
        }
    }
}
