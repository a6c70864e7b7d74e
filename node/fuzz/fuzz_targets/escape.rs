//! Any bytes come back from their token; a token that is read is the only one of its bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringkv_node::log::escape::{decode, encode, token_len};

fuzz_target!(|bytes: &[u8]| {
    let mut token = Vec::new();
    encode(bytes, &mut token);
    assert_eq!(token.len(), token_len(bytes));
    assert!(!token.iter().any(|byte| *byte <= b' ' || *byte == 0x7f));
    assert!(!token.starts_with(b"%z"));
    assert_eq!(decode(&token).expect("it was written just now"), bytes);
    if let Ok(raw) = decode(bytes) {
        let mut again = Vec::new();
        encode(&raw, &mut again);
        assert_eq!(again, bytes);
    }
});
