//! A node over TCP: it answers, it stops in order, it comes back with what it had.

use std::time::Duration;

use crate::support::dir;
use crate::support::served::{config, start};
use ringkv_node::{NodeError, run};
use ringkv_shared::causal::Context;
use ringkv_shared::net::{ListenError, NodeApiClient as _, connect};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::node::{Record, Via};
use ringkv_shared::{KeyspaceName, Version};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn writes_survive_a_restart() {
    let scenario = async {
        let home = dir();
        let (addr, stop, running) = start(config(home.path(), "127.0.0.1:0")).await;
        let client = connect(&addr.to_string(), Duration::from_secs(5)).await.unwrap();
        for n in 0..250 {
            client
                .put(format!("key{}", n % 10).into(), format!("{n}").into(), None, None, None)
                .await
                .unwrap();
        }
        assert_eq!(client.compact().await.unwrap().records, 10);
        client.put("last".into(), "word".into(), None, None, None).await.unwrap();
        let log = client.log(Some(1)).await.unwrap().lines;
        assert!(log[0].starts_with("PUT last word k=default v=x"), "{log:?}");
        assert!(log[0].contains(".251 x=- s=251 d="), "{log:?}");
        let lines = client.history("last".into(), None).await.unwrap().lines;
        assert_eq!(lines, log);
        let carts: KeyspaceName = "carts".parse().unwrap();
        let long = "v".repeat(100);
        for n in 0..60 {
            let record = Record::new(
                "last".into(),
                Some(format!("{n}{long}").into()),
                Version::new(1, 2 * n),
            );
            let context = (n > 0).then(|| Context::up_to(Version::new(1, n)));
            let record = Record { context, ..record };
            client.apply(vec![record], Some(carts.clone()), Some(Via::Repair)).await.unwrap();
            if n == 30 {
                client.drop_keyspace(carts.clone()).await.unwrap();
            }
        }
        let lines = client.history("last".into(), Some(carts)).await.unwrap().lines;
        assert_eq!(lines.len(), 61);
        let dropped = lines.iter().position(|line| line.starts_with("DRK k=carts s=283 d="));
        assert_eq!(dropped, Some(31), "{lines:?}");
        let last =
            format!("PUT last 59{}… k=carts v=1.118 x=- ctx=1.59 via=repair s=312 d=", &long[..62]);
        assert!(lines[60].starts_with(&last), "{}", lines[60]);
        client.drop_keyspace("carts".parse().unwrap()).await.unwrap();
        stop.cancel();
        running.await.unwrap().unwrap();
        drop(client);

        let (addr, stop, running) = start(config(home.path(), "127.0.0.1:0")).await;
        let client = connect(&addr.to_string(), Duration::from_secs(5)).await.unwrap();
        let got = client.get("key9".into(), None).await.unwrap();
        assert_eq!((got.status, got.value), (Status::Ok, Some("249".into())));
        assert_eq!(client.size().await.unwrap().size, 11);
        assert_eq!(client.stats().await.unwrap().replayed, 73);
        stop.cancel();
        running.await.unwrap().unwrap();
    };
    LocalSet::new().run_until(scenario).await;
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_a_reason() {
    let scenario = async {
        let (home, other) = (dir(), dir());
        let public = run(config(home.path(), "0.0.0.0:0"), CancellationToken::new(), |_| ()).await;
        assert!(matches!(public, Err(NodeError::Listen(ListenError::NotLoopback { .. }))));
        let (addr, stop, running) = start(config(home.path(), "127.0.0.1:0")).await;
        let taken = config(other.path(), &addr.to_string());
        let taken = run(taken, CancellationToken::new(), |_| ()).await.unwrap_err();
        assert!(taken.to_string().contains(&addr.to_string()), "{taken}");
        assert_eq!(taken.exit_code(), 1);
        let in_use = config(home.path(), "127.0.0.1:0");
        let in_use = run(in_use, CancellationToken::new(), |_| ()).await.unwrap_err();
        assert_eq!(in_use.exit_code(), 73);
        stop.cancel();
        running.await.unwrap().unwrap();
    };
    LocalSet::new().run_until(scenario).await;
}
