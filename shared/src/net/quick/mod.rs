//! Requests and answers in the one spelling that our own writers use, read and written without a tree of values.
//!
//! ```text
//! {"jsonrpc":"2.0","id":7,"method":"put","params":["apple","red"]}
//! {"jsonrpc":"2.0","epoch":"3.12","id":7,"method":"write","params":[{…}]}
//! {"jsonrpc":"2.0","id":7,"result":{"status":"ok","version":"1.5"}}
//! ```
//!
//! A hot method may be served from this: whatever is not spelled just so (other members, another order, blanks, escapes
//! in strings) is left to the method table, which is the reference: the same line through both has the same answer.
//!
//! | file | idea |
//! |---|---|
//! | `scan` | text that is read piece by piece, or not at all |
//! | `call` | the envelope of a request |
//! | `spell` | answers, byte for byte as `serde_json` writes them |
//! | `replica` | what replicas are asked, and what they nearly always answer |
//! | `page` | records that pass by |
//!
//! # Caveats
//!
//! Nothing here reports what is wrong with a line: that it is not this spelling is all that is known.

mod call;
mod page;
mod replica;
mod scan;
mod spell;

pub use call::QuickCall;
pub use page::QuickPage;
pub use replica::{Found, Piece, Taken, ask_get, ask_write};
pub use scan::Scan;
pub use spell::{Spell, plain_text};
