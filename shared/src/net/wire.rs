//! One JSON text per line, as a tokio-util codec.
//!
//! Unlike `LinesCodec` an oversized line is an *item*, not a decoder error: after an error a
//! framed stream would wait for new bytes although whole lines are already buffered. Lines come
//! out as [`Bytes`] without a copy; CR before LF and blank lines are skipped.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// One decoded line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line that is not blank, without its end.
    Json(Bytes),
    /// A line of more than the allowed bytes; its content is thrown away as it arrives.
    TooLong,
}

/// The codec, for one direction of one connection.
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

    /// Takes a whole line off the buffer: `None` if it was blank or the rest of a reported one.
    fn take(&mut self, buf: &mut BytesMut, newline: usize) -> Option<Line> {
        self.scanned = 0;
        let mut line = buf.split_to(newline + 1);
        line.truncate(newline);
        if std::mem::take(&mut self.discarding) {
            return None;
        }
        if line.last() == Some(&b'\r') {
            line.truncate(newline - 1);
        }
        if line.len() > self.bytes_max {
            return Some(Line::TooLong);
        }
        let blank = line.iter().all(u8::is_ascii_whitespace);
        (!blank).then(|| Line::Json(line.freeze()))
    }

    /// No newline yet: keep what may still become a line, drop what cannot.
    fn wait(&mut self, buf: &mut BytesMut) -> Option<Line> {
        let over = buf.len() > self.bytes_max;
        if !over && !self.discarding {
            self.scanned = buf.len();
            return None;
        }
        buf.advance(buf.len());
        self.scanned = 0;
        let news = !self.discarding;
        self.discarding = true;
        news.then_some(Line::TooLong)
    }
}

impl Decoder for JsonLines {
    type Item = Line;
    type Error = std::io::Error;

    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Line>, Self::Error> {
        while let Some(at) = memchr::memchr(b'\n', &buf[self.scanned..]) {
            let newline = self.scanned + at;
            if let Some(line) = self.take(buf, newline) {
                return Ok(Some(line));
            }
        }
        Ok(self.wait(buf))
    }

    /// A last line without a newline is half a message: it is not answered.
    fn decode_eof(&mut self, buf: &mut BytesMut) -> Result<Option<Line>, Self::Error> {
        self.decode(buf)
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
        let (mut codec, mut buf, mut out) =
            (JsonLines::new(bytes_max), BytesMut::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            while let Some(line) = codec.decode(&mut buf).unwrap() {
                out.push(match line {
                    Line::Json(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                    Line::TooLong => "<too long>".to_owned(),
                });
            }
        }
        out
    }

    #[test]
    fn lines_survive_any_cut_blank_ones_do_not() {
        assert_eq!(lines(&[b"{\"a\":1}\r\n\n  \n[", b"]\nhalf"], 100), ["{\"a\":1}", "[]"]);
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
            stream in "[a-c\n]{0,60}", cut in 0usize..60, bytes_max in 1usize..10,
        ) {
            let cut = cut.min(stream.len());
            let (a, b) = stream.as_bytes().split_at(cut);
            prop_assert_eq!(lines(&[a, b], bytes_max), lines(&[stream.as_bytes()], bytes_max));
        }
    }
}
