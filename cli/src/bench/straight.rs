//! The same load through our client library, which goes straight to the owners.

use bytes::Bytes;
use ringkv_client::{Client, Failure};
use ringkv_shared::KeyspaceName;
use tokio::runtime::Runtime;

use super::dialect::is_harmless;
use super::streams::{Refused, Store};

/// One client for all streams.
pub(super) struct Straight(Client);

impl Straight {
    /// A client of the cluster of that coordinator.
    ///
    /// # Errors
    ///
    /// Nobody answers there.
    pub(super) fn connect(
        runtime: &Runtime,
        addr: String,
        keyspace: Option<&str>,
    ) -> Result<Self, Failure> {
        let client = runtime.block_on(Client::connect(addr))?;
        let keyspace = keyspace.and_then(|name| name.parse::<KeyspaceName>().ok());
        Ok(Self(client.keyspace(keyspace.unwrap_or_default())))
    }
}

impl Store for Straight {
    async fn put(&self, _connection: usize, key: Bytes, value: Bytes) -> Result<(), Refused> {
        self.0.put(key, value).await.map(drop).map_err(refused)
    }

    async fn get(&self, _connection: usize, key: Bytes) -> Result<Option<Bytes>, Refused> {
        let entry = self.0.get(key).await.map_err(refused)?;
        Ok(entry.map(|entry| Bytes::copy_from_slice(entry.value.as_bytes())))
    }
}

fn refused(failure: Failure) -> Refused {
    let harmless = is_harmless(failure.name);
    Refused { name: failure.name.to_string(), harmless, is_lost: false }
}
