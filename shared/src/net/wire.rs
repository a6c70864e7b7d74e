//! One JSON text per line, found in the bytes that have arrived.
//!
//! An oversized line is an *item*, so that it can be answered and the next one served. Lines are pieces of the
//! buffer, not copies; CR before LF and blank lines are skipped.

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line that is not blank, without its end.
    Json(&'a [u8]),
    /// A line of more than the allowed bytes; its content is thrown away as it arrives.
    TooLong,
}

/// Finds the lines in one direction of one connection.
#[derive(Debug)]
pub(super) struct JsonLines {
    /// The most bytes in a line.
    bytes_max: usize,
    /// How much of the buffer is known to hold no newline.
    scanned: usize,
    /// In the middle of a line that was already reported as too long.
    discarding: bool,
}

impl JsonLines {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, scanned: 0, discarding: false }
    }

    /// The line that begins at `from` in `buf`, and where the next one begins, if it is just a line: whole, not blank and
    /// not too long. It is still the next, until [`took`](Self::took) says otherwise.
    pub(super) fn peek<'a>(&self, buf: &'a [u8], from: usize) -> Option<(&'a [u8], usize)> {
        if self.discarding {
            return None;
        }
        let known = if from == 0 { self.scanned } else { 0 };
        let newline = from + known + memchr::memchr(b'\n', &buf[from + known..])?;
        let line = &buf[from..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_usual = line.first() == Some(&b'{') && line.len() <= self.bytes_max;
        is_usual.then_some((line, newline + 1))
    }

    /// Whether what comes next is the beginning of a line.
    pub(super) const fn is_at_start(&self) -> bool {
        !self.discarding && self.scanned == 0
    }

    /// Lines that were peeked at are done with: `buf` is to begin behind them.
    pub(super) const fn took(&mut self) {
        self.scanned = 0;
    }

    /// The next line in `buf`, which begins with what the last call has left, and how many bytes of it are done
    /// with. Without a line, what is left is to be kept and to come again, with more behind it.
    pub(super) fn next<'a>(&mut self, buf: &'a [u8]) -> (Option<Line<'a>>, usize) {
        let mut from = 0;
        while let Some(at) = memchr::memchr(b'\n', &buf[from + self.scanned..]) {
            let newline = from + self.scanned + at;
            let line = self.whole(&buf[from..newline]);
            from = newline + 1;
            if line.is_some() {
                return (line, from);
            }
        }
        let (line, thrown_away) = self.wait(buf.len() - from);
        (line, from + thrown_away)
    }

    /// What a line without its newline is: `None` if it is blank or the rest of a reported one.
    fn whole<'a>(&mut self, line: &'a [u8]) -> Option<Line<'a>> {
        self.scanned = 0;
        if std::mem::take(&mut self.discarding) {
            return None;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.bytes_max {
            return Some(Line::TooLong);
        }
        let blank = line.iter().all(u8::is_ascii_whitespace);
        (!blank).then_some(Line::Json(line))
    }

    /// No newline yet in so many bytes: keep what may still become a line, drop what cannot.
    fn wait(&mut self, bytes: usize) -> (Option<Line<'static>>, usize) {
        let over = bytes > self.bytes_max;
        if !over && !self.discarding {
            self.scanned = bytes;
            return (None, 0);
        }
        self.scanned = 0;
        let news = !self.discarding;
        self.discarding = true;
        (news.then_some(Line::TooLong), bytes)
    }
}

/// Whether brackets nest deeper than `depth_max`, outside of strings.
///
/// Most messages hold fewer brackets than the limit in all, which is quick to see.
pub(super) fn too_deep(json: &[u8], depth_max: usize) -> bool {
    if memchr::memchr2_iter(b'[', b'{', json).take(depth_max + 1).count() <= depth_max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]], bytes_max: usize) -> Vec<String> {
        let (mut codec, mut buf, mut out) = (JsonLines::new(bytes_max), Vec::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            loop {
                let peeked = codec.peek(&buf, 0).map(|(line, done)| (Some(Line::Json(line)), done));
                let mut next = || codec.next(&buf);
                let (line, done) = match peeked {
                    // Every other one is taken without being asked for again.
                    Some(peeked) if out.len() % 2 == 0 => {
                        codec.took();
                        peeked
                    }
                    Some(peeked) => {
                        assert_eq!(peeked, next());
                        peeked
                    }
                    None => next(),
                };
                let ended = line.is_none();
                out.extend(line.map(|line| match line {
                    Line::Json(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                    Line::TooLong => "<too long>".to_owned(),
                }));
                buf.drain(..done);
                if ended {
                    break;
                }
            }
        }
        out
    }

    #[test]
    fn lines_survive_any_cut_blank_ones_do_not() {
        assert_eq!(lines(&[b"{\"a\":1}\r\n\n  \n[", b"]\nhalf"], 100), ["{\"a\":1}", "[]"]);
    }

    #[test]
    fn a_line_that_came_in_pieces_can_be_peeked_at() {
        let mut codec = JsonLines::new(100);
        assert_eq!(codec.next(b"{\"a\""), (None, 0));
        let buf = b"{\"a\":1}\r\n{}\n{";
        assert_eq!(codec.peek(buf, 0), Some((&b"{\"a\":1}"[..], 9)));
        assert_eq!(codec.peek(buf, 9), Some((&b"{}"[..], 12)));
        assert_eq!(codec.peek(buf, 12), None);
    }

    #[test]
    fn an_oversized_line_is_one_item_and_the_next_is_served() {
        assert_eq!(lines(&[b"12345", b"6789\n1\n"], 4), ["<too long>", "1"]);
        assert_eq!(lines(&[b"12345\n1\n"], 4), ["<too long>", "1"]);
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!too_deep(deep(32).as_bytes(), 32));
        assert!(too_deep(deep(33).as_bytes(), 32));
        assert!(!too_deep(format!("[\"{}\\\"[[\"]", "[".repeat(99)).as_bytes(), 32));
    }

    proptest! {
        /// Without CR: a line of just the limit may be reported early when cut between CR and LF.
        #[test]
        fn every_way_to_cut_a_stream_gives_the_same_lines(
            stream in "[a-c{\n]{0,60}", cut in 0usize..60, bytes_max in 1usize..10,
        ) {
            let cut = cut.min(stream.len());
            let (a, b) = stream.as_bytes().split_at(cut);
            prop_assert_eq!(lines(&[a, b], bytes_max), lines(&[stream.as_bytes()], bytes_max));
        }
    }
}
