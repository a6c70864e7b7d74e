//! Which writes of a key have seen which: causal contexts, and the values that none has replaced.
//!
//! ```text
//!   put apple red            ──► 1.1 red                      past: nothing
//!   get apple                ──► red, context 1.1
//!   put apple green (1.1)    ──► 1.2 green                    past: 1.1
//!   put apple blue  (1.1)    ──► 1.2 green | 1.3 blue         two who both had seen red only
//!   get apple                ──► green, blue, context 1.3
//!   put apple teal  (all)    ──► 1.4 teal
//! ```
//!
//! Every write has a [`Version`](crate::Version), given once, the *dot* of the literature; and a [`Context`]: the
//! versions that its writer had seen. A write replaces what it has seen and nothing else. So what is
//! held for a key follows from the set of writes that arrived, in whatever order and however
//! often: [`Siblings`] is that set, reduced to what matters. It is a dotted version vector set
//! (Preguiça and others, 2012), with the versions that were replaced on one side and the values on
//! the other.
//!
//! A writer who gives no context has, by definition, seen all that its own *line* gave out
//! before: all writes that coordinators numbered, or all that this node numbered. So a person who
//! types `put` twice never meets a sibling.
//!
//! # Caveats
//!
//! A context remembers single versions until a write that has seen all covers them ([`Recent`]): a key
//! that many write at once, each having seen little, keeps one version a write. See [`Context::dots`].
//!
//! A line must be one after another: a coordinator that goes on after its successor has started would
//! write what counts as replaced. Nodes must refuse it.

mod context;
mod recent;
mod siblings;

pub use context::{BadContext, Context};
pub use recent::Recent;
pub use siblings::Siblings;
