//! Fuzz targets of the node's log.
//!
//! | target | claim |
//! |---|---|
//! | `line` | a line that is read is written back bit for bit |
//! | `escape` | any bytes come back from their token; a token that is read is the only one |
//! | `file` | a scan of any bytes ends without a panic, in chunks as at once, and its places are right |
//!
//! ```sh
//! cargo install cargo-fuzz
//! cd node
//! cargo +nightly fuzz run line -- -max_total_time=60
//! ```
//!
//! A checksum would stop nearly every input at the door. So the harness puts the right one on each
//! line ([`sealed`]): the fuzzer works on what is behind the door. Seeds are in `seeds/`; copy
//! them to `corpus/` (which is not kept), or name the directory after the target:
//! `cargo +nightly fuzz run line fuzz/corpus/line fuzz/seeds/line`.
//!
//! # Caveats
//!
//! With the checksums repaired, that a wrong one is noticed is not fuzzed; the unit tests flip bits.

use ringkv_node::log::record::checksum;

/// The line with the checksum that it should have after `prev`, and that checksum.
#[must_use]
pub fn sealed(body: &[u8], prev: u32) -> (Vec<u8>, u32) {
    let crc = checksum(body, prev);
    let mut line = body.to_vec();
    line.extend_from_slice(format!(" c={crc:08x}").as_bytes());
    (line, crc)
}

/// A file of these lines, each with its right checksum; but a line that begins with `!` keeps
/// what it says, without the mark.
#[must_use]
pub fn sealed_file(bodies: &[u8]) -> Vec<u8> {
    let (mut file, mut prev) = (Vec::new(), 0);
    for body in bodies.split(|byte| *byte == b'\n') {
        if let Some(raw) = body.strip_prefix(b"!") {
            file.extend_from_slice(raw);
        } else {
            let (line, crc) = sealed(body, prev);
            file.extend_from_slice(&line);
            prev = crc;
        }
        file.push(b'\n');
    }
    file
}
