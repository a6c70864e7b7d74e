//! memcached's text protocol: answers come in order.

use super::{Answer, Dialect, KEY_PATTERN, Parsed, Template, line, unexpected};
use crate::bench::values::Values;

const END: &[u8] = b"\r\nEND\r\n";

pub(super) fn dialect(values: &Values) -> Dialect {
    let mut put = format!("set {KEY_PATTERN} 0 0 {}\r\n", values.pattern().len()).into_bytes();
    put.extend_from_slice(values.pattern());
    put.extend_from_slice(b"\r\n");
    let get = format!("get {KEY_PATTERN}\r\n").into_bytes();
    Dialect {
        put: Template::new(put, Some(values)),
        get: Template::new(get, None),
        parse,
        names: false,
    }
}

fn parse(bytes: &[u8], _: Option<bool>) -> Result<Option<Parsed<'_>>, String> {
    let Some((first, length)) = line(bytes) else { return Ok(None) };
    let (length, answer) = match first {
        b"STORED" => (length, Answer::Stored),
        b"END" => (length, Answer::Missing),
        _ if first.starts_with(b"VALUE ") => {
            let size = first.rsplit(|byte| *byte == b' ').next();
            let size = size.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            let size: usize = size.ok_or_else(|| unexpected(first))?;
            let end = length + size + END.len();
            let Some(rest) = bytes.get(length..end) else { return Ok(None) };
            if !rest.ends_with(END) {
                return Err(unexpected(first));
            }
            (end, Answer::Value(&rest[..size]))
        }
        _ if [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR", b"NOT_STORED"]
            .iter()
            .any(|name| first.starts_with(name)) =>
        {
            let text = String::from_utf8_lossy(first);
            let name = text.split(' ').next().unwrap_or_default().to_owned();
            (length, Answer::Refused { name, harmless: true })
        }
        _ => return Err(unexpected(first)),
    };
    Ok(Some(Parsed { bytes: length, slot: None, answer }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let found = b"VALUE key:000000000001 0 3\r\nabc\r\nEND\r\n";
        for cut in 0..found.len() {
            assert_eq!(parse(&found[..cut], None), Ok(None), "{cut}");
        }
        let parsed = parse(found, None).unwrap().unwrap();
        assert_eq!((parsed.bytes, parsed.answer), (found.len(), Answer::Value(b"abc")));
        assert_eq!(parse(b"STORED\r\n", None).unwrap().unwrap().answer, Answer::Stored);
        assert_eq!(parse(b"END\r\n", None).unwrap().unwrap().answer, Answer::Missing);
        let refused = Answer::Refused { name: "SERVER_ERROR".into(), harmless: true };
        let full = b"SERVER_ERROR out of memory\r\n";
        assert_eq!(parse(full, None).unwrap().unwrap().answer, refused);
        assert!(parse(b"+OK\r\n", None).is_err());
    }
}
