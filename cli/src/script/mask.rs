//! What changes from run to run, replaced by `[..]` when `--update` writes a line: process ids,
//! ports that the system chose, times and the temporary directory's name.
//!
//! # Caveats
//!
//! It knows the sentences of this program, nothing more. A line that it gets wrong is edited by
//! hand once and kept from then on, because it fits.

/// What stands right before a number that changes.
const BEFORE: [&str; 2] = ["pid ", "127.0.0.1:"];
/// What stands right after a number that changes.
const AFTER: [&str; 6] = [" ms", " s", "/s", " ms)", " s)", " s ago"];

/// The line with `[..]` for what changes; ports are kept when the script fixed them.
pub(super) fn mask(line: &str, ports_are_fixed: bool) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        masked.push_str(before);
        let (number, after) = from.split_at(number_len(from));
        let varies =
            BEFORE.iter().any(|b| masked.ends_with(b) && !(ports_are_fixed && b.ends_with(':')))
                || AFTER.iter().any(|a| is_unit(after, a));
        if varies {
            masked.push_str("[..]");
            rest = after;
        } else if let Some(longer) = from.strip_prefix("127.0.0.1") {
            masked.push_str("127.0.0.1");
            rest = longer;
            if let Some(port) = rest.strip_prefix(':') {
                masked.push(':');
                rest = port;
            }
        } else {
            masked.push_str(number);
            rest = after;
        }
    }
    masked.push_str(rest);
    masked
}

/// The length of a number such as `12`, `0.06` or `33.1`.
fn number_len(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let fraction = text[whole..].strip_prefix('.').map_or(0, digits);
    if fraction == 0 { whole } else { whole + 1 + fraction }
}

/// Whether `after` begins with a unit as a whole word.
fn is_unit(after: &str, unit: &str) -> bool {
    let next = after.strip_prefix(unit).map(|rest| rest.chars().next());
    next.is_some_and(|next| next.is_none_or(|c| !c.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_masked() {
        for (line, masked) in [
            ("Killed n1 (pid 4711, SIGKILL).", "Killed n1 (pid [..], SIGKILL)."),
            ("Added n3 (127.0.0.1:43211), 33.1 %", "Added n3 (127.0.0.1:[..]), 33.1 %"),
            ("copied 1, removed 1, failed 0, 0.06 s", "copied 1, removed 1, failed 0, [..] s"),
            ("(0.6 ms)", "([..] ms)"),
            ("n1  DOWN  1.9 s ago", "n1  DOWN  [..] s ago"),
            ("apple -> 123", "apple -> 123"),
            ("3 heartbeats missed, 1.6 s)", "3 heartbeats missed, [..] s)"),
            ("7 second", "7 second"),
        ] {
            assert_eq!(mask(line, false), masked);
        }
    }

    #[test]
    fn fixed_ports_stay() {
        assert_eq!(mask("n1 127.0.0.1:5001 pid 9", true), "n1 127.0.0.1:5001 pid [..]");
    }
}
