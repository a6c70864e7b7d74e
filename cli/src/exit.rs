//! Exit codes: one number a command, the same in every form.
//!
//! | code | meaning |
//! |---:|---|
//! | 0 | done |
//! | 1 | refused, nothing was applied |
//! | 2 | the command line itself is wrong |
//! | 3 | no such key or node |
//! | 4 | nobody answers, nothing was sent |
//! | 5 | the outcome is unknown or partial |
//! | 6 | a check or a transcript differs; `doctor` found something that fails now |
//! | 7 | a condition on the stored version did not hold, or a key has several values |
//! | 130 | interrupted |
//!
//! A failure that came over the wire has its code from
//! [`ErrorName::exit_code`](ringkv_shared::ErrorName::exit_code); these are for what the shell
//! finds out by itself.
//!
//! # Caveats
//!
//! A script's code is that of its first failed command. The servers have two more codes of their
//! own (73, 74), which never come from here.

/// All codes in words, at the end of `kv --help`.
pub(crate) const HELP: &str = "\
Exit codes: 0 ok · 1 refused, nothing applied · 2 usage · 3 not found · 4 unreachable, nothing sent \
· 5 unknown or partial · 6 a check or transcript differs · 7 conflict · 130 interrupted; servers: 73 data \
directory in use, 74 storage damaged or failing.";

/// Done.
pub(crate) const OK: u8 = 0;
/// Refused, nothing was applied.
pub(crate) const REFUSED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// No such key or node.
pub(crate) const NOT_FOUND: u8 = 3;
/// The outcome is unknown, or only a part was done.
pub(crate) const PARTIAL: u8 = 5;
/// A check found something else than there should be.
pub(crate) const DIFFERS: u8 = 6;
/// What is stored is not what was expected, or not one value.
pub(crate) const CONFLICT: u8 = 7;
/// Interrupted from the keyboard, or told to end before the commands did.
pub(crate) const INTERRUPTED: u8 = 130;

#[cfg(test)]
mod tests {
    use ringkv_shared::ErrorName;

    #[test]
    fn the_shells_codes_are_those_of_the_wire() {
        assert_eq!(super::USAGE, ErrorName::BadArgument.exit_code());
        assert_eq!(super::NOT_FOUND, ErrorName::NodeNotFound.exit_code());
        assert_eq!(super::PARTIAL, ErrorName::OutcomeUnknown.exit_code());
        assert_eq!(super::REFUSED, ErrorName::NotApplied.exit_code());
        assert_eq!(super::CONFLICT, ErrorName::Conflict.exit_code());
    }
}
