//! The log: what a line is, where the lines are, and what a crash may have done to them.
//!
//! | module | idea | touches the disk |
//! |---|---|---|
//! | [`escape`] | bytes as one printable token | no |
//! | [`value`] | a value plain or compressed, and its token | no |
//! | [`key`] | a key with its keyspace as one string of bytes | no |
//! | [`record`] | one line, its checksum, the chain: the format | no |
//! | [`note`] | a line that changes no key: floors, debts | no |
//! | [`encode`], [`decode`] | a line written, a line read | no |
//! | [`place`] | where a line stands | no |
//! | [`tail`] | where the log ends, what waits to be written | no |
//! | [`scan`] | a file from front to back, in chunks | no |
//! | [`walk`] | a file read a piece at a time | yes |
//! | [`ahead`] | a large file read with more than one thread | yes |
//! | [`recover`] | torn or damaged: the verdict on a segment | no |
//! | [`mark`] | the side file that remembers what was durable | yes |
//! | [`files`] | the directory: names, lock, identity | yes |
//! | [`writer`] | the active segment: write, sync, rotate | yes |
//! | [`repair`] | what is done to `data.log` before a node serves from it | yes |
//! | [`open`] | from a directory to a map | yes |
//! | [`snapshot`] | writing a snapshot | yes |
//! | [`sizes`] | how large the files are that recovery would read | no |
//! | [`lines`] | one line read back from its place | yes |
//! | [`last`] | the last lines, for people | yes |
//!
//! # Caveats
//!
//! A node reads all of it before it serves: a start takes as long as the log is large.

pub mod ahead;
pub mod decode;
pub mod encode;
pub mod escape;
pub mod files;
pub mod key;
pub mod last;
pub mod lines;
pub mod mark;
pub mod note;
pub mod open;
pub mod place;
pub mod record;
pub mod recover;
pub mod repair;
pub mod scan;
pub mod sizes;
pub mod snapshot;
pub mod tail;
pub mod value;
pub mod walk;
pub mod writer;
