//! A set of leaves of the digests, to be asked for every key of a walk.
//!
//! # Caveats
//!
//! It takes 8 KiB, however few are in it.

use ringkv_shared::merkle::{self, LEAVES};

/// Leaves.
#[derive(Clone, Debug)]
pub struct Leaves(Box<[u64]>);

impl Leaves {
    /// Whether a key, without its keyspace, is in one of them.
    #[must_use]
    pub fn have(&self, key: &[u8]) -> bool {
        let leaf = usize::from(merkle::leaf_of_key(key));
        self.0[leaf / 64] & 1 << (leaf % 64) != 0
    }
}

impl FromIterator<u16> for Leaves {
    fn from_iter<I: IntoIterator<Item = u16>>(leaves: I) -> Self {
        let mut set = vec![0; LEAVES / 64];
        for leaf in leaves.into_iter().map(usize::from) {
            set[leaf / 64] |= 1 << (leaf % 64);
        }
        Self(set.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_in() {
        let keys: Vec<String> = (0..2000).map(|n| format!("key{n}")).collect();
        let (inside, outside) = keys.split_at(1000);
        let leaves: Leaves = inside.iter().map(|key| merkle::leaf_of_key(key.as_bytes())).collect();
        assert!(inside.iter().all(|key| leaves.have(key.as_bytes())));
        let shared = outside.iter().filter(|key| leaves.have(key.as_bytes())).count();
        assert!(shared < 100, "{shared} of 1000 share a leaf");
    }
}
