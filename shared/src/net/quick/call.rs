//! The envelope of a request.

use super::scan::Scan;
use crate::protocol::claim::Reign;

/// A call with positional parameters.
#[derive(Clone, Copy, Debug)]
pub struct QuickCall<'a> {
    /// Under which epochs it was made, by a coordinator.
    pub reign: Option<Reign>,
    /// The id as it is spelled: digits.
    pub id: &'a str,
    /// The method.
    pub method: &'a str,
    /// What stands between `[` and `]`.
    pub params: &'a [u8],
}

impl<'a> QuickCall<'a> {
    /// Reads a line; `None` if it is spelled in any other way. What the parameters are is not looked at: they are
    /// JSON only if whoever reads them takes them all.
    #[must_use]
    #[inline]
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let mut line = Scan::new(line.strip_suffix(b"]}")?);
        line.skip(r#"{"jsonrpc":"2.0","#)?;
        let reign = if line.skip_if(r#""epoch":""#) { Some(reign(&mut line)?) } else { None };
        line.skip(r#""id":"#)?;
        let (_, id) = line.digits()?;
        line.skip(r#","method":"#)?;
        let method = line.text()?;
        line.skip(r#","params":["#)?;
        Some(Self { reign, id, method, params: line.rest() })
    }
}

/// `3.12",`, as [`Reign`] writes it.
fn reign(line: &mut Scan<'_>) -> Option<Reign> {
    let coordinator = u32::try_from(line.number()?).ok()?;
    line.skip(".")?;
    let ring = line.number()?;
    line.skip("\",")?;
    Some(Reign { coordinator, ring })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_and_no_other() {
        let line = br#"{"jsonrpc":"2.0","epoch":"3.12","id":7,"method":"put","params":["a",1]}"#;
        let call = QuickCall::read(line).unwrap();
        assert_eq!(call.reign, Some("3.12".parse().unwrap()));
        assert_eq!((call.id, call.method, call.params), ("7", "put", &br#""a",1"#[..]));
        let line = br#"{"jsonrpc":"2.0","id":0,"method":"info","params":[]}"#;
        let call = QuickCall::read(line).unwrap();
        assert_eq!((call.reign, call.id, call.method, call.params), (None, "0", "info", &b""[..]));
        for other in [
            r#"{"jsonrpc":"2.0", "id":0,"method":"info","params":[]}"#,
            r#"{"id":0,"jsonrpc":"2.0","method":"info","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":"0","method":"info","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":00,"method":"info","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":0,"method":"in\u0066o","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":0,"method":"info","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":0,"method":"info"}"#,
            r#"{"jsonrpc":"2.0","epoch":"03.1","id":0,"method":"info","params":[]}"#,
            r#"{"jsonrpc":"2.0","epoch":"4294967296.1","id":0,"method":"info","params":[]}"#,
            r#"{"jsonrpc":"2.0","method":"info","params":[]}"#,
        ] {
            assert!(QuickCall::read(other.as_bytes()).is_none(), "{other}");
        }
    }
}
