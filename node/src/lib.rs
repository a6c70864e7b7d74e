//! ringkv.
