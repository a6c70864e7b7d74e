//! Times to live, as people write and read them.
//!
//! # Caveats
//!
//! What is left of a time to live is counted with the clock of this machine; the node's own decides.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time in unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `expires in 9.2 s`, `expired 3.0 s ago`.
pub(super) fn in_words(expires_ms: u64, now_ms: u64) -> String {
    match left(expires_ms, now_ms) {
        Some(left) => format!("expires in {}", span(left)),
        None => format!("expired {} ago", span(now_ms.saturating_sub(expires_ms))),
    }
}

/// What is left of an expiry, in milliseconds; `None` when it has passed.
pub(super) fn left(expires_ms: u64, now_ms: u64) -> Option<u64> {
    expires_ms.checked_sub(now_ms).filter(|left| *left > 0)
}

/// `9.2 s` up to two minutes; longer in the two largest units that it has.
pub(super) fn span(ms: u64) -> String {
    if ms < 120_000 {
        return format!("{:.1} s", ms as f64 / 1e3);
    }
    let whole = Duration::from_secs(ms.div_ceil(1000));
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_few_words() {
        for (expires, now, said) in [
            (9_200, 0, "expires in 9.2 s"),
            (5_000, 5_000, "expired 0.0 s ago"),
            (0, 119_900, "expired 119.9 s ago"),
            (3_600_000 + 61_000, 1_000, "expires in 1h 1m"),
            (3 * 86_400_000 + 5_000, 0, "expires in 3days 5s"),
        ] {
            assert_eq!(in_words(expires, now), said);
        }
    }
}
