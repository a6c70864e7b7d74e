//! Values that tell who wrote them: key, run and number of the put, then a filling.
//!
//! ```text
//! 0000007b 5f3a9c01 00000000000004d2 kQ3v…
//! key      run      number           filling: the same in all values of a seed
//! ```
//!
//! All of it is letters and digits, so that it stands in a line of JSON, of RESP and of memcached as it
//! is. The filling is drawn from 64 letters, so that a store which compresses gains a quarter at most.
//!
//! # Caveats
//!
//! The run is a number from the clock and the process: two runs within a microsecond could share it.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Digits of the key, the run and the number.
const HEAD_BYTES: usize = 32;
/// The shortest value: one without filling.
pub(super) const VALUE_BYTES_MIN: i64 = HEAD_BYTES as i64;
/// What the filling is made of.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes and recognises the values of one run.
#[derive(Clone, Debug)]
pub(super) struct Values {
    run: u32,
    /// A whole value of this run, to be patched.
    pattern: Vec<u8>,
}

/// Which put a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The put of this run with that number.
    Ours(u32),
    /// One of an earlier run.
    Earlier,
    /// No put of that key: another key's, cut off, or changed.
    Foreign,
}

impl Values {
    /// Values of `size` bytes, at least [`VALUE_BYTES_MIN`].
    #[must_use]
    pub(super) fn new(seed: u64, run: u32, size: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pattern = vec![b'0'; HEAD_BYTES];
        pattern.extend((HEAD_BYTES..size).map(|_| LETTERS[random.random_range(0..LETTERS.len())]));
        write_hex(&mut pattern[8..16], run);
        Self { run, pattern }
    }

    /// A value with nothing in the places that [`Self::patch`] fills.
    #[must_use]
    pub(super) fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// Makes a copy of the pattern the value of put `number` of `key`.
    pub(super) fn patch(pattern: &mut [u8], key: u32, number: u32) {
        write_hex(&mut pattern[..8], key);
        write_hex(&mut pattern[24..32], number);
    }

    /// Which put wrote `value`, which was read under `key`.
    #[must_use]
    pub(super) fn origin(&self, key: u32, value: &[u8]) -> Origin {
        if value.len() != self.pattern.len()
            || value[HEAD_BYTES..] != self.pattern[HEAD_BYTES..]
            || read_hex(&value[..8]) != Some(key.into())
        {
            return Origin::Foreign;
        }
        match (read_hex(&value[8..16]), read_hex(&value[16..32])) {
            (Some(run), Some(number)) if run == u64::from(self.run) => {
                u32::try_from(number).map_or(Origin::Foreign, Origin::Ours)
            }
            (Some(_), Some(_)) => Origin::Earlier,
            _ => Origin::Foreign,
        }
    }
}

/// Fills `digits`, which are 0, with a number in hexadecimal.
fn write_hex(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        if number == 0 {
            break;
        }
        *digit = HEX[(number & 15) as usize];
        number >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

/// Fills `digits`, which are 0, with a key's number in decimal.
pub(super) fn write_key(digits: &mut [u8], mut key: u32) {
    for digit in digits.iter_mut().rev() {
        if key == 0 {
            break;
        }
        *digit = b'0' + (key % 10) as u8;
        key /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_who_wrote_it() {
        let values = Values::new(1, 7, 100);
        let mut value = values.pattern().to_vec();
        Values::patch(&mut value, 123, 456);
        assert_eq!(value.len(), 100);
        assert_eq!(values.origin(123, &value), Origin::Ours(456));
        assert_eq!(values.origin(124, &value), Origin::Foreign);
        assert_eq!(values.origin(123, &value[..99]), Origin::Foreign);
        assert_eq!(Values::new(1, 8, 100).origin(123, &value), Origin::Earlier);
        assert_eq!(Values::new(2, 7, 100).origin(123, &value), Origin::Foreign, "another filling");
        value[99] ^= 1;
        assert_eq!(values.origin(123, &value), Origin::Foreign);
    }

    #[test]
    fn keys_have_twelve_digits() {
        let mut digits = [b'0'; 12];
        write_key(&mut digits, 4_294_967_295);
        assert_eq!(&digits, b"004294967295");
    }
}
