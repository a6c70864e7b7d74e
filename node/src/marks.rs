//! Marks of keys as they travel: 16 hex digits each, side by side.
//!
//! # Caveats
//!
//! They say nothing of the keys but that what is held of one is the same, and that only as digests do: two that differ are
//! taken for the same once in 2^64, or by design of who chooses the keys.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ringkv_shared::{ErrorName, Failure};

const DIGITS: usize = 16;

pub(crate) fn text(marks: &[u64]) -> String {
    let mut text = String::with_capacity(marks.len() * DIGITS);
    for mark in marks {
        write!(text, "{mark:016x}").expect("a string takes all");
    }
    text
}

pub(crate) fn read(text: &str) -> Result<BTreeSet<u64>, Failure> {
    let mark = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        let well_formed = digits.len() == DIGITS && !digits.starts_with('+');
        u64::from_str_radix(digits, 16).ok().filter(|_| well_formed)
    };
    let marks: Option<BTreeSet<u64>> = text.as_bytes().chunks(DIGITS).map(mark).collect();
    marks.ok_or_else(|| {
        let message = "marks are 16 hex digits each, side by side; nothing was forgotten";
        Failure::new(ErrorName::BadArgument, message).hint("give them as census does")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        let marks = [0, 1, 0xfedc_ba98_7654_3210, u64::MAX];
        assert_eq!(read(&text(&marks)).unwrap(), BTreeSet::from(marks));
        assert_eq!(read("").unwrap(), BTreeSet::new());
        for bad in ["0", "+000000000000001", "000000000000000g", "00000000000000010"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
