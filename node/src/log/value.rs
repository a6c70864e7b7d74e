//! A value as it is stored: plain, or as a zstd frame.
//!
//! A value is compressed once, when it is written. Map, log and snapshot share the
//! compressed bytes, and only who wants the value itself unpacks it.
//!
//! | raw value | stored as | token in the log |
//! |---|---|---|
//! | up to 1 KiB | plain | escaped: `hello%20world` |
//! | larger, and the frame's token is shorter | zstd frame | `%z` and base64: `%zKLUv/WDoAw…` |
//! | larger, and it is not | plain | escaped |
//!
//! The token decides, not the frame: even bytes that cannot be compressed take 1.34 of their size as
//! base64, escaped 2.14. Texts of 2 to 64 KiB take 0.43 to 0.66 of their size in the log
//! (escaped 1.2 to 1.4) and 0.31 to 0.47 in memory. A frame is checked whole when it is made or read
//! from a file, so a value in memory can always be unpacked.
//!
//! ```sh
//! cut -d' ' -f3 <<<"$line" | cut -c3- | base64 -d | zstd -d    # what a %z token stands for
//! ```
//!
//! # Caveats
//!
//! Each thread that packs or unpacks keeps its zstd context (about 1 MiB): making one costs more
//! than compressing a small value.

use std::cell::RefCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ringkv_shared::limits::VALUE_BYTES_MAX;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::escape::{self, BadToken};

/// Values up to this many bytes are stored plain: a frame of a small text saves little.
pub const PLAIN_BYTES_MAX: usize = 1024;

/// How hard zstd tries. On text, level 3 saves up to 6 % more for up to twice the work, level 6 up
/// to 15 % for three to ten times.
const LEVEL: i32 = 1;

/// What a token of a frame begins with; no escaped token does.
const MARK: &[u8] = b"%z";

thread_local! {
    static PACKER: RefCell<Compressor<'static>> =
        RefCell::new(Compressor::new(LEVEL).expect("the level is a valid one"));
    static UNPACKER: RefCell<Decompressor<'static>> =
        RefCell::new(Decompressor::new().expect("there is memory for a context"));
}

/// A value, in bytes that it owns (`Bytes`) or borrows from a line or a map (`Cow`, `&[u8]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<B = Bytes> {
    /// The bytes themselves.
    Plain(B),
    /// One zstd frame.
    Zstd {
        /// The frame.
        packed: B,
        /// Bytes of the value when unpacked; more than [`PLAIN_BYTES_MAX`].
        len: u32,
    },
}

impl Value {
    /// The value of raw bytes, compressed if that makes its line shorter.
    ///
    /// # Panics
    ///
    /// If there are more than [`VALUE_BYTES_MAX`].
    #[must_use]
    pub fn new(raw: Bytes) -> Self {
        assert!(raw.len() <= VALUE_BYTES_MAX, "larger values are refused at the door");
        if raw.len() <= PLAIN_BYTES_MAX {
            return Self::Plain(raw);
        }
        let packed = PACKER.with_borrow_mut(|packer| packer.compress(&raw));
        let packed = packed.expect("the output buffer is as large as a frame can get");
        let token = MARK.len() + base64_len(packed.len());
        // No escaped token is shorter than its bytes, so most need no count.
        if token < raw.len() || token < escape::token_len(&raw) {
            let len = u32::try_from(raw.len()).expect("checked above");
            Self::Zstd { packed: packed.into(), len }
        } else {
            Self::Plain(raw)
        }
    }
}

impl<B: AsRef<[u8]>> Value<B> {
    /// Bytes of the value itself.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.as_ref().len(),
            Self::Zstd { len, .. } => *len as usize,
        }
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as they are stored.
    #[must_use]
    pub fn stored(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) | Self::Zstd { packed: bytes, .. } => bytes.as_ref(),
        }
    }

    /// How many bytes are stored.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        self.stored().len()
    }

    /// The same value, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> Value<&[u8]> {
        match self {
            Self::Plain(bytes) => Value::Plain(bytes.as_ref()),
            Self::Zstd { packed, len } => Value::Zstd { packed: packed.as_ref(), len: *len },
        }
    }

    /// The same value with its own copy of the stored bytes.
    #[must_use]
    pub fn copied(&self) -> Value {
        match self.as_ref() {
            Value::Plain(bytes) => Value::Plain(Bytes::copy_from_slice(bytes)),
            Value::Zstd { packed, len } => {
                Value::Zstd { packed: Bytes::copy_from_slice(packed), len }
            }
        }
    }

    /// The value itself.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.as_ref() {
            Value::Plain(bytes) => Bytes::copy_from_slice(bytes),
            Value::Zstd { packed, len } => {
                unpack(packed, len).expect("a frame is checked before it becomes a value").into()
            }
        }
    }

    /// Appends the token of the value.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self.as_ref() {
            Value::Plain(bytes) => escape::encode(bytes, out),
            Value::Zstd { packed, .. } => {
                out.extend_from_slice(MARK);
                let start = out.len();
                out.resize(start + base64_len(packed.len()), 0);
                let written = BASE64.encode_slice(packed, &mut out[start..]);
                debug_assert_eq!(written, Ok(out.len() - start));
            }
        }
    }
}

impl Value {
    /// The value itself, without a copy if it is plain.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Plain(bytes) => bytes,
            packed @ Self::Zstd { .. } => packed.to_bytes(),
        }
    }
}

/// The value of a token; only its bytes, if it is plain and nothing in it is escaped, are borrowed.
pub(super) fn decode(token: &[u8]) -> Result<Value<std::borrow::Cow<'_, [u8]>>, BadToken> {
    if let Some(code) = token.strip_prefix(MARK) {
        let packed = BASE64.decode(code).map_err(|_| BadToken::Base64)?;
        let len = check(&packed).ok_or(BadToken::Frame)?;
        return Ok(Value::Zstd { packed: packed.into(), len });
    }
    let plain = escape::decode(token)?;
    if plain.len() > VALUE_BYTES_MAX {
        return Err(BadToken::TooLong { bytes: plain.len(), max: VALUE_BYTES_MAX });
    }
    Ok(Value::Plain(plain))
}

/// The raw length, if these bytes are exactly one frame that can be unpacked.
fn check(packed: &[u8]) -> Option<u32> {
    let len = zstd_safe::get_frame_content_size(packed).ok()??;
    let len = u32::try_from(len).ok().filter(|len| *len as usize > PLAIN_BYTES_MAX)?;
    let one = zstd_safe::find_frame_compressed_size(packed) == Ok(packed.len());
    let fits = one && len as usize <= VALUE_BYTES_MAX;
    (fits && unpack(packed, len)?.len() == len as usize).then_some(len)
}

fn unpack(packed: &[u8], len: u32) -> Option<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| unpacker.decompress(packed, len as usize)).ok()
}

const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;

    fn token(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    fn frame(raw: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(raw, LEVEL).unwrap()
    }

    fn coded(packed: &[u8]) -> Vec<u8> {
        [MARK, BASE64.encode(packed).as_bytes()].concat()
    }

    #[test]
    fn only_large_values_that_get_shorter_are_packed() {
        let text = Bytes::from("the same again, ".repeat(65));
        assert!(matches!(Value::new(text.slice(..1024)), Value::Plain(_)));
        let value = Value::new(text.clone());
        assert!(matches!(value, Value::Zstd { len: 1040, .. }));
        assert_eq!((value.len(), value.to_bytes()), (1040, text));
        assert!(value.stored_len() < 64);
        // A de Bruijn-like walk over 94 characters: escaped as long as it is, base64 longer.
        let dense: Vec<u8> = (0..2000_u32).map(|n| b'!' + (n * n * 31 % 8831 % 94) as u8).collect();
        let dense: Vec<u8> = dense.into_iter().map(|b| if b == b'%' { b'a' } else { b }).collect();
        let value = Value::new(dense.clone().into());
        let packed = coded(&frame(&dense)).len();
        assert_eq!(matches!(value, Value::Zstd { .. }), packed < dense.len());
    }

    #[test]
    fn a_frame_that_lies_or_has_company_is_refused() {
        let raw = vec![b'x'; 5000];
        let good = frame(&raw);
        assert!(decode(&coded(&good)).is_ok());
        let two = [good.clone(), good.clone()].concat();
        let small = frame(&raw[..PLAIN_BYTES_MAX]);
        let huge = frame(&vec![0; VALUE_BYTES_MAX + 1]);
        let cut = &good[..good.len() - 1];
        for bad in [&two[..], &small, &huge, cut, &[], b"plain"] {
            assert_eq!(decode(&coded(bad)), Err(BadToken::Frame), "{bad:?}");
        }
        let mut loose = coded(&good);
        loose.push(b'=');
        assert_eq!(decode(&loose), Err(BadToken::Base64));
        assert_eq!(decode(b"%zKLUv\n"), Err(BadToken::Base64));
    }

    #[test]
    fn a_plain_value_has_a_bound_too() {
        let long = vec![b'x'; VALUE_BYTES_MAX + 1];
        assert!(matches!(decode(&long), Err(BadToken::TooLong { .. })));
        assert!(decode(&long[1..]).is_ok());
    }

    proptest! {
        #[test]
        fn any_value_comes_back(
            piece in proptest::collection::vec(any::<u8>(), 1..200), times in 1..60_usize,
        ) {
            let raw = Bytes::from(piece.repeat(times));
            let value = Value::new(raw.clone());
            let token = token(&value);
            prop_assert!(token.len() <= escape::token_len(&raw));
            let read = decode(&token).unwrap();
            prop_assert_eq!(read.copied(), value);
            prop_assert_eq!(read.to_bytes(), raw);
        }

        #[test]
        fn any_base64_is_a_value_or_refused(soup in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Value::Zstd { packed, .. }) = decode(&coded(&soup)) {
                prop_assert_eq!(packed, Cow::<[u8]>::Owned(soup));
            }
        }
    }
}
