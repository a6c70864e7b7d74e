//! What changes from run to run, replaced by `[..]` before anything is compared or written.
//!
//! | what | example | masked |
//! |---|---|---|
//! | process ids | `(pid 4711, SIGKILL)` | `(pid [..], SIGKILL)` |
//! | ports that the system chose | `127.0.0.1:43211` | `127.0.0.1:[..]` |
//! | times and rates | `0.06 s`, `"ms":0.6`, `now`, `1.9 s ago` | `[..] s`, `"ms":[..]`, `[..]` |
//! | identities, and the checksums that depend on it | `node=6f1c…`, `c=77aa0312` | `node=[..]`, `c=[..]` |
//! | what is left of a time to live | `expires in 59m 59s`, `expired 0.3 s ago` | `expires in [..]`, `expired [..] ago` |
//! | moments | `x=1767225600000`, `2026-01-01T00:00:00Z` | `[..]` |
//! | the identity in a version that a node gave | `x9f00c001.7` | `x[..].7` |
//! | the folder of a cluster's data | `/tmp/ringkv-5dUdE9/n1` | `[..]/n1` |
//!
//! Everything else is compared to the letter: owners, shares, versions, epochs, counts, sizes.
//! Both sides are masked, so what a person pastes from a terminal fits as it is.
//!
//! # Caveats
//!
//! It knows the sentences of this program, nothing more. A value that looks like one of them (`put
//! race "9.58 s"`) is masked, too. In a table the blanks after a port make up for its length, so
//! columns stay in line; the ports must have as many digits in every run, which those that the
//! system chooses have.

/// The wildcard that stands for what changes.
const ANY: &str = "[..]";
/// What stands right before a number that changes.
const BEFORE_NUMBER: [&str; 7] =
    [" x=", "(pid ", "\"pid\":", "127.0.0.1:", "_ms\":", "_us\":", "\"ms\":"];
/// What stands right after a number that changes, as a whole word.
const AFTER_NUMBER: [&str; 3] = [" ms", " s", "/s"];
/// What stands right before hexadecimal digits (and dashes) that change.
const BEFORE_HEX: [&str; 5] = [" c=", " prev=", " node=", "\"uuid\":\"", "\"coordinator\":\""];
/// How the name of a cluster's temporary folder begins, after the folder it is in.
const FOLDER: &str = "/ringkv-";

/// The line with `[..]` for what changes; ports are kept when the script fixed them.
pub(super) fn mask(line: &str, ports_are_fixed: bool) -> String {
    let line = last_seen(&moment(&time_left(&folder(line))));
    numbers(&node_version(&hex(&line)), ports_are_fixed)
}

/// `(expires in 59m 59s)` → `(expires in [..])`, however often.
fn time_left(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("xpires in ").map(|at| at + "xpires in ".len()) {
        masked.push_str(&rest[..at]);
        rest = &rest[at..];
        // A sentence ends behind its last dot, a number goes on behind it.
        let end = |(at, c): (usize, char)| match c {
            ')' | ',' | ';' => true,
            '.' => {
                !rest[at + 1..].starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == ']')
            }
            _ => false,
        };
        let end = rest.char_indices().find(|&place| end(place)).map_or(rest.len(), |(at, _)| at);
        if end > 0 {
            masked.push_str(ANY);
        }
        rest = &rest[end..];
    }
    masked + rest
}

/// `at 2026-01-01T00:00:00Z` → `at [..]`.
fn moment(line: &str) -> String {
    const FORM: &str = "0000-00-00T00:00:00Z";
    let as_form = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let zeros: String = line.chars().map(as_form).collect();
    match zeros.find(FORM) {
        Some(at) => format!("{}{ANY}{}", &line[..at], &line[at + FORM.len()..]),
        None => line.to_owned(),
    }
}

/// `# /tmp/ringkv-5dUdE9/n1/data.log` → `# [..]/n1/data.log`.
fn folder(line: &str) -> String {
    let Some(at) = line.find(FOLDER) else { return line.to_owned() };
    let begin = line[..at].rfind([' ', '"', '(', '\'']).map_or(0, |blank| blank + 1);
    let name = line[at + FOLDER.len()..].find(|c: char| !c.is_ascii_alphanumeric());
    let end = name.map_or(line.len(), |length| at + FOLDER.len() + length);
    format!("{}{ANY}{}", &line[..begin], &line[end..])
}

/// The last column of `show`: `now`, `1.9 s ago`, `3 min ago`.
fn last_seen(line: &str) -> String {
    let Some((before, last)) = line.rsplit_once("  ") else { return line.to_owned() };
    let is_time = |time: &str| time == ANY || number_len(time) == time.len();
    let ago = last.strip_suffix(" s ago").or_else(|| last.strip_suffix(" min ago"));
    if last == "now" || ago.is_some_and(is_time) {
        return format!("{before}  {ANY}");
    }
    line.to_owned()
}

/// Identities and checksums.
fn hex(line: &str) -> String {
    let mut masked = line.to_owned();
    for before in BEFORE_HEX {
        let Some(at) = masked.find(before) else { continue };
        let from = at + before.len();
        let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
        let length = masked[from..].find(|c| !is_hex(c)).unwrap_or(masked.len() - from);
        if length > 0 {
            masked.replace_range(from..from + length, ANY);
        }
    }
    masked
}

/// `x9f00c001.7`, a version that a node has given, → `x[..].7`, however often.
fn node_version(line: &str) -> String {
    const DIGITS: usize = 8;
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('x') {
        let (before, from) = rest.split_at(at + 1);
        let begins = !before[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let digits = from.bytes().take_while(|&c| is_hex(c)).count();
        masked.push_str(before);
        rest = from;
        if begins && digits == DIGITS && from[DIGITS..].starts_with('.') {
            masked.push_str(ANY);
            rest = &from[DIGITS..];
        }
    }
    masked + rest
}

fn numbers(line: &str, ports_are_fixed: bool) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        masked.push_str(before);
        if let Some(port) = from.strip_prefix("127.0.0.1:") {
            masked.push_str("127.0.0.1:");
            rest = port;
            if ports_are_fixed {
                let digits = number_len(rest);
                masked.push_str(&rest[..digits]);
                rest = &rest[digits..];
            }
            continue;
        }
        let (number, after) = from.split_at(number_len(from));
        rest = after;
        let varies = BEFORE_NUMBER.iter().any(|b| masked.ends_with(b))
            || AFTER_NUMBER.iter().any(|unit| is_unit(after, unit));
        if !varies {
            masked.push_str(number);
            continue;
        }
        masked.push_str(ANY);
        if after.starts_with("  ") {
            masked.push_str(&" ".repeat(number.len().saturating_sub(ANY.len())));
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
    next.is_some_and(|next| next.is_none_or(|c| matches!(c, ' ' | ')' | ',' | '.' | ':' | ';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_masked_and_nothing_else() {
        for (line, masked) in [
            ("Killed n1 (pid 4711, SIGKILL).", "Killed n1 (pid [..], SIGKILL)."),
            ("Added n3 (127.0.0.1:43211), 33.1 %", "Added n3 (127.0.0.1:[..]), 33.1 %"),
            ("n1  127.0.0.1:43211  UP  245 B  now", "n1  127.0.0.1:[..]   UP  245 B  [..]"),
            ("n1  127.0.0.1:[..]   UP  245 B  [..]", "n1  127.0.0.1:[..]   UP  245 B  [..]"),
            ("copied 1, removed 1, failed 0, 0.06 s", "copied 1, removed 1, failed 0, [..] s"),
            ("in 0.05 s (19980/s).", "in [..] s ([..]/s)."),
            ("(0.6 ms)", "([..] ms)"),
            ("up to 1.7, at 2026-01-01T10:20:30Z, in 0.05 s.", "up to 1.7, at [..], in [..] s."),
            ("n1 1.3 (expires in 9.2 s)", "n1 1.3 (expires in [..])"),
            ("on: n2 1.1 (expires in 59m 59s), n1 1.1 (expires in 1h)", {
                "on: n2 1.1 (expires in [..]), n1 1.1 (expires in [..])"
            }),
            ("It expires in 9.2 s.", "It expires in [..]."),
            ("PUT a 1 k=default v=1.1 x=1795287660481 s=1 d=0 c=77aa0312", {
                "PUT a 1 k=default v=1.1 x=[..] s=1 d=0 c=[..]"
            }),
            ("n1  DOWN  1.9 s ago", "n1  DOWN  [..]"),
            ("n1  DOWN  [..] s ago", "n1  DOWN  [..]"),
            ("{\"addr\":\"127.0.0.1:5001\",\"last_seen_ms\":12}", {
                "{\"addr\":\"127.0.0.1:[..]\",\"last_seen_ms\":[..]}"
            }),
            ("PUT a 1 k=default v=1.1 x=- s=2 d=1 c=104a407a", {
                "PUT a 1 k=default v=1.1 x=- s=2 d=1 c=[..]"
            }),
            ("DRP banana k=default v=1.1 s=3 d=2 c=a7a19bf7", {
                "DRP banana k=default v=1.1 s=3 d=2 c=[..]"
            }),
            ("#ringkv 1 node=efd71700-206c seg=000001 prev=00000000 s=0 c=0b8cd01d", {
                "#ringkv 1 node=[..] seg=000001 prev=[..] s=0 c=[..]"
            }),
            ("{\"log_bytes\":226,\"coordinator\":\"7f7d-1\"}", {
                "{\"log_bytes\":226,\"coordinator\":\"[..]\"}"
            }),
            ("# /tmp/ringkv-5dUdE9/n1/data.log", "# [..]/n1/data.log"),
            ("n1  x9f00c001.7  1", "n1  x[..].7  1"),
            ("context: 1.3,x9f00c001.7,+xa000c001.8", "context: 1.3,x[..].7,+x[..].8"),
            (
                "put hex9f00c001.7 x9f00c001 x9f00c0011.7",
                "put hex9f00c001.7 x9f00c001 x9f00c0011.7",
            ),
            (
                "W=1 after 0.9 ms; answered after 1.2 ms",
                "W=1 after [..] ms; answered after [..] ms",
            ),
            ("\"took_us\":412,", "\"took_us\":[..],"),
            ("apple -> 123", "apple -> 123"),
            ("7 second", "7 second"),
            ("hash 517a430dcf1f8a00 -> token 517c", "hash 517a430dcf1f8a00 -> token 517c"),
        ] {
            assert_eq!(mask(line, false), masked);
            assert_eq!(mask(masked, false), masked, "masked twice");
        }
    }

    #[test]
    fn fixed_ports_stay() {
        assert_eq!(mask("n1 127.0.0.1:5001 (pid 9)", true), "n1 127.0.0.1:5001 (pid [..])");
    }
}
