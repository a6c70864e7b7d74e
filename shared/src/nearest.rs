//! Did you mean: the known word that is most like an unknown one.

/// How like a known word an unknown one must be to be guessed, 0 to 1 (Jaro–Winkler).
const LIKENESS_MIN: f64 = 0.8;

/// The known word that is most like `word`, if any is like enough; the last of equals.
#[must_use]
pub fn nearest<S: AsRef<str>>(word: &str, known: impl IntoIterator<Item = S>) -> Option<S> {
    let likeness = |known: &S| {
        // Two letters swapped are one slip, which Jaro-Winkler judges harshly in short words.
        let one_slip = strsim::damerau_levenshtein(word, known.as_ref()) <= 1;
        f64::from(u8::from(one_slip)) + strsim::jaro_winkler(word, known.as_ref())
    };
    let best = known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) >= LIKENESS_MIN).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_guessed_and_strangers_are_not() {
        let known = ["put", "get", "mput", "compact-after", "data"];
        for (word, guess) in [
            ("pput", Some("put")),
            ("mputt", Some("mput")),
            ("gte", Some("get")),
            ("compact_after", Some("compact-after")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), guess, "{word}");
        }
    }
}
