//! Progress on standard error, for a person at a terminal: a bar when the total is known, else a
//! running count.
//!
//! # Caveats
//!
//! It is drawn a few times a second and taken away at the end, so nothing of it stays. When
//! standard error is no terminal, nothing is written at all.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// A bar over `total` keys.
pub(super) fn bar(visible: bool, total: u64) -> ProgressBar {
    start(visible, ProgressBar::new(total), "  {wide_bar} {pos}/{len} keys")
}

/// A bar over what its message names, for a task of several steps.
pub(super) fn steps(visible: bool) -> ProgressBar {
    start(visible, ProgressBar::new(0), "  {wide_bar} {pos}/{len} {msg}")
}

/// A count of keys.
pub(super) fn count(visible: bool) -> ProgressBar {
    start(visible, ProgressBar::no_length(), "  {spinner} {pos} keys, {per_sec}")
}

fn start(visible: bool, bar: ProgressBar, template: &str) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template);
    let style = style.expect("a template that has been tried");
    // A command that is cut off drops its bar: that, too, leaves nothing behind.
    bar.with_style(style).with_finish(ProgressFinish::AndClear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_it_without_a_terminal() {
        assert!(bar(false, 3).is_hidden());
        assert!(count(false).is_hidden());
        // Makes the templates, although a test has no terminal to draw on.
        assert_eq!(bar(true, 3).length(), Some(3));
        assert_eq!(count(true).length(), None);
        assert_eq!(steps(true).length(), Some(0));
    }
}
