//! RESP, as redis speaks it: answers come in order.
//!
//! # Caveats
//!
//! With `WAIT` the put is acknowledged when so many replicas have it; in memory or on disk is as they are set.

use super::{Answer, Dialect, KEY_PATTERN, Parsed, Template, line, unexpected};
use crate::bench::values::Values;

pub(super) fn dialect(values: &Values, wait: u32) -> Dialect {
    let mut put = format!("*3\r\n$3\r\nSET\r\n$16\r\n{KEY_PATTERN}\r\n").into_bytes();
    put.extend_from_slice(format!("${}\r\n", values.pattern().len()).as_bytes());
    put.extend_from_slice(values.pattern());
    put.extend_from_slice(b"\r\n");
    if wait > 0 {
        let count = wait.to_string();
        let words = format!("*3\r\n$4\r\nWAIT\r\n${}\r\n{count}\r\n$1\r\n0\r\n", count.len());
        put.extend_from_slice(words.as_bytes());
    }
    let get = format!("*2\r\n$3\r\nGET\r\n$16\r\n{KEY_PATTERN}\r\n").into_bytes();
    Dialect {
        put: Template::new(put, Some(values)),
        get: Template::new(get, None),
        parse: if wait > 0 { parse_waiting } else { parse },
        names: false,
    }
}

fn parse(bytes: &[u8], _: Option<bool>) -> Result<Option<Parsed<'_>>, String> {
    let Some((first, length)) = line(bytes) else { return Ok(None) };
    let (length, answer) = match first.split_first() {
        Some((b'+', b"OK")) => (length, Answer::Stored),
        Some((b'-', message)) => (length, refusal(message)),
        Some((b'$', b"-1")) => (length, Answer::Missing),
        Some((b'$', digits)) => {
            let size = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            let size: usize = size.ok_or_else(|| unexpected(first))?;
            let Some(value) = bytes.get(length..length + size) else { return Ok(None) };
            if bytes.len() < length + size + 2 {
                return Ok(None);
            }
            (length + size + 2, Answer::Value(value))
        }
        _ => return Err(unexpected(first)),
    };
    Ok(Some(Parsed { bytes: length, slot: None, answer }))
}

/// A put has two answers: that of SET, then how many replicas have it.
fn parse_waiting(bytes: &[u8], read: Option<bool>) -> Result<Option<Parsed<'_>>, String> {
    let Some(set) = parse(bytes, read)? else { return Ok(None) };
    if read != Some(false) {
        return Ok(Some(set));
    }
    let Some((waited, length)) = line(&bytes[set.bytes..]) else { return Ok(None) };
    let answer = match (set.answer, waited.split_first()) {
        (Answer::Stored, Some((b':', b"0"))) => {
            Answer::Refused { name: "NO_REPLICA".into(), harmless: false }
        }
        (Answer::Stored, Some((b'-', message))) => match refusal(message) {
            Answer::Refused { name, .. } => Answer::Refused { name, harmless: false },
            other => other,
        },
        (answer, Some((b':' | b'-', _))) => answer,
        _ => return Err(unexpected(waited)),
    };
    Ok(Some(Parsed { bytes: set.bytes + length, slot: None, answer }))
}

/// The first word of an error is its stable name.
fn refusal(message: &[u8]) -> Answer<'static> {
    let text = String::from_utf8_lossy(message);
    let name = text.split(' ').next().unwrap_or_default().to_owned();
    Answer::Refused { name, harmless: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let found = b"$3\r\nabc\r\n+OK\r\n";
        for cut in 0..9 {
            assert_eq!(parse(&found[..cut], None), Ok(None), "{cut}");
        }
        let parsed = parse(found, None).unwrap().unwrap();
        assert_eq!((parsed.bytes, parsed.answer), (9, Answer::Value(b"abc")));
        assert_eq!(parse(b"+OK\r\n", None).unwrap().unwrap().answer, Answer::Stored);
        assert_eq!(parse(b"$-1\r\n", None).unwrap().unwrap().answer, Answer::Missing);
        let refused = Answer::Refused { name: "OOM".into(), harmless: true };
        assert_eq!(parse(b"-OOM no memory\r\n", None).unwrap().unwrap().answer, refused);
        assert!(parse(b"{}\r\n", None).is_err());
    }

    #[test]
    fn a_put_that_waits_has_two_answers() {
        let both = b"+OK\r\n:1\r\n";
        assert_eq!(parse_waiting(&both[..5], Some(false)), Ok(None));
        let parsed = parse_waiting(both, Some(false)).unwrap().unwrap();
        assert_eq!((parsed.bytes, parsed.answer), (9, Answer::Stored));
        let none = parse_waiting(b"+OK\r\n:0\r\n", Some(false)).unwrap().unwrap();
        assert_eq!(none.answer, Answer::Refused { name: "NO_REPLICA".into(), harmless: false });
        let get = parse_waiting(b"$-1\r\n:9\r\n", Some(true)).unwrap().unwrap();
        assert_eq!((get.bytes, get.answer), (5, Answer::Missing));
    }
}
