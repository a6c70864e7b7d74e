//! Text to position. Frozen: changing a hash here would misplace every stored key.

use xxhash_rust::xxh3::xxh3_64;

use crate::NodeId;

/// Where a key lies: xxh3-64, seed 0, of its bytes.
#[must_use]
pub fn key_position(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Where virtual node `index` of a node lies: xxh3-64, seed 0, of `"{node}#{index}"`.
#[must_use]
pub fn token(node: &NodeId, index: u32) -> u64 {
    xxh3_64(format!("{node}#{index}").as_bytes())
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
        assert_eq!(tokens, ["517c1227c97404af", "bd5d018cf3ad0f47", "fb1464f0eacc3662"]);
    }
}
