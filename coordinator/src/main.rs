//! ringkv.
fn main() {}
