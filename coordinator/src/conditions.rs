//! Writes on a condition: only if the key has this version, only if it has no value.
//!
//! # Caveats
//!
//! Best effort. The condition is checked by a read, and the write replaces what that read has seen: two such writes at
//! once may both pass, and then their values are siblings, none is lost. A lock cannot be built on it.

use std::sync::Arc;

use ringkv_shared::causal::Context;
use ringkv_shared::protocol::cluster::{ClusterGet, ReadOptions, WriteOptions};
use ringkv_shared::{Blob, ErrorName, Failure};

use crate::cluster::Cluster;

impl Cluster {
    /// Checks the condition of a write; what the write is to replace then.
    pub(crate) async fn check_condition(
        self: &Arc<Self>,
        key: &Blob,
        options: &WriteOptions,
        seen: Option<Context>,
    ) -> Result<Context, Failure> {
        if options.if_absent && options.if_version.is_some() {
            let message = "if_absent and if_version exclude each other; nothing was written";
            return Err(Failure::new(ErrorName::BadArgument, message).hint("give one of them"));
        }
        let read = ReadOptions { keyspace: options.keyspace.clone(), ..ReadOptions::default() };
        let found = self.get(key.clone(), read).await?;
        let holds = match options.if_version {
            Some(version) => found.version == Some(version) && found.siblings.is_empty(),
            None => found.value.is_none(),
        };
        if !holds {
            return Err(conflict(key, options, &found));
        }
        let mut context = match (found.context, found.version) {
            (Some(context), _) => context,
            (None, Some(version)) => Context::up_to(version),
            (None, None) => Context::empty(),
        };
        seen.iter().for_each(|seen| context.join(seen));
        Ok(context)
    }
}

fn conflict(key: &Blob, options: &WriteOptions, found: &ClusterGet) -> Failure {
    let has = match (&found.value, found.version, found.siblings.len()) {
        (_, None, _) => "does not exist".to_owned(),
        (None, Some(version), _) => format!("was deleted in version {version}"),
        (Some(_), Some(version), 0) => format!("has version {version}"),
        (Some(_), Some(_), siblings) => {
            let versions: Vec<String> =
                found.siblings.iter().map(|sibling| sibling.version.to_string()).collect();
            format!("has {siblings} values: {}", versions.join(" "))
        }
    };
    let asked = options.if_version.map_or("none".to_owned(), |version| version.to_string());
    let message = format!("{key} {has}, not {asked}; nothing was written");
    Failure::new(ErrorName::Conflict, message)
        .hint("get it, decide again, then put with the version that get gave")
        .detail(serde_json::json!({ "version": found.version, "context": found.context }))
}
