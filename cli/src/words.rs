//! From text to words: splitting lines, several commands in one text, and whether a quote is open.
//!
//! Words are split as a shell splits them: blanks part them, `'…'` and `"…"` keep them together
//! (newlines too), a backslash takes the next character as it is. A `#` at the start of a word
//! begins a comment.
//!
//! # Caveats
//!
//! There are no variables, globs or substitutions, on purpose: what is typed is what is stored.

/// The words of a line, or `None` while a quote is open.
#[must_use]
pub(crate) fn split_words(line: &str) -> Option<Vec<String>> {
    shlex::split(line)
}

/// The commands of a text for `-e`: parted by `;` or a newline outside quotes.
#[must_use]
pub(crate) fn split_commands(text: &str) -> Vec<String> {
    let mut commands = vec![String::new()];
    let mut scan = Quotes::default();
    for c in text.chars() {
        let parts = scan.step(c) && (c == ';' || c == '\n');
        if parts {
            commands.push(String::new());
        } else if let Some(last) = commands.last_mut() {
            last.push(c);
        }
    }
    commands.retain(|command| !is_blank(command));
    commands.into_iter().map(|command| command.trim_start().to_owned()).collect()
}

/// Whether the text ends inside a quote or after a backslash, so that more lines belong to it.
#[must_use]
pub(crate) fn is_open(text: &str) -> bool {
    let mut scan = Quotes::default();
    for c in text.chars() {
        scan.step(c);
    }
    scan.quote.is_some() || scan.escaped
}

/// Whether a line has no command: blank, or only a comment.
#[must_use]
pub(crate) fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Where in the quoting a scan of a text stands.
#[derive(Default)]
struct Quotes {
    quote: Option<char>,
    escaped: bool,
    comment: bool,
    inside_word: bool,
}

impl Quotes {
    /// Takes the next character; whether it stands outside all quotes and comments (the newline
    /// that ends a comment does).
    fn step(&mut self, c: char) -> bool {
        if self.comment {
            self.comment = c != '\n';
            self.inside_word = false;
            return !self.comment;
        }
        if self.escaped {
            self.escaped = false;
            return false;
        }
        match (self.quote, c) {
            (None | Some('"'), '\\') => self.escaped = true,
            (None, '\'' | '"') => self.quote = Some(c),
            (None, '#') if !self.inside_word => self.comment = true,
            (Some(open), _) if open == c => {
                self.quote = None;
                return false;
            }
            _ => {}
        }
        self.inside_word = !c.is_whitespace() && c != ';';
        self.quote.is_none() && !self.escaped && !self.comment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        let words = |line| split_words(line).unwrap();
        assert_eq!(words("put 'zwei Wörter' \"a\nb\" # why"), ["put", "zwei Wörter", "a\nb"]);
        assert_eq!(words(r"put a\ b ''"), ["put", "a b", ""]);
        assert_eq!(split_words("put 'a"), None);
    }

    #[test]
    fn semicolons_part_commands_outside_quotes() {
        assert_eq!(split_commands("put a 1; get a"), ["put a 1", "get a"]);
        assert_eq!(split_commands("put a '1;2'\n# x; y\nget a;"), ["put a '1;2'", "get a"]);
        assert_eq!(split_commands(r"put a \;b"), [r"put a \;b"]);
        assert_eq!(split_commands("put a#b 1 # don't; really\nshow").len(), 2);
    }

    #[test]
    fn an_open_quote_asks_for_more() {
        for (text, open) in [
            ("put a 'b", true),
            ("put a \"b'", true),
            ("put a 'b'", false),
            ("put a b\\", true),
            ("# don't", false),
            ("put it's", true),
            ("put a \"\\\"\"", false),
            ("put 'a\\'", false),
        ] {
            assert_eq!(is_open(text), open, "{text}");
            assert_eq!(split_words(text).is_none(), open, "{text}");
        }
    }
}
