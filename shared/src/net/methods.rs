//! What each method takes, in words: for whoever got it wrong.

/// What each method of a node takes, in order; `?` marks what may be left out.
pub const NODE_METHODS: [(&str, &str); 27] = [
    ("adopt", "map"),
    ("apply", "records, keyspace?, via?"),
    ("census", "stretch, limit?, marks?"),
    ("claim", "claim"),
    ("cluster", ""),
    ("collect", "leaves, keyspace?"),
    ("compact", ""),
    ("del", "key, version?, keyspace?"),
    ("digests", "keyspace?, part?"),
    ("drop", "keys, keyspace?"),
    ("drop_keyspace", "keyspace"),
    (
        "dump",
        "after?, limit?, prefix?, keys_only?, tombstones?, at?, keyspace?, leaves?, until?, arcs?",
    ),
    ("fetch", "keys, keyspace?"),
    ("freeze", ""),
    ("get", "key, keyspace?"),
    ("history", "key, keyspace?"),
    ("log", "tail?"),
    ("owe", "to, keys"),
    ("owed", "to, after?"),
    ("paid", "to, keys?"),
    ("put", "key, value, version?, expires?, keyspace?"),
    ("release", ""),
    ("shed", "stretch, marks?, sorts?"),
    ("size", ""),
    ("stats", ""),
    ("thaw", "picture"),
    ("write", "write"),
];

/// What each method of the coordinator takes, in order; `?` marks what may be left out.
pub const CLUSTER_METHODS: [(&str, &str); 38] = [
    ("addnode", "id, addr, weight?, zone?"),
    ("cancel", ""),
    ("changes", "after?, prefix?, keyspace?, wait_ms?"),
    ("check", "repair?, keyspace?"),
    ("config", "name?, value?"),
    ("del", "key, options?"),
    ("doctor", ""),
    ("events", "after?, wait_ms?"),
    ("finish", "record, keyspace?"),
    ("freeze", ""),
    ("get", "key, options?"),
    ("info", ""),
    ("keyspace", "name?, change?"),
    ("lease", "known?"),
    ("mdel", "keys, options?"),
    ("mget", "keys, options?"),
    ("mput", "items, options?"),
    ("number", "ask"),
    ("pause", ""),
    ("plan", "clear?"),
    ("progress", "after?"),
    ("put", "key, value, options?"),
    ("rebalance", "dry_run?, epoch?"),
    ("removenode", "id, force?"),
    ("replacenode", "old, id, addr"),
    ("resume", ""),
    ("ring", "tokens?"),
    ("scan", "prefix?, after?, limit?, keys_only?, picture?, keyspace?"),
    ("setreplica", "n, keyspace?"),
    ("setweight", "id, weight"),
    ("setzone", "id, zone?"),
    ("show", ""),
    ("stats", ""),
    ("thaw", "picture"),
    ("what_if", "suppose"),
    ("where", "key, values?, keyspace?"),
    ("why", "key, keyspace?"),
    ("why_down", "id"),
];

/// The entry of `method` in such a table.
#[must_use]
pub fn takes(table: &[(&str, &'static str)], method: &str) -> Option<&'static str> {
    table.iter().find(|(name, _)| *name == method).map(|(_, takes)| *takes)
}
