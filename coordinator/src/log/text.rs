//! The text of the log, without any file: lines from events and back.
//!
//! ```text
//! #ringkv-coordinator 1
//! RING 256 s=1 c=…
//! BOOT 1 s=2 c=…
//! ADD n1 127.0.0.1:5001 1 6f1c… s=3 c=…
//! ```
//!
//! `s` counts lines from 1; `c` is the CRC-32 (zlib's) of everything before ` c=`, seeded with the
//! CRC of the line before, so a missing, doubled or swapped line shows.
//!
//! A last line without its end, or with a run of zeros, is the torn end of an event that
//! nobody acted on, and is cut. Any other bad line, or a foreign header, is damage.

use crate::state::Event;

const HEADER: &str = "#ringkv-coordinator 1";

fn chain(seed: u32, body: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(body.as_bytes());
    hasher.finalize()
}

/// What a text holds.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) events: Vec<Event>,
    /// Where the next line goes on.
    pub(super) tail: Tail,
    /// How much of the text is whole lines.
    pub(super) good_bytes: usize,
}

/// The end of a log: what the next line carries on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Events so far.
    pub(super) sequence: u64,
    /// The checksum of the last line.
    crc: u32,
}

impl Tail {
    /// That of a log without events.
    fn empty() -> Self {
        Self { sequence: 0, crc: crc32fast::hash(HEADER.as_bytes()) }
    }

    /// The line of the next event, with its newline, and the end behind it.
    pub(super) fn line(self, event: &Event) -> (String, Self) {
        let sequence = self.sequence + 1;
        let body = format!("{event} s={sequence}");
        let crc = chain(self.crc, &body);
        (format!("{body} c={crc:08x}\n"), Self { sequence, crc })
    }
}

/// A whole log of these events.
pub(super) fn written<'a>(events: impl IntoIterator<Item = &'a Event>) -> (String, Tail) {
    let start = (format!("{HEADER}\n"), Tail::empty());
    events.into_iter().fold(start, |(text, tail), event| {
        let (line, tail) = tail.line(event);
        (text + &line, tail)
    })
}

/// Reads the text of a log; on damage the line number and why.
pub(super) fn replay(text: &[u8]) -> Result<Replayed, (usize, String)> {
    let mut replayed = Replayed::default();
    for (number, raw) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        match read_line(raw, number, replayed.tail) {
            Ok((event, tail)) => {
                replayed.events.extend(event);
                replayed.tail = tail;
                replayed.good_bytes += raw.len();
            }
            Err(_) if replayed.good_bytes + raw.len() == text.len() && torn(raw) => break,
            Err(why) => return Err((number, why)),
        }
    }
    Ok(replayed)
}

/// Whether a bad last line looks like a write that a power cut stopped half-way: its end is
/// missing, or sectors of it that never reached the disk read as zeros.
fn torn(raw: &[u8]) -> bool {
    raw.last() != Some(&b'\n') || raw.windows(2).any(|pair| pair == [0, 0])
}

fn read_line(raw: &[u8], number: usize, before: Tail) -> Result<(Option<Event>, Tail), String> {
    let line = raw.strip_suffix(b"\n").ok_or("no newline")?;
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    if number == 1 {
        let good = line == HEADER;
        return if good { Ok((None, Tail::empty())) } else { Err(format!("not {HEADER:?}")) };
    }
    let (body, crc) = line.rsplit_once(" c=").ok_or("no checksum")?;
    let tail = Tail { sequence: before.sequence + 1, crc: chain(before.crc, body) };
    if crc != format!("{:08x}", tail.crc) {
        return Err("checksum mismatch".to_owned());
    }
    let (event, sequence) = body.rsplit_once(" s=").ok_or("no sequence number")?;
    if sequence != tail.sequence.to_string() {
        return Err(format!("sequence number {sequence}, expected {}", tail.sequence));
    }
    Ok((Some(event.parse()?), tail))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::state::State;

    /// What a small cluster goes through.
    pub(in crate::log) fn events() -> Vec<Event> {
        let lines = [
            "RING 4",
            "BOOT 1",
            "ADD n1 127.0.0.1:5001 1 u1",
            "FINAL",
            "KEYSPACE default 5000",
            "KEYSPACE orders n=1 r=1 w=1 policy=siblings sloppy=off ttl=0",
            "KEYSPACE clicks n=1 r=1 w=1 policy=lww sloppy=on ttl=5000",
            "REPLICAS orders 2",
            "REPLICAS 2",
            "FINAL",
            "DROPPED clicks",
            "FORGOTTEN clicks n1",
        ];
        lines.map(|line| line.parse().unwrap()).into()
    }

    /// Cut anywhere, the log opens with a prefix of its events; flip a bit anywhere but in the last
    /// newline, whose loss cannot be told from a torn write, and it does not open.
    #[test]
    fn cuts_are_mended_and_damage_is_refused() {
        let all = events();
        let text = written(&all).0.into_bytes();
        for cut in 0..text.len() {
            let got = replay(&text[..cut]).unwrap().events;
            assert_eq!(got, all[..got.len()], "cut at {cut}");
        }
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(replayed) = replay(&bad) {
                assert_eq!(bit / 8, text.len() - 1, "bit {bit}");
                assert_eq!(replayed.events, all[..all.len() - 1]);
            }
        }
    }

    /// Cut at every byte, a log that was compacted and goes on has the state of the compaction and a
    /// prefix of what came after; cut within what the compaction wrote, which was synced before it was
    /// named so, it does not open as something else.
    #[test]
    fn a_compacted_log_is_cut_as_any_other() {
        let events = events();
        let mut state = State::new();
        events.iter().for_each(|event| state.apply(event));
        let lines = state.lines();
        let after = ["BOOT 2", "CLOCK 9", "REPLICAS 1"].map(|line| line.parse().unwrap());
        let all = [&lines[..], &after].concat();
        let text = written(&all).0;
        for cut in 0..=text.len() {
            let got = replay(&text.as_bytes()[..cut]).unwrap().events;
            assert_eq!(got, all[..got.len()], "cut at {cut}");
        }
        let whole = replay(text.as_bytes()).unwrap();
        assert_eq!(whole.events, all);
        assert_eq!(whole.tail, written(&all).1);
    }
}
