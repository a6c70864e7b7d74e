//! Lines of the log that change no key: floors, and what is owed to other nodes.
//!
//! ```text
//! FLR 4660 k=default ctx=1.40 s=1046 d=1045 c=5ff1a0b2
//! OWE user:1 k=default n=n2 t=1767225600000 s=1047 d=1046 c=70d29c11
//! PAD user:1 k=default n=n2 s=1048 d=1047 c=93b0ffe4
//! OVF n=n2 t=1767225600000 s=1049 d=1048 c=11bb20aa
//! CLR n=n2 s=1050 d=1049 c=25d2f76c
//! FGT k=users s=1051 d=1050 c=ab03e5d7
//! ```
//!
//! | line | what it says |
//! |---|---|
//! | `FLR` | the floor of this leaf is now `ctx=`; `-`: it has none |
//! | `OWE` | the node `n=` has missed what is held for this key, noted at `t=` |
//! | `PAD` | it has it now |
//! | `OVF` | notes for the node `n=` were thrown away: those made before `t=`, and perhaps new ones |
//! | `CLR` | nothing is owed to the node `n=` any more |
//! | `FGT` | the keyspace is gone, or the node left its cluster: so are its floors, and what was owed of it |
//!
//! `t=` is in unix milliseconds; the other fields are those of [`record`](super::record). In a snapshot these lines
//! come first, so that no one looks for them among a million keys.
//!
//! They count as records. Each stands for itself: replayed in order over any earlier state, they give
//! the same floors and debts, so a snapshot may have been told some of them already.
//!
//! # Caveats
//!
//! A floor decides nothing on replay: what was refused is not in the log, and what was stored above a
//! floor has in its own line what it took over from there.

use std::fmt::Write as _;

use bytes::Bytes;
use ringkv_shared::causal::Context;
use ringkv_shared::limits::KEY_BYTES_MAX;
use ringkv_shared::{KeyspaceName, NodeId};

use super::encode;
use super::escape::{self, BadToken};
use super::record::BadLine;

/// The most versions in a floor: bounds, and hundreds of writes that nodes have numbered.
pub const FLOOR_PARTS_MAX: usize = 500;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// `FLR`
    Floor {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The leaf of the digests.
        leaf: u16,
        /// Its floor from now on.
        floor: Context,
    },
    /// `OWE`
    Owed {
        /// Whom.
        to: NodeId,
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The key.
        key: Bytes,
        /// When it was noted, in unix milliseconds.
        at_ms: u64,
    },
    /// `PAD`
    Paid {
        /// Whom.
        to: NodeId,
        /// The keyspace.
        keyspace: KeyspaceName,
        /// The key.
        key: Bytes,
    },
    /// `OVF`
    Overflow {
        /// Whom.
        to: NodeId,
        /// Notes made before this are gone, in unix milliseconds.
        before_ms: u64,
    },
    /// `CLR`
    AllPaid {
        /// Whom.
        to: NodeId,
    },
    /// `FGT`
    Gone {
        /// The keyspace.
        keyspace: KeyspaceName,
    },
}

/// A note with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// What it says.
    pub note: Note,
    /// Sequence number, from 1.
    pub seq: u64,
    /// Durable horizon.
    pub durable: u64,
}

/// Whether a line that begins so is a note.
#[must_use]
pub(super) const fn is_note(word: &[u8]) -> bool {
    matches!(word, b"FLR " | b"OWE " | b"PAD " | b"OVF " | b"CLR " | b"FGT ")
}

/// Appends the line of a note; returns its checksum.
pub fn encode_note(noted: &Noted, prev: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    spell(noted, out);
    encode::seal(out, start, prev)
}

/// The line without its checksum.
fn spell(noted: &Noted, out: &mut Vec<u8>) {
    let mut fields = String::new();
    let written = match &noted.note {
        Note::Floor { keyspace, leaf, floor } => {
            write!(fields, "FLR {leaf} k={keyspace} ctx={floor}")
        }
        Note::Owed { to, keyspace, key, at_ms } => {
            out.extend_from_slice(b"OWE ");
            escape::encode(key, out);
            write!(fields, " k={keyspace} n={to} t={at_ms}")
        }
        Note::Paid { to, keyspace, key } => {
            out.extend_from_slice(b"PAD ");
            escape::encode(key, out);
            write!(fields, " k={keyspace} n={to}")
        }
        Note::Overflow { to, before_ms } => write!(fields, "OVF n={to} t={before_ms}"),
        Note::AllPaid { to } => write!(fields, "CLR n={to}"),
        Note::Gone { keyspace } => write!(fields, "FGT k={keyspace}"),
    };
    let Noted { seq, durable, .. } = noted;
    let written = written.and_then(|()| write!(fields, " s={seq} d={durable}"));
    written.expect("a String takes every text");
    out.extend_from_slice(fields.as_bytes());
}

/// Reads a note from all of its line but the checksum.
///
/// # Errors
///
/// [`BadLine`] says what is wrong with it.
pub(super) fn decode_note(body: &[u8]) -> Result<Noted, BadLine> {
    let noted = read(body)?;
    // What is not spelled as it would be written is another line.
    let mut again = Vec::with_capacity(body.len());
    spell(&noted, &mut again);
    if again == body { Ok(noted) } else { Err(BadLine::Field("spelling of a note")) }
}

fn read(body: &[u8]) -> Result<Noted, BadLine> {
    let mut fields = Fields(body.split(|byte| *byte == b' '));
    let note = match fields.next()? {
        b"FLR" => {
            let leaf = parse(fields.next()?, "leaf")?;
            Note::Floor { leaf, keyspace: fields.field("k=")?, floor: fields.field("ctx=")? }
        }
        b"OWE" => {
            let (key, keyspace) = (fields.key()?, fields.field("k=")?);
            Note::Owed { key, keyspace, to: fields.field("n=")?, at_ms: fields.field("t=")? }
        }
        b"PAD" => {
            let (key, keyspace) = (fields.key()?, fields.field("k=")?);
            Note::Paid { key, keyspace, to: fields.field("n=")? }
        }
        b"OVF" => Note::Overflow { to: fields.field("n=")?, before_ms: fields.field("t=")? },
        b"CLR" => Note::AllPaid { to: fields.field("n=")? },
        _ => Note::Gone { keyspace: fields.field("k=")? },
    };
    Ok(Noted { note, seq: fields.field("s=")?, durable: fields.field("d=")? })
}

/// What is left of a line, by spaces.
struct Fields<I>(I);

impl<'a, I: Iterator<Item = &'a [u8]>> Fields<I> {
    fn next(&mut self) -> Result<&'a [u8], BadLine> {
        self.0.next().ok_or(BadLine::Field("number of fields"))
    }

    fn key(&mut self) -> Result<Bytes, BadLine> {
        let bad = |why| BadLine::Token { what: "key", why };
        let key = escape::decode(self.next()?).map_err(bad)?;
        if key.len() > KEY_BYTES_MAX {
            return Err(bad(BadToken::TooLong { bytes: key.len(), max: KEY_BYTES_MAX }));
        }
        Ok(Bytes::copy_from_slice(&key))
    }

    fn field<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<T, BadLine> {
        let value = self.next()?.strip_prefix(name.as_bytes());
        parse(value.ok_or(BadLine::Field(name))?, name)
    }
}

fn parse<T: std::str::FromStr>(text: &[u8], name: &'static str) -> Result<T, BadLine> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or(BadLine::Field(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::decode::decode_line;
    use crate::log::record::Line;

    fn notes() -> [(Note, &'static str); 7] {
        let (to, keyspace): (NodeId, KeyspaceName) =
            ("n2".parse().unwrap(), "users".parse().unwrap());
        let key = Bytes::from_static(b"user 1");
        let floor = |text: &str| text.parse().unwrap();
        let at_ms = 1_767_225_600_000;
        [
            (
                Note::Floor { keyspace: keyspace.clone(), leaf: 4660, floor: floor("1.40,+1.42") },
                "FLR 4660 k=users ctx=1.40,+1.42 s=1041 d=1030 c=44b1e365\n",
            ),
            (
                Note::Floor { keyspace: keyspace.clone(), leaf: 0, floor: floor("-") },
                "FLR 0 k=users ctx=- s=1041 d=1030 c=02ba9dc5\n",
            ),
            (
                Note::Owed { to: to.clone(), keyspace: keyspace.clone(), key: key.clone(), at_ms },
                "OWE user%201 k=users n=n2 t=1767225600000 s=1041 d=1030 c=8102c186\n",
            ),
            (
                Note::Paid { to: to.clone(), keyspace: keyspace.clone(), key },
                "PAD user%201 k=users n=n2 s=1041 d=1030 c=40be5063\n",
            ),
            (
                Note::Overflow { to: to.clone(), before_ms: at_ms },
                "OVF n=n2 t=1767225600000 s=1041 d=1030 c=c41c4479\n",
            ),
            (Note::AllPaid { to }, "CLR n=n2 s=1041 d=1030 c=81e3cb4c\n"),
            (Note::Gone { keyspace }, "FGT k=users s=1041 d=1030 c=2c81cca6\n"),
        ]
    }

    fn encoded(note: Note) -> (Noted, String) {
        let (noted, mut out) = (Noted { note, seq: 1041, durable: 1030 }, Vec::new());
        encode_note(&noted, 0x1234_5678, &mut out);
        (noted, String::from_utf8(out).unwrap())
    }

    #[test]
    fn golden_notes() {
        for (note, golden) in notes() {
            let (noted, line) = encoded(note);
            assert_eq!(line, golden);
            let (read, _) = decode_line(line.trim_end().as_bytes(), 0x1234_5678).unwrap();
            assert_eq!(read, Line::Note(noted));
        }
    }

    #[test]
    fn a_note_has_one_spelling() {
        for bad in [
            "FLR 04660 k=users ctx=1.40 s=1 d=0",
            "FLR 65536 k=users ctx=1.40 s=1 d=0",
            "FLR 1 k=users ctx=1.40,1.39 s=1 d=0",
            "FLR 1 k=users  ctx=1.40 s=1 d=0",
            "FLR 1 k=Users ctx=1.40 s=1 d=0",
            "OWE a b k=users n=n2 t=1 s=1 d=0",
            "OWE %61 k=users n=n2 t=1 s=1 d=0",
            "OWE a k=users n=n2 t=+1 s=1 d=0",
            "OWE a k=users n=n2 s=1 d=0",
            "PAD a n=n2 k=users s=1 d=0",
            "PAD a k=users n=n2 s=1 d=0 ",
            "CLR n=n2 t=1 s=1 d=0",
            "CLR s=1 d=0",
            "FGT k=users s=1",
            "FGT k=users s=1 d=0 x=1",
        ] {
            assert!(decode_note(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
