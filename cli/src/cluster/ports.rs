//! Which ports a local cluster gets: a block, the coordinator first, then the nodes in order.
//!
//! The documented block starts at 5000, so `n3` is at 5003. When nobody asked for a block and one
//! of its ports is taken, the next block of tens that is free as a whole is used instead, so that
//! the last digits still tell who is who.
//!
//! # Caveats
//!
//! Between the look and the child's own bind somebody else may take a port. Then the child says
//! so and the cluster does not start; nothing is tried a second time.

use ringkv_shared::{ErrorName, Failure};

/// Where the documented block starts.
const BASE_DEFAULT: u16 = 5000;
/// The most blocks that are looked at before giving up.
const BLOCKS_MAX: u16 = 100;
/// Blocks start at multiples of this, or of the next multiple of it that all processes fit in.
const BLOCK_STEP: usize = 10;

/// The ports of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortPlan {
    /// Every process takes what the system gives it.
    Free,
    /// The coordinator at `base`, the nodes above it.
    Block {
        /// The coordinator's port.
        base: u16,
        /// The documented base, when it was taken and nobody had asked for it.
        instead_of: Option<u16>,
    },
}

impl PortPlan {
    /// The block for `nodes` nodes: the asked one or none, or the first free one.
    pub(super) fn choose(
        asked: Option<u16>,
        nodes: usize,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<Self, Failure> {
        if let Some(base) = asked {
            return match first_taken(base, nodes, &is_free)? {
                None => Ok(Self::Block { base, instead_of: None }),
                Some(port) => Err(taken(port)),
            };
        }
        let step = (nodes + 1).next_multiple_of(BLOCK_STEP);
        for block in 0..usize::from(BLOCKS_MAX) {
            let Ok(base) = u16::try_from(usize::from(BASE_DEFAULT) + block * step) else { break };
            if let Ok(None) = first_taken(base, nodes, &is_free) {
                let instead_of = (base != BASE_DEFAULT).then_some(BASE_DEFAULT);
                return Ok(Self::Block { base, instead_of });
            }
        }
        Err(Failure::new(ErrorName::NotApplied, format!("no {} free ports in a row", nodes + 1))
            .hint("name a block: --port BASE"))
    }

    /// The port of process number `index`, the coordinator being 0; 0 lets the system choose.
    pub(super) fn port(self, index: usize) -> u16 {
        match self {
            Self::Free => 0,
            Self::Block { base, .. } => {
                u16::try_from(usize::from(base) + index).expect("choose() has looked at every port")
            }
        }
    }
}

/// The failure for a port that somebody else listens on.
pub(super) fn taken(port: u16) -> Failure {
    Failure::new(ErrorName::NodeExists, format!("port {port} is taken by another program"))
        .hint("take another port, or end that program (is another demo running? kv demo stop)")
}

/// The first port of the block that is not free.
fn first_taken(
    base: u16,
    nodes: usize,
    is_free: impl Fn(u16) -> bool,
) -> Result<Option<u16>, Failure> {
    let last = usize::from(base) + nodes;
    let Ok(last) = u16::try_from(last) else {
        let message = format!("ports {base} to {last} do not all exist");
        return Err(Failure::new(ErrorName::BadArgument, message).hint("a smaller --port"));
    };
    Ok((base..=last).find(|&port| !is_free(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_block_when_free() {
        let plan = PortPlan::choose(None, 3, |_| true).unwrap();
        assert_eq!(plan, PortPlan::Block { base: 5000, instead_of: None });
        assert_eq!((plan.port(0), plan.port(3)), (5000, 5003));
    }

    #[test]
    fn the_next_block_of_tens_when_one_port_is_taken() {
        let plan = PortPlan::choose(None, 3, |port| port != 5002).unwrap();
        assert_eq!(plan, PortPlan::Block { base: 5010, instead_of: Some(5000) });
        let plan = PortPlan::choose(None, 12, |port| port != 5002).unwrap();
        assert_eq!(plan.port(12), 5032);
    }

    #[test]
    fn an_asked_block_or_none() {
        let failure = PortPlan::choose(Some(6000), 3, |port| port != 6001).unwrap_err();
        assert_eq!(failure.name, ErrorName::NodeExists);
        assert_eq!(failure.message, "port 6001 is taken by another program");
        let failure = PortPlan::choose(Some(65_534), 3, |_| true).unwrap_err();
        assert_eq!(failure.name, ErrorName::BadArgument);
        assert!(PortPlan::choose(None, 3, |_| false).is_err());
    }
}
