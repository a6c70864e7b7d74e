//! What fits what: expected lines against printed ones.
//!
//! `[..]` stands for any text within a line, a line that is only `...` for any number of lines.
//! Both sides are aligned so that as few lines as possible stand alone. With none alone they
//! match; otherwise the same alignment is the diff, and what `--update` writes: expected lines
//! that fit stay as they are written, with their `[..]`.
//!
//! # Caveats
//!
//! Time and memory are the product of the two numbers of lines; past [`CELLS_MAX`] the sides are
//! not aligned and everything counts as different.

/// The wildcard line.
const ANY_LINES: &str = "...";
/// The wildcard within a line.
const ANY_TEXT: &str = "[..]";
/// The most pairs of lines that are looked at, 4 bytes each.
const CELLS_MAX: usize = 8_000_000;

/// One line of an alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair<'a> {
    /// Expected, and printed like that.
    Same {
        /// As expected, with wildcards.
        expected: &'a str,
        /// As printed.
        printed: &'a str,
    },
    /// The line `...`.
    AnyLines,
    /// Printed, and covered by the `...` before it.
    Covered,
    /// Expected, not printed.
    Missing(&'a str),
    /// Printed, not expected.
    Extra(&'a str),
}

/// Aligns expected and printed lines.
pub(super) fn align<'a>(expected: &'a [String], printed: &'a [String]) -> Vec<Pair<'a>> {
    let width = printed.len() + 1;
    if (expected.len() + 1).saturating_mul(width) > CELLS_MAX {
        let missing = expected.iter().map(|line| Pair::Missing(line));
        return missing.chain(printed.iter().map(|line| Pair::Extra(line))).collect();
    }
    let costs = costs(expected, printed);
    let cost = |e: usize, p: usize| costs[e * width + p];
    let (mut e, mut p) = (0, 0);
    let mut pairs = Vec::new();
    let mut after_any = false;
    while e < expected.len() || p < printed.len() {
        let here = cost(e, p);
        let wild = expected.get(e).is_some_and(|line| line.trim() == ANY_LINES);
        if wild && !after_any {
            pairs.push(Pair::AnyLines);
            after_any = true;
        } else if wild && cost(e + 1, p) == here {
            (e, after_any) = (e + 1, false);
        } else if wild {
            pairs.push(Pair::Covered);
            p += 1;
        } else if e < expected.len()
            && p < printed.len()
            && fits(&expected[e], &printed[p])
            && cost(e + 1, p + 1) == here
        {
            pairs.push(Pair::Same { expected: &expected[e], printed: &printed[p] });
            (e, p) = (e + 1, p + 1);
        } else if e < expected.len() && cost(e + 1, p) + 1 == here {
            pairs.push(Pair::Missing(&expected[e]));
            e += 1;
        } else {
            pairs.push(Pair::Extra(&printed[p]));
            p += 1;
        }
    }
    pairs
}

/// Whether an alignment has no line that stands alone.
pub(super) fn is_match(pairs: &[Pair<'_>]) -> bool {
    !pairs.iter().any(|pair| matches!(pair, Pair::Missing(_) | Pair::Extra(_)))
}

/// The alignment for people: `-` expected, `+` printed.
pub(super) fn diff(pairs: &[Pair<'_>]) -> String {
    let mut text = String::new();
    for pair in pairs {
        let (mark, line) = match pair {
            Pair::Same { printed, .. } => (' ', *printed),
            Pair::AnyLines => (' ', ANY_LINES),
            Pair::Covered => continue,
            Pair::Missing(line) => ('-', *line),
            Pair::Extra(line) => ('+', *line),
        };
        text += &format!("  {mark}{line}\n");
    }
    text
}

/// For each pair of positions, how many lines stand alone in the best alignment of the rests.
fn costs(expected: &[String], printed: &[String]) -> Vec<u32> {
    let width = printed.len() + 1;
    let mut costs = vec![0u32; (expected.len() + 1) * width];
    for e in (0..=expected.len()).rev() {
        for p in (0..width).rev() {
            let at = |e: usize, p: usize| costs[e * width + p];
            let more = p < printed.len();
            let best = match expected.get(e) {
                None if more => at(e, p + 1) + 1,
                None => 0,
                Some(line) if line.trim() == ANY_LINES => {
                    let skip = at(e + 1, p);
                    if more { skip.min(at(e, p + 1)) } else { skip }
                }
                Some(_) if !more => at(e + 1, p) + 1,
                Some(line) => {
                    let alone = at(e + 1, p).min(at(e, p + 1)) + 1;
                    let same = if fits(line, &printed[p]) { at(e + 1, p + 1) } else { alone };
                    alone.min(same)
                }
            };
            costs[e * width + p] = best;
        }
    }
    costs
}

/// Whether a printed line is as expected. Blanks at the end do not count.
pub(super) fn fits(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (expected.trim_end(), printed.trim_end());
    let mut parts = expected.split(ANY_TEXT);
    let first = parts.next().expect("split gives at least one part");
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn compare(expected: &str, printed: &str) -> Result<(), String> {
        let (expected, printed) = (lines(expected), lines(printed));
        let pairs = align(&expected, &printed);
        if is_match(&pairs) { Ok(()) } else { Err(diff(&pairs)) }
    }

    #[test]
    fn wildcards_within_a_line() {
        for (expected, printed, fit) in [
            ("abc", "abc", true),
            ("abc", "abc  ", true),
            ("abc", "abcd", false),
            ("a[..]c", "ac", true),
            ("a[..]c", "abcbc", true),
            ("a[..]c", "abcd", false),
            ("[..]", "", true),
            ("[..]b[..]b[..]", "ab", false),
            ("pid [..], SIG[..].", "pid 47, SIGKILL.", true),
            ("aa[..]aa", "aaa", false),
        ] {
            assert_eq!(fits(expected, printed), fit, "{expected} / {printed}");
        }
    }

    #[test]
    fn wildcards_for_lines() {
        for (expected, printed, fit) in [
            ("", "", true),
            ("...", "", true),
            ("...", "a\nb", true),
            ("a\n...\nz", "a\nz", true),
            ("a\n...\nz", "a\nz\nb\nz", true),
            ("a\n...\nz", "a\nb", false),
            ("...\nm\n...", "a\nm\nb", true),
            ("...\n...", "a", true),
            ("a", "", false),
            ("", "a", false),
        ] {
            assert_eq!(compare(expected, printed).is_ok(), fit, "{expected:?} / {printed:?}");
        }
    }

    #[test]
    fn the_diff_keeps_what_fits() {
        let diff = compare("one\ntwo [..]\n...\nthree\nlast", "one\ntwo 2\nx\ny\nthree!\nlast");
        assert_eq!(diff.unwrap_err(), "   one\n   two 2\n   ...\n  -three\n   last\n");
        let diff = compare("one\nthree\nlast", "one\nthree!\nlast").unwrap_err();
        assert_eq!(diff, "   one\n  -three\n  +three!\n   last\n");
    }

    #[test]
    fn very_much_output_is_not_aligned() {
        let many: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
        assert!(!is_match(&align(&many, &many)));
    }
}
