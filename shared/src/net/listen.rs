//! Where a server may listen.
//!
//! # Caveats
//!
//! Only loopback addresses, because there is no way yet to ask a caller for a token.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Other machines could reach it.
    #[error(
        "will not listen on {addr}: other machines could reach it, and nobody is asked for a token yet"
    )]
    NotLoopback {
        /// The address.
        addr: SocketAddr,
    },
    /// The operating system does not give it.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
}

impl ListenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotLoopback { addr } => format!("listen on 127.0.0.1:{}", addr.port()),
            Self::Bind { addr, source } if source.kind() == io::ErrorKind::AddrInUse => format!(
                "another server has port {}: stop it, or choose a port with --listen",
                addr.port()
            ),
            Self::Bind { .. } => "choose an address with --listen".to_owned(),
        }
    }
}

/// Whether `addr` may be served; asked before anything is made for it.
///
/// # Errors
///
/// [`ListenError::NotLoopback`].
pub fn check_listen(addr: SocketAddr) -> Result<(), ListenError> {
    if addr.ip().is_loopback() { Ok(()) } else { Err(ListenError::NotLoopback { addr }) }
}

/// Listens on `addr`; gives the address that it got, which has a number where `addr` has port 0.
///
/// # Errors
///
/// [`ListenError`].
pub async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    check_listen(addr)?;
    let bind = |source| ListenError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bind)?;
    let local = listener.local_addr().map_err(bind)?;
    Ok((listener, local))
}
