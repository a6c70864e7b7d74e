//! What a rebalance does with each key, and how it walks over all keys.
//!
//! [`Merge`] joins the sorted key pages of many nodes into one sorted walk. [`decide()`] looks at who holds which
//! version of a key and who should, and says what to copy and what to drop. [`Preview`] counts what that comes to
//! before anything is done; [`reasons()`] and [`risks`] say it in words, and a [`Ledger`]
//! compares what was counted with what is done. Keys of which all is alike are decided on many at a time: [`copies()`],
//! [`drops()`].

mod alike;
mod decide;
mod ledger;
mod merge;
mod preview;
mod reasons;

pub use alike::{Copies, Drops, Held, copies, counted, drops};
pub use decide::{Decision, Holding, decide, offered_to};
pub use ledger::{Ledger, Link};
pub use merge::{Found, Merge};
pub use preview::{Load, NodeCount, Planned, Preview, RECORD_BYTES, SpaceCount, Walked};
pub use reasons::{reasons, risks};
