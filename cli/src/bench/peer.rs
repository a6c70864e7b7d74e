//! Another store that the same load is put on, so that anyone can compare.
//!
//! ```text
//! redis://127.0.0.1:6379            SET and GET
//! redis://127.0.0.1:6379?wait=1     each SET with a WAIT 1 behind it: acknowledged by a replica
//! memcached://127.0.0.1:11211       set and get
//! etcd://127.0.0.1:2379             Put and linearizable Range, over gRPC
//! ```
//!
//! # Caveats
//!
//! `WAIT` has no timeout here: a redis without so many replicas never answers, and its requests
//! count as timed out.

use std::str::FromStr;

/// Which store, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What it speaks.
    pub(super) kind: PeerKind,
    /// `host:port`.
    pub(super) addr: String,
}

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerKind {
    /// RESP; each SET waits for so many replicas.
    Redis {
        /// 0: for none.
        wait: u32,
    },
    /// The text protocol.
    Memcached,
    /// gRPC, version 3 of its interface.
    Etcd,
}

impl PeerKind {
    /// Its name.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Redis { wait: 0 } => "redis",
            Self::Redis { .. } => "redis with WAIT",
            Self::Memcached => "memcached",
            Self::Etcd => "etcd",
        }
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no peer: write redis://HOST:PORT[?wait=N], memcached://HOST:PORT or etcd://HOST:PORT"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (addr, query) = rest.split_once('?').unwrap_or((rest, ""));
        let port = addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        port.filter(|port| *port > 0).ok_or_else(bad)?;
        let wait = match query.strip_prefix("wait=") {
            Some(count) => count.parse().map_err(|_| bad())?,
            None if query.is_empty() => 0,
            None => return Err(bad()),
        };
        let kind = match (scheme, wait) {
            ("redis", wait) => PeerKind::Redis { wait },
            ("memcached", 0) => PeerKind::Memcached,
            ("etcd", 0) => PeerKind::Etcd,
            _ => return Err(bad()),
        };
        Ok(Self { kind, addr: addr.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_by_url() {
        let peer = |text: &str| text.parse::<Peer>().ok().map(|peer| peer.kind);
        assert_eq!(peer("redis://h:1"), Some(PeerKind::Redis { wait: 0 }));
        assert_eq!(peer("redis://h:1?wait=2"), Some(PeerKind::Redis { wait: 2 }));
        assert_eq!(peer("memcached://h:1"), Some(PeerKind::Memcached));
        assert_eq!(peer("etcd://h:1"), Some(PeerKind::Etcd));
        for bad in ["redis://h", "h:1", "etcd://h:1?wait=1", "redis://h:1?w=1", "mongo://h:1"] {
            assert_eq!(peer(bad), None, "{bad}");
        }
    }
}
