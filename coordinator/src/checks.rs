//! What a request may bring, refused before anything is done.

use ringkv_shared::causal::Context;
use ringkv_shared::limits::CONTEXT_DOTS_MAX;
use ringkv_shared::{ErrorName, Failure, Line, Version};

/// The most units of virtual nodes.
const WEIGHT_MAX: u32 = 64;

/// The weight of a node: 1 to [`WEIGHT_MAX`].
pub(crate) fn check_weight(weight: u32) -> Result<(), Failure> {
    if (1..=WEIGHT_MAX).contains(&weight) {
        return Ok(());
    }
    let message = format!("weight {weight} is not from 1 to {WEIGHT_MAX}");
    let hint = "weight 1 is as much of the ring as any other node has, 2 twice as much";
    Err(Failure::new(ErrorName::BadArgument, message).hint(hint))
}

/// R or W of one request: 1 to N.
pub(crate) fn check_quorum(
    letter: char,
    asked: Option<usize>,
    n: usize,
) -> Result<Option<usize>, Failure> {
    match asked {
        Some(0) => Err(Failure::new(ErrorName::BadArgument, format!("{letter} is at least 1"))),
        Some(asked) if asked > n => Err(Failure::new(
            ErrorName::BadArgument,
            format!("{letter}={asked} of N={n} copies can never be; nothing was done"),
        )
        .hint(format!("use 1 to {n}, or keep more copies: setreplica {asked}"))),
        asked => Ok(asked),
    }
}

/// A context must be one that this cluster has given: up to the last number, not beyond.
pub(crate) fn check_context(seen: &Context, last: Version) -> Result<(), Failure> {
    if seen.dots() > CONTEXT_DOTS_MAX {
        let message = format!(
            "a context of {} single versions; at most {CONTEXT_DOTS_MAX} are taken",
            seen.dots()
        );
        return Err(Failure::new(ErrorName::TooLarge, message)
            .hint("a put without a context replaces all and makes it short again"));
    }
    let mut versions = seen.bounds().chain(seen.single());
    match versions.find(|v| v.line() == Line::Coordinators && *v > last) {
        Some(version) => Err(Failure::new(
            ErrorName::BadArgument,
            format!("the context has {version}, which was never given (the last is {last}); nothing was written"),
        )
        .hint("use the context that get or put gave")),
        None => Ok(()),
    }
}
