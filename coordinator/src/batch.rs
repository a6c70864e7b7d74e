//! mput, mget, mdel: many keys in one call, side by side, each with its own outcome.
//!
//! A batch in the usual spelling does not come here: its keys go by the [`express`](crate::express), as many at once.
//!
//! # Caveats
//!
//! A batch is no transaction: some of it may be done and some not. The same key twice in one batch is
//! two writes at once, in no order.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use ringkv_shared::limits::BATCH_ENTRIES_MAX;
use ringkv_shared::protocol::cluster::{BatchGet, BatchWrite, Item, ReadOptions, WriteOptions};
use ringkv_shared::{Blob, ErrorName, Failure};

use crate::cluster::Cluster;

/// How many of a batch are under way at once.
pub(crate) const AT_ONCE_MAX: usize = 256;

impl Cluster {
    pub(crate) async fn mput(
        self: &Arc<Self>,
        items: Vec<Item>,
        options: &WriteOptions,
    ) -> Result<Vec<BatchWrite>, Failure> {
        check(items.len(), options)?;
        let puts = items.into_iter().map(|Item { key, value }| async {
            outcome(key.clone(), self.put(key, value, options.clone()).await)
        });
        Ok(stream::iter(puts).buffered(AT_ONCE_MAX).collect().await)
    }

    pub(crate) async fn mdel(
        self: &Arc<Self>,
        keys: Vec<Blob>,
        options: &WriteOptions,
    ) -> Result<Vec<BatchWrite>, Failure> {
        check(keys.len(), options)?;
        let dels = keys
            .into_iter()
            .map(|key| async { outcome(key.clone(), self.del(key, options.clone()).await) });
        Ok(stream::iter(dels).buffered(AT_ONCE_MAX).collect().await)
    }

    pub(crate) async fn mget(
        self: &Arc<Self>,
        keys: Vec<Blob>,
        options: &ReadOptions,
    ) -> Result<Vec<BatchGet>, Failure> {
        check(keys.len(), &WriteOptions::default())?;
        let gets = keys.into_iter().map(|key| async {
            match self.get(key.clone(), options.clone()).await {
                Ok(got) => BatchGet::Done(Box::new(got)),
                Err(error) => BatchGet::Failed { key, error },
            }
        });
        Ok(stream::iter(gets).buffered(AT_ONCE_MAX).collect().await)
    }
}

fn outcome(
    key: Blob,
    result: Result<ringkv_shared::protocol::cluster::ClusterWrite, Failure>,
) -> BatchWrite {
    match result {
        Ok(done) => BatchWrite::Done(Box::new(done)),
        Err(error) => BatchWrite::Failed { key, error },
    }
}

/// What a batch may bring; what belongs to one key cannot be said of many.
fn check(entries: usize, options: &WriteOptions) -> Result<(), Failure> {
    if entries > BATCH_ENTRIES_MAX {
        let message = format!(
            "a batch of {entries}; at most {BATCH_ENTRIES_MAX} are taken, nothing was done"
        );
        return Err(Failure::new(ErrorName::TooLarge, message).hint("send smaller batches"));
    }
    let of_one_key =
        options.context.is_some() || options.if_version.is_some() || options.request.is_some();
    if of_one_key {
        let message = "a context, a version or a request's name is of one key; nothing was done";
        return Err(Failure::new(ErrorName::BadArgument, message).hint("put the keys one by one"));
    }
    Ok(())
}
