//! The ring: which nodes own a key.
//!
//! Positions are 64-bit and wrap around. Every node puts a number of *tokens* (its virtual
//! nodes) on the ring; a key belongs to the node of the first token at or after the key's
//! position, and its replicas to the next distinct nodes clockwise: the *preference list*.
//! When a node joins, only keys in the arcs before its tokens change hands, about 1/n of all.
//!
//! ```text
//!        0                                                   2^64
//!        ├────n1──────n3───n2────────n1───n2──────────n3──────┤
//!                  ▲ key                                        owner n3, replicas n3 n2
//! ```
//!
//! Four ideas in four places: [`token()`] is geometry (text to position), [`Seat`] what a member asks for,
//! [`Ring`] ownership (position to owners), [`draw()`] what a person sees. A lookup finds the arc of a position in
//! `circle`, with the preference list that `lists` has put there; `walk` meets one of any length by walking, and is
//! what the lists are held against.
//!
//! # Caveats
//!
//! With 256 tokens a node the fullest of `n1` to `n8` is first owner of 1.06 times the mean, of 64 nodes of 1.17, of
//! 1,000 of 1.22; counted with three copies a key it holds 1.06, 1.08, 1.11 times the mean. The more nodes there are, the
//! further the one that is worst off strays. 1,024 tokens would hold 1,000 nodes to 1.10, and cost four times the memory:
//! 7 MB a ring of 1,000 nodes as it is. Zones are one level, not a tree, and a zone with little weight gets as
//! many replicas as one with much.

mod circle;
mod draw;
mod lists;
mod owners;
mod ownership;
mod seat;
mod token;
mod walk;

pub use draw::draw;
pub use owners::Owners;
pub use ownership::{Ring, VNODES_DEFAULT};
pub use seat::Seat;
pub use token::{key_position, token};
