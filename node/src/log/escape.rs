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

use std::borrow::Cow;

use ringkv_shared::disturbs_terminal;

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const EMPTY: &[u8] = b"%-";

/// How many bytes are judged at once where nothing needs an escape.
const STRIDE_BYTES: usize = 32;

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
    /// More bytes than the limit for a key or a value.
    #[error("{bytes} bytes where at most {max} are stored")]
    TooLong {
        /// How many the token stands for.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A compressed value is not the one base64 spelling of anything.
    #[error("not base64 after %z")]
    Base64,
    /// What was in base64 is not one zstd frame of a value of legal size.
    #[error("the base64 after %z is not one zstd frame of a value of legal size")]
    Frame,
}

/// Appends the token of `bytes` to `out`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    spell(bytes, |piece| out.extend_from_slice(piece));
}

/// How many bytes the token of `bytes` has.
#[must_use]
pub fn token_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    spell(bytes, |piece| len += piece.len());
    len
}

/// Gives the token of `bytes` to `emit`, piece by piece.
fn spell(bytes: &[u8], mut emit: impl FnMut(&[u8])) {
    if bytes.is_empty() {
        return emit(EMPTY);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let (plain, after) = rest.split_at(plain_run(rest));
        let other = after.iter().take_while(|byte| !is_plain(**byte)).count();
        let (odd, after) = after.split_at(other);
        if !plain.is_empty() {
            emit(plain);
        }
        // Sequences of UTF-8 longer than a byte have no ASCII in them, so none is torn here.
        for chunk in odd.utf8_chunks() {
            spell_text(chunk.valid(), &mut emit);
            chunk.invalid().iter().for_each(|&byte| emit(&escaped(byte)));
        }
        rest = after;
    }
}

fn spell_text(text: &str, emit: &mut impl FnMut(&[u8])) {
    let mut utf8 = [0; 4];
    for c in text.chars() {
        let bytes = c.encode_utf8(&mut utf8).as_bytes();
        if c.is_ascii() || disturbs_terminal(c) {
            bytes.iter().for_each(|&byte| emit(&escaped(byte)));
        } else {
            emit(bytes);
        }
    }
}

/// How many bytes at the start stand for themselves and are ASCII.
fn plain_run(bytes: &[u8]) -> usize {
    // Without an early way out inside a stride, the compiler judges its bytes all at once.
    let all_plain = |stride: &&[u8]| stride.iter().fold(true, |all, &byte| all & is_plain(byte));
    let strides = bytes.chunks_exact(STRIDE_BYTES).take_while(all_plain).count();
    let at = strides * STRIDE_BYTES;
    at + bytes[at..].iter().take_while(|byte| is_plain(**byte)).count()
}

/// Whether a byte is ASCII that stands for itself.
const fn is_plain(byte: u8) -> bool {
    (byte.wrapping_sub(b'!') < b'~' - b'!' + 1) & (byte != b'%')
}

fn escaped(byte: u8) -> [u8; 3] {
    [b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// The bytes of a token, if it is their canonical one; a copy only if something is escaped.
///
/// # Errors
///
/// [`BadToken`] says what is wrong with it.
pub fn decode(token: &[u8]) -> Result<Cow<'_, [u8]>, BadToken> {
    if token.is_empty() {
        return Err(BadToken::Empty);
    }
    if token == EMPTY {
        return Ok(Cow::Borrowed(&[]));
    }
    let plain = plain_run(token);
    if plain == token.len() {
        return Ok(Cow::Borrowed(token));
    }
    let bytes = unescape(token, plain)?;
    if is_token_of(token, &bytes) { Ok(bytes) } else { Err(BadToken::NotCanonical) }
}

fn is_token_of(token: &[u8], bytes: &[u8]) -> bool {
    let mut rest = Some(token);
    spell(bytes, |piece| rest = rest.and_then(|rest| rest.strip_prefix(piece)));
    rest.is_some_and(<[u8]>::is_empty)
}

/// Undoes the escapes after the first `plain` bytes.
fn unescape(token: &[u8], plain: usize) -> Result<Cow<'_, [u8]>, BadToken> {
    let Some(first) = memchr::memchr(b'%', &token[plain..]) else {
        return Ok(Cow::Borrowed(token));
    };
    let mut at = plain + first;
    let mut bytes = Vec::with_capacity(token.len());
    bytes.extend_from_slice(&token[..at]);
    while at < token.len() {
        let digits = (token.get(at + 1), token.get(at + 2));
        let (Some(high), Some(low)) = (digit(digits.0), digit(digits.1)) else {
            return Err(BadToken::Digits { at });
        };
        bytes.push(high << 4 | low);
        let rest = &token[at + 3..];
        let plain = memchr::memchr(b'%', rest).unwrap_or(rest.len());
        bytes.extend_from_slice(&rest[..plain]);
        at += 3 + plain;
    }
    Ok(Cow::Owned(bytes))
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
            prop_assert_eq!(token.len(), token_len(&bytes));
            prop_assert_eq!(decode(token.as_bytes()).unwrap(), bytes);
        }

        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let token = token(text.as_bytes());
            prop_assert_eq!(decode(token.as_bytes()).unwrap(), text.as_bytes());
        }

        #[test]
        fn what_decodes_is_canonical(soup in "[%0-9A-F a-f-]{0,8}") {
            if let Ok(bytes) = decode(soup.as_bytes()) {
                prop_assert_eq!(token(&bytes), soup);
            }
        }
    }
}
