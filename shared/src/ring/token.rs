//! Text to position. Frozen: changing a hash here would misplace every stored key.

use xxhash_rust::xxh3::xxh3_64;

use crate::NodeId;

/// Where a key lies: xxh3-64, seed 0, of its bytes.
#[must_use]
#[inline]
pub fn key_position(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Where virtual node `index` of a node lies: xxh3-64, seed 0, of `"{node}#{index}"`.
#[must_use]
pub fn token(node: &NodeId, index: u32) -> u64 {
    xxh3_64(format!("{node}#{index}").as_bytes())
}

/// The first `count` tokens of a node, in one text that only counts up.
pub(super) fn tokens_of(node: &NodeId, count: u32) -> impl Iterator<Item = u64> {
    let mut text = format!("{node}#").into_bytes();
    let name = text.len();
    (0..count).map(move |index| {
        if index == 0 {
            text.push(b'0');
        } else {
            count_up(&mut text, name);
        }
        xxh3_64(&text)
    })
}

/// The decimal number behind `start`, plus one.
fn count_up(text: &mut Vec<u8>, start: usize) {
    for digit in text[start..].iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    text.insert(start, b'1');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden vectors, equal on every machine and for ever.
    #[test]
    fn positions_are_frozen() {
        let keys: Vec<String> = ["", "apple", "banana", "user:1", "schlüssel"]
            .iter()
            .map(|key| format!("{key} {:016x}", key_position(key.as_bytes())))
            .collect();
        assert_eq!(
            keys,
            [
                " 2d06800538d394c2",
                "apple 517a430dcf1f8a00",
                "banana 669f075767da524c",
                "user:1 3b577afd7fed9501",
                "schlüssel 1aca8ef6171a20de"
            ]
        );
        let n1: NodeId = "n1".parse().unwrap();
        let tokens: Vec<String> = (0..3).map(|i| format!("{:016x}", token(&n1, i))).collect();
        let counted: Vec<u64> = tokens_of(&n1, 1101).collect();
        assert_eq!(counted, (0..1101).map(|i| token(&n1, i)).collect::<Vec<_>>());
        assert_eq!(tokens, ["517c1227c97404af", "bd5d018cf3ad0f47", "fb1464f0eacc3662"]);
    }
}
