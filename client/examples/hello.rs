//! Puts, reads and deletes a key, then puts many at once.
//!
//! ```text
//! kv demo                                                        in one terminal
//! cargo run -p ringkv-client --example hello -- 127.0.0.1:5000   in another
//! ```

#![allow(clippy::print_stdout, reason = "it is to be seen")]

use futures::stream::{FuturesUnordered, TryStreamExt as _};
use ringkv_client::{Blob, Client, Failure};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5000".to_owned());
    hello(&addr).await
}

pub(crate) async fn hello(addr: &str) -> Result<(), Failure> {
    let client = Client::connect(addr).await?;

    let written = client.put("apple", "red").await?;
    println!("apple is red, version {}", written.version);
    if let Some(apple) = client.get("apple").await? {
        println!("apple -> {}", apple.value);
    }
    client.del("apple").await?;
    println!("apple -> {:?}", client.get("apple").await?);

    // All at once: they share a call for their numbers, and a write to each node.
    let started = std::time::Instant::now();
    let keys = (0..10_000).map(|n| Blob::from(format!("key:{n}")));
    let puts: FuturesUnordered<_> = keys.map(|key| client.put(key, "value")).collect();
    let written: Vec<_> = puts.try_collect().await?;
    println!("{} keys in {} ms", written.len(), started.elapsed().as_millis());
    Ok(())
}
