//! All leaves of an index, one behind the other: out of it, and into one.
//!
//! # Caveats
//!
//! It goes over the branches and all fences: worth it where most leaves change.

use super::{Branch, Index, LEAVES_MAX};
use crate::store::fences::Fences;
use crate::store::leaf::{Bounded, Leaf};

impl Index {
    /// The leaves in order.
    pub(in crate::store) fn into_leaves(self) -> Vec<Bounded> {
        let mut leaves = Vec::with_capacity(self.branches.iter().map(|b| b.leaves.len()).sum());
        let mut lows = self.fences.into_bounds().into_iter();
        let mut low: Box<[u8]> = Box::default();
        for branch in self.branches {
            let mut bounds = branch.fences.into_bounds().into_iter();
            for leaf in branch.leaves {
                leaves.push((low, leaf));
                low = bounds.next().unwrap_or_default();
            }
            low = lows.next().unwrap_or_default();
        }
        leaves
    }

    /// Of leaves in order; those with nothing in them are left out.
    pub(in crate::store) fn of_leaves(leaves: impl Iterator<Item = Bounded>) -> Self {
        let (mut branches, mut branch_bounds, mut len) = (Vec::new(), Vec::new(), 0);
        let (mut branch, mut bounds) = (Vec::new(), Vec::new());
        for (low, leaf) in leaves.filter(|(_, leaf)| leaf.len() > 0) {
            len += leaf.len();
            if branch.len() == LEAVES_MAX {
                let fences = Fences::of(std::mem::take(&mut bounds));
                branches.push(Branch { fences, leaves: std::mem::take(&mut branch) });
                branch_bounds.push(low);
            } else if !branch.is_empty() {
                bounds.push(low);
            }
            branch.push(leaf);
        }
        if branch.is_empty() {
            branch.push(Leaf::default());
        }
        branches.push(Branch { fences: Fences::of(bounds), leaves: branch });
        Self { fences: Fences::of(branch_bounds), branches, len }
    }
}
